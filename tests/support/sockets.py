"""Sockets that fail when a test says so, and a record of the sockets that a `LinkOpener` opens."""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted_tftp.net.udp import open_socket


class FailingSocket:
    """A UDP socket that raises given errors instead of sending or receiving.

    @ivar send_errors: the error numbers of the next calls that send; 0 lets a call through.
    @ivar receive_errors: the error numbers of the next calls that receive.
    @ivar sent: what was sent, one entry for each system call.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.send_errors: list[int] = []
        self.receive_errors: list[int] = []
        self.sent: list[bytes] = []

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        self._raise_next(self.send_errors)
        sent = self._sock.sendmsg(buffers, *args)
        self.sent.append(b"".join(bytes(buffer) for buffer in buffers))
        return sent

    def sendto(self, datagram: bytes, peer: Any) -> int:
        return self.sendmsg([datagram], (), 0, peer)

    def recvfrom(self, size: int) -> Any:
        self._raise_next(self.receive_errors)
        return self._sock.recvfrom(size)

    def recvmsg(self, *args: Any) -> Any:
        self._raise_next(self.receive_errors)
        return self._sock.recvmsg(*args)

    def recvmsg_into(self, *args: Any) -> Any:
        self._raise_next(self.receive_errors)
        return self._sock.recvmsg_into(*args)

    def _raise_next(self, errors: list[int]) -> None:
        number = errors.pop(0) if errors else 0
        if number:
            raise OSError(number, "raised by the test")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class OpenedSockets:
    """Open the sockets of a `LinkOpener`, and remember them: its argument `open_socket`."""

    def __init__(self) -> None:
        self.all: list[FailingSocket] = []

    def __call__(self, *args: Any) -> Any:
        sock = FailingSocket(open_socket(*args))
        self.all.append(sock)
        return sock

    def of(self, link: Any) -> FailingSocket:
        """Return the socket that an open link uses."""
        [sock] = [sock for sock in self.all if sock.fileno() == link.fileno() >= 0]
        return sock

    def port_of(self, link: Any) -> int:
        """Return the local port of an open link."""
        return int(self.of(link).getsockname()[1])


class SocketWithoutIPv6(socket.socket):
    """A replacement for `socket.socket` on a system without IPv6."""

    def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *args, **kwargs)
