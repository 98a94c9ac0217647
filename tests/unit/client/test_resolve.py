"""Test the look-up of a server's address."""

from __future__ import annotations

import io

import pytest
from twisted.internet.error import DNSLookupError

from tests.support.memory_server import FILE, MemoryServer, close_client, served
from tests.support.reactors import outcome, reactor
from twisted_tftp.client.client import TFTPClient

__all__ = ["reactor", "served"]


def test_host_name_is_looked_up(served: MemoryServer) -> None:
    """A host name is looked up with Twisted's resolver; an unknown name raises DNSLookupError."""
    pool = served.reactor.getThreadPool()
    pool.start()
    client = TFTPClient(served.reactor, "localhost", served.port)
    sink = io.BytesIO()
    outcome(served.reactor, client.get("file", sink))
    assert sink.getvalue() == FILE
    close_client(served.reactor, client)
    nobody = TFTPClient(served.reactor, "nobody.invalid", served.port)
    with pytest.raises(DNSLookupError):
        outcome(served.reactor, nobody.get("file", sink))
    pool.stop()
