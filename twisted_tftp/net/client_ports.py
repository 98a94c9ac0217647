"""Open the sockets of a client: bound to the address of the route, on ports that have rested.

A socket that is bound to the wildcard address receives what is sent to its port at any local
address, also what is meant for another program. So each socket is bound to the address from which
the route to the server leaves. A port that was in use a moment ago may still receive repeats of a
server's answer to an earlier request; so ports that this process has used lately are left alone,
as long as there are others.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

from twisted_tftp.net.udp import DATAGRAM, SocketAddress, open_socket

#: Seconds for which a port is left alone after its use.
PORT_REST = 10.0

#: Ports that have not rested and are passed over; the next one is taken as it is.
PORT_TRIES = 8

#: Seconds for which the local address of a route is remembered.
ROUTE_LIFE = 5.0

#: Routes that are remembered at most.
MOST_ROUTES = 64


class PortRest:
    """When this process has used each local port last; at most one entry for each port number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[int, float] = {}

    def has_rested(self, port: int) -> bool:
        """Return whether `port` was not used for `PORT_REST` seconds."""
        used = self._used.get(port)
        return used is None or self._clock() - used >= PORT_REST

    def use(self, port: int) -> None:
        """Note that `port` is in use now."""
        self._used[port] = self._clock()


#: The ports of a host are shared by all clients of a process.
_rest_of_process = PortRest()


class ClientPorts:
    """Open sockets for transfers with servers.

    @ivar is_fixed: the caller has chosen the port, so there is no other one to ask from.
    """

    def __init__(
        self,
        bind: SocketAddress | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rest: PortRest | None = None,
    ) -> None:
        """Set up; nothing is opened.

        @param bind: the local socket address to use for all transfers, with port 0 for any port;
            None for the address of the route to each server.
        @param rest: what remembers the use of ports; None for that of the process.
        """
        self.is_fixed = bind is not None and bool(bind[1])
        self._bind = bind
        self._clock = clock
        self._rest = _rest_of_process if rest is None else rest
        self._routes: dict[SocketAddress, tuple[SocketAddress, float]] = {}

    def open(self, server: SocketAddress) -> socket.socket:
        """Return a non-blocking socket for a transfer with `server`.

        Where there is no route to the server now, the socket is bound to the wildcard address:
        what is sent through it fails until there is a route.

        @raise OSError: there is no port or descriptor left, or `bind` is no address of this host.
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
                self._routes.pop(server, None)  # the address has left this host meanwhile
        return self._open_at(server, None)

    def release(self, port: int) -> None:
        """Note that the local port of a socket from `open` is not used any more."""
        self._rest.use(port)

    def _open_at(self, server: SocketAddress, local: SocketAddress | None) -> socket.socket:
        if local is not None and local[1]:
            return open_socket(server, local, (local[1], local[1]))
        # Sockets on ports that have not rested stay open meanwhile, so that the system does not
        # choose their ports again.
        tired: list[socket.socket] = []
        try:
            while True:
                sock = open_socket(server, local)
                if len(tired) == PORT_TRIES or self._rest.has_rested(sock.getsockname()[1]):
                    break
                tired.append(sock)
        except OSError:
            if not tired:
                raise
            sock = tired.pop()  # no descriptor is left to look for a better port
        finally:
            for other in tired:
                other.close()
        self._rest.use(sock.getsockname()[1])
        return sock

    def _local_address(self, server: SocketAddress) -> SocketAddress | None:
        """Return the local address of the route to `server` with port 0; None without a route."""
        now = self._clock()
        local, until = self._routes.get(server, (None, 0.0))
        if now < until:
            return local
        local = route_source(server)
        if local is not None:
            if len(self._routes) >= MOST_ROUTES:
                self._routes.clear()
            self._routes[server] = local, now + ROUTE_LIFE
        return local


def route_source(server: SocketAddress) -> SocketAddress | None:
    """Return the local address that datagrams to `server` leave from, with port 0.

    @return: a socket address of the server's family, with the scope where it is link-local; None
        where there is no route, or the server's address is none of a single host.
    """
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, DATAGRAM) as sock:
        try:
            sock.connect(server)  # this sends nothing
        except OSError:
            return None
        host, _, *rest = sock.getsockname()
    return (host, 0, *rest)
