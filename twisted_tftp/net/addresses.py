"""Socket addresses: those of the socket module, and the form that logs and backends use."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted_tftp.context import Endpoint

#: A socket address of the socket module: (host, port), or (host, port, flow, scope) for IPv6.
SocketAddress = Any

#: sockaddr_in of Linux: family, port in network order, address, padding.
_IPV4 = struct.Struct("=HH4s8x")

#: sockaddr_in6 of Linux: family, port in network order, flow label, address, scope.
_IPV6 = struct.Struct("=HHI16sI")


def endpoint(address: SocketAddress) -> Endpoint:
    """Return a socket address in the form that logs and backends use."""
    if len(address) == 4 and address[3]:
        return Endpoint(f"{address[0]}%{address[3]}", address[1])
    return Endpoint(address[0], address[1])


def packed(address: SocketAddress) -> bytes:
    """Return the octets that the kernel uses for a socket address, with a flow label of 0."""
    if len(address) == 2:
        return _IPV4.pack(socket.AF_INET, socket.htons(address[1]), socket.inet_aton(address[0]))
    host = socket.inet_pton(socket.AF_INET6, address[0])
    return _IPV6.pack(socket.AF_INET6, socket.htons(address[1]), 0, host, address[3])


def unpacked(octets: bytes) -> SocketAddress:
    """Return the socket address that the kernel describes by `octets`."""
    if len(octets) == _IPV4.size:
        _, port, host = _IPV4.unpack(octets)
        return socket.inet_ntop(socket.AF_INET, host), socket.ntohs(port)
    _, port, flow, host, scope = _IPV6.unpack(octets)
    return socket.inet_ntop(socket.AF_INET6, host), socket.ntohs(port), flow, scope
