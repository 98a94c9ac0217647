"""Tests of reading and writing files as netascii, if the files answer at once or later."""

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

#: Short texts with line ends and octets that netascii changes.
TEXTS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\x00", b"\r\n", b"\r\x00", b"line", b"\xff"]), max_size=60
).map(b"".join)

#: Longer texts: some are longer than `MIN_PIECE`, so that they are read in several pieces.
LONG_TEXTS = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 120))


class Source:
    """A reader whose reads return octets at once, or a Deferred that the test fires."""

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
    """A writer whose calls succeed at once, or return a Deferred that the test fires."""

    def __init__(self, later: bool = False) -> None:
        self.octets = b""
        self.later = later
        self.waiting: list[Deferred[None]] = []
        self.ended = ""

    def write(self, data: bytes) -> Any:
        assert not self.ended
        assert data, "a write has at least one octet"
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
    """Return a list to which the result of `deferred` is added when it fires."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


def read(reader: NetasciiReader, source: Source, offset: int, length: int) -> bytes:
    """Read from `reader`; fire the waiting reads of `source` until the result is there."""
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
def test_a_file_is_read_as_netascii_in_windows_of_any_size(
    text: bytes, sized: bool, later: bool, data: st.DataObject
) -> None:
    """Every read, from the last offset or a later one, returns that slice of the netascii."""
    source = Source(text, sized, later)
    reader = NetasciiReader(source)
    wire = netascii.encode(text)
    offset = 0
    for _ in range(12):
        length = data.draw(st.integers(1, 1 + len(wire) * 3 // 4), label="length")
        got = read(reader, source, offset, length)
        assert got == wire[offset : offset + length]
        # An ACK may be of a part of the window, or of nothing: then the window is read again.
        offset += data.draw(st.integers(0, len(got)), label="acknowledged")
    assert read(reader, source, offset, len(wire) + 1) == wire[offset:]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(
    "size", [0, 1, 2, MIN_PIECE - 1, MIN_PIECE, MIN_PIECE + 1, 2 * MIN_PIECE, 2 * MIN_PIECE + 1]
)
@pytest.mark.parametrize("octet", [b"x", b"\n", b"\r"])
def test_files_about_as_long_as_a_piece_are_read_whole(
    octet: bytes, size: int, sized: bool, later: bool
) -> None:
    """Reads of 512 octets return the whole netascii text, and nothing after its end."""
    source = Source(octet * size, sized, later)
    reader = NetasciiReader(source)
    wire = netascii.encode(octet * size)
    offset = 0
    while block := read(reader, source, offset, 512):
        assert block == wire[offset : offset + 512]
        offset += len(block)
    assert offset == len(wire)
    assert read(reader, source, offset, 512) == b""


def test_a_window_is_read_again_from_memory() -> None:
    """A retransmission does not read the file, which is read forward only."""
    source = Source(b"a\nb\rc" * 100)
    reader = NetasciiReader(source)
    first = bytes(reader.read(0, 300))
    asked = list(source.offsets)
    assert bytes(reader.read(0, 300)) == first
    assert bytes(reader.read(100, 200)) == first[100:]
    assert source.offsets == asked


def test_a_netascii_reader_has_no_size() -> None:
    """The length of the netascii text is not the size of the file, and is not known."""
    assert NetasciiReader(Source(b"a\n")).size is None


def test_an_empty_file_is_not_read() -> None:
    """If the size of the file is 0, the netascii text is empty too."""
    source = Source(b"")
    assert NetasciiReader(source).read(0, 512) == b""
    assert source.offsets == []


def test_a_file_is_read_at_most_one_piece_ahead() -> None:
    """A large file is not read into memory before its octets are needed."""
    source = Source(b"x" * 20 * MIN_PIECE)
    reader = NetasciiReader(source)
    for offset in range(0, 19 * MIN_PIECE, 512):
        reader.read(offset, 512)
        assert source.reached <= offset + 512 + MIN_PIECE


def test_an_error_of_the_file_fails_the_read() -> None:
    """An OSError of the file's reader, raised or in a Deferred, is passed on."""

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
def test_a_file_that_shrinks_while_it_is_read_fails_the_read(later: bool) -> None:
    """A file that is shorter than its announced size must not look complete."""
    source = Source(b"half", size=1000, later=later)
    reader = NetasciiReader(source)
    with pytest.raises(TFTPError):
        read(reader, source, 0, 512)


def test_close_closes_the_file() -> None:
    """`close` closes the reader of the file once."""
    source = Source(b"text")
    reader = NetasciiReader(source)
    reader.close()
    assert source.closed == 1


def test_reader_and_writer_provide_their_interfaces() -> None:
    """A session can use them as an `IFileReader` and an `IFileWriter`."""
    verifyObject(IFileReader, NetasciiReader(Source(b"")))
    verifyObject(IFileWriter, NetasciiWriter(Sink()))


# -- writing ------------------------------------------------------------------------------


@given(LONG_TEXTS, st.booleans(), st.integers(8, 600))
def test_netascii_in_blocks_is_written_as_local_text(
    text: bytes, later: bool, blksize: int
) -> None:
    """The file is the local text, wherever the borders of the blocks are."""
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


def test_a_cr_at_the_end_is_written_before_the_commit() -> None:
    """A CR at the end of a block waits for its second octet, or for the commit."""
    sink = Sink()
    writer = NetasciiWriter(sink)
    assert writer.write(b"a\r") is None
    assert sink.octets == b"a"
    assert writer.commit() is None
    assert (sink.octets, sink.ended) == (b"a\r", "committed")


def test_a_commit_waits_until_the_last_cr_is_written() -> None:
    """The file is committed after the CR is written; the Deferred fires after both."""
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


def test_a_last_cr_that_can_not_be_written_fails_the_commit() -> None:
    """If the disk is full when the last CR is written, the file is not committed."""
    sink = Sink(later=True)
    writer = NetasciiWriter(sink)
    writer.write(b"\r")
    done = results_of(writer.commit())
    sink.waiting.pop().errback(DiskFull())
    assert done[0].check(DiskFull)
    assert sink.ended == ""


def test_an_error_of_the_file_fails_the_write() -> None:
    """An error of the file's writer, raised or in a Deferred, is passed on."""

    class Full(Sink):
        def write(self, data: bytes) -> Any:
            if self.later:
                return fail(DiskFull())
            raise DiskFull

    with pytest.raises(DiskFull):
        NetasciiWriter(Full()).write(b"x")
    [failure] = results_of(NetasciiWriter(Full(later=True)).write(b"x"))
    assert failure.check(DiskFull)


def test_an_abort_drops_the_file_and_the_last_cr() -> None:
    """`abort` aborts the file's writer, and a CR that waits is not written."""
    sink = Sink()
    writer = NetasciiWriter(sink)
    writer.write(b"a\r")
    writer.abort()
    assert (sink.octets, sink.ended) == (b"a", "aborted")
