"""What the kernel has in memory is opened at once; everything else is left to a thread."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.filesystem import needs_openat2, opener_of
from twisted_tftp.backends.filesystem.kernel_lookup import CachedOpener
from twisted_tftp.errors import AccessViolation, FileNotFound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root, with a secret beside it."""
    made = tmp_path / "root"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_bytes(b"content")
    (made / "inside").symlink_to("sub/file")
    (made / "absolute").symlink_to(made / "sub" / "file")
    (made / "outside").symlink_to("../secret")
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(made / "fifo")
    return made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def opened(opener: CachedOpener, path: str) -> int | None:
    """Find a file and open it."""
    found = opener.find(path)
    if found is None:
        return None
    try:
        return found.open()
    finally:
        found.close()


@needs_openat2
@pytest.mark.parametrize(
    "path", ["sub/file", "/sub/file", "//sub/./file", "inside", "sub/../inside"]
)
def test_what_is_in_memory_is_opened_at_once(root: Path, path: str) -> None:
    """A name just used is in the kernel's memory, also through links that stay inside."""
    os.stat(root / path.lstrip("/"))
    descriptor = opened(opener_of(root), path)
    assert descriptor is not None
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)


@pytest.mark.parametrize(
    "path", ["outside", "absolute", "../secret", "sub/../../secret", "../root/sub/file"]
)
def test_what_may_lead_outside_is_left_to_the_walk(root: Path, path: str) -> None:
    """Neither refused nor served: the walk can tell an absolute link that stays inside."""
    os.stat(root / path)
    before = descriptors()
    assert opened(opener_of(root), path) is None
    assert descriptors() == before


@needs_openat2
@pytest.mark.parametrize("path", ["fifo", "sub"])
def test_what_is_no_file_is_refused_without_blocking(root: Path, path: str) -> None:
    """A FIFO does not block, a directory is not served, and nothing stays open."""
    os.stat(root / path)
    before = descriptors()
    with pytest.raises(AccessViolation):
        opened(opener_of(root), path)
    assert descriptors() == before


@needs_openat2
def test_a_name_known_to_be_missing_is_refused_at_once(root: Path) -> None:
    """The kernel remembers missing names too."""
    assert not (root / "missing").exists()
    with pytest.raises(FileNotFound):
        opened(opener_of(root), "missing")


def test_a_root_that_is_replaced_is_seen(root: Path) -> None:
    """Each call starts from the root's name."""
    opener = opener_of(root)
    root.rename(root.parent / "old")
    assert opened(opener, "sub/file") is None


def test_without_the_system_call_everything_is_left_to_the_walk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older kernel is asked once."""
    calls: list[Any] = []

    def missing(*args: Any) -> int:
        calls.append(args)
        ctypes.set_errno(errno.ENOSYS)
        return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: SimpleNamespace(syscall=missing))
    opener = opener_of(root)
    assert opened(opener, "sub/file") is None
    assert opened(opener, "sub/file") is None
    assert len(calls) == 1


def test_elsewhere_than_on_linux_there_is_no_system_call(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything works through the walk."""
    monkeypatch.setattr("sys.platform", "darwin")
    assert opened(opener_of(root), "sub/file") is None


@needs_openat2
def test_a_fifo_is_not_even_opened(root: Path) -> None:
    """Who waits at the other end of a FIFO is not let through by a request for it."""
    os.stat(root / "fifo")
    with pytest.raises(AccessViolation):
        opened(opener_of(root), "fifo")
    # A FIFO that nobody reads can't be opened for writing without waiting; had the request
    # opened it, a writer that waits would have gone through. Watch who opens it.
    watch = ctypes.CDLL(None, use_errno=True)
    events = watch.inotify_init1(os.O_NONBLOCK)
    watch.inotify_add_watch(events, bytes(root / "fifo"), 0x20)  # IN_OPEN
    try:
        with pytest.raises(AccessViolation):
            opened(opener_of(root), "fifo")
        with pytest.raises(BlockingIOError):
            os.read(events, 4096)
        os.close(os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        assert os.read(events, 4096)
    finally:
        os.close(events)


def test_nothing_is_opened_before_the_file_system_is_known(root: Path) -> None:
    """The first request goes to a thread, which learns what the others may do."""
    os.stat(root / "sub" / "file")
    assert opened(CachedOpener(str(root)), "sub/file") is None


@pytest.mark.parametrize("kind", ["fuse.sshfs", "nfs4", "cifs", ""])
def test_a_file_system_that_may_wait_is_left_to_threads(root: Path, kind: str) -> None:
    """Networks and FUSE wait in open() itself, whatever is in memory."""
    os.stat(root / "sub" / "file")
    opener = CachedOpener(str(root), type_of=lambda device: kind)
    opener.learn()
    assert opened(opener, "sub/file") is None


@needs_openat2
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_another_file_system_at_the_root_is_noticed(root: Path) -> None:
    """What was learnt holds for one device only."""
    opener = opener_of(root)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (Path(other) / "sub").mkdir()
        (Path(other) / "sub" / "file").write_bytes(b"other")
        root.rename(root.parent / "old")
        root.symlink_to(other)
        assert os.stat(root).st_dev != os.stat(root.parent).st_dev
        assert opened(opener, "sub/file") is None
    root.unlink()
    (root.parent / "old").rename(root)
    os.stat(root / "sub" / "file")
    assert opened(opener, "sub/file") is None, "it has not looked at the root again"
    opener.learn()
    descriptor = opened(opener, "sub/file")
    assert descriptor is not None
    os.close(descriptor)


@needs_openat2
def test_file_that_may_not_be_read_is_left_to_the_walk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the way of opening it is found out there."""
    os.stat(root / "sub" / "file")
    opener = opener_of(root)

    def refused(*args: Any) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refused)
    before = descriptors()
    assert opened(opener, "sub/file") is None
    assert descriptors() == before
