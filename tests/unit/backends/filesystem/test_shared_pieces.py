"""Tests of the octets that several downloads of one file share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backends import needs_openat2
from tests.support.deferreds import value
from tests.support.served_folder import Served
from twisted_tftp.backends.filesystem.content_cache import MAX_FILE_SIZE
from twisted_tftp.backends.filesystem.shared_pieces import MAX_AGE, MIN_SIZE, SharedPieces

pytestmark = needs_openat2

#: The size of the file, in octets: too large for the cache of small files.
SIZE = 16 * MIN_SIZE

#: An octet that is different in each piece of `MIN_SIZE` octets.
OCTETS = b"".join(bytes([number]) * MIN_SIZE for number in range(16))

assert SIZE > MAX_FILE_SIZE

#: The state of a file.
FILE = (1, 2, SIZE, 0, 0)

#: The mtime of a file that was set back after a change, in nanoseconds: anybody may set it.
MODIFIED = 1_600_000_000_000_000_000


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Serve a folder with one large file that is in the page cache."""
    (tmp_path / "file").write_bytes(OCTETS)
    (tmp_path / "file").read_bytes()
    return Served(tmp_path, capacity=4 * SIZE)


def read(served: Served, offset: int = 0, length: int = MIN_SIZE) -> bytes:
    """Read octets of the file with a download of its own, while another one runs."""
    other, reader = served.open(), served.open()
    octets = bytes(value(reader.read(offset, length)))
    reader.close()
    other.close()
    return octets


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that tells how many times a file was read since the last call."""
    preadv, calls = os.preadv, []

    def counted(*args: Any) -> int:
        calls.append(args)
        return preadv(*args)

    def count() -> int:
        number = len(calls)
        calls.clear()
        return number

    monkeypatch.setattr(os, "preadv", counted)
    return count


def test_third_download_gets_octets_from_memory(
    served: Served, count_reads: Callable[[], int]
) -> None:
    """The first read of a piece is noted, the second one is kept, and the third needs no file."""
    assert read(served) == OCTETS[:MIN_SIZE]
    assert (count_reads(), served.shared_pieces.octets) == (1, 0)
    assert read(served) == OCTETS[:MIN_SIZE]
    assert (count_reads(), served.shared_pieces.octets) == (1, MIN_SIZE)
    assert read(served) == OCTETS[:MIN_SIZE]
    assert count_reads() == 0


def test_download_that_runs_alone_shares_nothing(
    served: Served, count_reads: Callable[[], int]
) -> None:
    """Its reads go into one buffer, which is used again, however often a piece is read."""
    for _ in range(3):
        reader = served.open()
        assert bytes(reader.read(0, MIN_SIZE)) == OCTETS[:MIN_SIZE]
        reader.close()
    assert (count_reads(), served.shared_pieces.octets) == (3, 0)


def test_other_piece_of_the_file_is_not_confused(served: Served) -> None:
    """Octets at another offset, or another number of octets, are read from the file."""
    for _ in range(3):
        read(served)
    assert read(served, MIN_SIZE) == OCTETS[MIN_SIZE:][:MIN_SIZE]
    assert read(served, 0, MIN_SIZE + 1) == OCTETS[: MIN_SIZE + 1]


def test_short_reads_are_not_shared(served: Served, count_reads: Callable[[], int]) -> None:
    """A read of fewer than `MIN_SIZE` octets always comes from the file."""
    for _ in range(4):
        read(served, 0, MIN_SIZE - 1)
    assert (count_reads(), served.shared_pieces.octets) == (4, 0)


def test_octets_are_not_changed_by_later_reads(served: Served) -> None:
    """A reader does not reuse a buffer whose octets are shared."""
    read(served)
    first, second = served.open(), served.open()
    kept = first.read(0, MIN_SIZE)
    first.read(MIN_SIZE, MIN_SIZE)
    assert bytes(second.read(0, MIN_SIZE)) == bytes(kept) == OCTETS[:MIN_SIZE]
    first.close()
    second.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"x" * SIZE),
        lambda path: path.write_bytes(b"x" * (SIZE + 1)),
        lambda path: Path(shutil.copy(path.with_name("other"), path.with_name("b"))).rename(path),
        lambda path: (path.unlink(), path.write_bytes(b"x" * SIZE)),
        lambda path: (path.write_bytes(b"x" * SIZE), os.utime(path, ns=(0, MODIFIED))),
    ],
    ids=["rewritten", "grown", "replaced", "created again", "dated back"],
)
def test_changed_file_is_never_served_from_memory(
    served: Served, change: Callable[[Path], object]
) -> None:
    """The next download gets the new octets, however soon after the change it comes."""
    path = served.root / "file"
    (served.root / "other").write_bytes(b"x" * SIZE)
    os.utime(path, ns=(0, MODIFIED))
    for _ in range(3):
        assert read(served) == OCTETS[:MIN_SIZE]
    change(path)
    for _ in range(3):
        assert read(served) == b"x" * MIN_SIZE


def test_octets_that_an_older_download_reads_after_a_change_are_not_mixed_in(
    served: Served,
) -> None:
    """A download that began before the change shares nothing with those that begin after it."""
    older = served.open()
    assert bytes(older.read(MIN_SIZE, MIN_SIZE)) == OCTETS[MIN_SIZE:][:MIN_SIZE]
    read(served, MIN_SIZE)
    (served.root / "file").write_bytes(b"x" * SIZE)
    assert read(served, MIN_SIZE) == b"x" * MIN_SIZE
    older.read(MIN_SIZE, MIN_SIZE)
    assert read(served, MIN_SIZE) == b"x" * MIN_SIZE
    older.close()


def test_young_file_is_not_shared(served: Served) -> None:
    """A file that was just changed may change again without a sign: nothing of it is kept."""
    served.clock.ahead = 0.0
    for _ in range(3):
        read(served)
    assert served.shared_pieces.octets == 0


def test_octets_are_used_for_a_limited_time(
    served: Served, count_reads: Callable[[], int]
) -> None:
    """Some changes are not seen in the times of a file, so octets are read again after a while."""
    reader, other = served.open(), served.open()
    read(served)
    served.now += MAX_AGE / 2
    read(served)
    served.now += MAX_AGE * 0.9
    count_reads()
    assert bytes(reader.read(0, MIN_SIZE)) == OCTETS[:MIN_SIZE]
    assert count_reads() == 0
    served.now += MAX_AGE / 10
    assert bytes(reader.read(0, MIN_SIZE)) == OCTETS[:MIN_SIZE]
    assert (count_reads(), served.shared_pieces.octets) == (1, 0)
    reader.close()
    other.close()


def test_nothing_is_kept_if_reads_are_far_apart(served: Served) -> None:
    """A piece that is read again after a long time is only noted again."""
    for _ in range(3):
        read(served)
        served.now += MAX_AGE
    assert served.shared_pieces.octets == 0


def test_oldest_octets_leave_first(served: Served, count_reads: Callable[[], int]) -> None:
    """No more octets are kept than the capacity, of all files together."""
    (served.root / "file").write_bytes(OCTETS * 5)
    for _ in range(2):
        for number in range(5):
            read(served, number * SIZE, SIZE)
            read(served, number * SIZE, SIZE)
    assert served.shared_pieces.octets == 4 * SIZE
    count_reads()
    read(served, 4 * SIZE, SIZE)
    assert count_reads() == 0
    read(served, 0, SIZE)
    assert count_reads() == 1


def test_octets_larger_than_the_capacity_are_not_kept(tmp_path: Path) -> None:
    """A piece that does not fit is read from the file each time."""
    (tmp_path / "file").write_bytes(OCTETS)
    served = Served(tmp_path, capacity=SIZE - 1)
    for _ in range(4):
        assert read(served, 0, SIZE) == OCTETS
    assert served.shared_pieces.octets == 0


def test_capacity_zero_shares_nothing(tmp_path: Path, count_reads: Callable[[], int]) -> None:
    """With `--cache 0` each read comes from the file."""
    (tmp_path / "file").write_bytes(OCTETS)
    served = Served(tmp_path, capacity=0)
    for _ in range(4):
        read(served)
    assert count_reads() == 4


def test_downloads_keep_octets_that_were_removed(served: Served) -> None:
    """The memory of a removed piece is used again only when no download holds it."""
    (served.root / "file").write_bytes(OCTETS * 6)
    read(served, 0, SIZE)
    reader, other = served.open(), served.open()
    held = reader.read(0, SIZE)
    assert served.shared_pieces.octets == SIZE
    other.close()
    for number in range(1, 6):
        for _ in range(2):
            read(served, number * SIZE, SIZE)
    assert served.shared_pieces.octets == 4 * SIZE
    (served.root / "file").write_bytes(b"x" * 6 * SIZE)
    for number in range(6):
        for _ in range(2):
            read(served, number * SIZE, SIZE)
    assert bytes(held) == OCTETS
    reader.close()


def fill(view: memoryview, offset: int) -> bool:
    """Read a piece of a file that is in memory: its octets tell its offset."""
    view[:] = bytes([offset]) * len(view)
    return True


def test_memory_of_removed_octets_is_used_again() -> None:
    """The octets that nobody holds any more are the buffer of the next piece."""
    pieces = SharedPieces(MIN_SIZE, lambda: 0.0)
    kept: list[Any] = []
    for offset in (0, 1, 2):
        assert pieces.read((FILE, offset, MIN_SIZE), fill) is None
        view = pieces.read((FILE, offset, MIN_SIZE), fill)
        assert view is not None
        assert bytes(view) == bytes([offset]) * MIN_SIZE
        kept.append(view.obj)
        del view
    assert kept[2] is kept[0]
    assert len(kept[0]) == MIN_SIZE
    assert pieces.octets == MIN_SIZE


def twice(pieces: SharedPieces, offset: int, length: int = MIN_SIZE) -> memoryview:
    """Read a piece twice, so that it is kept."""
    pieces.read((FILE, offset, length), fill)
    view = pieces.read((FILE, offset, length), fill)
    assert view is not None
    return view


def test_piece_does_not_get_the_memory_of_one_that_is_kept() -> None:
    """The memory of a removed piece is used for one other piece only."""
    pieces = SharedPieces(2 * MIN_SIZE, lambda: 0.0)
    twice(pieces, 0)
    held = twice(pieces, 1)
    twice(pieces, 2)  # removes 0
    twice(pieces, 3)  # in the memory of 0; removes 1, whose octets are held
    twice(pieces, 4)
    kept = pieces.read((FILE, 3, MIN_SIZE), fill)
    assert kept is not None
    assert bytes(kept) == bytes([3]) * MIN_SIZE
    assert bytes(held) == bytes([1]) * MIN_SIZE


def test_shorter_piece_does_not_get_longer_memory() -> None:
    """Its octets are as many as were asked for, and are counted as such."""
    pieces = SharedPieces(2 * MIN_SIZE, lambda: 0.0)
    twice(pieces, 0, 2 * MIN_SIZE)
    twice(pieces, 1)
    assert len(twice(pieces, 2)) == MIN_SIZE
    assert pieces.octets == 2 * MIN_SIZE


def test_reader_holds_one_buffer(served: Served) -> None:
    """A download that gets shared octets releases the buffer of its earlier read."""
    for _ in range(2):
        read(served, MIN_SIZE)
    reader, other = served.open(), served.open()
    own = reader.read(0, MIN_SIZE).obj
    with pytest.raises(BufferError):
        own.append(0)
    reader.read(MIN_SIZE, MIN_SIZE)
    own.append(0)  # no reader holds it any more
    reader.close()
    other.close()


def test_pieces_are_freed_with_their_backend() -> None:
    """No cycle of references waits for the garbage collector: each SIGHUP makes a new backend."""
    pieces = SharedPieces(SIZE)
    for _ in range(2):
        pieces.read((FILE, 0, MIN_SIZE), fill)
    assert pieces.octets == MIN_SIZE
    reference = weakref.ref(pieces)
    gc.disable()
    try:
        del pieces
        assert reference() is None
    finally:
        gc.enable()


def test_forgetting_ends_the_sharing(served: Served, count_reads: Callable[[], int]) -> None:
    """After `forget`, a download reads from the file again."""
    for _ in range(3):
        read(served)
    count_reads()
    served.backend.forget()
    read(served)  # opened by a thread, so it shares nothing
    count_reads()
    read(served)
    assert count_reads() == 1


def test_pages_outside_the_page_cache_are_not_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Octets that a thread has read are delivered, and not shared."""

    def cold(*args: Any) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", cold)
    for _ in range(3):
        assert read(served) == OCTETS[:MIN_SIZE]
    assert served.shared_pieces.octets == 0


