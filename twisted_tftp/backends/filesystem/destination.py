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
    """Return the mode of the directories that are made for files with the mode `file_mode`.

    All who may read such a file may also list and enter the directory.
    """
    return file_mode | (file_mode & 0o444) >> 2 | 0o700


class Destination:
    """The directory in which an upload gets its name, open during the commit.

    @ivar descriptor: the descriptor of the directory.
    @ivar readable: another descriptor of it, which can be synced, locked and listed; -1 if this
        process may not read the directory.
    """

    def __init__(self, target: ResolvedName, file_mode: int | None) -> None:
        """Make the missing directories of `target`, and open all of them.

        All directories are opened to be synced before the file gets its name: if no descriptor is
        left, the upload fails, because it could not be made durable.

        @param file_mode: the mode of uploaded files, from which L{directory_mode} computes that of
            directories; None for the mode that the umask gives.
        """
        self.descriptor = target.directory
        self._mode = None if file_mode is None else directory_mode(file_mode)
        self._opened: list[int] = []
        self._to_sync: list[int] = []  # descriptors for fsync, which O_PATH does not allow
        self._made: list[tuple[int, bytes]] = []  # the parent and the name of each
        try:
            self.readable = self._open_to_sync()
            for name in target.missing:
                self._enter(name)
        except BaseException:
            self.remove()
            raise

    def sync(self) -> None:
        """Sync the directories, so that the new names are durable; errors are ignored."""
        for descriptor in reversed(self._to_sync):
            with contextlib.suppress(OSError):
                os.fsync(descriptor)

    def remove(self) -> None:
        """Remove the directories that were made, if they are empty, and close all of them."""
        for parent, name in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=parent)
        self.close()

    def close(self) -> None:
        """Close the directories that this object has opened; `target` closes its own one."""
        for descriptor in (*self._to_sync, *self._opened):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._to_sync, self._opened, self._made = [], [], []

    def _enter(self, name: bytes) -> None:
        """Make and open the directory `name`; another upload may have made it meanwhile."""
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
        self.readable = self._open_to_sync()
        if is_new and self.readable >= 0 and self._mode is not None:
            self._set_mode(self.readable, self._mode)

    def _open_to_sync(self) -> int:
        """Return a descriptor of the current directory for `sync`; -1 if it may not be read."""
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
            # Another directory may have this name now. If it is empty, its mode exposes nothing.
            if not os.listdir(descriptor):
                inherited = os.fstat(descriptor).st_mode & stat.S_ISGID
                os.fchmod(descriptor, mode | inherited)
