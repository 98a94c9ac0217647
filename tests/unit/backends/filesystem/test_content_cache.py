"""Tests of the cache of small files: it never serves content that is no longer in the file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from tests.support.backends import needs_openat2
from tests.support.deferreds import value
from tests.support.served_folder import Served
from twisted_tftp.backends.filesystem.content_cache import (
    MAX_AGE,
    MAX_FILE_SIZE,
    MIN_UNCHANGED,
    OVERHEAD,
    Identity,
    identity,
)
from twisted_tftp.backends.filesystem.kernel_lookup import FoundFile, KernelLookup
from twisted_tftp.backends.filesystem.reader import (
    CHUNK_SIZE,
    ChunkBudget,
    FilesystemReader,
    OpenFile,
)
from twisted_tftp.errors import TFTPError

#: The mtime of a file that was set back after a change, in nanoseconds: anybody may set it.
MODIFIED = 1_600_000_000_000_000_000


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Serve a folder with one small file that the kernel has in memory."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "file").read_bytes()
    return Served(tmp_path)


pytestmark = needs_openat2


def test_small_file_is_read_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second read of a small file needs no read from the file."""
    assert served.read() == (b"content", True)
    monkeypatch.setattr(os, "preadv", None)
    assert served.read() == (b"content", True)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"another"),  # the same size
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: path.write_bytes(b""),
        lambda path: Path(shutil.copy(path.with_name("other"), path.with_name("b"))).rename(path),
        lambda path: (path.unlink(), path.write_bytes(b"another")),
        lambda path: (path.write_bytes(b"another"), os.utime(path, ns=(0, MODIFIED))),
        lambda path: (path.unlink(), path.symlink_to("other")),
    ],
    ids=["rewritten", "grown", "truncated", "replaced", "created again", "dated back", "a link"],
)  # fmt: skip
def test_changed_file_is_never_served_from_memory(
    served: Served, change: Callable[[Path], object]
) -> None:
    """The next request gets the new content, however soon after the change it comes."""
    path = served.root / "file"
    (served.root / "other").write_bytes(b"other")
    os.utime(path, ns=(0, MODIFIED))
    assert served.read() == (b"content", True)
    change(path)
    assert served.read()[0] == path.read_bytes()


@pytest.mark.parametrize("how", ["deleted", "hidden", "root replaced"])
def test_deleted_or_unreachable_file_is_not_served(served: Served, how: str) -> None:
    """Cached content is not served without a file of that name below the root."""
    served.read()
    if how == "deleted":
        (served.root / "file").unlink()
    elif how == "hidden":
        (served.root / "file").rename(served.root / "other")
    else:
        served.root.rename(served.root.with_name("old"))
        served.root.mkdir()
    with pytest.raises((TFTPError, FileNotFoundError)):
        served.read()


def test_content_is_read_again_after_its_lifetime(served: Served) -> None:
    """A change that the file's times do not show is seen after `MAX_AGE` seconds."""
    # The cached content is wrong, as after a change that left the times of the file as they were.
    served.content_cache.add(identity((served.root / "file").stat()), b"notseen").close()
    assert served.read() == (b"notseen", True)
    served.now = MAX_AGE
    assert served.read() == (b"content", True)


def test_file_that_has_just_changed_is_not_cached(served: Served) -> None:
    """A second change in the same tick of the file system's clock could not be seen."""
    served.clock.ahead = MIN_UNCHANGED / 2
    assert served.read() == (b"content", False)
    served.clock.ahead = -1000.0  # the clock was set back
    assert served.read() == (b"content", False)
    served.clock.ahead = 10.0
    assert served.read() == (b"content", True)


