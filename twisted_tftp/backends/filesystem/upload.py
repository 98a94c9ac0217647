"""Write an upload to a temporary file, which gets the name of its target when it is complete.

All functions here may block. If the process crashes, the temporary file remains, and the next
start removes it (L{remove_temporary_files}). A running upload has a lock on its file, so that the
start of another server does not remove it. The system releases the locks of a process that has
ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from twisted_tftp.backends.filesystem.path_walk import ResolvedName
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.naming import is_temporary, temporary_name
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists

#: The age above which a temporary file is removed if the file system has no locks, in seconds.
MAX_AGE_WITHOUT_LOCKS = 24 * 3600.0

#: The errors of link() on file systems without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

#: The most buffers of one system call.
IOV_MAX = 1024


class Upload:
    """The temporary file of an upload. All methods may block.

    @ivar is_discarded: whether L{discard} was called.
    """

    def __init__(
        self, target: ResolvedName, replace: bool, size: int, quota: Quota | None = None
    ) -> None:
        """Create the temporary file.

        @param target: the name that the file gets; the upload closes it.
        @param replace: whether an existing file may be replaced.
        @param size: the octets that the client has announced, or 0.
        @param quota: the limit of all files below the root; None for no limit.
        @raise FileAlreadyExists: the file exists and may not be replaced.
        @raise AccessViolation: the name is that of a directory, a device or a read-only file.
        @raise DiskFull: there is no room for `size` octets.
        """
        self.is_discarded = False
        self._replace = replace
        self._quota = quota
        self._size = 0
        self._target = target
        try:
            if is_temporary(os.fsdecode(self._target.name)):
                raise AccessViolation("that name is not for uploads")
            mode = self._check_target()
            space = os.fstatvfs(self._target.directory)
            if size > space.f_bavail * space.f_frsize:
                raise DiskFull("there is no room for a file of that size")
            if quota is not None:
                quota.check(size)
            self._create()
        except BaseException:
            self._target.close()
            raise
        if mode is not None:
            # Some file systems have no file modes (vfat).
            with contextlib.suppress(OSError):
                os.fchmod(self._descriptor, mode)

    def _create(self) -> None:
        """Create a temporary file and lock it, so that no other process removes it."""
        while True:
            self._temporary = temporary_name()
            self._descriptor = os.open(
                self._temporary,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o666,
                dir_fd=self._target.directory,
            )
            # On a file system without locks, the age of the file protects it.
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            # Another server may have removed the file before it was locked.
            if os.fstat(self._descriptor).st_nlink:
                return
            self._close()

    def _check_target(self) -> int | None:
        """Return the mode of the file that will be replaced; None if there is no such file."""
        target = self._target
        try:
            status = target.stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise AccessViolation("not a regular file")
        if not self._replace:
            raise FileAlreadyExists()
        # A rename needs write permission for the directory only; require it for the file too.
        if not os.access(target.name, os.W_OK, dir_fd=target.directory, effective_ids=True):
            raise AccessViolation("the file is read-only")
        return status.st_mode & 0o777

    def write(self, pieces: list[bytes]) -> None:
        """Append to the temporary file.

        @raise DiskFull: the quota is used up.
        """
        if self._quota is not None:
            octets = sum(map(len, pieces))
            self._quota.reserve(octets)
            self._size += octets
        for first in range(0, len(pieces), IOV_MAX):
            some = pieces[first : first + IOV_MAX]
            written = os.writev(self._descriptor, some)
            if written < sum(map(len, some)):  # after a signal, or if the disk is almost full
                rest = memoryview(b"".join(some))[written:]
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]

    def commit(self, rest: list[bytes]) -> None:
        """Append `rest`, make the file durable, and give it its name.

        Once the file has its name, errors are ignored: the client must not be told that the upload
        has failed.
        """
        self.write(rest)
        os.fsync(self._descriptor)
        directory = self._open_directory()
        try:
            with self._keep_lock():
                # Close it before the rename: some file systems report a failed write only here.
                self._close()
                replaced = self._size_of_target()
                self._give_name()
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
            self._target.close()

    @contextlib.contextmanager
    def _keep_lock(self) -> Iterator[None]:
        """Keep the lock after the file is closed: until it has its name, it could be removed."""
        try:
            lock = os.dup(self._descriptor)
        except OSError:
            lock = -1  # no descriptor is left; another server seldom starts at this moment
        try:
            yield
        finally:
            if lock >= 0:
                with contextlib.suppress(OSError):  # the file itself was closed without error
                    os.close(lock)

    def _size_of_target(self) -> int:
        try:
            return self._target.stat().st_size
        except OSError:
            return 0

    def _give_name(self) -> None:
        """Give the temporary file the name of the target."""
        target, temporary = self._target, self._temporary
        if self._replace:
            self._rename()
        else:
            try:
                os.link(
                    temporary,
                    target.name,
                    src_dir_fd=target.directory,
                    dst_dir_fd=target.directory,
                    follow_symlinks=False,
                )
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._give_name_without_links()
            else:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=target.directory)

    def discard(self) -> None:
        """Remove the temporary file."""
        self.is_discarded = True
        if self._quota is not None:
            self._quota.release(self._size)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._target.directory)
        finally:
            try:
                self._close()
            finally:
                self._target.close()

    def _rename(self) -> None:
        directory = self._target.directory
        os.rename(self._temporary, self._target.name, src_dir_fd=directory, dst_dir_fd=directory)

    def _give_name_without_links(self) -> None:
        """Give the temporary file its name if that is free, without hard links (as on vfat).

        An empty file with the name is created, and then replaced by a rename. It is visible for a
        moment; after a crash in that moment it remains.

        @raise FileExistsError: the name is not free.
        """
        target = self._target
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(target.name, flags, 0o666, dir_fd=target.directory))
        try:
            self._rename()
        except BaseException:
            os.unlink(target.name, dir_fd=target.directory)
            raise

    def _close(self) -> None:
        # Even if close() fails, the descriptor must not be used any more.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open_directory(self) -> int:
        """Open the directory to sync it; return -1 if this process may not read it.

        This is called before the file gets its name: if no descriptor is left, the upload fails,
        because it could not be made durable.
        """
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            return os.open(".", flags, dir_fd=self._target.directory)
        except PermissionError:
            return -1


def remove_temporary_files(root: str) -> int:
    """Remove the temporary files below `root` that no process writes; return their number.

    Errors are ignored: a file that cannot be checked or removed stays.
    """
    removed = 0
    for _, _, names, directory in os.fwalk(root, follow_symlinks=False):
        for name in names:
            if is_temporary(name):
                with contextlib.suppress(OSError):
                    removed += _remove_if_unused(name, directory)
    return removed


def _remove_if_unused(name: str, directory: int) -> bool:
    """Remove the temporary file `name` if no process writes it; return whether it was removed."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # a process writes it
        except OSError:
            if time.time() - status.st_mtime < MAX_AGE_WITHOUT_LOCKS:
                return False
        os.unlink(name, dir_fd=directory)
        return True
    finally:
        os.close(descriptor)
