"""Files pass as netascii through readers and writers that answer at once or later."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from twisted_tftp.errors import DiskFull, TFTPError
from twisted_tftp.interfaces import IFileReader, IFileWriter
from twisted_tftp.protocol import netascii
from twisted_tftp.session.netascii_files import MIN_PIECE, NetasciiReader, NetasciiWriter

TEXTS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\x00", b"\r\n", b"\r\x00", b"line", b"\xff"]), max_size=60
).map(b"".join)

#: Texts longer than a piece, so that its border matters.
LONG_TEXTS = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 120))


class Source:
    """A reader of octets, at once or with the answer on a list, to be fired by the test."""

    def __init__(
        self, octets: bytes, sized: bool = True, later: bool = False, size: int | None = None
    ) -> None:
        self.octets = octets
        self.size = (len(octets) if size is None else size) if sized else None
        self.later = later
        self.waiting: list[tuple[Deferred[Any], bytes]] = []
        self.offsets: list[int] = []
        self.reached = 0
        self.ended = False
        self.closed = 0

    def read(self, offset: int, length: int) -> Any:
        assert length >= 1
        assert not self.offsets or offset >= self.offsets[-1], "offsets never decrease"
        assert not self.ended, "nothing follows a short answer"
        self.offsets.append(offset)
        self.reached = offset + length
        answer = self.octets[offset : offset + length]
        self.ended = len(answer) < length
        if not self.later:
            return memoryview(answer)
        waiting: Deferred[Any] = Deferred()
        self.waiting.append((waiting, answer))
        return waiting

    def answer(self) -> None:
        waiting, octets = self.waiting.pop()
        assert not self.waiting, "one read at a time"
        waiting.callback(memoryview(octets))

    def close(self) -> None:
        self.closed += 1


class Sink:
    """A writer of octets that takes them at once or when the test says so."""

    def __init__(self, later: bool = False) -> None:
        self.octets = b""
        self.later = later
        self.waiting: list[Deferred[None]] = []
        self.ended = ""

    def write(self, data: bytes) -> Any:
        assert not self.ended
        assert data, "nothing is not worth a write"
        self.octets += data
        return self._maybe_later()

    def commit(self) -> Any:
        assert not self.waiting, "a write is under way"
        self.ended += "committed"
        return self._maybe_later()

    def abort(self) -> Any:
        self.ended += "aborted"
        return self._maybe_later()

    def _maybe_later(self) -> Deferred[None] | None:
        if not self.later:
            return None
        self.waiting.append(Deferred())
        return self.waiting[-1]


def results_of(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that gets what `deferred` fires with."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


def read(reader: NetasciiReader, source: Source, offset: int, length: int) -> bytes:
    """Read, firing what the source holds back, until the answer is there."""
    answer = reader.read(offset, length)
    if not isinstance(answer, Deferred):
        return bytes(answer)
    results = results_of(answer)
    while source.waiting:
        source.answer()
    assert len(results) == 1
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return bytes(results[0])


# -- reading ------------------------------------------------------------------------------


@given(LONG_TEXTS, st.booleans(), st.booleans(), st.data())
def test_a_file_is_read_as_netascii_through_windows_of_any_size(
    text: bytes, sized: bool, later: bool, data: st.DataObject
) -> None:
    """Growing and repeated offsets, windows of any size: always a slice of the netascii."""
    source = Source(text, sized, later)
    reader = NetasciiReader(source)
    wire = netascii.encode(text)
    offset = 0
    for _ in range(12):
        length = data.draw(st.integers(1, 1 + len(wire) * 3 // 4), label="length")
        got = read(reader, source, offset, length)
        assert got == wire[offset : offset + length]
        # An ACK moves on by a part of the window, or not at all: then it is sent again.
        offset += data.draw(st.integers(0, len(got)), label="acknowledged")
    assert read(reader, source, offset, len(wire) + 1) == wire[offset:]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(
    "size", [0, 1, 2, MIN_PIECE - 1, MIN_PIECE, MIN_PIECE + 1, 2 * MIN_PIECE, 2 * MIN_PIECE + 1]
)
@pytest.mark.parametrize("octet", [b"x", b"\n", b"\r"])
def test_files_around_a_piece_are_whole(octet: bytes, size: int, sized: bool, later: bool) -> None:
    """In lock step every block is full but the last, and past the end there is nothing."""
    source = Source(octet * size, sized, later)
    reader = NetasciiReader(source)
    wire = netascii.encode(octet * size)
    offset = 0
    while block := read(reader, source, offset, 512):
        assert block == wire[offset : offset + 512]
        offset += len(block)
    assert offset == len(wire)
    assert read(reader, source, offset, 512) == b""


def test_a_window_is_read_again_without_the_file() -> None:
    """A retransmission needs nothing from the file, which can't go back."""
    source = Source(b"a\nb\rc" * 100)
    reader = NetasciiReader(source)
    first = bytes(reader.read(0, 300))
    asked = list(source.offsets)
    assert bytes(reader.read(0, 300)) == first
    assert bytes(reader.read(100, 200)) == first[100:]
    assert source.offsets == asked


