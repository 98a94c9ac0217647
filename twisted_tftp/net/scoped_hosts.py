"""Convert a host with a scope, such as `fe80::1%eth0`, to a socket address and back."""

from __future__ import annotations

import socket

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.interface_addresses import index_of


def socket_address_of(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host and a port; the host may have a scope (`%eth0`).

    @raise OSError: there is no interface for the scope.
    """
    address, _, scope = host.partition("%")
    if not scope:
        return address, port
    return address, port, 0, int(scope) if scope.isdecimal() else index_of(scope)


def host_of(sock: socket.socket) -> str:
    """Return the local host of a socket, with its scope if it is link-local."""
    host, _, *rest = sock.getsockname()
    scope = rest[1] if rest else 0
    return f"{host}%{socket.if_indextoname(scope)}" if scope else str(host)
