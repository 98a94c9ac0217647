"""Contents are kept while they are hot, and are never used for what is in a file no more."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.defer import execute

from tests.support.deferreds import value
from tests.support.filesystem import needs_openat2
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.filesystem.content_cache import LIFE, OVERHEAD, SETTLED, SMALL, Contents
from twisted_tftp.backends.filesystem.kernel_lookup import Found
from twisted_tftp.backends.filesystem.reader import CHUNK_SIZE, FilesystemReader, SharedChunks
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import TFTPError

CONTEXT = TransferContext(
    Endpoint("192.0.2.1", 1), None, Direction.READ, b"file", "octet", {}, None
)


#: When the file was last written to, as far as its mtime tells: anybody may set that.
MODIFIED = 1_600_000_000_000_000_000


class Later:
    """A clock that says that some time has passed since files were changed."""

    def __init__(self) -> None:
        self.ahead = 10.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Served:
    """A backend of a folder, with threads that run at once, and what it opened."""

    def __init__(self, root: Path, capacity: int = 1_000_000) -> None:
        self.root = root
        self.clock = Later()
        self.backend = FilesystemBackend(str(root), in_thread=self._at_once)
        self.contents = self.backend._contents = Contents(capacity, self.clock)
        self.backend._cached.learn()

    @staticmethod
    def _at_once(function: Callable[..., Any], *args: Any) -> Any:
        return execute(function, *args)

    def open(self, name: str = "file") -> Any:
        """Return a reader; what the kernel has not in memory is had from a thread."""
        return value(self.backend.open_reader(name, CONTEXT))

    def read(self, name: str = "file") -> tuple[bytes, bool]:
        """Return a file's octets, and whether they came from memory."""
        reader = self.open(name)
        octets = bytes(value(reader.read(0, reader.size))) if reader.size else b""
        reader.close()
        return octets, not isinstance(reader, FilesystemReader)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Serve a folder with one small file that the kernel has in memory."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "file").read_bytes()
    return Served(tmp_path)


pytestmark = needs_openat2


def test_small_file_is_read_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second use opens and reads nothing."""
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
    ids=["rewritten", "grown", "truncated", "replaced", "made anew", "dated back", "a link"],
)  # fmt: skip
def test_changed_file_is_never_served_from_memory(
    served: Served, change: Callable[[Path], object]
) -> None:
    """Whatever is done to the file, and however soon, the next use sees it."""
    path = served.root / "file"
    (served.root / "other").write_bytes(b"other")
    os.utime(path, ns=(0, MODIFIED))
    assert served.read() == (b"content", True)
    change(path)
    assert served.read()[0] == path.read_bytes()


@pytest.mark.parametrize("how", ["deleted", "hidden", "root replaced"])
def test_file_that_is_gone_is_not_served(served: Served, how: str) -> None:
    """A content outlives neither its name nor the permission to reach it."""
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


def test_content_is_read_again_after_a_while(served: Served) -> None:
    """What no time of the file tells, a store through a mapping, is seen all the same."""
    now = [0.0]
    served.contents._monotonic = lambda: now[0]
    served.read()
    status = (served.root / "file").stat()
    content = served.contents._by_inode[status.st_dev, status.st_ino]
    content.data = b"notseen"  # as if the file had changed and nothing had noted it
    assert served.read() == (b"notseen", True)
    now[0] = LIFE
    assert served.read() == (b"content", True)


def test_file_that_has_just_changed_is_not_kept(served: Served) -> None:
    """A change within the same tick of the file system's clock would not show."""
    served.clock.ahead = SETTLED / 2
    assert served.read() == (b"content", False)
    served.clock.ahead = -1000.0  # the clock was set back
    assert served.read() == (b"content", False)
    served.clock.ahead = 10.0
    assert served.read() == (b"content", True)


def test_file_that_changes_while_it_is_read_is_not_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read between two states of a file is neither of them."""
    preadv = os.preadv

    def change_and_read(*args: Any) -> int:
        (served.root / "file").write_bytes(b"another")
        return preadv(*args)

    monkeypatch.setattr(os, "preadv", change_and_read)
    assert served.read() == (b"another", False)
    assert not served.contents._by_inode


def test_transfer_goes_on_with_what_it_began_with(served: Served) -> None:
    """A file that changes under a reader changes for the next one, which reads the file."""
    reader = served.open()
    (served.root / "file").write_bytes(b"another")
    assert served.read() == (b"another", False)
    assert bytes(reader.read(0, 7)) == b"content"
    reader.close()
    assert served.read() == (b"another", True)


def test_descriptor_of_another_state_is_not_shared(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes between the look and the open is opened anew by the next reader."""
    path = served.root / "large"
    path.write_bytes(bytes(SMALL + 1))
    real = Found.open

    def change_and_open(found: Found) -> int | None:
        path.write_bytes(bytes(SMALL + 2))
        return real(found)

    monkeypatch.setattr(Found, "open", change_and_open)
    reader = served.open("large")
    assert not served.backend._open_files
    reader.close()


