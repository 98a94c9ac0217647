"""Set the options of a server's sockets that say where they can be bound: interface, freebind."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

#: The option that limits a socket to one interface; None if the system lacks it.
_SO_BINDTODEVICE: int | None = getattr(socket, "SO_BINDTODEVICE", None)

#: The option of an IPv4 socket that may be bound to an address that this host does not have yet,
#: from linux/in.h.
_IP_FREEBIND = 15

#: The same option of an IPv6 socket, from linux/in6.h.
_IPV6_FREEBIND = 78

#: The longest name of an interface with its NUL, in octets (IFNAMSIZ).
_NAME_SIZE = 16


@dataclass(frozen=True)
class SocketOptions:
    """The options of all sockets of a server, which are set before a socket is bound.

    @ivar interface: the interface that the sockets are limited to; None for all.
    @ivar freebind: whether they may be bound to addresses that this host does not have yet.
    """

    interface: str | None = None
    freebind: bool = False

    def apply(self, sock: socket.socket) -> None:
        """Set the options of `sock`.

        @raise OSError: there is no such interface, or the system does not support an option.
        """
        if self.interface is not None:
            _bind_to_interface(sock, self.interface)
        if self.freebind:
            sock.setsockopt(*_freebind_option(sock), 1)


def copy_options(source: socket.socket, target: socket.socket) -> None:
    """Copy these options from `source` to `target`, a socket of the same family.

    @raise OSError: the interface of `source` has disappeared.
    """
    if _SO_BINDTODEVICE is None:
        return
    name = source.getsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, _NAME_SIZE)
    if name:
        target.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, name)
    if source.getsockopt(*_freebind_option(source)):
        target.setsockopt(*_freebind_option(target), 1)


def _bind_to_interface(sock: socket.socket, name: str) -> None:
    if _SO_BINDTODEVICE is None:
        raise OSError(errno.ENOTSUP, "--interface needs Linux")
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, name.encode())
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise OSError(errno.ENODEV, f"there is no interface {name}") from None
        raise


def _freebind_option(sock: socket.socket) -> tuple[int, int]:
    """Return the level and the number of the option for the family of `sock`."""
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, _IPV6_FREEBIND
    return socket.IPPROTO_IP, _IP_FREEBIND