def test_the_length_on_the_wire_is_not_known() -> None:
    """The file's size is not that of its netascii, so there is no size to tell."""
    assert NetasciiReader(Source(b"a\n")).size is None


def test_an_empty_file_is_not_even_read() -> None:
    """There is nothing to ask for."""
    source = Source(b"")
    assert NetasciiReader(source).read(0, 512) == b""
    assert source.offsets == []


def test_no_more_is_held_than_a_window_and_a_piece() -> None:
    """A large file does not end up in memory."""
    source = Source(b"x" * 20 * MIN_PIECE)
    reader = NetasciiReader(source)
    for offset in range(0, 19 * MIN_PIECE, 512):
        reader.read(offset, 512)
        assert source.reached <= offset + 512 + MIN_PIECE


def test_a_failing_read_fails_the_answer() -> None:
    """A disk error, at once or later, reaches who asked."""

    class Broken(Source):
        def read(self, offset: int, length: int) -> Any:
            if self.later:
                return fail(OSError(5, "EIO"))
            raise OSError(5, "EIO")

    with pytest.raises(OSError, match="EIO"):
        NetasciiReader(Broken(b"x")).read(0, 512)
    answer = NetasciiReader(Broken(b"x", later=True)).read(0, 512)
    assert isinstance(answer, Deferred)
    [failure] = results_of(answer)
    assert failure.check(OSError)


@pytest.mark.parametrize("later", [False, True])
def test_a_file_that_shrinks_while_it_is_read_does_not_end_well(later: bool) -> None:
    """A reader that knows its size and falls short of it must not look like a whole file."""
    source = Source(b"half", size=1000, later=later)
    reader = NetasciiReader(source)
    with pytest.raises(TFTPError):
        read(reader, source, 0, 512)


def test_closing_closes_the_file() -> None:
    """The reader beneath is closed, once."""
    source = Source(b"text")
    reader = NetasciiReader(source)
    reader.close()
    assert source.closed == 1


def test_the_contracts_are_kept() -> None:
    """Both are what a session takes for a reader and a writer."""
    verifyObject(IFileReader, NetasciiReader(Source(b"")))
    verifyObject(IFileWriter, NetasciiWriter(Sink()))


# -- writing ------------------------------------------------------------------------------


@given(LONG_TEXTS, st.booleans(), st.integers(8, 600))
def test_netascii_in_blocks_is_written_as_local_text(
    text: bytes, later: bool, blksize: int
) -> None:
    """Wherever the blocks' borders are, the file is the text."""
    sink = Sink(later)
    writer = NetasciiWriter(sink)
    wire = netascii.encode(text)
    for offset in range(0, len(wire), blksize):
        written = writer.write(wire[offset : offset + blksize])
        assert isinstance(written, Deferred) == bool(sink.waiting)
        while sink.waiting:
            sink.waiting.pop().callback(None)
    committing = writer.commit()
    assert sink.octets == text
    assert sink.ended == "committed"
    assert isinstance(committing, Deferred) == later


def test_a_cr_held_back_is_written_before_the_commit() -> None:
    """A file that ends in a bare CR keeps it."""
    sink = Sink()
    writer = NetasciiWriter(sink)
    assert writer.write(b"a\r") is None
    assert sink.octets == b"a"
    assert writer.commit() is None
    assert (sink.octets, sink.ended) == (b"a\r", "committed")


def test_a_commit_waits_until_the_held_cr_is_written() -> None:
    """The commit comes after the write, and is done when both are."""
    sink = Sink(later=True)
    writer = NetasciiWriter(sink)
    assert writer.write(b"\r") is None
    done = results_of(writer.commit())
    assert (sink.octets, sink.ended) == (b"\r", "")
    sink.waiting.pop().callback(None)
    assert sink.ended == "committed"
    assert done == []
    sink.waiting.pop().callback(None)
    assert done == [None]


def test_a_held_cr_that_can_not_be_written_fails_the_commit() -> None:
    """A disk that is full at the very last octet is not a success."""
    sink = Sink(later=True)
    writer = NetasciiWriter(sink)
    writer.write(b"\r")
    done = results_of(writer.commit())
    sink.waiting.pop().errback(DiskFull())
    assert done[0].check(DiskFull)
    assert sink.ended == ""


def test_a_failing_write_fails_the_write() -> None:
    """What the writer beneath raises or fires is passed on."""

    class Full(Sink):
        def write(self, data: bytes) -> Any:
            if self.later:
                return fail(DiskFull())
            raise DiskFull

    with pytest.raises(DiskFull):
        NetasciiWriter(Full()).write(b"x")
    [failure] = results_of(NetasciiWriter(Full(later=True)).write(b"x"))
    assert failure.check(DiskFull)


def test_an_abort_drops_the_file_and_the_held_cr() -> None:
    """Nothing is written any more."""
    sink = Sink()
    writer = NetasciiWriter(sink)
    writer.write(b"a\r")
    writer.abort()
    assert (sink.octets, sink.ended) == (b"a", "aborted")
