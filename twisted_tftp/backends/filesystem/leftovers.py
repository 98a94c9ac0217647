"""Remove the temporary files of uploads that a crash has interrupted.

A running upload has a lock on its temporary file. The system releases the locks of a process that
has ended, so a file without a lock is not needed any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from twisted_tftp.backends.naming import is_temporary, is_temporary_link

#: The age above which a temporary file is removed if the file system has no locks, in seconds.
MAX_AGE_WITHOUT_LOCKS = 24 * 3600.0

#: How many levels below the root are searched. Each level needs a descriptor and a nested call.
MAX_DEPTH = 200


def remove_temporary_files(root: str) -> int:
    """Remove the temporary files below `root` that no process writes; return their number.

    Temporary links are removed too, and not counted. An upload makes its link again if it is
    removed.

    Errors are ignored: a file that cannot be checked or removed stays. So does one that is more
    than `MAX_DEPTH` levels below the root.
    """
    removed = 0
    slashes = root.count("/")
    for path, directories, names, directory in os.fwalk(root, follow_symlinks=False):
        if path.count("/") - slashes >= MAX_DEPTH:
            directories.clear()  # they are not entered
        for name in names:
            if is_temporary_link(name):
                with contextlib.suppress(OSError):
                    _remove_link(name, directory)
            elif is_temporary(name):
                with contextlib.suppress(OSError):
                    removed += _remove_if_unused(name, directory)
    return removed


def _remove_link(name: str, directory: int) -> None:
    """Remove `name` if it is a symbolic link."""
    if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=directory)


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
