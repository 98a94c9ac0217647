"""Write an upload to a temporary file, which gets the name of its target when it is complete.

All functions here may block. If the process crashes, the temporary file remains, and the next
start removes it (L{twisted_tftp.backends.filesystem.leftovers}). A running upload has a lock on
its file, so that the start of another server does not remove it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass

from twisted_tftp.backends.filesystem import explain
from twisted_tftp.backends.filesystem.destination import Destination
from twisted_tftp.backends.filesystem.in_place import (
    is_read_only_directory,
    open_nameless,
    overwrite,
    why_not_in_place,
)
from twisted_tftp.backends.filesystem.path_walk import ResolvedName
from twisted_tftp.backends.filesystem.placement import Placed, Placement, remove_temporary, size_of
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.naming import is_temporary, temporary_name
from twisted_tftp.context import StoredFile
from twisted_tftp.errors import AccessViolation, DiskFull

#: The errors of rename() if the file that has the name can't be replaced: it is a mount
#: point, or it belongs to another user in a directory with the sticky bit.
_NOT_REPLACEABLE = (errno.EBUSY, errno.EPERM, errno.EACCES)

#: The most buffers of one system call.
IOV_MAX = 1024


@dataclass(frozen=True)
class UploadRules:
    """The rules for an upload.

    @ivar root: the directory that is served.
    @ivar placement: how a complete upload gets its name.
    @ivar mode: the mode of new files; None for the mode that the umask gives.
    @ivar quota: the limit of all files below the root; None for no limit.
    """

    root: str
    placement: Placement
    mode: int | None = None
    quota: Quota | None = None


class Upload:
    """The temporary file of an upload. All methods may block.

    @ivar is_discarded: whether L{discard} was called.
    """

    def __init__(self, target: ResolvedName, rules: UploadRules, size: int = 0) -> None:
        """Create the temporary file.

        @param target: the name that the file gets; the upload closes it.
        @param size: the octets that the client has announced, or 0.
        @raise FileAlreadyExists: the file exists and may not be replaced.
        @raise AccessViolation: the name is that of a directory, a device or a read-only file.
        @raise DiskFull: there is no room for `size` octets.
        """
        self.is_discarded = False
        self._target = target
        self._rules = rules
        self._quota = rules.quota
        self._size = 0
        self._descriptor = -1
        self._temporary: str | None = None  # its name; None if it has none
        self._is_replacing = False
        try:
            if any(is_temporary(os.fsdecode(name)) for name in (*target.missing, target.name)):
                raise AccessViolation("that name is not for uploads")
            existing = rules.placement.check(target)
            self._is_replacing = existing is not None
            if self._quota is not None:
                self._quota.check(size)
            self._create(existing)
            rules.placement.check_directory(target.directory)
            space = os.fstatvfs(self._descriptor)
            free = space.f_bavail * space.f_frsize
            if size > free:
                detail = f"{size:,} octets, {free:,} are free"
                raise DiskFull("there is no room for a file of that size", detail)
        except BaseException:
            self.discard()
            raise

    def _create(self, existing: os.stat_result | None) -> None:
        """Create the temporary file in the directory of the target.

        If that directory may not be written, but the file that will be replaced may, the temporary
        file is created elsewhere, without a name. Its content is copied at the commit.
        """
        mode = self._rules.mode if existing is None else existing.st_mode & 0o777
        try:
            self._create_in_directory(0o666 if mode is None else mode)
        except OSError as error:
            if self._temporary is not None or not is_read_only_directory(error):
                raise
            self._create_elsewhere(existing, error)
        else:
            if mode is not None:
                # Some file systems have no file modes (vfat).
                with contextlib.suppress(OSError):
                    os.fchmod(self._descriptor, mode)

    def _create_elsewhere(self, existing: os.stat_result | None, error: OSError) -> None:
        """Create a temporary file without a name, to overwrite an existing file in place.

        @param error: why no file can be created in the directory of the target.
        """
        reason = explain.not_writable_directory(self._target.directory)
        if existing is not None:
            obstacle = why_not_in_place(existing)
            if not obstacle:
                try:
                    self._descriptor = open_nameless(self._rules.root)
                    return
                except OSError as other:
                    obstacle = f"no temporary file can be created elsewhere: {other.strerror}"
            reason = f"{reason}; {obstacle}"
        if error.errno == errno.EROFS:
            raise error
        raise AccessViolation(detail=reason) from error

    def _create_in_directory(self, mode: int) -> None:
        """Create a temporary file in the directory of the target, and lock it against removal."""
        while True:
            temporary = temporary_name()
            self._descriptor = os.open(
                temporary,
                os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                mode,
                dir_fd=self._target.directory,
            )
            self._temporary = temporary
            # On a file system without locks, the age of the file protects it.
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            # Another server may have removed the file before it was locked.
            if os.fstat(self._descriptor).st_nlink:
                return
            self._temporary = None
            self._close()

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

    def commit(self, rest: list[bytes]) -> StoredFile | None:
        """Append `rest`, make the file durable, and give it its name.

        Once the file has its name, errors are ignored: the client must not be told that the upload
        has failed.

        @return: where the file is; None if that is unknown.
        """
        self.write(rest)
        if self._temporary is None:
            placed = Placed(self._target.name, size_of(self._target))
            overwrite(self._descriptor, self._target)
            with contextlib.suppress(OSError):
                self._close()
        else:
            os.fsync(self._descriptor)
            placed = self._place(self._temporary)
        if self._quota is not None:
            self._quota.commit(self._size, placed.freed)
            self._size = 0
        path = _path_of(self._target, placed.name)
        with contextlib.suppress(OSError):
            self._target.close()
        return None if path is None else StoredFile(path)

    def _place(self, temporary: str) -> Placed:
        """Make the directories, give the temporary file its name, and sync the directories."""
        if self._target.missing:
            with contextlib.suppress(FileNotFoundError):
                return self._place_once(temporary)
            # Another upload has made a directory, failed, and removed it. Try once more.
        return self._place_once(temporary)

    def _place_once(self, temporary: str) -> Placed:
        """Do what L{_place} does, once; another upload may remove a directory meanwhile."""
        destination = Destination(self._target, self._rules.mode)
        try:
            with self._keep_lock() as lock:
                # Close it before the rename: some file systems report a failed write only here.
                self._close()
                try:
                    placed = self._rules.placement.place(temporary, self._target, destination)
                except OSError as error:
                    if error.errno not in _NOT_REPLACEABLE or not self._is_replacing or lock < 0:
                        raise
                    placed = Placed(self._target.name, size_of(self._target))
                    overwrite(lock, self._target)
                    remove_temporary(temporary, self._target.directory)
                    destination.sync()
        except BaseException:
            destination.remove()
            raise
        destination.close()
        return placed

    @contextlib.contextmanager
    def _keep_lock(self) -> Iterator[int]:
        """Keep the lock after the file is closed, so that no other server removes the file.

        The value of the `with` statement is another descriptor of the file; -1 if there is none.
        """
        try:
            lock = os.dup(self._descriptor)
        except OSError:
            lock = -1  # no descriptor is left; it is unlikely that a server starts right now
        try:
            yield lock
        finally:
            if lock >= 0:
                with contextlib.suppress(OSError):  # the file itself was closed without error
                    os.close(lock)

    def discard(self) -> None:
        """Remove the temporary file."""
        self.is_discarded = True
        if self._quota is not None:
            self._quota.release(self._size)
        try:
            if self._temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=self._target.directory)
        finally:
            try:
                self._close()
            finally:
                self._target.close()

    def _close(self) -> None:
        # Even if close() fails, the descriptor must not be used any more.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _path_of(target: ResolvedName, name: bytes) -> bytes | None:
    """Return the absolute path of a file in the directory of `target`; None if it is unknown."""
    try:
        directory = os.readlink(b"/proc/self/fd/%d" % target.directory)
    except OSError:  # there is no /proc
        return None
    return os.path.join(directory, *target.missing, name)
