"""The link of a server's download: a shared socket first, and a connected one for a long download.

It is the only link with flows: the hub sends the routine part of a download without the machine.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.descriptors import descriptor_limit
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.offload import MAX_CLIENT_PACKET, FlowTable
from twisted_tftp.net.socket_options import copy_options
from twisted_tftp.net.udp import (
    READS_BEFORE_TIMEOUT,
    SOCKET_TYPE,
    OnPortUnreachable,
    Receive,
    ReceiveTrain,
    UDPLink,
    allow_fragmentation,
)
from twisted_tftp.transfer.flow import Offerer, Progress
from twisted_tftp.transfer.machine import Buffer

#: The number of packets from a client after which its download gets a connected socket. The
#: download of a small file has ended by then.
CONNECT_AFTER = 32

#: The most datagrams that are read from a socket that was just connected.
READS_AFTER_CONNECT = 64

#: The share of all descriptors above which a download gets no second socket. The rest is for
#: files.
MAX_SOCKET_SHARE = 0.75


class Port(Protocol):
    """The L{TransferPort} whose socket a link uses at first."""

    address: SocketAddress

    def read_one(self) -> bool:
        """Read a datagram; return whether there may be more."""

    def process(self, datagram: bytes, address: SocketAddress, now: float) -> None:
        """Process a datagram that its socket has received from `address`."""

    def watch_writable(self) -> None:
        """Call `send_pending` of the link when the socket is writable."""

    def end_download(self) -> None:
        """Note that the download has ended."""


@implementer(IReadWriteDescriptor)
class DownloadLink(UDPLink):
    """The link of one download. At first it uses the socket of a L{TransferPort}.

    With an unconnected socket, the kernel and Python process an address with each packet. That is
    a fifth of the cost of a packet in lock step. So a long download gets a second socket on the
    same port, connected to its peer. The first socket still receives packets of strangers, and
    packets of the peer that were sent before the connection.
    """

    __slots__ = (
        "_clock",
        "_has_flow",
        "_known_sent_at",
        "_offerer",
        "_on_port_unreachable",
        "_port",
        "_receive",
        "_sends_until_offer",
        "_until_connected",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: SocketAddress,
        hub: Hub,
        port: Port,
        clock: Callable[[], float],
    ) -> None:
        """Make the link of a download that `port` serves; `sock` is the socket of `port`."""
        super().__init__(sock, peer, hub)
        self._port = port
        self._clock = clock
        self._receive: Receive | None = None
        self._on_port_unreachable: OnPortUnreachable | None = None
        self._until_connected = CONNECT_AFTER
        self._offerer: Offerer | None = None  # None without flows, and while there must be none
        self._has_flow = False
        self._sends_until_offer = 0
        self._known_sent_at = 0.0  # when the last window that the machine knows was sent

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        """Start to receive; datagrams that came before this call are ignored."""
        self._receive = receive
        self._offerer = None if self._hub.flows is None else offerer

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram; then start a flow if possible."""
        UDPLink.send(self, datagrams)
        # With 1, the next packet connects a second socket.
        if self._offerer is not None and self._until_connected != 1 and not self._pending:
            if self._sends_until_offer:
                self._sends_until_offer -= 1
            else:
                self._offer(self._offerer)

    def _offer(self, offerer: Offerer) -> None:
        """Start a flow if the machine offers one."""
        flows: FlowTable = self._hub.flows  # type: ignore[assignment]
        offer = offerer.offer(flows.least_windows)
        if offer is None:
            self._sends_until_offer = flows.sends_between_offers
        elif not self._has_flow:
            self._known_sent_at = offer.sent_at
            self._has_flow = flows.add(self._sock, self, self._to, offer, self._offload)

    def send_flow(self, datagrams: Sequence[Buffer]) -> None:
        """Send a window of the flow."""
        UDPLink.send(self, datagrams)

    def flow_delay(self) -> float | None:
        """Return how much later the flow has sent a window than the machine knows; see L{Link}."""
        if not self._has_flow:
            return None
        sent_at = self._hub.flows.sent_at(self._sock.fileno())  # type: ignore[union-attr]
        return sent_at - self._known_sent_at

    def follow_flow(self) -> None:
        """Let the machine take over what its flow has done, if there is one."""
        if self._has_flow:
            progress = self._hub.flows.look(self._sock.fileno())  # type: ignore[union-attr]
            self._known_sent_at = progress.at
            self._take_back(progress)

    def end_flow(self) -> None:
        """End the flow, if there is one, and let the machine take over what it has done."""
        if self._has_flow:
            self._has_flow = False
            self._take_back(self._hub.flows.take(self._sock.fileno()))  # type: ignore[union-attr]

    def resume(self, datagram: bytes | None, stranger: SocketAddress) -> None:
        """End the flow, and process the datagram that it could not process; the hub calls this."""
        if not self._has_flow:
            return  # ended meanwhile: the datagram counts as lost
        if datagram is None or stranger is not None:
            self.end_flow()
            if datagram is not None:
                self._port.process(datagram, stranger, self._clock())
            return
        self._has_flow = False
        progress = self._hub.flows.take(self._sock.fileno())  # type: ignore[union-attr]
        self._offerer.resume(progress, datagram, self._clock())  # type: ignore[union-attr]
        if self._until_connected:
            self._note_packets(progress.acks + 1)

    def _take_back(self, progress: Progress) -> None:
        unsent = self._offerer.take_back(progress)  # type: ignore[union-attr]
        if self._until_connected:
            self._until_connected = max(1, self._until_connected - progress.acks)
        if unsent:
            UDPLink.send(self, unsent)

    def enlarge_buffer(self, size: int) -> int:
        """Return `size`: the packets of a downloading client are small, so they fit."""
        return size

    def watch_port_unreachable(self, on_port_unreachable: OnPortUnreachable) -> None:
        """Call `on_port_unreachable` when ICMP says that the peer's port is closed."""
        self._on_port_unreachable = on_port_unreachable

    def report_port_unreachable(self, now: float) -> None:
        """Report that the peer's port is closed; the `TransferPort` calls this."""
        if self._on_port_unreachable is not None:
            self._on_port_unreachable(now)

    def receive(self, datagram: bytes, now: float) -> None:
        """Process a datagram of the peer; the `TransferPort` calls this."""
        if self._receive is None:
            return
        self.end_flow()  # that of the second socket, if this is a late packet in the first one
        self._receive(datagram, now)
        if self._until_connected:
            self._note_packets(1)

    def _note_packets(self, count: int) -> None:
        """Note the packets of the peer that were received; connect a socket after many."""
        self._until_connected = max(0, self._until_connected - count)
        # If datagrams wait to be sent, the hub waits for the first socket to become writable.
        if not self._until_connected and not self.closed and not self._pending:
            self._connect()

    def receive_waiting(self) -> None:
        """Read all datagrams in the sockets, up to `READS_BEFORE_TIMEOUT` from each socket."""
        readers = [self._port.read_one] + [self._read] * (self._to is None)
        with self._without_flow():
            for read in readers:
                for _ in range(READS_BEFORE_TIMEOUT):
                    if self.closed or not read():
                        break

    @contextlib.contextmanager
    def _without_flow(self) -> Iterator[None]:
        """End the flow, and start none during a `with` statement that reads from the socket."""
        self.end_flow()
        offerer, self._offerer = self._offerer, None
        try:
            yield
        finally:
            if not self.closed:
                self._offerer = offerer

    def close(self) -> None:
        """Close the second socket if there is one, and release the port for another download."""
        if self.closed:
            return
        self.closed = True
        self._receive = self._on_port_unreachable = self._offerer = None
        try:
            if self._has_flow:
                self._has_flow = False
                with contextlib.suppress(KeyError):  # a hub that was closed has ended all flows
                    self._hub.flows.take(self._sock.fileno())  # type: ignore[union-attr]
            if self._to is None:
                if self._hub.outbox:
                    self._hub.send_outbox()
                self._hub.remove(self)
                self._sock.close()
        finally:
            self._port.end_download()

    def doRead(self) -> None:
        """Read one datagram: in lock step there is no more."""
        try:
            datagram = self._sock.recv(MAX_CLIENT_PACKET)
        except OSError:
            return  # no datagram, or an ICMP error about an earlier one
        self.end_flow()  # one that has just begun, if the hub has found the datagram before that
        self._receive(datagram, self._clock())  # type: ignore[misc]

    def doWrite(self) -> None:
        """Send the datagrams that have waited until the socket is writable."""
        if self.send_pending():
            self._hub.watch_writable(self, False)

    def _read(self) -> bool:
        """Read a datagram from the connected socket; return whether there may be more."""
        try:
            datagram = self._sock.recv(MAX_CLIENT_PACKET)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        self._receive(datagram, self._clock())  # type: ignore[misc]
        return True

    def _watch_writable(self) -> None:
        if self._to is None:
            self._hub.watch_writable(self, True)
        else:
            self._port.watch_writable()

    def _connect(self) -> None:
        """Continue with a second, connected socket, if one can be opened."""
        if not self._hub.allows_icmp_errors:
            return
        second = self._open_connected()
        if second is None:
            return
        second.setblocking(False)
        if self._hub.outbox:
            self._hub.send_outbox()
        self.end_flow()
        self._sock, self._to = second, None
        self._hub.add(self)
        with self._without_flow():
            self._read_after_connect(second)

    def _read_after_connect(self, second: socket.socket) -> None:
        """Read what came between the bind and the connect, which may be from any address."""
        for _ in range(READS_AFTER_CONNECT):
            try:
                datagram, address = second.recvfrom(MAX_CLIENT_PACKET)
            except OSError:
                return
            if address == self._peer:
                self._receive(datagram, self._clock())  # type: ignore[misc]
            if self.closed:
                return

    def _open_connected(self) -> socket.socket | None:
        """Return a socket on the same port that is connected to the peer; None if that fails."""
        first = self._sock
        try:
            second = socket.socket(first.family, SOCKET_TYPE)
        except OSError:
            return None
        try:
            if second.fileno() > descriptor_limit() * MAX_SOCKET_SHARE:
                raise OSError
            allow_fragmentation(second)
            copy_options(first, second)
            # Two sockets may bind one port only if both have this option. It is set
            # only during the bind, so that other processes cannot bind the port.
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            second.bind(self._port.address)
            second.connect(self._peer)
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            second.close()
            with contextlib.suppress(OSError):
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            return None
        return second
