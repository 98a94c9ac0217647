"""Open netlink sockets, and take their messages apart: rtnetlink(7), Linux only.

Netlink is the interface between the kernel's network configuration and programs.
"""

from __future__ import annotations

import errno
import socket
import struct

#: The socket family of netlink; None if this system lacks it.
AF_NETLINK: int | None = getattr(socket, "AF_NETLINK", None)

#: The netlink protocol for interfaces, addresses, routes and neighbours.
_NETLINK_ROUTE = 0

#: `struct nlmsghdr`: length, type, flags, sequence number, port.
MESSAGE = struct.Struct("=IHHII")

#: `struct rtattr`: length, type.
ATTRIBUTE = struct.Struct("=HH")

#: The type of a message that reports an error.
NLMSG_ERROR = 2

#: The type of the message that ends a list.
NLMSG_DONE = 3

#: The flag of each request.
NLM_F_REQUEST = 0x1

#: The flags of a request for a list: NLM_F_REQUEST and NLM_F_DUMP.
LIST_REQUEST = 0x301


def open_socket() -> socket.socket:
    """Return a netlink socket.

    @raise OSError: this system has no netlink (ENOTSUP), or no descriptor is left.
    """
    if AF_NETLINK is None:
        raise OSError(errno.ENOTSUP, "the addresses of an interface are only known on Linux")
    return socket.socket(AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)


def message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """Return a message for the kernel.

    @param number: the sequence number, which the answer has too.
    """
    return MESSAGE.pack(MESSAGE.size + len(body), kind, flags, number, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute of a message, padded to a multiple of four octets."""
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(aligned(size) - size)


def attributes_of(octets: bytes) -> dict[int, bytes]:
    """Return the attributes of a message: the type and the value of each.

    An attribute that is not complete ends the list.
    """
    attributes: dict[int, bytes] = {}
    while len(octets) >= ATTRIBUTE.size:
        size, kind = ATTRIBUTE.unpack_from(octets)
        if not ATTRIBUTE.size <= size <= len(octets):
            break
        attributes[kind] = octets[ATTRIBUTE.size : size]
        octets = octets[aligned(size) :]
    return attributes


def aligned(size: int) -> int:
    """Return `size` rounded up to a multiple of four."""
    return (size + 3) & ~3
