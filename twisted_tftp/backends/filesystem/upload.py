"""Keep an upload in a temporary file until it takes its target's place, whole or not at all.

Everything here may block. What a crash leaves behind can be told by its name, and by the lock that
its writer held, which the system lets go with the process: `sweep` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from twisted_tftp.backends.filesystem.path_walk import Place, find
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.naming import is_temporary, temporary_name
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists

#: Seconds after which a temporary file was left behind by a crash, where the file system has no
#: locks to tell.
FORGOTTEN = 24 * 3600.0

#: What a file system without hard links answers to link().
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

#: Buffers that one system call takes.
IOV_MAX = 1024


class Upload:
    """A temporary file that will take its target's place; everything here may block.

    @ivar discarded: `discard` was called.
    """

    def __init__(
        self, root: str, path: str, replace: bool, size: int, quota: Quota | None = None
    ) -> None:
        """Create the temporary file.

        @param replace: whether a file that is there may be replaced.
        @param size: octets that the client has announced, or 0.
        @param quota: what the root may have in all, or None for no bound.
        @raise FileAlreadyExists: the file exists and may not be replaced.
        @raise AccessViolation: what has the name can't be replaced by a file.
        @raise DiskFull: there is no room for `size` octets.
        """
        self.discarded = False
        self._replace = replace
        self._quota = quota
        self._size = 0
        self._place: Place = find(root, path)
        try:
            if is_temporary(os.fsdecode(self._place.name)):
                raise AccessViolation("that name is not for uploads")
            mode = self._check_target()
            space = os.fstatvfs(self._place.directory)
            if size > space.f_bavail * space.f_frsize:
                raise DiskFull("there is no room for a file of that size")
            if quota is not None:
                quota.check(size)
            self._create()
        except BaseException:
            self._place.close()
            raise
        if mode is not None:
            # Some file systems know no modes (vfat).
            with contextlib.suppress(OSError):
                os.fchmod(self._descriptor, mode)

    def _create(self) -> None:
        """Create a temporary file, and lock it: it is no stray one as long as we live."""
        while True:
            self._temporary = temporary_name()
            self._descriptor = os.open(
                self._temporary,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o666,
                dir_fd=self._place.directory,
            )
            # Where there are no locks its age will tell.
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            # Another server that starts may have swept it away in between.
            if os.fstat(self._descriptor).st_nlink:
                return
            self._close()

    def _check_target(self) -> int | None:
        """Return the mode of the file to be replaced, None where there is none."""
        place = self._place
        try:
            status = place.stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise AccessViolation("not a regular file")
        if not self._replace:
            raise FileAlreadyExists()
        # A rename asks for the directory's permission only; the file's own counts here too.
        if not os.access(place.name, os.W_OK, dir_fd=place.directory, effective_ids=True):
            raise AccessViolation("the file is read-only")
        return status.st_mode & 0o777

    def write(self, pieces: list[bytes]) -> None:
        """Append to the temporary file.

        @raise DiskFull: the quota is used up.
        """
        if self._quota is not None:
            octets = sum(map(len, pieces))
            self._quota.hold(octets)
            self._size += octets
        for first in range(0, len(pieces), IOV_MAX):
            some = pieces[first : first + IOV_MAX]
            written = os.writev(self._descriptor, some)
            if written < sum(map(len, some)):  # as a signal or a full disk may have it
                rest = memoryview(b"".join(some))[written:]
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]

    def commit(self, rest: list[bytes]) -> None:
        """Append `rest`, make the file durable, and put it in its place at once.

        Once it is there nothing is a failure any more: the client must not be told of one.
        """
        self.write(rest)
        os.fsync(self._descriptor)
        directory = self._open_directory()
        try:
            with self._still_locked():
                # Before the rename: some file systems tell of a failed write here only.
                self._close()
                replaced = self._size_of_target()
                self._take_place()
            if self._quota is not None:
                self._quota.commit(self._size, replaced)
                self._size = 0
            with contextlib.suppress(OSError):
                if directory >= 0:
                    os.fsync(directory)  # makes the new name durable
        finally:
            if directory >= 0:
                with contextlib.suppress(OSError):
                    os.close(directory)
        with contextlib.suppress(OSError):
            self._place.close()

    @contextlib.contextmanager
    def _still_locked(self) -> Iterator[None]:
        """Hold the lock while the file is closed: until it has its name it could be swept."""
        try:
            lock = os.dup(self._descriptor)
        except OSError:
            lock = -1  # no descriptor is left: nobody starts in this very moment
        try:
            yield
        finally:
            if lock >= 0:
                with contextlib.suppress(OSError):  # the file is closed, and well
                    os.close(lock)

    def _size_of_target(self) -> int:
        try:
            return self._place.stat().st_size
        except OSError:
            return 0

    def _take_place(self) -> None:
        """Put the file in its place."""
        place, temporary = self._place, self._temporary
        if self._replace:
            self._rename()
        else:
            try:
                os.link(
                    temporary,
                    place.name,
                    src_dir_fd=place.directory,
                    dst_dir_fd=place.directory,
                    follow_symlinks=False,
                )
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._take_name()
            else:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=place.directory)

    def discard(self) -> None:
        """Remove the temporary file."""
        self.discarded = True
        if self._quota is not None:
            self._quota.release(self._size)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._place.directory)
        finally:
            try:
                self._close()
            finally:
                self._place.close()

    def _rename(self) -> None:
        directory = self._place.directory
        os.rename(self._temporary, self._place.name, src_dir_fd=directory, dst_dir_fd=directory)

    def _take_name(self) -> None:
        """Take a free name where there are no hard links (vfat): an empty file, then a rename.

        The empty file can be seen for a moment; a crash in that moment leaves it.

        @raise FileExistsError: the name is taken.
        """
        place = self._place
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(place.name, flags, 0o666, dir_fd=place.directory))
        try:
            self._rename()
        except BaseException:
            os.unlink(place.name, dir_fd=place.directory)
            raise

    def _close(self) -> None:
        # Closed or not, a descriptor that close() was called for is not ours any more.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open_directory(self) -> int:
        """Open the directory, to sync it; return -1 where it may be written and not be read.

        Before the file has its name: without a descriptor for this an upload would not be durable,
        and it can still fail.
        """
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            return os.open(".", flags, dir_fd=self._place.directory)
        except PermissionError:
            return -1


def sweep(root: str) -> int:
    """Remove the temporary files beneath `root` that nobody writes to; return how many there were.

    What can't be looked at or removed stays.
    """
    swept = 0
    for _, _, names, directory in os.fwalk(root, follow_symlinks=False):
        for name in names:
            if is_temporary(name):
                with contextlib.suppress(OSError):
                    swept += _sweep_one(name, directory)
    return swept


def _sweep_one(name: str, directory: int) -> bool:
    """Remove the temporary file `name`, if it is a stray one; return whether it was."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # another server writes it
        except OSError:
            if time.time() - status.st_mtime < FORGOTTEN:
                return False
        os.unlink(name, dir_fd=directory)
        return True
    finally:
        os.close(descriptor)
