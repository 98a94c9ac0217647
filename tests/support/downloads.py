"""A server whose flows are watched, and clients of it that do what a test says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tests.support.reactors import spin
from twisted_tftp.net import hub
from twisted_tftp.net.offload import FlowTable, make_flow_table
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server import TFTPService
from twisted_tftp.testing import Recorder
from twisted_tftp.transfer.flow import Progress

LOCALHOST = "127.0.0.1"

#: The size of the buffer for any datagram, in octets.
MAX_DATAGRAM = 65535


class WatchedTable:
    """A table of flows that counts.

    @ivar active: the descriptors that have flows.
    @ivar acks: how many ACKs the flows have received, as far as they were asked.
    @ivar started: how many flows were started.
    """

    def __init__(self, table: FlowTable) -> None:
        self._table = table
        self.active: set[int] = set()
        self.acks = 0
        self.started = 0
        self.poll = table.poll
        self.sent_at = table.sent_at
        self.least_windows = 2  # so that each table has flows
        self.sends_between_offers = 0

    def add(self, sock: Any, *args: Any) -> bool:
        added = self._table.add(sock, *args)
        if added:
            self.started += 1
            self.active.add(sock.fileno())
        return added

    def look(self, descriptor: int) -> Progress:
        progress = self._table.look(descriptor)
        self.acks += progress.acks
        return progress

    def take(self, descriptor: int) -> Progress:
        progress = self._table.take(descriptor)
        self.active.discard(descriptor)
        self.acks += progress.acks
        return progress

    def close(self) -> None:
        self._table.close()


class FlowServer:
    """A running server, and its table of flows.

    @ivar recorder: records the transfers.
    """

    def __init__(
        self, reactor: Any, backend: Any, monkeypatch: Any, host: str = LOCALHOST, **policy: Any
    ) -> None:
        self.reactor = reactor
        self.tables: list[WatchedTable] = []
        monkeypatch.setattr(hub, "make_flow_table", self._make_table)
        self.recorder = Recorder()
        self.service = TFTPService(
            backend,
            port=0,
            host=[host],
            drain=0,
            policy=Policy(**policy),
            observer=self.recorder,
            reactor=reactor,
        )
        self.service.startService()
        self.address = (host, self.service.ports[0].getHost().port)

    def _make_table(self, *args: Any) -> WatchedTable:
        self.tables.append(WatchedTable(make_flow_table(*args)))
        return self.tables[-1]

    @property
    def flows(self) -> WatchedTable:
        """The table of flows; there is one after the first download has begun."""
        [table] = self.tables
        return table

    @property
    def sessions(self) -> list[Any]:
        """The running transfers."""
        return list(self.service.transfers._sessions)

    def spin(self, until: Callable[[], object]) -> None:
        """Serve until `until()` is true."""
        spin(self.reactor, until)

    def stop(self) -> None:
        """Stop the server."""
        stopped: list[Any] = []
        self.service.stopService().addBoth(stopped.append)
        self.spin(lambda: stopped)


class DownloadClient:
    """A client that reads one file; the reactor of the server runs it too.

    @ivar content: the octets that were received.
    @ivar block: the last block that was received in order, counted without a rollover.
    @ivar is_done: whether the whole file was received.
    @ivar error: the code and the message of the ERROR that was received.
    @ivar transfer: the address of the server's transfer.
    @ivar after_65535: the number of the block after number 65535.
    @ivar is_silent: whether it sends no ACK of its own.
    @ivar oacks: how many OACKs were received.
    @ivar repeated: how many blocks came again, or out of order.
    @ivar on_block: called with the number of each block that arrives in order, before its ACK, and
        with 0 for the OACK. If it returns false, the block is lost.
    """

    def __init__(
        self,
        server: FlowServer,
        name: bytes = b"f",
        *,
        on_block: Callable[[int], bool] = lambda _: True,
        mode: str = "octet",
        **options: int,
    ) -> None:
        """Ask for the file in a mode; `options` are those of the request."""
        host, _ = server.address
        self.content = bytearray()
        self.block = 0
        self.is_done = False
        self.error: tuple[int, str] | None = None
        self.transfer: Any = None
        self.is_silent = False
        self.after_65535 = 0
        self.oacks = self.repeated = 0
        self.on_block = on_block
        self._reactor = server.reactor
        self._server = server.address
        texts = {name: str(value) for name, value in options.items()}
        self.request = wire.encode_request(wire.Request(wire.Opcode.RRQ, name, mode, texts))
        self._blksize, self._windowsize = 512, 1
        self._unacked = 0
        self._has_gap = False
        self.sock = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.sock.bind((host, 0))
        self.sock.setblocking(False)
        self._reactor.addReader(self)
        self.ask()

    def ask(self) -> None:
        """Send the request."""
        self.sock.sendto(self.request, self._server)

    def send(self, datagram: bytes) -> None:
        """Send a datagram to the server's transfer."""
        self.sock.sendto(datagram, self.transfer)

    def close(self) -> None:
        """Close the socket."""
        self._reactor.removeReader(self)
        self.sock.close()

    @property
    def is_over(self) -> bool:
        """Whether the file, or an ERROR, was received."""
        return self.is_done or self.error is not None

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "client"

    def connectionLost(self, reason: object) -> None:
        pass

    def doRead(self) -> None:
        """Process all datagrams that wait."""
        while self.sock.fileno() >= 0:
            try:
                datagram, address = self.sock.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self._process(datagram, address)

    def _process(self, datagram: bytes, address: Any) -> None:
        if self.transfer is None:
            self.transfer = address
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.ERROR:
            self.error = wire.parse_error(datagram)
        elif opcode == wire.Opcode.OACK:
            self.oacks += 1
            options = wire.parse_oack(datagram)
            self._blksize = int(options.get("blksize", 512))
            self._windowsize = int(options.get("windowsize", 1))
            if self.on_block(0):
                self._acknowledge()
        else:
            self._receive(int.from_bytes(datagram[2:4], "big"), datagram[4:])

    def _number(self, block: int) -> int:
        """Return the number of a block."""
        first = self.after_65535
        return block if block < 65536 else (block - 65536) % (65536 - first) + first

    def _receive(self, number: int, octets: bytes) -> None:
        if self.is_done or number != self._number(self.block + 1):
            self.repeated += 1
            if self.is_done or not self._has_gap:
                self._has_gap = not self.is_done
                self._acknowledge()  # the server continues after this block (RFC 7440 section 4)
            return
        if not self.on_block(self.block + 1):
            return
        self._has_gap = False
        self.block += 1
        self.content += octets
        self._unacked += 1
        self.is_done = len(octets) < self._blksize
        if self.is_done or self._unacked == self._windowsize:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._unacked = 0
        if not self.is_silent:
            self.send(wire.ack(self._number(self.block)))
