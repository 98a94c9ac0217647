"""Copy an upload into an existing file that can't be replaced.

This is done for a file in a directory that may not be written, and for a file that is a mount
point. The whole upload is stored elsewhere before it is copied. If the process or the machine
crashes during the copy, the file has a part of the new content and a part of the old one. A client
that reads the file meanwhile may get parts of both. All functions may block.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time

from twisted_tftp.backends.filesystem.path_walk import ResolvedName
from twisted_tftp.errors import AccessViolation

#: How long a copy waits for another one into the same file, in seconds.
LOCK_WAIT = 10.0

#: The time between two attempts to lock the file, in seconds.
LOCK_PAUSE = 0.05

#: The octets that are copied at a time.
COPY_SIZE = 1024 * 1024

#: The errors that say that a directory may not be written.
_DIRECTORY_IS_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

#: The errors of posix_fallocate() on file systems that can't reserve space. With EBADF, the GNU C
#: library has tried to read the file instead, which is open for writing only.
_NO_RESERVATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


def is_read_only_directory(error: OSError) -> bool:
    """Return whether an error says that no file can be created in a directory."""
    return error.errno in _DIRECTORY_IS_READ_ONLY


def why_not_in_place(status: os.stat_result) -> str:
    """Return why a file with that status may not be written in place; empty if it may.

    It must be a regular file with one link: another link may be a name outside the root. It must
    not be a program that runs with the rights of its owner or group.
    """
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_nlink != 1:
        return f"the file has {status.st_nlink} hard links"
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "the file has a set-user-ID or set-group-ID bit"
    return ""


def open_nameless(directory: str) -> int:
    """Open a new file without a name, for reading and writing, and return its descriptor.

    @param directory: where to create it, if that is possible. Otherwise it is created in the
        system's folder of temporary files.
    @raise OSError: no file can be created in either.
    """
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            pass  # the directory may not be written, or its file system lacks O_TMPFILE
    descriptor, path = tempfile.mkstemp()
    try:
        os.unlink(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def overwrite(source: int, target: ResolvedName) -> None:
    """Copy the whole file `source` into the existing file `target`, and make it durable.

    @raise AccessViolation: the target may not be written in place.
    @raise OSError: the target can't be opened or locked, or there is no space. It is unchanged
        then. If another error occurs during the copy, the target has a part of the new content.
    """
    # A device must not be opened: even that can rewind a tape or start a watchdog.
    _check_target(target.stat())
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(target.name, flags, dir_fd=target.directory)
    try:
        _check_target(os.fstat(descriptor))  # the file may have been replaced before the open
        lock_exclusively(descriptor)
        size = os.fstat(source).st_size
        _reserve(descriptor, size)
        _copy(source, descriptor, size)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_target(status: os.stat_result) -> None:
    """Check that a file with that status may be written in place.

    @raise AccessViolation: it may not.
    """
    reason = why_not_in_place(status)
    if reason:
        raise AccessViolation(detail=f"can't be replaced; {reason}")


def lock_exclusively(descriptor: int) -> None:
    """Lock a file or directory until it is closed, so that no other upload changes it meanwhile.

    @raise OSError: it was locked for too long.
    """
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise OSError(errno.ETXTBSY, os.strerror(errno.ETXTBSY)) from None
        except OSError:
            return  # the file system has no locks
        time.sleep(LOCK_PAUSE)


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the space for `size` octets; if there is too little, leave the file as it is.

    On file systems that can't reserve space (NFS 3, ext3), the C library would do it by reading
    and writing, and the descriptor does not allow reads (EBADF). There, zeros are written after
    the octets that the file has already.
    """
    before = os.fstat(descriptor).st_size
    if not size:
        return
    try:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVATION:
                raise
            _append_zeros(descriptor, before, size)
    except OSError:
        os.ftruncate(descriptor, before)
        raise


def _append_zeros(descriptor: int, before: int, size: int) -> None:
    """Append zeros to a file of `before` octets up to `size` octets, to allocate the space."""
    if before >= size:
        return
    zeros = bytes(min(COPY_SIZE, size - before))
    while before < size:
        before += os.pwrite(descriptor, zeros[: size - before], before)
    os.fsync(descriptor)  # a network file system may report here that it is full


def _copy(source: int, descriptor: int, size: int) -> None:
    offset = 0
    while offset < size:
        piece = os.pread(source, COPY_SIZE, offset)
        if not piece:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        offset += os.pwrite(descriptor, piece, offset)
