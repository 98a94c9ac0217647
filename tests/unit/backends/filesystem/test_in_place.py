"""Tests of uploads into files that can't be replaced: their content is copied as a whole."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import content, error_of, open_paths, request_context, upload
from tests.support.deferreds import value
from twisted_tftp.backends.filesystem import in_place
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.errors import (
    AccessViolation,
    DiskFull,
    ErrorCode,
    FileAlreadyExists,
)

#: The content of a file before an upload.
OLD = b"old content" * 100

#: The content of a file that must not change.
SECRET = b"SECRET"

#: An ordinary user.
NOBODY = 65534


class Tree:
    """A root with a directory in which the process may write files, but make none.

    @ivar root: the root; it may be written.
    @ivar closed: the directory.
    @ivar file: a file in it.
    @ivar spools: the system's folder of temporary files.
    """

    def __init__(self, top: Path) -> None:
        self.top, self.root, self.closed = top, top / "root", top / "root" / "closed"
        self.file, self.spools = self.closed / "file", top / "spools"
        for directory in (self.top, self.root, self.closed, self.spools):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o777)
        for file, octets in ((self.file, OLD), (top / "secret", SECRET)):
            file.write_bytes(octets)
            file.chmod(0o666)
        self.closed.chmod(0o555)

    def as_owner(self, change: Callable[[], Any]) -> None:
        """Change something in the closed directory."""
        was = os.geteuid()
        os.seteuid(os.getuid())
        self.closed.chmod(0o777)
        change()
        self.closed.chmod(0o555)
        os.seteuid(was)

    def names(self) -> list[str]:
        """Return the paths of all files."""
        return sorted(str(path.relative_to(self.top)) for path in self.top.rglob("*"))


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    """Make a tree, and run the test with the rights of an ordinary user."""
    top = Path(tempfile.mkdtemp())
    made = Tree(top)
    monkeypatch.setattr(tempfile, "tempdir", str(made.spools))
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    before = made.names()
    try:
        yield made
        assert open_paths(top) == []
        assert set(made.names()) <= {*before, "root/closed/other"}
        assert (top / "secret").read_bytes() == SECRET
    finally:
        os.seteuid(os.getuid())
        for directory in (made.root, made.closed):
            directory.chmod(0o777)
        shutil.rmtree(top)


def serving(tree: Tree, write: str = "overwrite", **options: Any) -> FilesystemBackend:
    return FilesystemBackend(str(tree.root), write, in_thread=maybeDeferred, **options)


def spool_in_root(tree: Tree) -> None:
    """Let the root be writable, and no other folder."""
    os.seteuid(os.getuid())
    tree.spools.chmod(0o555)
    os.seteuid(NOBODY if os.getuid() == 0 else os.getuid())


def spool_in_system_folder(tree: Tree) -> None:
    """Let the system's folder of temporary files be writable, and not the root."""
    os.seteuid(os.getuid())
    tree.root.chmod(0o555)
    os.seteuid(NOBODY if os.getuid() == 0 else os.getuid())


@pytest.mark.parametrize("spool", [spool_in_root, spool_in_system_folder])
@pytest.mark.parametrize("octets", [b"new", b"", OLD * 2], ids=len)
def test_file_in_a_read_only_directory_is_overwritten_in_place(
    tree: Tree, octets: bytes, spool: Callable[[Tree], None]
) -> None:
    """It stays the same file with the same mode; its content is that of the upload."""
    spool(tree)
    before = tree.file.stat()
    upload(serving(tree), "closed/file", octets)
    assert tree.file.read_bytes() == octets
    after = tree.file.stat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (
        before.st_ino,
        before.st_mode,
        before.st_uid,
    )
    assert content(value(serving(tree).open_reader("closed/file", request_context()))) == octets


def test_large_upload_is_copied_whole(tree: Tree) -> None:
    """It is larger than one piece of the copy."""
    octets = os.urandom(3 * in_place.COPY_SIZE + 17)
    upload(serving(tree), "closed/file", octets)
    assert tree.file.read_bytes() == octets


