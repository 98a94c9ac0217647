"""The directory in which an upload gets its name, made at the commit if it does not exist yet.

All functions may block. No symbolic link is followed: if a link appears in place of a directory,
the commit fails.
"""

from __future__ import annotations

import contextlib
import os
import stat

from twisted_tftp.backends.filesystem.path_walk import DIRECTORY_FLAGS, ResolvedName


def directory_mode(file_mode: int) -> int:
    """Return the mode of a directory for files of a mode: who may read them may enter it."""
    return file_mode | (file_mode & 0o444) >> 2 | 0o700


class Destination:
    """The directory of an upload during its commit.

    @ivar descriptor: the descriptor of the directory.
    """

    def __init__(self, target: ResolvedName, file_mode: int | None) -> None:
        """Make the missing directories of `target`.

        All directories are opened to be synced before the file gets its name: if no descriptor is
        left, the upload fails, because it could not be made durable.

        @param file_mode: the mode of uploads, from which that of directories follows; None for
            the mode that the umask gives.
        """
        self.descriptor = target.directory
        self._mode = None if file_mode is None else directory_mode(file_mode)
        self._opened: list[int] = []
        self._to_sync: list[int] = []  # descriptors for fsync, which O_PATH does not allow
        self._made: list[tuple[int, bytes]] = []  # the parent and the name of each
        try:
            self._open_to_sync()
            for name in target.missing:
                self._enter(name)
        except BaseException:
            self.remove()
            raise

    def sync(self) -> None:
        """Make the new names durable; errors are ignored."""
        for descriptor in reversed(self._to_sync):
            with contextlib.suppress(OSError):
                os.fsync(descriptor)

    def remove(self) -> None:
        """Remove the directories that were made, unless they contain something; then close."""
        for parent, name in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=parent)
        self.close()

    def close(self) -> None:
        """Close all directories but that of the target."""
        for descriptor in (*self._to_sync, *self._opened):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._to_sync, self._opened, self._made = [], [], []

    def _enter(self, name: bytes) -> None:
        """Make the directory `name`, or take the one that another upload has just made."""
        parent = self.descriptor
        try:
            os.mkdir(name, 0o777 if self._mode is None else self._mode, dir_fd=parent)
        except FileExistsError:
            is_new = False
        else:
            is_new = True
            self._made.append((parent, name))
        self.descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        self._opened.append(self.descriptor)
        readable = self._open_to_sync()
        if is_new and readable >= 0 and self._mode is not None:
            self._set_mode(readable, self._mode)

    def _open_to_sync(self) -> int:
        """Open the current directory to sync it; return -1 if this process may not read it."""
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            descriptor = os.open(".", flags, dir_fd=self.descriptor)
        except PermissionError:
            return -1
        self._to_sync.append(descriptor)
        return descriptor

    @staticmethod
    def _set_mode(descriptor: int, mode: int) -> None:
        """Set the mode of a new directory, whatever the umask is."""
        with contextlib.suppress(OSError):  # some file systems have no modes (vfat)
            # Another directory may have taken its name; an empty one tells nobody anything.
            if not os.listdir(descriptor):
                inherited = os.fstat(descriptor).st_mode & stat.S_ISGID
                os.fchmod(descriptor, mode | inherited)
