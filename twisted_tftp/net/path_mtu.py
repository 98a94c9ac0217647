"""Ask the system for the MTU of the route to a peer, and compute which blocks fit it.

A socket that is connected to the peer has an option with the MTU of its route: that of the
interface, or a lower one that the route's configuration or an ICMP message has set.
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable, Hashable

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.socket_options import SocketOptions
from twisted_tftp.net.udp import SOCKET_TYPE
from twisted_tftp.protocol import wire

#: The MTU of Ethernet, in octets.
ETHERNET_MTU = 1500

#: The length of an IPv4 header without options, in octets.
IPV4_HEADER = 20

#: The length of an IPv6 header without extensions, in octets.
IPV6_HEADER = 40

#: The length of a UDP header, in octets.
UDP_HEADER = 8

#: The largest block that fits an Ethernet frame over IPv4, in octets.
ETHERNET_BLKSIZE = ETHERNET_MTU - IPV4_HEADER - UDP_HEADER - wire.HEADER_SIZE

#: The length of the longest headers of a DATA packet, in octets.
MAX_HEADERS = IPV6_HEADER + UDP_HEADER + wire.HEADER_SIZE

#: How long the MTU of a route is cached, in seconds.
MTU_MAX_AGE = 5.0

#: The most routes whose MTU is cached.
MAX_ROUTES = 1024

#: The most sockets that are kept open: one for each local address.
MAX_SOCKETS = 16

#: The socket option of Linux that returns the MTU of an IPv4 route (ip(7)).
_IP_MTU = 14

#: The socket option of Linux that returns the MTU of an IPv6 route (ipv6(7)).
_IPV6_MTU = 24


def fitting_blksize(peer: SocketAddress, mtu: int) -> int:
    """Return the largest block, in octets, whose datagram to `peer` needs no IP fragments."""
    header = IPV6_HEADER if len(peer) == 4 else IPV4_HEADER
    return mtu - header - UDP_HEADER - wire.HEADER_SIZE


def mtu_of_route(peer: SocketAddress, options: SocketOptions | None = None) -> int | None:
    """Return the MTU of the route to `peer` in octets; None if it is unknown.

    It is unknown without a route, and on systems other than Linux.

    @param options: the options of the sockets that will use the route, or None.
    """
    try:
        with _open_socket(peer, None, options) as sock:
            return _ask(sock, peer)
    except OSError:
        return None


class RouteMtus:
    """The MTUs of the routes to the peers of a server; each one is cached for some seconds.

    To open and close a socket for each call would cost a tenth of the transfer of a small
    file. So one socket for each local address is kept, and connected to one peer after the other.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        options: SocketOptions | None = None,
    ) -> None:
        """Set up, without opening a socket.

        @param options: the options of the server's sockets, which select its routes, or None.
        """
        self._clock = clock
        self._options = options
        self._cache: dict[Hashable, tuple[int | None, float]] = {}
        self._sockets: dict[Hashable, socket.socket] = {}

    def mtu(self, peer: SocketAddress, local: SocketAddress | None) -> int | None:
        """Return the MTU of the route from the address `local` to `peer`; None if it is unknown.

        @param local: the local address that a request reached; None if unknown.
        """
        key = (peer[0], local)
        now = self._clock()
        cached = self._cache.get(key)
        if cached is not None and now < cached[1]:
            return cached[0]
        mtu = mtu_of_route(peer, self._options) if local is None else self._ask_from(local, peer)
        if len(self._cache) >= MAX_ROUTES:
            self._cache.clear()
        self._cache[key] = mtu, now + MTU_MAX_AGE
        return mtu

    def close(self) -> None:
        """Close the sockets; the next call of L{mtu} may open new ones."""
        sockets, self._sockets = self._sockets, {}
        for sock in sockets.values():
            sock.close()

    def _ask_from(self, local: SocketAddress, peer: SocketAddress) -> int | None:
        """Ask for the MTU with the socket at `local`; if that fails, with a new socket."""
        # A connection to a link-local address binds an IPv6 socket to its interface.
        key = (local[0], local[3:], peer[3:])
        sock = self._sockets.pop(key, None)
        if sock is not None:
            mtu = self._ask_and_keep(key, sock, peer)
            if mtu is not None:
                return mtu
        try:
            sock = _open_socket(peer, local, self._options)
        except OSError:
            return None
        return self._ask_and_keep(key, sock, peer)

    def _ask_and_keep(self, key: Hashable, sock: socket.socket, peer: SocketAddress) -> int | None:
        """Ask for the MTU with `sock`, and keep `sock` open for the next call, unless it fails."""
        try:
            mtu = _ask(sock, peer)
        except OSError:
            sock.close()
            return None
        if len(self._sockets) >= MAX_SOCKETS:
            self.close()
        self._sockets[key] = sock
        return mtu


def _open_socket(
    peer: SocketAddress, local: SocketAddress | None, options: SocketOptions | None
) -> socket.socket:
    """Return a socket to ask for the MTU to `peer`; it is bound to the host of `local`, if given.

    @raise OSError: it can't be opened, or this is not Linux.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "only Linux reports the MTU of a route")
    sock = socket.socket(socket.AF_INET6 if len(peer) == 4 else socket.AF_INET, SOCKET_TYPE)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nothing reads what arrives
        if options is not None:
            options.apply(sock)
        if local is not None:
            sock.bind((local[0], 0, *local[2:]))
    except OSError:
        sock.close()
        raise
    return sock


def _ask(sock: socket.socket, peer: SocketAddress) -> int:
    """Connect `sock` to `peer`, which sends nothing, and return the MTU of its route.

    @raise OSError: there is no route.
    """
    sock.connect(peer)
    if len(peer) == 4:
        return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
    return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