def test_file_is_unchanged_until_the_commit(tree: Tree) -> None:
    """Octets that have arrived are not in the file, and an abort leaves it as it was."""
    writer = value(serving(tree).open_writer("closed/file", request_context()))
    for _ in range(3):
        value(writer.write(bytes(1 << 20)))
    # This may change the time of the last access, so it comes first.
    assert tree.file.read_bytes() == OLD
    before = tree.file.stat()
    value(writer.abort())
    assert tree.file.stat()[:] == before[:]
    assert tree.file.read_bytes() == OLD


def test_create_does_not_overwrite_in_place(tree: Tree) -> None:
    """Only --write overwrite changes an existing file."""
    error = error_of(lambda: upload(serving(tree, "create"), "closed/file", b"x"))
    assert isinstance(error, FileAlreadyExists)
    assert tree.file.read_bytes() == OLD


@pytest.mark.parametrize("make_dirs", [False, True])
@pytest.mark.parametrize("path", ["closed/new", "closed/new/file"])
def test_new_file_in_a_read_only_directory_is_refused(
    tree: Tree, path: str, make_dirs: bool
) -> None:
    """The request is refused, before any octet was sent."""
    backend = serving(tree, make_dirs=make_dirs)
    error = error_of(lambda: backend.open_writer(path, request_context()))
    is_refused_by_permission = make_dirs or path == "closed/new"
    assert error.code is (
        ErrorCode.ACCESS_VIOLATION if is_refused_by_permission else ErrorCode.FILE_NOT_FOUND
    )


@pytest.mark.parametrize("kind", ["two links", "set-user-ID", "set-group-ID", "read-only"])
def test_file_that_is_not_safe_to_overwrite_is_refused(tree: Tree, kind: str) -> None:
    """The request is refused: another name of the file may be outside the root, for instance."""

    def change() -> None:
        if kind == "two links":
            os.link(tree.file, tree.closed / "other")
        else:
            modes = {"set-user-ID": 0o4666, "set-group-ID": 0o2666, "read-only": 0o444}
            tree.file.chmod(modes[kind])

    reasons = {
        "two links": "is not writable by uid .*; the file has 2 hard links",
        "read-only": "^not writable by uid .* .mode 444",
    }
    tree.as_owner(change)
    error = error_of(lambda: serving(tree).open_writer("closed/file", request_context()))
    assert isinstance(error, AccessViolation)
    assert re.search(reasons.get(kind, "a set-user-ID or set-group-ID bit"), error.detail)
    assert tree.file.read_bytes() == OLD


def replace_by(tree: Tree, kind: str) -> None:
    """Replace the file by something that must not be written."""
    tree.file.unlink()
    if kind == "link":
        tree.file.symlink_to("../../secret")
    elif kind == "link inside":
        tree.file.symlink_to("other")
        (tree.closed / "other").write_bytes(SECRET)
    elif kind == "hard link":
        os.link(tree.top / "secret", tree.file)
    elif kind == "fifo":
        os.mkfifo(tree.file)
    elif kind == "directory":
        tree.file.mkdir()
    elif kind == "set-user-ID":
        tree.file.write_bytes(OLD)
        tree.file.chmod(0o4666)
    else:
        os.mknod(tree.file, stat.S_IFCHR | 0o666, os.makedev(1, 3))


KINDS = ["link", "link inside", "hard link", "fifo", "directory", "set-user-ID"]
if os.getuid() == 0:
    KINDS.append("device")  # only root can make one


