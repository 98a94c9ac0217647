"""Give a complete upload its name: that of a new file, or of a file that it replaces.

All functions may block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import NamedTuple, Protocol

from twisted_tftp.backends.filesystem import explain
from twisted_tftp.backends.filesystem.destination import Destination
from twisted_tftp.backends.filesystem.path_walk import ResolvedName
from twisted_tftp.errors import AccessViolation, FileAlreadyExists

#: The errors of link() on file systems without hard links.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Placed(NamedTuple):
    """What the placement of an upload has done.

    @ivar name: the name of the new file in its directory.
    @ivar freed: the octets of the files that it has replaced.
    """

    name: bytes
    freed: int


class Placement(Protocol):
    """How complete uploads get their names."""

    def check(self, target: ResolvedName) -> os.stat_result | None:
        """Return the status of the file that an upload will replace; None if it replaces none.

        @param target: the name that the client has asked for.
        @raise FileAlreadyExists: the file exists and may not be replaced.
        @raise AccessViolation: the name may not be written.
        """

    def check_directory(self, directory: int) -> None:
        """Check that uploads can get their names in a directory.

        @param directory: the descriptor of a directory in which files can be created.
        @raise AccessViolation: they can't.
        """

    def place(self, temporary: str, target: ResolvedName, destination: Destination) -> Placed:
        """Give a durable temporary file its name, and make the name durable.

        @param temporary: the name of the file in the directory of `target`.
        @param destination: the directory in which it gets its name.
        """


def check_existing(target: ResolvedName, status: os.stat_result) -> None:
    """Check that an upload may take the name of an existing file.

    @raise AccessViolation: it is not a regular file, or is read-only.
    """
    if not stat.S_ISREG(status.st_mode):
        raise AccessViolation("not a regular file")
    # A rename needs write permission for the directory only; require it for the file too.
    if not os.access(target.name, os.W_OK, dir_fd=target.directory, effective_ids=True):
        raise AccessViolation("the file is read-only", explain.not_writable(status))


def remove_temporary(temporary: str, directory: int) -> None:
    """Remove a temporary file that has got its name; errors are ignored."""
    with contextlib.suppress(OSError):
        os.unlink(temporary, dir_fd=directory)


def size_of(target: ResolvedName) -> int:
    """Return the size of the file that has the name of `target`; 0 if there is none."""
    try:
        return target.stat().st_size
    except OSError:
        return 0


class SingleFile:
    """The placement of uploads that are the only file of their name."""

    def __init__(self, may_replace: bool) -> None:
        """Set up.

        @param may_replace: whether existing files may be replaced.
        """
        self._may_replace = may_replace

    def check(self, target: ResolvedName) -> os.stat_result | None:
        """Return the status of the file that will be replaced; None if there is no such file."""
        try:
            status = target.stat()
        except FileNotFoundError:
            return None
        if stat.S_ISREG(status.st_mode) and not self._may_replace:
            raise FileAlreadyExists(detail="the file exists already, --write is create")
        check_existing(target, status)
        return status

    def check_directory(self, directory: int) -> None:
        """Do nothing: a directory in which files can be created is enough."""

    def place(self, temporary: str, target: ResolvedName, destination: Destination) -> Placed:
        """Give the temporary file the name of the target, and sync the directories."""
        replaced = size_of(target)
        if self._may_replace:
            _rename(temporary, target, destination.descriptor)
        else:
            _take_free_name(temporary, target, destination.descriptor)
        destination.sync()
        return Placed(target.name, replaced)


def _take_free_name(temporary: str, target: ResolvedName, directory: int) -> None:
    """Give the temporary file the name of the target, in `directory`, if that name is free.

    @raise FileExistsError: the name is not free.
    """
    source, name = target.directory, target.name
    try:
        os.link(temporary, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _take_free_name_without_links(temporary, target, directory)
    else:
        remove_temporary(temporary, source)


def _take_free_name_without_links(temporary: str, target: ResolvedName, directory: int) -> None:
    """Do what L{_take_free_name} does, without hard links (as on vfat).

    An empty file with the name is created, and then replaced by a rename. It is visible for a
    moment; after a crash in that moment it remains.

    @raise FileExistsError: the name is not free.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(target.name, flags, 0o666, dir_fd=directory))
    try:
        _rename(temporary, target, directory)
    except BaseException:
        os.unlink(target.name, dir_fd=directory)
        raise


def _rename(temporary: str, target: ResolvedName, directory: int) -> None:
    os.rename(temporary, target.name, src_dir_fd=target.directory, dst_dir_fd=directory)
