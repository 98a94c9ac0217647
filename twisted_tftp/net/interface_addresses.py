"""List the addresses of a network interface, and watch for changes, by netlink (Linux)."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from twisted_tftp.net.netlink import (
    LIST_REQUEST,
    MESSAGE,
    NLMSG_DONE,
    NLMSG_ERROR,
    aligned,
    attributes_of,
    message,
    open_socket,
)
from twisted_tftp.net.udp import SocketDescriptor

#: The groups of messages about interfaces, IPv4 addresses and IPv6 addresses.
_GROUPS = 0x1 | 0x10 | 0x100

#: `struct ifaddrmsg`: family, prefix length, flags, scope, index of the interface.
_ADDRESS = struct.Struct("=BBBBI")

#: The type of a message about an address of an interface.
_RTM_NEWADDR = 20

#: The type of a request for all addresses.
_RTM_GETADDR = 22

#: The attribute with the address; on a point-to-point IPv4 link, that of the peer.
_IFA_ADDRESS = 1

#: The attribute with the local IPv4 address.
_IFA_LOCAL = 2

#: The flag of an IPv6 address that another host has too.
_IFA_F_DADFAILED = 0x08

#: The flag of an IPv6 address that is being checked for that, and can't be bound yet.
_IFA_F_TENTATIVE = 0x40

#: The error text for a message that is cut off, or whose length is impossible.
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
    with open_socket() as sock:
        sock.settimeout(1.0)  # the kernel answers at once
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        sock.send(message(_RTM_GETADDR, LIST_REQUEST, 1, body))
        return [
            address + f"%{interface}" * (address.startswith("fe80:"))
            for found in _read_list(sock)
            for address in addresses_in(found, index)
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
        self._sock = open_socket()
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


def _read_list(sock: socket.socket) -> Iterator[bytes]:
    """Return the bodies of the kernel's messages about addresses, up to the end of its list.

    @raise OSError: the kernel reports an error, or a message is not complete.
    """
    while True:
        data = sock.recv(_BUFFER_SIZE)
        while data:
            if len(data) < MESSAGE.size:
                raise OSError(errno.EBADMSG, _INCOMPLETE)
            size, kind, _, _, _ = MESSAGE.unpack_from(data)
            if not MESSAGE.size <= size <= len(data):
                raise OSError(errno.EBADMSG, _INCOMPLETE)
            body = data[MESSAGE.size : size]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "netlink reports an error")
            if kind == _RTM_NEWADDR:
                yield body
            data = data[aligned(size) :]


def addresses_in(body: bytes, index: int) -> Iterator[str]:
    """Return the address in a message, if it can be bound and belongs to interface `index`.

    An attribute that is not complete ends the message.
    """
    if len(body) < _ADDRESS.size:
        return
    family, _, flags, _, owner = _ADDRESS.unpack_from(body)
    if owner != index or flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
        return
    if family not in (socket.AF_INET, socket.AF_INET6):
        return
    attributes = attributes_of(body[_ADDRESS.size :])
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed and len(packed) == (4 if family == socket.AF_INET else 16):
        yield socket.inet_ntop(family, packed)