@pytest.mark.parametrize("moment", ["before the commit", "before the open"])
@pytest.mark.parametrize("kind", KINDS)
def test_file_replaced_during_the_upload_is_not_followed(
    tree: Tree, kind: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened at the commit is checked again."""
    writer = value(serving(tree).open_writer("closed/file", request_context()))
    value(writer.write(b"new"))
    if moment == "before the commit":
        tree.as_owner(lambda: replace_by(tree, kind))
    else:
        real, pending = os.open, [tree]

        def replaced(path: Any, *args: Any, **kwargs: Any) -> int:
            if path == b"file" and pending:
                pending.pop()
                tree.as_owner(lambda: replace_by(tree, kind))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", replaced)
    error = error_of(writer.commit)
    value(writer.abort())
    assert error.code in (ErrorCode.ACCESS_VIOLATION, ErrorCode.FILE_NOT_FOUND)
    if kind == "link inside":
        assert (tree.closed / "other").read_bytes() == SECRET


def test_fifo_or_device_in_place_of_the_file_is_not_opened(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the open of a device can have effects."""
    writer = value(serving(tree).open_writer("closed/file", request_context()))
    tree.as_owner(lambda: replace_by(tree, "fifo"))
    opened: list[Any] = []
    real = os.open

    def noting(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noting)
    assert isinstance(error_of(writer.commit), AccessViolation)
    assert b"file" not in opened
    value(writer.abort())


def test_without_space_the_file_is_unchanged(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The space is reserved before the first octet is copied."""

    def full(descriptor: int, offset: int, size: int) -> None:
        os.ftruncate(descriptor, size)  # it has already got a part of it
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    error = error_of(lambda: upload(serving(tree), "closed/file", OLD * 3))
    assert isinstance(error, DiskFull)
    assert tree.file.read_bytes() == OLD


def reserve_nothing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let each reservation of space fail, as on a file system that has none."""

    def fail(descriptor: int, offset: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", fail)


#: The errors of posix_fallocate() if the file system has no reservations. The GNU C library then
#: tries to read the file, which is open for writing only.
each_missing_reservation = pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EBADF])


@each_missing_reservation
@pytest.mark.parametrize("octets", [b"", b"new", OLD * 3], ids=len)
def test_file_system_that_reserves_no_space_is_written(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, code: int, octets: bytes
) -> None:
    """The space is taken by writing zeros behind the old end."""
    reserve_nothing(monkeypatch, code)
    upload(serving(tree), "closed/file", octets)
    assert tree.file.read_bytes() == octets


@each_missing_reservation
def test_full_disk_that_reserves_no_space_leaves_the_file(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """No old octet is overwritten before all new ones have their space."""
    reserve_nothing(monkeypatch, code)
    write = os.pwrite

    def write_less(descriptor: int, octets: bytes, offset: int) -> int:
        if offset + len(octets) > 2 * len(OLD):
            octets = octets[: 2 * len(OLD) - offset]
        if not octets:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, octets, offset)

    monkeypatch.setattr(os, "pwrite", write_less)
    error = error_of(lambda: upload(serving(tree), "closed/file", b"x" * len(OLD) * 3))
    assert isinstance(error, DiskFull)
    assert tree.file.read_bytes() == OLD


#: Overwrite a file of the directory in the first argument in place.
OVERWRITE = """
import os, sys
from twisted_tftp.backends.filesystem.in_place import open_nameless, overwrite
from twisted_tftp.backends.filesystem.path_walk import resolve
root = sys.argv[1]
file = os.path.join(root, "file")
for old, new in ((100, 10000), (10000, 100), (0, 10000)):
    with open(file, "wb") as stream:
        stream.write(b"o" * old)
    source = open_nameless(root)
    os.write(source, b"n" * new)
    with resolve(root, "file") as target:
        overwrite(source, target)
    with open(file, "rb") as stream:
        assert stream.read() == b"n" * new
"""


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="needs a mount")
def test_real_file_system_that_reserves_no_space_is_written(tmp_path: Path) -> None:
    """A ramfs is one, like many network file systems."""
    mounted = 'mount -t ramfs none "$0" && exec "$@"'
    command = ["sh", "-c", mounted, tmp_path, sys.executable, "-c", OVERWRITE, tmp_path]
    subprocess.run(["unshare", "--mount", *command], check=True, timeout=60)


@pytest.mark.parametrize("octets", [b"", b"new", OLD, OLD * 3], ids=len)
def test_file_system_whose_reservation_is_emulated_is_written(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, octets: bytes
) -> None:
    """The C library then reads what the file has, which the descriptor does not allow."""

    def emulated(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "posix_fallocate", emulated)
    upload(serving(tree), "closed/file", octets)
    assert tree.file.read_bytes() == octets


