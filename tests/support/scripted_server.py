"""A server on loopback that does nothing by itself: the test reads packets and sends answers."""

from __future__ import annotations

import io
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.memory_server import close_client
from tests.support.reactors import ClockedReactor, outcome, spin
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.protocol import wire


class ScriptedServer:
    """A server of two sockets: one for requests, one for the transfer.

    @ivar reactor: the reactor of its clients, whose time passes only when the test lets it pass.
    """

    def __init__(self, reactor: ClockedReactor) -> None:
        self.reactor = reactor
        self.request = self._socket()
        self.transfer = self._socket()
        self.port = self.request.getsockname()[1]
        self.peer: Any = None

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def client(self, **settings: Any) -> TFTPClient:
        """Return a client of this server."""
        clock = self.reactor.seconds
        return TFTPClient(self.reactor, "127.0.0.1", self.port, clock=clock, **settings)

    def asked(self) -> wire.Request:
        """Wait for a request, and return it."""
        datagram = self._receive(self.request)
        return wire.parse_request(datagram)

    def got(self) -> bytes:
        """Wait for a packet to the transfer port, and return it."""
        return self._receive(self.transfer)

    def say(self, datagram: bytes) -> None:
        """Send a datagram from the transfer port to the client."""
        self.transfer.sendto(datagram, self.peer)

    def confirm(self, answer: bytes) -> None:
        """Answer the second request, which comes from another port, with `answer`."""
        first = self.peer
        self.asked()
        assert self.peer != first
        with self._socket() as sock:
            sock.sendto(answer, self.peer)
            assert wire.opcode_of(self._receive(sock)) == wire.Opcode.ERROR

    def _receive(self, sock: socket.socket) -> bytes:
        spin(self.reactor, lambda: select.select([sock], [], [], 0)[0])
        datagram, self.peer = sock.recvfrom(70000)
        return datagram

    def close(self) -> None:
        self.request.close()
        self.transfer.close()


@pytest.fixture
def fake(clocked: ClockedReactor) -> Iterator[ScriptedServer]:
    """Return a server that the test scripts."""
    fake = ScriptedServer(clocked)
    yield fake
    fake.close()


class ScriptedDownload:
    """A download from a scripted server, which has sent its request."""

    def __init__(self, fake: ScriptedServer, **settings: Any) -> None:
        self.client = fake.client(**settings)
        self.reactor = fake.reactor
        self.sink = io.BytesIO()
        self.transfer = self.client.get("file", self.sink)

    def end(self) -> TransferResult:
        try:
            return outcome(self.reactor, self.transfer)
        finally:
            close_client(self.reactor, self.client)
