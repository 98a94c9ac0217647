"""The links of a server's downloads, and the sockets that several downloads use in turn.

To open, bind, register and close a socket costs as much as three datagrams, and most of the files
that a machine boots from need no more. So when a download has ended, its socket (a
L{TransferPort}) serves a download of another client. Only a long download gets a second socket on
the same port, which is connected to its client.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Hashable

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.descriptors import descriptor_limit
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.socket_options import copy_options
from twisted_tftp.net.strangers import StrangerResponder
from twisted_tftp.net.udp import (
    READS_BEFORE_TIMEOUT,
    SOCKET_TYPE,
    OnPortUnreachable,
    Receive,
    ReceiveTrain,
    SocketAddress,
    SocketDescriptor,
    UDPLink,
    allow_fragmentation,
)

#: The most octets that are read of a packet from a downloading client: enough for an ACK, or an
#: ERROR with its text. A smaller buffer saves nothing: Python allocates this much anyway.
MAX_CLIENT_PACKET = 448

#: The number of packets from a client after which its download gets a connected socket. The
#: download of a small file has ended by then.
CONNECT_AFTER = 32

#: The most datagrams that are read from a socket that was just connected.
READS_AFTER_CONNECT = 64

#: The most downloads that one port serves, one after the other.
TRANSFERS_PER_PORT = 64

#: How long a port takes new downloads after it was opened, in seconds.
PORT_MAX_AGE = 10.0

#: The share of all descriptors above which a download gets no second socket. The rest is for
#: files.
MAX_SOCKET_SHARE = 0.75


@implementer(IReadWriteDescriptor)
class TransferPort(SocketDescriptor):
    """A socket of the server that serves downloads, one after the other.

    Its port is the TID of the current download (RFC 1350 section 4). Packets that do not come from
    the client of that download come from strangers. A port never serves the same client address
    and port twice, because delayed packets of the first download would be taken for packets of the
    second one.

    @ivar host: the local address that it is bound to.
    @ivar address: its local socket address.
    @ivar is_single_use: whether it is closed after its first download.
    @ivar idle_since: when its last download ended.
    """

    __slots__ = (
        "_clock",
        "_hub",
        "_link",
        "_on_idle",
        "_opened_at",
        "_peer",
        "_responder",
        "_served_peers",
        "address",
        "host",
        "idle_since",
        "is_single_use",
    )

    def __init__(
        self,
        sock: socket.socket,
        host: Hashable,
        hub: Hub,
        responder: StrangerResponder,
        clock: Callable[[], float],
        on_idle: Callable[[TransferPort, SocketAddress], None],
    ) -> None:
        """Set up the port of `sock`, which is bound to `host`; `close` closes it.

        @param on_idle: called after each download with the port and the peer that it served.
        """
        self._sock = sock
        self.host = host
        self._hub = hub
        self._responder = responder
        self._clock = clock
        self._on_idle = on_idle
        self._link: DownloadLink | None = None
        self._peer: SocketAddress = None
        self._served_peers: set[SocketAddress] = set()
        self.address: SocketAddress = sock.getsockname()
        self.is_single_use = False
        self._opened_at = clock()
        self.idle_since = 0.0
        if hub.allows_icmp_errors:
            icmp_errors.ask_for_errors(sock)
        hub.add(self)

    def is_used_up(self, now: float) -> bool:
        """Return whether the port takes no more downloads: after too many, or after too long."""
        return (
            len(self._served_peers) >= TRANSFERS_PER_PORT or now - self._opened_at >= PORT_MAX_AGE
        )

    def has_served(self, peer: SocketAddress) -> bool:
        """Return whether the port has served `peer` before."""
        return peer in self._served_peers

    def serve(self, peer: SocketAddress) -> DownloadLink:
        """Return the link of a new download by `peer`."""
        link = DownloadLink(self._sock, peer, self._hub, self, self._clock)
        self._served_peers.add(peer)
        self._peer = peer
        self._link = link
        return link

    def end_download(self) -> None:
        """Note that the current download has ended; its link calls this."""
        peer = self._peer
        self._link = self._peer = None
        self._on_idle(self, peer)

    def close(self) -> None:
        """Close the socket."""
        if self._hub.outbox:
            self._hub.send_outbox()
        self._hub.remove(self)
        self._sock.close()

    def doRead(self) -> None:
        """Read one datagram: in lock step there is no more."""
        self.read_one()

    def read_one(self) -> bool:
        """Read a datagram; return whether there may be more."""
        try:
            datagram, address = self._sock.recvfrom(MAX_CLIENT_PACKET)
        except (BlockingIOError, InterruptedError):
            self._read_errors()
            return False
        except OSError:  # an ICMP error about an earlier datagram
            self._read_errors()
            return True
        now = self._clock()
        if address == self._peer:
            self._link.receive(datagram, now)  # type: ignore[union-attr]
        elif address not in self._served_peers:
            self._responder.answer(self._sock, address, datagram, now)
        return self._link is not None

    def _read_errors(self) -> None:
        """Tell the transfer if ICMP reports that its peer's port is closed."""
        # Errors about datagrams to earlier peers are ignored.
        if self._hub.allows_icmp_errors:
            link = self._link
            for _ in range(icmp_errors.count_port_unreachable(self._sock, self._peer)):
                link.report_port_unreachable(self._clock())  # type: ignore[union-attr]

    def doWrite(self) -> None:
        """Send the datagrams that have waited until the socket is writable."""
        if self._link is None or self._link.send_pending():
            self._hub.watch_writable(self, False)


@implementer(IReadWriteDescriptor)
class DownloadLink(UDPLink):
    """The link of one download. At first it uses the socket of a L{TransferPort}.

    With an unconnected socket, the kernel and Python process an address with each packet. That is
    a fifth of the cost of a packet in lock step. So a long download gets a second socket on the
    same port, connected to its peer. The first socket still receives packets of strangers, and
    packets of the peer that were sent before the connection.
    """

    __slots__ = ("_clock", "_on_port_unreachable", "_port", "_receive", "_until_connected")

    def __init__(
        self,
        sock: socket.socket,
        peer: SocketAddress,
        hub: Hub,
        port: TransferPort,
        clock: Callable[[], float],
    ) -> None:
        """Make the link of a download that `port` serves; `sock` is the socket of `port`."""
        super().__init__(sock, peer, hub)
        self._port = port
        self._clock = clock
        self._receive: Receive | None = None
        self._on_port_unreachable: OnPortUnreachable | None = None
        self._until_connected = CONNECT_AFTER

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        """Start to receive; datagrams that came before this call are ignored."""
        self._receive = receive

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
        self._receive(datagram, now)
        if self._until_connected:
            self._until_connected -= 1
            # If datagrams wait to be sent, the hub waits for the first socket to become writable.
            if not self._until_connected and not self.closed and not self._pending:
                self._connect()

    def receive_waiting(self) -> None:
        """Read all datagrams in the sockets, up to `READS_BEFORE_TIMEOUT` from each socket."""
        readers = [self._port.read_one] + [self._read] * (self._to is None)
        for read in readers:
            for _ in range(READS_BEFORE_TIMEOUT):
                if self.closed or not read():
                    break

    def close(self) -> None:
        """Close the second socket if there is one, and release the port for another download."""
        if self.closed:
            return
        self.closed = True
        self._receive = self._on_port_unreachable = None
        try:
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
        self._hub.watch_writable(self if self._to is None else self._port, True)

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
        self._sock, self._to = second, None
        self._hub.add(self)
        # Datagrams that came between the bind and the connect may be from any address.
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