def test_without_a_folder_for_the_upload_it_is_refused(tree: Tree) -> None:
    """The reason is that of the directory: the client can do nothing about the others."""
    spool_in_root(tree)
    spool_in_system_folder(tree)
    error = error_of(lambda: serving(tree).open_writer("closed/file", request_context()))
    assert isinstance(error, AccessViolation)
    assert "no temporary file can be created elsewhere" in error.detail
    assert tree.file.read_bytes() == OLD


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_error_after_the_temporary_file_is_created_fails_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It does not mean that the directory may not be written, so nothing is stored elsewhere.

    The temporary file would stay open, and an empty file would take the place of the old one.
    """
    (tmp_path / "file").write_bytes(OLD)
    backend = FilesystemBackend(str(tmp_path), "overwrite", in_thread=maybeDeferred)

    real = os.fstat

    def refuse_once(descriptor: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", real)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fstat", refuse_once)
    error = error_of(lambda: upload(backend, "file", b"new"))
    assert isinstance(error, AccessViolation)
    assert (tmp_path / "file").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["file"]
    assert open_paths(tmp_path) == []


def test_announced_size_above_the_free_space_is_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space is that of the folder in which the upload is stored first."""
    backend = serving(tree)
    error = error_of(lambda: backend.open_writer("closed/file", request_context(1 << 60)))
    assert isinstance(error, DiskFull)


def test_quota_holds_for_uploads_in_place(tree: Tree) -> None:
    """Uploads that are stored elsewhere first count as they arrive."""
    backend = serving(tree, quota=len(OLD) + 100)
    error = error_of(lambda: upload(backend, "closed/file", bytes(101)))
    assert isinstance(error, DiskFull)
    assert tree.file.read_bytes() == OLD
    upload(backend, "closed/file", bytes(100))
    assert tree.file.read_bytes() == bytes(100)


def test_copy_is_durable_before_the_commit_ends(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is synced after its last change."""
    calls: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            calls.append(name)
            return real(*args)

        return call

    for name in ("pwrite", "ftruncate", "fsync"):
        monkeypatch.setattr(os, name, noting(name))
    upload(serving(tree), "closed/file", b"new")
    assert calls == ["pwrite", "ftruncate", "fsync"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EACCES])
def test_file_that_cannot_be_replaced_by_a_rename_is_overwritten_in_place(
    tree: Tree, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is a mount of its own, for instance; no temporary file remains."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    (tree.root / "file").write_bytes(OLD)
    inode = (tree.root / "file").stat().st_ino
    monkeypatch.setattr(os, "rename", refused)
    upload(serving(tree), "file", b"new")
    assert (tree.root / "file").read_bytes() == b"new"
    assert (tree.root / "file").stat().st_ino == inode
    error = error_of(lambda: upload(serving(tree), "new", b"new"))
    assert error.code in (ErrorCode.NOT_DEFINED, ErrorCode.ACCESS_VIOLATION)
    (tree.root / "file").unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_file_of_another_user_in_a_sticky_directory_is_overwritten_in_place(tree: Tree) -> None:
    """Everybody may make files there, and only the owner may replace one."""
    tree.as_owner(lambda: None)
    os.seteuid(0)
    sticky = tree.root / "closed"
    sticky.chmod(0o1777)
    os.seteuid(NOBODY)
    upload(serving(tree), "closed/file", b"new")
    assert tree.file.read_bytes() == b"new"
    assert os.listdir(sticky) == ["file"]


def test_copies_into_one_file_wait_for_each_other(tree: Tree) -> None:
    """While another upload is copied, the file is locked."""
    with open(tree.file, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.1, fcntl.flock, (other, fcntl.LOCK_UN)).start()
        upload(serving(tree), "closed/file", b"new")
    assert tree.file.read_bytes() == b"new"


def test_file_that_stays_locked_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread does not wait for ever, and the file is unchanged."""
    monkeypatch.setattr(in_place, "LOCK_WAIT", 0.1)
    with open(tree.file, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        error = error_of(lambda: upload(serving(tree), "closed/file", b"new"))
    assert isinstance(error, AccessViolation)
    assert tree.file.read_bytes() == OLD


def test_file_system_without_locks_is_written(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing keeps two copies apart."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    upload(serving(tree), "closed/file", b"new")
    assert tree.file.read_bytes() == b"new"


def test_error_during_the_copy_is_reported(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client learns that the upload has failed, and no descriptor stays open."""

    def broken(*args: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    assert error_of(lambda: upload(serving(tree), "closed/file", b"new")).code == 0
