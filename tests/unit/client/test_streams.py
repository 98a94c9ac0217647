"""Test streams, pipes and terminals as sources and sinks of transfers."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.client.streams import (
    PipeReader,
    PipeWriter,
    StreamReader,
    StreamWriter,
    make_reader,
    make_writer,
)

__all__ = ["reactor"]


class Pipe:
    """Both ends of a blocking pipe."""

    def __init__(self) -> None:
        self.output, self.input = os.pipe()

    def close_input(self) -> None:
        os.close(self.input)
        self.input = -1

    def close_output(self) -> None:
        os.close(self.output)
        self.output = -1

    def close(self) -> None:
        for descriptor in (self.input, self.output):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Return a pipe."""
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_available_octets_are_read_at_once(reactor: Any, pipe: Pipe) -> None:
    """Octets that are in the pipe are read without the reactor; the last window stays readable."""
    os.write(pipe.input, b"0123456789")
    reader = PipeReader(reactor, pipe.output)
    assert reader.read(0, 4) == b"0123"
    assert reader.read(0, 4) == b"0123"
    assert reader.read(2, 6) == b"234567"
    assert reader not in reactor.getReaders()


def test_read_waits_until_all_octets_are_there(reactor: Any, pipe: Pipe) -> None:
    """A read waits for all its octets, because fewer would mean the end of the file."""
    reader = PipeReader(reactor, pipe.output)
    reading = reader.read(0, 8)
    assert isinstance(reading, Deferred)
    os.write(pipe.input, b"0123")
    spin(reactor, lambda: not select.select([pipe.output], [], [], 0)[0])
    assert not reading.called
    os.write(pipe.input, b"456789")
    assert outcome(reactor, reading) == b"01234567"
    assert reader not in reactor.getReaders()


@pytest.mark.parametrize("octets", [b"", b"0123"])
def test_end_of_a_pipe_is_the_end_of_the_file(reactor: Any, pipe: Pipe, octets: bytes) -> None:
    """At the end of a pipe a read returns the octets before it, and they stay readable."""
    reader = PipeReader(reactor, pipe.output)
    reading = reader.read(0, 8)
    assert isinstance(reading, Deferred)
    os.write(pipe.input, octets)
    pipe.close_input()
    assert outcome(reactor, reading) == octets
    assert reader.read(0, 8) == octets
    assert reader.read(len(octets), 8) == b""


def test_closed_reader_leaves_the_pipe_alone(reactor: Any, pipe: Pipe) -> None:
    """A closed reader leaves the reactor, and does not read octets that come later."""
    reader = PipeReader(reactor, pipe.output)
    reading = reader.read(0, 8)
    assert isinstance(reading, Deferred)
    reader.close()
    assert reader not in reactor.getReaders()
    os.write(pipe.input, b"01234567")
    assert os.read(pipe.output, 8) == b"01234567"
    assert not reading.called


@pytest.mark.parametrize("at_once", [True, False])
def test_read_error_is_not_the_end_of_the_file(reactor: Any, at_once: bool) -> None:
    """A read that fails raises OSError; here the other side of a terminal was closed."""
    ours, theirs = pty.openpty()
    reader = PipeReader(reactor, ours)
    if at_once:
        os.close(theirs)
    reading = maybeDeferred(reader.read, 0, 8)
    if not at_once:
        os.close(theirs)
    with pytest.raises(OSError, match="Input/output error"):
        outcome(reactor, reading)
    os.close(ours)


def test_write_to_a_full_pipe_waits_until_it_is_read(reactor: Any, pipe: Pipe) -> None:
    """A write waits while the pipe is full; all octets arrive, and the reactor is not blocked."""
    capacity = fcntl.fcntl(pipe.output, fcntl.F_GETPIPE_SZ)  # type: ignore[attr-defined]
    data = bytes(range(256)) * (capacity // 256) + b"and more" * 10_000
    writer = PipeWriter(reactor, pipe.input)
    assert writer.write(data[:1000]) is None
    writing = writer.write(data[1000:])
    assert isinstance(writing, Deferred)
    taken = b""

    def take() -> bool:
        nonlocal taken
        if select.select([pipe.output], [], [], 0)[0]:
            taken += os.read(pipe.output, 5000)
        return bool(writing.called)

    spin(reactor, take)
    assert outcome(reactor, writing) is None
    assert writer not in reactor.getWriters()
    writer.commit()
    while len(taken) < len(data):
        taken += os.read(pipe.output, 65536)
    assert taken == data


def test_write_to_a_stopped_terminal_waits(reactor: Any) -> None:
    """A write to a stopped terminal waits, and the terminal stays in blocking mode."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    writer = make_writer(reactor, theirs)
    assert isinstance(writer, PipeWriter)
    data = bytes(range(256)) * 1000
    writing = writer.write(data)
    assert isinstance(writing, Deferred)
    assert os.get_blocking(theirs)
    taken = b""

    def take() -> bool:
        nonlocal taken
        if select.select([ours], [], [], 0)[0]:
            taken += os.read(ours, 65536)
        return len(taken) == len(data)

    spin(reactor, take)
    assert outcome(reactor, writing) is None
    assert taken == data
    for descriptor in (ours, theirs, writer.fileno()):
        os.close(descriptor)


def test_write_waits_if_another_writer_took_the_room(
    reactor: Any, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `write` would block although there was room, the writer waits for room again."""
    writer = PipeWriter(reactor, pipe.input)

    def gone(descriptor: int, data: Any) -> int:
        raise BlockingIOError

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", gone)
        writing = writer.write(b"octets")
        assert isinstance(writing, Deferred)
    assert outcome(reactor, writing) is None
    assert os.read(pipe.output, 100) == b"octets"


def test_write_to_a_pipe_without_a_reader_fails(reactor: Any, pipe: Pipe) -> None:
    """When the other end is closed, a waiting write and the next one raise BrokenPipeError."""
    writer = PipeWriter(reactor, pipe.input)
    writing = writer.write(bytes(10_000_000))
    assert isinstance(writing, Deferred)
    pipe.close_output()
    with pytest.raises(BrokenPipeError):
        outcome(reactor, writing)
    with pytest.raises(BrokenPipeError):
        writer.write(b"more")


def test_aborted_writer_leaves_the_reactor(reactor: Any, pipe: Pipe) -> None:
    """An aborted writer does not wait for room in the pipe any more."""
    writer = PipeWriter(reactor, pipe.input)
    writing = writer.write(bytes(10_000_000))
    assert isinstance(writing, Deferred)
    writer.abort()
    assert writer not in reactor.getWriters()
    assert not writing.called


def test_regular_files_and_dev_null_are_used_without_the_reactor(
    reactor: Any, pipe: Pipe, tmp_path: Path
) -> None:
    """Regular files and /dev/null get no reactor events; only pipes do."""
    assert isinstance(make_reader(reactor, pipe.output), PipeReader)
    assert isinstance(make_writer(reactor, pipe.input), PipeWriter)
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    writer = make_writer(reactor, descriptor)
    assert isinstance(writer, StreamWriter)
    writer.write(b"0123456789")
    writer.commit()
    os.lseek(descriptor, 0, os.SEEK_SET)
    reader = make_reader(reactor, descriptor)
    assert isinstance(reader, StreamReader)
    assert reader.read(0, 4) + reader.read(4, 100) == b"0123456789"
    os.close(descriptor)
    null = os.open("/dev/null", os.O_RDWR)
    make_writer(reactor, null).write(b"0123")
    assert make_reader(reactor, null).read(0, 4) == b""
    os.close(null)
