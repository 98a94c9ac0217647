"""List the addresses of a network interface, and watch for changes, by netlink (Linux).

Netlink is the interface between the kernel's network configuration and programs: rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from twisted_tftp.net.udp import SocketDescriptor

#: The socket family of netlink; None if this system lacks it.
_AF_NETLINK: int | None = getattr(socket, "AF_NETLINK", None)

#: The netlink protocol for interfaces, addresses and routes.
_NETLINK_ROUTE = 0

#: The groups of messages about interfaces, IPv4 addresses and IPv6 addresses.
_GROUPS = 0x1 | 0x10 | 0x100

#: `struct nlmsghdr`: length, type, flags, sequence number, port.
_MESSAGE = struct.Struct("=IHHII")

#: `struct ifaddrmsg`: family, prefix length, flags, scope, index of the interface.
_ADDRESS = struct.Struct("=BBBBI")

#: `struct rtattr`: length, type.
_ATTRIBUTE = struct.Struct("=HH")

#: The type of a message that reports an error.
_NLMSG_ERROR = 2

#: The type of the message that ends a list.
_NLMSG_DONE = 3

#: The type of a message about an address of an interface.
_RTM_NEWADDR = 20

#: The type of a request for all addresses.
_RTM_GETADDR = 22

#: The flags of a request for a list: NLM_F_REQUEST and NLM_F_DUMP.
_LIST_REQUEST = 0x301

#: The attribute with the address; on a point-to-point IPv4 link, that of the peer.
_IFA_ADDRESS = 1

#: The attribute with the local IPv4 address.
_IFA_LOCAL = 2

#: The flag of an IPv6 address that another host has too.
_IFA_F_DADFAILED = 0x08

#: The flag of an IPv6 address that is being checked for that, and can't be bound yet.
_IFA_F_TENTATIVE = 0x40

#: The text of the error about a message that is cut off, or has an impossible length.
_INCOMPLETE = "netlink sent a message that is not complete"

#: The size of a buffer for netlink messages, in octets.
_BUFFER_SIZE = 65536

#: The most messages about changes that are read in one call of the reactor.
_MESSAGES_PER_CALL = 100


def addresses_of(interface: str) -> list[str]:
    """Return the addresses of an interface; a link-local IPv6 address has its scope (`%eth0`).

    @raise OSError: there is no such interface (ENODEV), or the system can't list its addresses.
    """
    index = index_of(interface)
    with _open_socket() as sock:
        sock.settimeout(1.0)  # the kernel answers at once
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        size = _MESSAGE.size + len(body)
        sock.send(_MESSAGE.pack(size, _RTM_GETADDR, _LIST_REQUEST, 1, 0) + body)
        return [
            address + f"%{interface}" * (address.startswith("fe80:"))
            for message in _read_list(sock)
            for address in addresses_in(message, index)
        ]


def index_of(interface: str) -> int:
    """Return the index of an interface.

    @raise OSError: there is no such interface (ENODEV), or the system does not report it.
    """
    # `if_nametoindex` can raise one error for a missing interface and a lack of descriptors.
    for index, name in socket.if_nameindex():
        if name == interface:
            return index
    raise OSError(errno.ENODEV, f"there is no interface {interface}")


@implementer(IReadDescriptor)
class AddressMonitor(SocketDescriptor):
    """Calls a function after each change of an interface or its addresses, on the whole host."""

    _log = Logger()

    def __init__(self, reactor: IReactorFDSet, on_change: Callable[[], None]) -> None:
        """Open the socket, and register with `reactor`.

        @raise OSError: the system does not report changes.
        """
        self._reactor = reactor
        self._on_change = on_change
        self._sock = _open_socket()
        self._sock.setblocking(False)
        try:
            self._sock.bind((0, _GROUPS))
        except OSError:
            self._sock.close()
            raise
        reactor.addReader(self)

    def close(self) -> None:
        """Stop the calls."""
        self._reactor.removeReader(self)
        self._sock.close()

    def doRead(self) -> None:
        """Read the messages, and call the function once."""
        # If messages were lost (ENOBUFS), there was a change too.
        with contextlib.suppress(OSError):
            for _ in range(_MESSAGES_PER_CALL):
                self._sock.recv(_BUFFER_SIZE)
        try:
            self._on_change()
        except Exception:  # otherwise the reactor would remove the monitor
            self._log.failure("unexpected exception while the addresses were updated")


def _open_socket() -> socket.socket:
    if _AF_NETLINK is None:
        raise OSError(errno.ENOTSUP, "the addresses of an interface are only known on Linux")
    return socket.socket(_AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)


def _read_list(sock: socket.socket) -> Iterator[bytes]:
    """Return the bodies of the kernel's messages about addresses, up to the end of its list.

    @raise OSError: the kernel reports an error, or a message is not complete.
    """
    while True:
        data = sock.recv(_BUFFER_SIZE)
        while data:
            if len(data) < _MESSAGE.size:
                raise OSError(errno.EBADMSG, _INCOMPLETE)
            size, kind, _, _, _ = _MESSAGE.unpack_from(data)
            if not _MESSAGE.size <= size <= len(data):
                raise OSError(errno.EBADMSG, _INCOMPLETE)
            body = data[_MESSAGE.size : size]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "netlink reports an error")
            if kind == _RTM_NEWADDR:
                yield body
            data = data[_aligned(size) :]


def addresses_in(message: bytes, index: int) -> Iterator[str]:
    """Return the address in a message, if it can be bound and belongs to interface `index`.

    An attribute that is not complete ends the message.
    """
    if len(message) < _ADDRESS.size:
        return
    family, _, flags, _, owner = _ADDRESS.unpack_from(message)
    if owner != index or flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
        return
    if family not in (socket.AF_INET, socket.AF_INET6):
        return
    attributes: dict[int, bytes] = {}
    rest = message[_ADDRESS.size :]
    while len(rest) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(rest)
        if not _ATTRIBUTE.size <= size <= len(rest):
            break
        attributes[kind] = rest[_ATTRIBUTE.size : size]
        rest = rest[_aligned(size) :]
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed and len(packed) == (4 if family == socket.AF_INET else 16):
        yield socket.inet_ntop(family, packed)


def _aligned(size: int) -> int:
    """Return `size` rounded up to a multiple of four."""
    return (size + 3) & ~3
