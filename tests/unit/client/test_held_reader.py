"""The end of an upload while the server's answer is in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_tftp.client.held_reader import HeldReader


class Source:
    """A reader of `content`; with `slow`, each read waits in `pending`."""

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
    """Return a list to which the result of a read is added once it is there."""
    got: list[Any] = []
    if isinstance(read, Deferred):
        read.addBoth(got.append)
    else:
        got.append(read)
    return got


@pytest.mark.parametrize("known_size", [True, False])
def test_end_waits_until_it_is_let_through(known_size: bool) -> None:
    """The octets before it do not wait."""
    source = Source(b"0123456789", known_size=known_size)
    reader = HeldReader(source, can_reread=True, is_held=True)
    assert reader.read(0, 8) == b"01234567"
    end = results(reader.read(8, 8 if not known_size else 2))
    assert (end, reader.has_given_end) == ([], False)
    reader.let_through()
    assert (end, reader.has_given_end) == ([b"89"], True)


def test_empty_file_waits_too() -> None:
    """Its size is not told, so that the sender reads its end."""
    reader = HeldReader(Source(b""), can_reread=True, is_held=True)
    assert reader.size is None
    end = results(reader.read(0, 8))
    assert end == []
    reader.let_through()
    assert end == [b""]


def test_source_that_cannot_be_read_again_is_read_no_further_than_its_first_window() -> None:
    """Otherwise the request could not be sent again with the same file."""
    source = Source(b"0123456789abcdef")
    reader = HeldReader(source, can_reread=False, is_held=True)
    assert reader.read(0, 4) == b"0123"
    second = results(reader.read(4, 4))
    assert (second, source.reads) == ([], [0])
    reader.let_through()
    assert (second, source.reads) == ([b"4567"], [0, 4])


def test_reader_that_holds_nothing_passes_everything_on() -> None:
    """It only notes how far it was read."""
    reader = HeldReader(Source(b"0123456789"), can_reread=False, is_held=False)
    assert reader.read(4, 4) == b"4567"
    assert (reader.offset, reader.has_given_end) == (4, False)
    assert reader.read(8, 2) == b"89"
    assert (reader.offset, reader.has_given_end) == (8, True)


def test_slow_read_counts_as_reading_until_its_octets_come() -> None:
    """While a source is being read, it can't go back."""
    source = Source(b"01234567", slow=True)
    reader = HeldReader(source, can_reread=True, is_held=True)
    end = results(reader.read(0, 8))
    assert reader.is_reading
    source.pending[0].callback(None)
    assert (reader.is_reading, end) == (False, [])
    reader.let_through()
    assert end == [b"01234567"]


def test_closed_reader_gives_nothing_more() -> None:
    """A read that waits is forgotten."""
    source = Source(b"0123")
    reader = HeldReader(source, can_reread=True, is_held=True)
    end = results(reader.read(0, 8))
    reader.close()
    reader.let_through()
    assert (end, source.closed) == ([], True)
