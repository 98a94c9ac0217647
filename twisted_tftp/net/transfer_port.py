"""The sockets that serve the downloads of a server, one after the other.

To open, bind, register and close a socket costs as much as three datagrams, and most of the files
that a machine boots from need no more. So when a download has ended, its socket (a
L{TransferPort}) serves a download of another client.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.download_link import DownloadLink
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.offload import MAX_CLIENT_PACKET
from twisted_tftp.net.strangers import StrangerResponder
from twisted_tftp.net.udp import SocketDescriptor

#: The most downloads that one port serves, one after the other.
TRANSFERS_PER_PORT = 64

#: How long a port takes new downloads after it was opened, in seconds.
PORT_MAX_AGE = 10.0


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
        self.process(datagram, address, self._clock())
        return self._link is not None

    def process(self, datagram: bytes, address: SocketAddress, now: float) -> None:
        """Process a datagram that the socket has received from `address`."""
        if address == self._peer:
            self._link.receive(datagram, now)  # type: ignore[union-attr]
        elif address not in self._served_peers:
            self._responder.answer(self._sock, address, datagram, now)

    def _read_errors(self) -> None:
        """Tell the transfer if ICMP reports that its peer's port is closed."""
        # Errors about datagrams to earlier peers are ignored.
        if self._hub.allows_icmp_errors:
            link = self._link
            for _ in range(icmp_errors.count_port_unreachable(self._sock, self._peer)):
                link.report_port_unreachable(self._clock())  # type: ignore[union-attr]

    def watch_writable(self) -> None:
        """Send the datagrams of the link that wait when the socket is writable."""
        self._hub.watch_writable(self, True)

    def doWrite(self) -> None:
        """Send the datagrams that have waited until the socket is writable."""
        if self._link is None or self._link.send_pending():
            self._hub.watch_writable(self, False)