def test_two_names_of_one_file_share_a_content(served: Served) -> None:
    """A hard link is the same file."""
    os.link(served.root / "file", served.root / "again")
    served.read()
    served.read("again")
    assert len(served.contents._by_inode) == 1


def test_large_file_is_not_kept(served: Served) -> None:
    """The page cache has it already; only small files cost more to open than to send."""
    (served.root / "large").write_bytes(bytes(SMALL + 1))
    assert served.read("large") == (bytes(SMALL + 1), False)
    (served.root / "small").write_bytes(bytes(SMALL))
    assert served.read("small") == (bytes(SMALL), True)


def test_readers_of_one_large_file_share_a_descriptor(served: Served) -> None:
    """A rack that boots from one kernel opens it once; it closes after the last reader."""
    path = served.root / "large"
    path.write_bytes(bytes(SMALL + 1))
    before = set(os.listdir("/proc/self/fd"))
    readers = [served.open("large") for _ in range(3)]
    assert len(set(os.listdir("/proc/self/fd")) - before) == 1
    for reader in readers[:2]:
        reader.close()
    assert bytes(value(readers[2].read(SMALL, 1))) == b"\0"
    path.write_bytes(b"x" * (SMALL + 2))
    changed = served.open("large")
    assert (readers[2].size, changed.size) == (SMALL + 1, SMALL + 2)
    changed.close()
    readers[2].close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert served.read("large")[0] == path.read_bytes()


def test_empty_file_is_kept(served: Served) -> None:
    """There is nothing to read, and that is what is remembered."""
    (served.root / "empty").touch()
    assert served.read("empty") == (b"", True)
    assert served.read("empty") == (b"", True)


def test_file_that_is_not_in_memory_is_read_in_a_thread(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reactor waits for no disk."""

    def cold(*args: Any) -> int:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", cold)
        reader = served.open()
        assert isinstance(reader, FilesystemReader)
        reader.close()
    monkeypatch.delattr(os, "RWF_NOWAIT")
    assert Served(served.root).read() == (b"content", False)


def test_without_capacity_nothing_is_kept(served: Served) -> None:
    """`--cache 0` turns it off."""
    served.backend._contents = Contents(0, served.clock)
    assert served.read() == (b"content", False)


def test_least_recently_used_content_makes_room(tmp_path: Path) -> None:
    """What was asked for lately stays."""
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(1000))
    served = Served(tmp_path, capacity=2 * (1000 + OVERHEAD))
    for name in "abac":
        served.read(name)
    kept = {inode for _, inode in served.contents._by_inode}
    assert kept == {(tmp_path / name).stat().st_ino for name in "ac"}


def test_contents_in_use_count_and_stay(tmp_path: Path) -> None:
    """Memory is bounded by the capacity even where every transfer has another file."""
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
def test_what_is_served_is_what_is_in_the_file(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    """In any order of reads, open readers and changes, and the sum of octets stays right."""
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
        contents = served.contents
        held = sum(len(each.data) + OVERHEAD for each in contents._by_inode.values())
        assert contents._octets == held <= 3 * (8 + OVERHEAD)
    for reader, _ in readers:
        reader.close()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_files_on_tmpfs_are_read_at_once() -> None:
    """They are memory: no file there needs a thread, though RWF_NOWAIT is refused."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        (root / "file").write_bytes(b"content")
        (root / "large").write_bytes(bytes(SMALL + 1))
        served = Served(root)
        assert served.backend._cached.in_memory
        assert served.read() == (b"content", True)
        reader = served.open("large")
        assert bytes(reader.read(1, SMALL)) == bytes(SMALL)
        reader.close()


def test_readers_that_need_threads_share_their_memory(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand transfers from a network's file system do not read ahead 2.5 GB."""
    (served.root / "large").write_bytes(bytes(CHUNK_SIZE))
    monkeypatch.delattr(os, "RWF_NOWAIT")
    served = Served(served.root)
    chunks = served.backend._chunks = SharedChunks(CHUNK_SIZE, CHUNK_SIZE)
    readers = [served.open("large") for _ in range(3)]
    held = []
    for reader in readers:
        value(reader.read(0, 100))
        held.append(len(reader._chunk))
    assert held == [CHUNK_SIZE, CHUNK_SIZE // 2, CHUNK_SIZE // 3]
    for reader in readers:
        reader.close()
    assert chunks.readers == 0
