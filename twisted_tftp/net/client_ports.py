"""Open the sockets of a client, bound to the local address of the route and to an unused port.

A socket that is bound to the wildcard address receives datagrams to its port at any local address,
even those for another program. So each socket is bound to the local address of the route to the
server. A port that was in use a moment ago may still receive retransmissions of a server's answer
to an earlier request. So ports that this process has used recently are avoided, if others are
free.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.udp import SOCKET_TYPE, open_socket

#: How long a port is not used again after its last use, in seconds.
PORT_REUSE_DELAY = 10.0

#: How many ports that were used recently are skipped for one socket. The next port is used.
PORT_TRIES = 8

#: How long the local address of a route is cached, in seconds.
ROUTE_MAX_AGE = 5.0

#: The most routes that are cached.
MAX_ROUTES = 64


class PortHistory:
    """The times at which this process last used each local port; one entry per port number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[int, float] = {}

    def may_use(self, port: int) -> bool:
        """Return whether `port` was not in use for `PORT_REUSE_DELAY` seconds."""
        used = self._used.get(port)
        return used is None or self._clock() - used >= PORT_REUSE_DELAY

    def note_use(self, port: int) -> None:
        """Note that `port` is in use now."""
        self._used[port] = self._clock()


#: The history that all clients of this process share.
_shared_history = PortHistory()


def route_source(server: SocketAddress) -> SocketAddress | None:
    """Return the local address from which datagrams to `server` are sent, with port 0.

    @return: a socket address of the server's family, with the scope if it is link-local. None if
        there is no route, or if the server's address is not a unicast address.
    """
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, SOCKET_TYPE) as sock:
        try:
            sock.connect(server)  # this sends nothing
        except OSError:
            return None
        host, _, *rest = sock.getsockname()
    return (host, 0, *rest)


class ClientPorts:
    """The sockets of a client for transfers with servers.

    @ivar is_fixed: whether the caller has chosen the port, so that no other port can be used.
    """

    def __init__(
        self,
        bind: SocketAddress | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        history: PortHistory | None = None,
        open_socket: Callable[..., socket.socket] = open_socket,
        find_source: Callable[[SocketAddress], SocketAddress | None] = route_source,
    ) -> None:
        """Set up, without opening a socket.

        @param bind: the local socket address of all transfers, with port 0 for any port; None for
            the local address of the route to each server.
        @param history: the times of port use; None for those that all clients share.
        @param open_socket: opens a socket: see `twisted_tftp.net.udp.open_socket`.
        @param find_source: returns the local address of the route to a server: see `route_source`.
        """
        self._open_socket = open_socket
        self._find_source = find_source
        self.is_fixed = bind is not None and bool(bind[1])
        self._bind = bind
        self._clock = clock
        self._history = _shared_history if history is None else history
        self._routes: dict[SocketAddress, tuple[SocketAddress, float]] = {}

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of the local address; AF_UNSPEC if the caller has chosen none."""
        if self._bind is None:
            return socket.AF_UNSPEC
        return socket.AF_INET6 if ":" in self._bind[0] else socket.AF_INET

    def open(self, server: SocketAddress) -> socket.socket:
        """Return a non-blocking socket for a transfer with `server`.

        If there is no route to the server, the socket is bound to the wildcard address. Sending
        then fails until there is a route.

        @raise OSError: there is no port or descriptor left, or `bind` is not an address of this
            host.
        """
        if self._bind is not None:
            return self._open_at(server, self._bind)
        for _ in range(2):
            local = self._local_address(server)
            try:
                return self._open_at(server, local)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                self._routes.pop(server, None)  # the host does not have this address any more
        return self._open_at(server, None)

    def release(self, port: int) -> None:
        """Note that the local port of a socket from `open` is not used any more."""
        self._history.note_use(port)

    def _open_at(self, server: SocketAddress, local: SocketAddress | None) -> socket.socket:
        if local is not None and local[1]:
            return self._open_socket(server, local, (local[1], local[1]))
        # Sockets on skipped ports stay open until a port is found, so that the system does not
        # choose these ports again.
        skipped: list[socket.socket] = []
        try:
            while True:
                sock = self._open_socket(server, local)
                if len(skipped) == PORT_TRIES or self._history.may_use(sock.getsockname()[1]):
                    break
                skipped.append(sock)
        except OSError:
            if not skipped:
                raise
            sock = skipped.pop()  # there is no descriptor left to try another port
        finally:
            for other in skipped:
                other.close()
        self._history.note_use(sock.getsockname()[1])
        return sock

    def _local_address(self, server: SocketAddress) -> SocketAddress | None:
        """Return the local address of the route to `server` with port 0; None without a route."""
        now = self._clock()
        local, until = self._routes.get(server, (None, 0.0))
        if now < until:
            return local
        local = self._find_source(server)
        if local is not None:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[server] = local, now + ROUTE_MAX_AGE
        return local
