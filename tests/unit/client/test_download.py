"""Test how a download writes its local file, and how it ends."""

from __future__ import annotations

import errno
import io
import os
import select
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from tests.support.memory_server import FILE, MemoryServer, close_client, served
from tests.support.reactors import clocked, outcome, reactor, spin
from tests.support.scripted_server import ScriptedDownload, ScriptedServer, fake
from tests.support.sinks import SlowSink
from twisted_tftp.backends.memory import MemoryBackend, MemoryWriter
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.errors import DiskFull, TFTPError
from twisted_tftp.protocol import wire

__all__ = ["clocked", "fake", "reactor", "served"]


def test_download_to_a_path_replaces_the_file_when_it_is_complete(
    served: MemoryServer, tmp_path: Path
) -> None:
    """A download to a path replaces the old file, and leaves no temporary file."""
    (tmp_path / "local").write_bytes(b"old")
    client = served.client()
    outcome(served.reactor, client.get("file", str(tmp_path / "local")))
    assert os.listdir(tmp_path) == ["local"]
    assert (tmp_path / "local").read_bytes() == FILE
    close_client(served.reactor, client)


class FullStream(io.BytesIO):
    """A stream on a full disk: each write fails."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_write_error_of_the_sink_ends_the_transfer_with_an_error(served: MemoryServer) -> None:
    """If the sink has no space, the client raises DiskFull and sends the server an ERROR."""
    client = served.client(windowsize=1, blksize=512)
    with pytest.raises(DiskFull):
        outcome(served.reactor, client.get("file", FullStream()))
    spin(served.reactor, lambda: served.recorder.outcomes)
    assert served.recorder.outcomes[0].value == "aborted"  # type: ignore[union-attr]
    close_client(served.reactor, client)


def test_cancelled_download_sends_an_error_and_leaves_no_file(
    served: MemoryServer, tmp_path: Path
) -> None:
    """Cancelling the Deferred of a download sends an ERROR and removes the unfinished file."""
    client = served.client(blksize=8, windowsize=1)
    transfer = client.get("file", tmp_path / "local")
    spin(served.reactor, lambda: any(each.octets for each in client.running))
    transfer.cancel()
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    spin(served.reactor, lambda: served.recorder.outcomes and not os.listdir(tmp_path))
    assert served.recorder.outcomes[0].value == "aborted"  # type: ignore[union-attr]
    close_client(served.reactor, client)


def test_download_shorter_than_its_tsize_fails(fake: ScriptedServer) -> None:
    """A download that has fewer octets than the server announced fails."""
    job = ScriptedDownload(fake)
    fake.asked()
    fake.say(wire.oack([("tsize", "1000")]))
    fake.got()
    fake.say(wire.DATA_HEADERS[1] + bytes(500))
    assert wire.opcode_of(fake.got()) == wire.Opcode.ERROR
    with pytest.raises(TFTPError, match="announced 1000 octets and sent 500"):
        job.end()


@pytest.mark.parametrize(("tsize", "right"), [("0", True), ("5", True), ("4", False)])
def test_tsize_0_means_that_the_size_is_unknown(
    fake: ScriptedServer, tsize: str, right: bool
) -> None:
    """A tsize of 0 in an OACK means unknown; a file larger than its tsize fails."""
    job = ScriptedDownload(fake)
    fake.asked()
    fake.say(wire.oack([("tsize", tsize)]))
    fake.got()
    fake.say(wire.DATA_HEADERS[1] + b"12345")
    if right:
        fake.confirm(wire.oack([("tsize", tsize)]))
        assert job.end().octets == 5
    else:
        with pytest.raises(TFTPError, match="announced 4"):
            job.end()


def begin_download(
    fake: ScriptedServer, sink: SlowSink
) -> tuple[TFTPClient, Deferred[TransferResult]]:
    """Begin a download, up to the ACK of its first block; the sink has not finished that write."""
    client = fake.client(options=False)
    transfer = client.get("file", sink)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    assert fake.got() == wire.ack(1)
    return client, transfer


def test_ack_is_at_most_one_window_ahead_of_the_sink(fake: ScriptedServer) -> None:
    """A window is acknowledged while it is being written, the next one only after that."""
    sink = SlowSink()
    client, transfer = begin_download(fake, sink)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    spin(fake.reactor, lambda: client.running[0].octets == 515)
    assert not select.select([fake.transfer], [], [], 0)[0]
    sink.room[0].callback(None)
    assert not select.select([fake.transfer], [], [], 0)[0]
    assert not sink.committed
    sink.room[1].callback(None)
    assert fake.got() == wire.ack(2)
    assert outcome(fake.reactor, transfer).octets == 515
    assert sink.backend.files["new"] == bytes(512) + b"end"
    close_client(fake.reactor, client)


class LateSink(MemoryWriter):
    """A sink that takes some turns of the reactor for each write."""

    def __init__(self, reactor: Any) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self._reactor = reactor
        self._writing = False

    def write(self, data: bytes) -> Any:
        assert not self._writing, "one write at a time"
        self._writing = True
        super().write(data)
        return deferLater(self._reactor, 0.002, self._wrote)

    def _wrote(self) -> None:
        self._writing = False

    def commit(self) -> None:
        assert not self._writing
        super().commit()


@pytest.mark.parametrize("windowsize", [1, 4, 16, 64])
def test_lossy_download_to_a_slow_sink_is_written_once(
    served: MemoryServer, windowsize: int
) -> None:
    """Blocks that are lost or sent twice are written once, though the sink is slow."""
    client = served.client(blksize=512, windowsize=windowsize, loss=0.05, retries=50)
    sink = LateSink(served.reactor)
    assert outcome(served.reactor, client.get("file", sink)).octets == len(FILE)
    assert sink.backend.files["new"] == FILE
    close_client(served.reactor, client)


def test_write_error_after_the_ack_ends_the_transfer(fake: ScriptedServer) -> None:
    """A write that fails after its ACK was sent ends the transfer with ERROR 3."""
    sink = SlowSink()
    client, transfer = begin_download(fake, sink)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    sink.room[0].errback(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DiskFull):
        outcome(fake.reactor, transfer)
    assert wire.parse_error(fake.got())[0] == 3
    assert not sink.backend.files
    close_client(fake.reactor, client)


def test_timeout_of_the_server_names_the_sink_that_took_no_data(fake: ScriptedServer) -> None:
    """If the server times out while the sink accepts no data, the exception says so."""
    sink = SlowSink()
    client, transfer = begin_download(fake, sink)
    fake.say(wire.error(TFTPError("timed out")))
    with pytest.raises(TFTPError, match="timed out, while the local output accepted no data"):
        outcome(fake.reactor, transfer)
    close_client(fake.reactor, client)


def test_exception_of_the_sink_is_the_cause(served: MemoryServer) -> None:
    """The exception that the sink has raised is the `__cause__` of the client's exception."""

    class Broken(MemoryWriter):
        def write(self, data: bytes) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    client = served.client()
    with pytest.raises(TFTPError, match="input/output error") as raised:
        outcome(served.reactor, client.get("file", Broken(MemoryBackend(), "new")))
    assert isinstance(raised.value.__cause__, BrokenPipeError)
    close_client(served.reactor, client)


