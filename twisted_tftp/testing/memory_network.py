"""A server in memory with its clients, for tests without sockets and without real time.

These classes are for tests of backends and servers, in this project and in yours::

    network = MemoryNetwork(MyBackend())
    assert network.fetch("pxelinux.0") == b"..."
    with pytest.raises(FileNotFound):
        network.fetch("missing")

If a backend returns Deferreds, `fetch` and `store` advance `network.clock` until they fire. So
these Deferreds must have fired already, or must depend on this clock only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.task import Clock

from twisted_tftp.context import Outcome, TransferStatistics
from twisted_tftp.errors import TransferTimedOut, from_wire
from twisted_tftp.net.udp import OnPortUnreachable, Receive, ReceiveTrain
from twisted_tftp.policy import DEFAULT_BLKSIZE, TFTP_PORT, Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.transfer.flow import Offerer
from twisted_tftp.transfer.machine import Buffer


class MemoryLink:
    """A link in memory: it keeps the datagrams that the transfer sends, and tests deliver others.

    @ivar sent: the datagrams that were sent since the last L{take}.
    @ivar waiting: the datagrams that wait in the socket; L{receive_waiting} delivers them.
    @ivar closed: whether the transfer has closed the link.
    @ivar buffer_size: the requested size of the receive buffer, in octets.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.sent: list[bytes] = []
        self.waiting: list[bytes] = []
        self.closed = False
        self.buffer_size = 0
        self._clock = clock
        self._receive: Receive | None = None
        self._receive_train: ReceiveTrain | None = None
        self._on_port_unreachable: OnPortUnreachable | None = None

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        """Set the functions that receive datagrams."""
        self._receive = receive
        self._receive_train = receive_train

    def flow_delay(self) -> float | None:
        """Return None: this link has no flows."""
        return None

    def follow_flow(self) -> None:
        """Do nothing: this link has no flows."""

    def end_flow(self) -> None:
        """Do nothing: this link has no flows."""

    def watch_port_unreachable(self, on_port_unreachable: OnPortUnreachable) -> None:
        """Set the function that `report_port_unreachable` calls."""
        self._on_port_unreachable = on_port_unreachable

    def report_port_unreachable(self) -> None:
        """Report that the peer's port is closed, as the kernel does after an ICMP error."""
        if self._on_port_unreachable is not None and not self.closed:
            self._on_port_unreachable(self._clock())

    def enlarge_buffer(self, size: int) -> int:
        """Note the requested buffer size, and grant it."""
        self.buffer_size = size
        return size

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Keep copies of the datagrams, as the network would."""
        assert not self.closed, "a closed link sends nothing"
        self.sent += [
            b"".join(bytes(part) for part in datagrams[index : index + 2])
            for index in range(0, len(datagrams), 2)
        ]

    def receive_waiting(self) -> None:
        """Deliver the datagrams that wait."""
        waiting, self.waiting = self.waiting, []
        for datagram in waiting:
            self.deliver(datagram)

    def deliver(self, datagram: bytes) -> None:
        """Pass a datagram to the transfer."""
        if self._receive is not None and not self.closed:
            self._receive(datagram, self._clock())

    def deliver_train(self, datagrams: bytes, size: int) -> None:
        """Pass datagrams of `size` octets in one buffer; the last one may be shorter."""
        if self._receive_train is not None and not self.closed:
            # The receiver must copy what it keeps, because the buffer is used again.
            buffer = bytearray(datagrams)
            self._receive_train(memoryview(buffer), size, self._clock())
            buffer[:] = bytes(len(buffer))

    def close(self) -> None:
        """Stop receiving and sending."""
        self.closed = True

    def take(self) -> list[bytes]:
        """Return the datagrams sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