def test_piece_at_the_end_of_a_truncated_file_is_not_kept(served: Served) -> None:
    """A read that returns fewer octets than wanted is not shared."""
    readers = [served.open() for _ in range(3)]
    os.truncate(served.root / "file", SIZE - 1)
    for reader in readers:
        assert len(value(reader.read(SIZE - MIN_SIZE, MIN_SIZE))) == MIN_SIZE - 1
        reader.close()
    assert served.shared_pieces.octets == 0


def test_notes_are_limited() -> None:
    """Very many pieces that are read once need no more memory than the limit allows."""
    asked_for: list[int] = []

    def fill_nothing(view: memoryview, offset: int) -> bool:
        asked_for.append(offset)
        return False

    pieces = SharedPieces(SIZE, lambda: 0.0)
    for offset in range(20_000):
        assert pieces.read((FILE, offset, MIN_SIZE), fill_nothing) is None
    assert asked_for == []
    pieces.read((FILE, 19_999, MIN_SIZE), fill_nothing)
    assert asked_for == [19_999]
    pieces.read((FILE, 0, MIN_SIZE), fill_nothing)
    assert asked_for == [19_999]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(0, 3), st.sampled_from([8192, 9000, 20_000])),
            st.tuples(st.just("open"), st.just(0), st.just(0)),
            st.tuples(st.just("change"), st.integers(1, 255), st.just(0)),
            st.tuples(st.just("wait"), st.integers(1, 6), st.just(0)),
        ),
        max_size=40,
    )
)
def test_downloads_always_get_the_octets_of_the_file(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is read, changed and waited for, a download gets octets of the file.

    They are those of its begin, or those of a later change.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(OCTETS)
        served = Served(Path(folder), capacity=3 * MIN_SIZE)
        readers = [(served.open(), [OCTETS])]
        for number, (step, value_1, length) in enumerate(steps):
            if step == "read":
                offset = value_1 * MIN_SIZE
                for reader, states in readers[-4:]:
                    got = bytes(value(reader.read(offset, length)))
                    assert got in [state[offset : offset + length] for state in states]
            elif step == "open":
                readers.append((served.open(), [path.read_bytes()]))
            elif step == "wait":
                served.now += value_1
            else:
                octets = OCTETS[:value_1] + bytes([value_1, number]) * (SIZE // 2)
                path.write_bytes(octets[:SIZE])
                os.utime(path, ns=(0, MODIFIED + number))  # two changes may have the same ctime
                for _, states in readers:
                    states.append(octets[:SIZE])
            assert served.shared_pieces.octets <= 3 * MIN_SIZE
        for reader, _ in readers:
            reader.close()