def test_sink_may_cancel_its_write_when_it_is_aborted(
    served: MemoryServer,
) -> None:
    """A sink that cancels its pending write in `abort` causes no error in the log."""

    class Cancels(SlowSink):
        def abort(self) -> None:
            self.room[0].cancel()

    client, sink = served.client(), Cancels()
    transfer = client.get("file", sink)
    spin(served.reactor, lambda: sink.room)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        transfer.cancel()
    finally:
        globalLogPublisher.removeObserver(events.append)
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    assert [event for event in events if "log_failure" in event] == []
    close_client(served.reactor, client)


def test_lost_last_ack_is_sent_again(fake: ScriptedServer) -> None:
    """After the end of a download the client still repeats its last ACK for a while."""
    job = ScriptedDownload(fake, options=False)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + b"all")
    assert fake.got() == wire.ack(1)
    outcome(fake.reactor, job.transfer)
    assert job.client.dally_time
    fake.say(wire.DATA_HEADERS[1] + b"all")
    assert fake.got() == wire.ack(1)
    close_client(fake.reactor, job.client)


class SlowCommit(MemoryWriter):
    """A sink whose commit ends when the test fires a Deferred."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self.done: Deferred[None] = Deferred()
        self.committing = False

    def commit(self) -> Any:
        self.committing = True
        return self.done.addCallback(lambda _: MemoryWriter.commit(self))


def test_cancel_during_commit_keeps_the_file(served: MemoryServer) -> None:
    """A download that is cancelled during its commit keeps the file, and logs no failure."""
    client, sink = served.client(), SlowCommit()
    transfer = client.get("file", sink)
    spin(served.reactor, lambda: sink.committing)
    transfer.cancel()
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    failures: list[Any] = []
    globalLogPublisher.addObserver(failures.append)
    try:
        sink.done.callback(None)
    finally:
        globalLogPublisher.removeObserver(failures.append)
    assert [event for event in failures if "log_failure" in event] == []
    assert sink.backend.files["new"] == FILE
    close_client(served.reactor, client)
