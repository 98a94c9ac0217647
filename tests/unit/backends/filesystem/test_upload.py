"""Tests of temporary files: which of them the start of a server removes."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import error_of, request_context, upload
from tests.support.deferreds import value
from tests.support.served_root import deep_root as deep_root
from tests.support.served_root import temporary_files
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.backends.filesystem.leftovers import (
    MAX_AGE_WITHOUT_LOCKS,
    remove_temporary_files,
)
from twisted_tftp.errors import AccessViolation

#: The name of a temporary file.
STRAY = ".tftp-upload-0123456789abcdef"


def serving(root: Path, write: str = "overwrite") -> FilesystemBackend:
    return FilesystemBackend(str(root), write, in_thread=maybeDeferred)


def test_leftover_temporary_files_are_removed(tmp_path: Path) -> None:
    """They are removed in all directories, and no other file is."""
    (tmp_path / "sub" / "deeper").mkdir(parents=True)
    strays = [tmp_path / STRAY, tmp_path / "sub" / "deeper" / STRAY]
    others = [tmp_path / "file", tmp_path / ".tftp-upload-notes", tmp_path / (STRAY + "0")]
    for path in strays + others:
        path.write_bytes(b"x")
    assert remove_temporary_files(str(tmp_path)) == 2
    assert not any(path.exists() for path in strays)
    assert all(path.exists() for path in others)


def test_very_deep_tree_does_not_end_the_search(deep_root: Path) -> None:
    """The other files are found, and the start of the backend does not fail."""
    (deep_root / STRAY).write_bytes(b"x")
    assert remove_temporary_files(str(deep_root)) == 1
    assert value(serving(deep_root).start()) is None


def test_directory_fifo_and_link_are_not_removed(tmp_path: Path) -> None:
    """Something that is not a regular file stays, even with the name of a temporary file."""
    for number, make in enumerate((os.mkdir, os.mkfifo, lambda path: os.symlink("x", path))):
        make(tmp_path / (STRAY[:-1] + str(number)))
    (tmp_path / "x").write_bytes(b"x")
    assert remove_temporary_files(str(tmp_path)) == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    """Files outside the root are not removed."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / STRAY).write_bytes(b"x")
    (root / "link").symlink_to(outside)
    assert remove_temporary_files(str(root)) == 0
    assert (outside / STRAY).exists()


@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_running_upload_is_not_removed(write: str, tmp_path: Path) -> None:
    """A second server that starts on the same root leaves the temporary file of the first."""
    backend = serving(tmp_path, write)
    writer = value(backend.open_writer("new", request_context()))
    assert len(temporary_files(tmp_path)) == 1
    assert remove_temporary_files(str(tmp_path)) == 0
    value(writer.write(b"octets"))
    value(writer.commit())
    assert (tmp_path / "new").read_bytes() == b"octets"
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize(("write", "call"), [("create", "link"), ("overwrite", "rename")])
def test_upload_is_not_removed_during_its_commit(
    write: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is held until the file has its name, although the file was closed before."""
    take_place, removed = getattr(os, call), []

    def after_a_sweep(*args: Any, **kwargs: Any) -> None:
        removed.append(remove_temporary_files(str(tmp_path)))
        take_place(*args, **kwargs)

    monkeypatch.setattr(os, call, after_a_sweep)
    upload(serving(tmp_path, write), "new", b"octets")
    assert removed == [0]
    assert (tmp_path / "new").read_bytes() == b"octets"


def test_temporary_file_removed_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another server removes the file before it is locked, a new one is created."""
    lock, removed = fcntl.flock, []

    def after_a_sweep(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(0)
            removed.append(remove_temporary_files(str(tmp_path)))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_a_sweep)
    upload(serving(tmp_path), "new", b"octets")
    assert removed == [0, 1]
    assert (tmp_path / "new").read_bytes() == b"octets"


def test_without_locks_old_temporary_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks, files older than `MAX_AGE_WITHOUT_LOCKS` seconds are removed."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    writer = value(serving(tmp_path).open_writer("new", request_context()))
    (tmp_path / STRAY).write_bytes(b"x")
    os.utime(tmp_path / STRAY, (0, (tmp_path / STRAY).stat().st_mtime - MAX_AGE_WITHOUT_LOCKS - 1))
    assert remove_temporary_files(str(tmp_path)) == 1
    assert not (tmp_path / STRAY).exists()
    value(writer.commit())


def test_upload_can_not_have_the_name_of_a_temporary_file(tmp_path: Path) -> None:
    """A file of such a name would be removed at the next start, so it is refused."""
    backend = serving(tmp_path)
    assert isinstance(error_of(lambda: upload(backend, STRAY, b"x")), AccessViolation)
    assert list(tmp_path.iterdir()) == []


def test_read_only_server_removes_nothing(tmp_path: Path) -> None:
    """With the write mode `never` no temporary file is removed."""
    (tmp_path / STRAY).write_bytes(b"x")
    assert value(serving(tmp_path, "never").remove_unfinished_uploads()) == 0
    assert value(serving(tmp_path, "create").remove_unfinished_uploads()) == 1


@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_upload_that_could_not_be_made_durable_fails(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the directory can't be opened for its sync, the file does not get its name."""
    really = os.open

    def opening(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == ".":
            raise OSError(errno.EMFILE, "Too many open files")
        return really(path, *args, **kwargs)

    backend = serving(tmp_path, write)
    monkeypatch.setattr(os, "open", opening)
    assert error_of(lambda: upload(backend, "new", b"octets")).code == 0
    assert list(tmp_path.iterdir()) == []


def test_error_after_the_rename_does_not_fail_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error when the lock is released comes after the file has its name."""
    really, duplicates = os.close, []
    duplicate = os.dup

    def duplicating(descriptor: int) -> int:
        duplicates.append(duplicate(descriptor))
        return duplicates[-1]

    def closing(descriptor: int) -> None:
        really(descriptor)
        if descriptor in duplicates:
            duplicates.remove(descriptor)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "dup", duplicating)
    monkeypatch.setattr(os, "close", closing)
    upload(serving(tmp_path), "new", b"octets")
    assert (tmp_path / "new").read_bytes() == b"octets"
    assert duplicates == []