def test_file_that_changes_while_it_is_read_is_not_cached(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Octets from two states of a file are not cached as one content."""
    preadv = os.preadv

    def change_and_read(*args: Any) -> int:
        (served.root / "file").write_bytes(b"another")
        return preadv(*args)

    monkeypatch.setattr(os, "preadv", change_and_read)
    assert served.read() == (b"another", False)
    assert len(served.content_cache) == 0


def test_reader_keeps_the_content_that_it_started_with(served: Served) -> None:
    """A changed file is read from the disk for the next reader."""
    reader = served.open()
    (served.root / "file").write_bytes(b"another")
    assert served.read() == (b"another", False)
    assert bytes(reader.read(0, 7)) == b"content"
    reader.close()
    assert served.read() == (b"another", True)


class OutdatedLookup(KernelLookup):
    """Find a file, change it after that, and report the identity from before the change."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path.parent))
        self._path = path
        self._before: Identity | None = None
        self.detect_file_system()

    def find(self, path: str) -> FoundFile | None:
        found = super().find(path)
        assert found is not None
        if self._before is None:
            self._before = found.identity
            self._path.write_bytes(bytes(MAX_FILE_SIZE + 2))
        found.identity = self._before
        return found


def descriptors() -> set[str]:
    """Return the numbers of the descriptors that this process has open."""
    return set(os.listdir("/proc/self/fd"))


def test_file_changed_before_its_open_is_not_shared(tmp_path: Path) -> None:
    """If a file changes between lookup and open, the next reader opens it again."""
    path = tmp_path / "large"
    path.write_bytes(bytes(MAX_FILE_SIZE + 1))
    path.read_bytes()
    served = Served(tmp_path, lookup=OutdatedLookup(path))
    before = descriptors()
    readers = [served.open("large") for _ in range(2)]
    assert len(descriptors() - before) == 2
    for reader in readers:
        reader.close()


def test_hard_links_share_one_cached_content(served: Served) -> None:
    """Two names of the same file are cached once."""
    os.link(served.root / "file", served.root / "again")
    served.read()
    served.read("again")
    assert len(served.content_cache) == 1


def test_large_file_is_not_cached(served: Served) -> None:
    """Files above `MAX_FILE_SIZE` octets are left to the page cache."""
    (served.root / "large").write_bytes(bytes(MAX_FILE_SIZE + 1))
    assert served.read("large") == (bytes(MAX_FILE_SIZE + 1), False)
    (served.root / "small").write_bytes(bytes(MAX_FILE_SIZE))
    assert served.read("small") == (bytes(MAX_FILE_SIZE), True)


def test_readers_of_one_large_file_share_a_descriptor(served: Served) -> None:
    """The file is opened once for all readers, and closed after the last one."""
    path = served.root / "large"
    path.write_bytes(bytes(MAX_FILE_SIZE + 1))
    before = descriptors()
    readers = [served.open("large") for _ in range(3)]
    assert len(descriptors() - before) == 1
    for reader in readers[:2]:
        reader.close()
    assert bytes(value(readers[2].read(MAX_FILE_SIZE, 1))) == b"\0"
    path.write_bytes(b"x" * (MAX_FILE_SIZE + 2))
    changed = served.open("large")
    assert (readers[2].size, changed.size) == (MAX_FILE_SIZE + 1, MAX_FILE_SIZE + 2)
    changed.close()
    readers[2].close()
    assert descriptors() == before
    assert served.read("large")[0] == path.read_bytes()


def test_empty_file_is_cached(served: Served) -> None:
    """An empty file counts as a small file."""
    (served.root / "empty").touch()
    assert served.read("empty") == (b"", True)
    assert served.read("empty") == (b"", True)


def test_file_outside_the_page_cache_is_read_in_a_thread(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reactor does not wait for the disk to fill the cache."""

    def cold(*args: Any) -> int:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", cold)
        reader = served.open()
        assert isinstance(reader, FilesystemReader)
        reader.close()
    monkeypatch.delattr(os, "RWF_NOWAIT")
    assert Served(served.root).read() == (b"content", False)


def test_capacity_zero_disables_the_cache(served: Served) -> None:
    """With `--cache 0` each read comes from the file."""
    assert Served(served.root, capacity=0).read() == (b"content", False)


def test_least_recently_used_content_is_removed_first(tmp_path: Path) -> None:
    """A full cache keeps the files that were read last."""
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(1000))
    served = Served(tmp_path, capacity=2 * (1000 + OVERHEAD))
    for name in "abac":
        served.read(name)
    kept = {
        name
        for name in "abc"
        if served.content_cache.open_reader(identity((tmp_path / name).stat()))
    }
    assert kept == set("ac")


def test_content_in_use_is_not_removed(tmp_path: Path) -> None:
    """CachedContent that readers use counts against the capacity and stays in the cache."""
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(1000))
    served = Served(tmp_path, capacity=2 * (1000 + OVERHEAD))
    readers = [served.open(name) for name in "ab"]
    assert served.read("c") == (bytes(1000), False)
    for reader in readers:
        reader.close()
    assert served.read("c") == (bytes(1000), True)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["read", "open", "close", "change"])),
        max_size=60,
    )
)
@hypothesis_settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_served_content_is_always_that_of_the_file(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    """After any sequence of reads and changes, content and used octets are right."""
    served = Served(tmp_path, capacity=3 * (8 + OVERHEAD))
    for name in "abcd":
        (tmp_path / name).write_bytes(b"00000000")
    readers: list[tuple[Any, bytes]] = []
    for number, (name, step) in enumerate(steps):
        path = tmp_path / name
        if step == "read":
            assert served.read(name)[0] == path.read_bytes()
        elif step == "open":
            readers.append((served.open(name), path.read_bytes()))
        elif step == "close" and readers:
            reader, octets = readers.pop(0)
            if not isinstance(reader, FilesystemReader):
                assert bytes(reader.read(0, 8)) == octets
            reader.close()
        elif step == "change":
            path.write_bytes(f"{number:08}".encode())
        contents = served.content_cache
        assert contents.octets == len(contents) * (8 + OVERHEAD) <= 3 * (8 + OVERHEAD)
    for reader, _ in readers:
        reader.close()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_files_on_tmpfs_are_read_without_threads() -> None:
    """tmpfs does not support RWF_NOWAIT, but its files are always in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        (root / "file").write_bytes(b"content")
        (root / "large").write_bytes(bytes(MAX_FILE_SIZE + 1))
        served = Served(root)
        assert served.lookup.in_memory
        assert served.read() == (b"content", True)
        reader = served.open("large")
        assert bytes(reader.read(1, MAX_FILE_SIZE)) == bytes(MAX_FILE_SIZE)
        reader.close()


def test_readers_that_need_threads_share_their_memory(tmp_path: Path) -> None:
    """The more readers read in threads, the fewer octets each of them reads at a time."""
    path = tmp_path / "large"
    path.write_bytes(bytes(CHUNK_SIZE))
    chunks = ChunkBudget(CHUNK_SIZE, CHUNK_SIZE)
    held: list[int] = []

    def in_thread(read: Callable[..., bytes], *args: Any) -> Deferred[bytes]:
        octets = read(*args)
        held.append(len(octets))
        return succeed(octets)

    readers = [
        FilesystemReader(OpenFile(os.open(path, os.O_RDONLY)), in_thread, chunks, None)
        for _ in range(3)
    ]
    for reader in readers:
        value(reader.read(0, 100))
    assert held == [CHUNK_SIZE, CHUNK_SIZE // 2, CHUNK_SIZE // 3]
    for reader in readers:
        reader.close()
    assert chunks.readers == 0
