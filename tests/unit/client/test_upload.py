"""Test how an upload reads its local file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tests.support.deferreds import results_of
from tests.support.memory_server import MemoryServer, close_client, put, served
from tests.support.reactors import clocked, outcome, reactor, spin
from tests.support.scripted_server import ScriptedServer, fake
from tests.support.virtual import CLIENT
from tests.support.virtual_server import VirtualServer
from twisted_tftp.backends.memory import MemoryReader
from twisted_tftp.client.streams import make_reader
from twisted_tftp.errors import (
    AccessViolation,
    FileAlreadyExists,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.interfaces import IFileReader
from twisted_tftp.protocol import wire

__all__ = ["clocked", "fake", "reactor", "served"]


def test_upload_announces_the_size_of_a_path_and_of_a_reader(
    served: MemoryServer, tmp_path: Path
) -> None:
    """An upload sends tsize if its source is a path or a reader with a size, not for a stream."""
    assert "tsize" not in put(served, b"x", "stream").options
    (tmp_path / "local").write_bytes(b"12345")
    for name, source in (("path", tmp_path / "local"), ("reader", MemoryReader(b"12345"))):
        client = served.client()
        result = outcome(served.reactor, client.put(source, name))
        close_client(served.reactor, client)
        assert result.options["tsize"] == "5"
        assert served.backend.files[name] == b"12345"


def test_refused_upload_raises_the_exception_of_its_code(served: MemoryServer) -> None:
    """An upload that the server refuses raises the exception of the ERROR's code."""
    with pytest.raises(FileAlreadyExists):
        put(served, b"x", "file")


def test_upload_of_a_missing_file_sends_no_request(served: MemoryServer, tmp_path: Path) -> None:
    """If the local file does not exist, the upload fails before a request is sent."""
    client = served.client()
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.put(tmp_path / "missing", "new"))
    assert served.recorder.events == []
    close_client(served.reactor, client)


def test_upload_from_a_pipe_sends_each_block_when_it_is_full(fake: ScriptedServer) -> None:
    """An upload from a pipe sends a block as soon as it is full; it does not read ahead."""
    ours, theirs = os.pipe()
    client = fake.client(options=False)
    transfer = client.put(make_reader(fake.reactor, ours), "new")
    fake.asked()
    fake.say(wire.ack(0))
    os.write(theirs, bytes(600))
    assert fake.got() == wire.DATA_HEADERS[1] + bytes(512)
    os.close(theirs)
    fake.say(wire.ack(1))
    assert fake.got() == wire.DATA_HEADERS[2] + bytes(88)
    fake.say(wire.ack(2))
    assert outcome(fake.reactor, transfer).octets == 600
    close_client(fake.reactor, client)
    os.close(ours)


@implementer(IFileReader)
class SilentSource:
    """A source that never supplies data.

    @ivar was_read: whether the transfer has asked for data.
    """

    size = None
    was_read = False

    def read(self, offset: int, length: int) -> Any:
        self.was_read = True
        return Deferred()

    def close(self) -> None:
        pass


def test_timeout_names_the_source_that_supplied_no_data(fake: ScriptedServer) -> None:
    """If client or server times out while the source supplies no data, the exception says so."""
    client, source = fake.client(retries=1, timeout=0.2), SilentSource()
    transfer = client.put(source, "new")
    fake.asked()
    fake.say(wire.ack(0))
    spin(fake.reactor, lambda: source.was_read)
    fake.reactor.pass_time(0.2)
    with pytest.raises(TransferTimedOut, match="timed out, while the local input"):
        outcome(fake.reactor, transfer)
    transfer = client.put(SilentSource(), "new")
    fake.asked()
    fake.say(wire.ack(0))
    fake.say(wire.error(AccessViolation("enough")))
    with pytest.raises(
        AccessViolation, match="enough, while the local input supplied too little data"
    ) as raised:
        outcome(fake.reactor, transfer)
    assert raised.value.from_peer
    close_client(fake.reactor, client)


def test_data_that_the_client_holds_back_is_not_missing() -> None:
    """If an ERROR comes while the answer is in doubt, the local input is not named as a cause."""
    server = VirtualServer(lambda request: wire.ack(0))
    results = results_of(server.client().put(io.BytesIO(b"octets"), "new"))
    server.run(0.1)
    assert server.datagrams == []
    server.say(wire.error(AccessViolation("enough")), (CLIENT, 30000))
    server.run(5)
    assert results[0].check(AccessViolation)
    assert results[0].getErrorMessage() == "enough"
    assert server.network.clock.getDelayedCalls() == []
