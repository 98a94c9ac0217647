"""Test the reader that holds back the end of an upload while the answer is in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_tftp.client.held_reader import HeldReader


class Source:
    """A reader of `content`; if it is slow, each read waits in `pending` for the test."""

    def __init__(self, content: bytes, *, known_size: bool = True, slow: bool = False) -> None:
        self.content = content
        self.size = len(content) if known_size else None
        self.slow = slow
        self.pending: list[Deferred[None]] = []
        self.reads: list[int] = []
        self.closed = False

    def read(self, offset: int, length: int) -> Any:
        self.reads.append(offset)
        octets = self.content[offset : offset + length]
        if not self.slow:
            return octets
        read: Deferred[None] = Deferred()
        self.pending.append(read)
        return read.addCallback(lambda _: octets)

    def close(self) -> None:
        self.closed = True


def results(read: Any) -> list[Any]:
    """Return a list to which the result of a read is added when it fires."""
    got: list[Any] = []
    if isinstance(read, Deferred):
        read.addBoth(got.append)
    else:
        got.append(read)
    return got


@pytest.mark.parametrize("known_size", [True, False])
def test_end_waits_until_stop_holding(known_size: bool) -> None:
    """The read that reaches the end waits for `stop_holding`; earlier reads do not."""
    source = Source(b"0123456789", known_size=known_size)
    reader = HeldReader(source, can_reread=True, is_held=True)
    assert reader.read(0, 8) == b"01234567"
    end = results(reader.read(8, 8 if not known_size else 2))
    assert (end, reader.has_returned_end) == ([], False)
    reader.stop_holding()
    assert (end, reader.has_returned_end) == ([b"89"], True)


def test_end_of_an_empty_file_waits() -> None:
    """For an empty file `size` is None, so the sender reads its end, and that read waits."""
    source = Source(b"")
    reader = HeldReader(source, can_reread=True, is_held=True)
    assert reader.size is None
    end = results(reader.read(0, 8))
    assert end == []
    reader.stop_holding()
    assert (end, source.reads) == ([b""], [])


def test_source_that_cannot_be_reread_waits_after_its_first_window() -> None:
    """Such a source is not read beyond its first window, so that the request can be repeated."""
    source = Source(b"0123456789abcdef")
    reader = HeldReader(source, can_reread=False, is_held=True)
    assert reader.read(0, 4) == b"0123"
    second = results(reader.read(4, 4))
    assert (second, source.reads) == ([], [0])
    reader.stop_holding()
    assert (second, source.reads) == ([b"4567"], [0, 4])


def test_reader_without_hold_only_records_its_offset() -> None:
    """If nothing is held, reads pass through, and only the last offset is recorded."""
    reader = HeldReader(Source(b"0123456789"), can_reread=False, is_held=False)
    assert reader.read(4, 4) == b"4567"
    assert (reader.offset, reader.has_returned_end) == (4, False)
    assert reader.read(8, 2) == b"89"
    assert (reader.offset, reader.has_returned_end) == (8, True)


def test_is_reading_until_a_slow_read_ends() -> None:
    """`is_reading` is true until the Deferred of the wrapped reader fires."""
    source = Source(b"01234567", slow=True)
    reader = HeldReader(source, can_reread=True, is_held=True)
    end = results(reader.read(0, 8))
    assert reader.is_reading
    source.pending[0].callback(None)
    assert (reader.is_reading, end) == (False, [])
    reader.stop_holding()
    assert end == [b"01234567"]


def test_closed_reader_drops_the_waiting_read() -> None:
    """After `close` a read that waits never fires, even after `stop_holding`."""
    source = Source(b"0123")
    reader = HeldReader(source, can_reread=True, is_held=True)
    end = results(reader.read(0, 8))
    reader.close()
    reader.stop_holding()
    assert (end, source.closed) == ([], True)
