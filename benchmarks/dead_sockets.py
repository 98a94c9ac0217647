"""Sockets of clients that die, and the ports of those who come after them."""

from __future__ import annotations

import socket
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.servers import HOST
from twisted_tftp.net.client_ports import ClientPorts
from twisted_tftp.net.udp import SocketAddress, open_socket

#: Seconds in which a dead client has heard what it waits for.
LONGEST = 3.0


class TakenPorts(ClientPorts):
    """Ports of one transfer: first a given one, and any where it asks again from another."""

    def __init__(self, port: int) -> None:
        """Take `port` when a socket is asked for first."""
        super().__init__()
        self._port: int | None = port

    def open(self, server: SocketAddress) -> socket.socket:
        """Return a socket on the given port, later on any.

        @raise OSError: somebody else has the port.
        """
        port, self._port = self._port, None
        if port is None:
            return super().open(server)
        return open_socket(server, (HOST, port), (port, port))


@implementer(IReadDescriptor)
class DeadSocket:
    """A socket that asks, hears and does not answer.

    @ivar port: its local port.
    @ivar asked_at: when it has asked.
    @ivar heard_at: when datagrams came.
    """

    def __init__(self, reactor: Any, server: SocketAddress, longest: float = LONGEST) -> None:
        """Open it on any port.

        @param longest: seconds that `when_heard` waits at most.
        """
        self._longest = longest
        self._reactor, self._server = reactor, server
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((HOST, 0))
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]
        self.asked_at = 0.0
        self.heard_at: list[float] = []
        self._awaited: tuple[int, Deferred[None]] | None = None
        reactor.addReader(self)

    def ask(self, datagrams: list[bytes]) -> None:
        """Send requests."""
        self.asked_at = time.monotonic()
        for datagram in datagrams:
            self._sock.sendto(datagram, self._server)

    def when_heard(self, count: int) -> Deferred[None]:
        """Return what fires when `count` datagrams came; it is cancelled after some seconds."""
        heard: Deferred[None] = Deferred()
        self._awaited = count, heard
        self._tell()
        return heard.addTimeout(self._longest, self._reactor)

    def close(self) -> None:
        """Free the port at once."""
        self._reactor.removeReader(self)
        self._sock.close()

    def doRead(self) -> None:
        """Note when datagrams come."""
        try:
            while True:
                self._sock.recv(1)
                self.heard_at.append(time.monotonic())
        except OSError:
            self._tell()

    def _tell(self) -> None:
        if self._awaited is not None and len(self.heard_at) >= self._awaited[0]:
            heard, self._awaited = self._awaited[1], None
            heard.callback(None)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """Return a name for the log."""
        return "dead client"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped."""
