"""Tests of the lookup with openat2: names in the kernel's cache are opened without a thread."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.backends import lookup_of, needs_openat2
from twisted_tftp.backends.filesystem import kernel_lookup
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup, OpenAt2
from twisted_tftp.errors import AccessViolation, FileNotFound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root, and a file beside it that must not be found."""
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


def opened(lookup: KernelLookup, path: str) -> int | None:
    """Find a file and open it."""
    found = lookup.find(path)
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
def test_cached_name_is_opened_at_once(root: Path, path: str) -> None:
    """A name that was just used is found, also through links that stay inside the root."""
    os.stat(root / path.lstrip("/"))
    descriptor = opened(lookup_of(root), path)
    assert descriptor is not None
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)


@pytest.mark.parametrize(
    "path", ["outside", "absolute", "../secret", "sub/../../secret", "../root/sub/file"]
)
def test_path_that_may_leave_the_root_is_left_to_the_path_walk(root: Path, path: str) -> None:
    """The lookup neither finds it nor raises an error: the path walk decides."""
    os.stat(root / path)
    before = descriptors()
    assert opened(lookup_of(root), path) is None
    assert descriptors() == before


@needs_openat2
@pytest.mark.parametrize("path", ["fifo", "sub"])
def test_fifo_and_directory_are_refused_without_blocking(root: Path, path: str) -> None:
    """The lookup raises AccessViolation and leaves nothing open."""
    os.stat(root / path)
    before = descriptors()
    with pytest.raises(AccessViolation):
        opened(lookup_of(root), path)
    assert descriptors() == before


@needs_openat2
def test_missing_name_in_the_kernel_cache_is_refused_at_once(root: Path) -> None:
    """The kernel caches missing names too."""
    assert not (root / "missing").exists()
    with pytest.raises(FileNotFound):
        opened(lookup_of(root), "missing")


def test_replaced_root_is_noticed(root: Path) -> None:
    """Each lookup starts from the name of the root."""
    lookup = lookup_of(root)
    root.rename(root.parent / "old")
    assert opened(lookup, "sub/file") is None


@pytest.mark.parametrize("is_in_c", [False, True])
def test_kernel_without_openat2_is_asked_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_in_c: bool
) -> None:
    """After ENOSYS all lookups are left to the path walk, and the file system is not detected."""
    calls: list[Any] = []

    def missing(*args: Any) -> int:
        calls.append(args)
        ctypes.set_errno(errno.ENOSYS)
        return -1

    def missing_in_c(*args: Any) -> int:
        calls.append(args)
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: SimpleNamespace(syscall=missing))
    monkeypatch.setattr(kernel_lookup, "_find_beneath_in_c", missing_in_c if is_in_c else None)
    lookup = lookup_of(root)
    assert opened(lookup, "sub/file") is None
    lookup.detect_file_system()
    assert opened(lookup, "sub/file") is None
    assert lookup.directory_status("sub") is None
    assert len(calls) == 1


@needs_openat2
def test_function_in_c_is_used_if_it_was_built(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the root, the name and the device, and returns what the one in Python returns."""
    calls: list[tuple[bytes, bytes, int]] = []

    def find_beneath(root: bytes, name: bytes, device: int) -> Any:
        calls.append((root, name, device))
        return OpenAt2().find_beneath(root, name, device)

    monkeypatch.setattr(kernel_lookup, "_find_beneath_in_c", find_beneath)
    os.stat(root / "sub" / "file")
    descriptor = opened(lookup_of(root), "/sub/file")
    assert descriptor is not None
    os.close(descriptor)
    assert calls == [(bytes(root), b"sub/file", os.stat(root).st_dev)]


def test_other_systems_than_linux_use_the_path_walk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lookup finds nothing there, and raises nothing."""
    monkeypatch.setattr("sys.platform", "darwin")
    assert opened(lookup_of(root), "sub/file") is None


@needs_openat2
def test_fifo_is_not_opened(root: Path) -> None:
    """A process that waits for a reader of the FIFO is not woken by a request."""
    os.stat(root / "fifo")
    with pytest.raises(AccessViolation):
        opened(lookup_of(root), "fifo")
    # A process that opens a FIFO for writing waits until another one opens it for reading. A
    # request must not be that other one, so watch whether it opens the FIFO.
    watch = ctypes.CDLL(None, use_errno=True)
    events = watch.inotify_init1(os.O_NONBLOCK)
    watch.inotify_add_watch(events, bytes(root / "fifo"), 0x20)  # IN_OPEN
    try:
        with pytest.raises(AccessViolation):
            opened(lookup_of(root), "fifo")
        with pytest.raises(BlockingIOError):
            os.read(events, 4096)
        os.close(os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        assert os.read(events, 4096)
    finally:
        os.close(events)


def test_nothing_is_found_before_the_type_of_the_file_system_is_known(root: Path) -> None:
    """The first request is left to a thread, which detects the type of the file system."""
    os.stat(root / "sub" / "file")
    assert opened(KernelLookup(str(root)), "sub/file") is None


@pytest.mark.parametrize("kind", ["fuse.sshfs", "nfs4", "cifs", ""])
def test_network_and_fuse_file_systems_are_left_to_threads(root: Path, kind: str) -> None:
    """Their open() may wait, even if the name is in the kernel's cache."""
    os.stat(root / "sub" / "file")
    lookup = KernelLookup(str(root), type_of=lambda device: kind)
    lookup.detect_file_system()
    assert opened(lookup, "sub/file") is None


@needs_openat2
@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_another_file_system_at_the_root_is_noticed(root: Path) -> None:
    """Nothing is found on another device until the type of its file system was detected."""
    lookup = lookup_of(root)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (Path(other) / "sub").mkdir()
        (Path(other) / "sub" / "file").write_bytes(b"other")
        root.rename(root.parent / "old")
        root.symlink_to(other)
        assert os.stat(root).st_dev != os.stat(root.parent).st_dev
        assert opened(lookup, "sub/file") is None
    root.unlink()
    (root.parent / "old").rename(root)
    os.stat(root / "sub" / "file")
    assert opened(lookup, "sub/file") is None, "it has not looked at the root again"
    lookup.detect_file_system()
    descriptor = opened(lookup, "sub/file")
    assert descriptor is not None
    os.close(descriptor)


@needs_openat2
def test_unreadable_file_is_left_to_the_path_walk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lookup leaves nothing open when the open fails."""
    os.stat(root / "sub" / "file")
    lookup = lookup_of(root)

    def refused(*args: Any) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refused)
    before = descriptors()
    assert opened(lookup, "sub/file") is None
    assert descriptors() == before
