"""A server of files in memory, on loopback, in the reactor of the test."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.reactors import outcome, spin
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.policy import Policy
from twisted_tftp.server import TFTPService
from twisted_tftp.testing import Recorder

#: The content of "file".
FILE = bytes(range(256)) * 400


class MemoryServer:
    """A running server with some files in memory.

    @ivar recorder: records the transfers.
    """

    def __init__(self, reactor: Any, host: str = "127.0.0.1", **policy: Any) -> None:
        self.reactor = reactor
        self.backend = MemoryBackend({"file": FILE, "empty": b"", "even": bytes(1024)}, "create")
        self.recorder = Recorder()
        self.service = TFTPService(
            self.backend,
            port=0,
            host=[host],
            drain=0,
            policy=Policy(**policy),
            observer=self.recorder,
            reactor=reactor,
        )
        self.service.startService()
        self.host = host
        self.port = self.service.ports[0].getHost().port

    def client(self, **settings: Any) -> TFTPClient:
        """Return a client of this server."""
        return TFTPClient(self.reactor, self.host, self.port, in_thread=maybeDeferred, **settings)

    def stop(self) -> None:
        """Stop the server."""
        stopped: list[Any] = []
        self.service.stopService().addBoth(stopped.append)
        spin(self.reactor, lambda: stopped)


def close_client(reactor: Any, client: TFTPClient) -> None:
    """Close the client, and wait until it holds no socket."""
    closed: list[Any] = []
    client.close().addBoth(closed.append)
    spin(reactor, lambda: closed)
    assert not client.dally_time


@pytest.fixture
def served(reactor: Any) -> Iterator[MemoryServer]:
    """Return a running server."""
    served = MemoryServer(reactor)
    yield served
    served.stop()


def get(
    served: MemoryServer, filename: str = "file", **settings: Any
) -> tuple[bytes, TransferResult]:
    """Read a file from the server; return its content and the result of the transfer."""
    client, sink = served.client(**settings), io.BytesIO()
    try:
        result = outcome(served.reactor, client.get(filename, sink))
    finally:
        close_client(served.reactor, client)
    return sink.getvalue(), result


def put(
    served: MemoryServer, data: bytes, filename: str = "new", **settings: Any
) -> TransferResult:
    """Write a file to the server; return the result of the transfer."""
    client = served.client(**settings)
    try:
        return outcome(served.reactor, client.put(io.BytesIO(data), filename))
    finally:
        close_client(served.reactor, client)