class Recorder:
    """An observer that records its calls.

    @ivar events: the calls, (event, statistics); an event is the name of a method.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, TransferStatistics]] = []

    def started(self, statistics: TransferStatistics) -> None:
        """Record the event."""
        self.events.append(("started", statistics))

    def progressed(self, statistics: TransferStatistics) -> None:
        """Record the event."""
        self.events.append(("progressed", statistics))

    def finished(self, statistics: TransferStatistics) -> None:
        """Record the event."""
        self.events.append(("finished", statistics))

    @property
    def outcomes(self) -> list[Outcome | None]:
        """The outcomes of the finished transfers, in the order in which they ended."""
        return [statistics.outcome for event, statistics in self.events if event == "finished"]


class MemoryNetwork:
    """A server in memory, and the clients that send requests to it.

    @ivar server: the L{TFTPServer}.
    @ivar clock: the server's reactor, a `Clock` of Twisted.
    @ivar links: the link of each transfer, in the order of their requests.
    @ivar recorder: the observer of the transfers.
    """

    def __init__(
        self,
        backend: Any,
        policy: Policy | None = None,
        server: Callable[..., TFTPServer] = TFTPServer,
    ) -> None:
        self.clock = Clock()
        self.links: list[MemoryLink] = []
        self.recorder = Recorder()
        self.server = server(
            backend,
            policy,
            observer=self.recorder,
            reactor=self.clock,
            clock=self.clock.seconds,
            shared=SharedParts.for_policy(
                policy or Policy(), self.clock, self.clock.seconds, opener=self
            ),
        )
        self._port = 20000

    def open(self, peer: Any, local: Any, is_read: bool) -> MemoryLink:
        """Open the link of a transfer; the server calls this."""
        link = MemoryLink(self.clock.seconds)
        self.links.append(link)
        return link

    def close_idle(self) -> None:
        """Do nothing: links in memory have no sockets to close."""

    def request(
        self,
        opcode: wire.Opcode,
        filename: str | bytes,
        options: Mapping[str, str] | None = None,
        *,
        mode: str = wire.OCTET,
        port: int | None = None,
    ) -> MemoryLink:
        """Send a request and return the link that it opened, or the latest link if it opened none.

        @param port: the client's port; None for a new one.
        """
        if isinstance(filename, str):
            filename = filename.encode("utf-8", "surrogateescape")
        request = wire.Request(opcode, filename, mode, dict(options or {}))
        if port is None:
            self._port += 1
            port = self._port
        peer, local = ("192.0.2.1", port), ("192.0.2.2", TFTP_PORT)
        self.server.received(wire.encode_request(request), peer, local)
        return self.links[-1]

    def fetch(self, filename: str | bytes, *, mode: str = wire.OCTET) -> bytes:
        """Read a file in lock step.

        @raise TFTPError: the server's answer was an ERROR; the subclass is that of its code.
        """
        link = self.request(wire.Opcode.RRQ, filename, mode=mode)
        octets = b""
        number = 1
        while True:
            datagram = self._answer(link)
            assert datagram[:4] == wire.DATA_HEADERS[number % 65536]
            octets += datagram[4:]
            link.deliver(wire.ack(number % 65536))
            if len(datagram) < 4 + DEFAULT_BLKSIZE:
                return octets
            number += 1

    def store(self, filename: str | bytes, data: bytes, *, mode: str = wire.OCTET) -> None:
        """Write a file in lock step; return when the last block is acknowledged.

        @raise TFTPError: the server's answer was an ERROR; the subclass is that of its code.
        """
        link = self.request(wire.Opcode.WRQ, filename, mode=mode)
        for number in range(len(data) // DEFAULT_BLKSIZE + 2):
            assert self._answer(link) == wire.ack(number % 65536)
            start = number * DEFAULT_BLKSIZE
            if start <= len(data):
                block = data[start : start + DEFAULT_BLKSIZE]
                link.deliver(wire.DATA_HEADERS[(number + 1) % 65536] + block)

    def _answer(self, link: MemoryLink) -> bytes:
        for _ in range(100):
            if link.sent:
                datagram = link.sent.pop(0)
                if wire.opcode_of(datagram) == wire.Opcode.ERROR:
                    code, message = wire.parse_error(datagram)
                    raise from_wire(code, message)
                return datagram
            self.clock.advance(0.1)
        raise TransferTimedOut("the server does not answer")
