"""Keep each upload as a version of its file, and make the file's name a link to the newest one.

The version is durable before the link leads to it, and the link is durable before old versions are
removed. So the link leads to a complete version at any moment, also after a crash. A crash may
leave a version that the link does not lead to yet; its client was not told that it is stored.

All functions may block. A commit lists the directory, and has a lock on it meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable

from twisted_tftp.backends.filesystem import explain
from twisted_tftp.backends.filesystem.destination import Destination
from twisted_tftp.backends.filesystem.in_place import lock_exclusively
from twisted_tftp.backends.filesystem.path_walk import ResolvedName
from twisted_tftp.backends.filesystem.placement import (
    NO_LINKS,
    Placed,
    check_existing,
    remove_temporary,
)
from twisted_tftp.backends.filesystem.versions import (
    MAX_NAME_WITH_VERSIONS,
    Version,
    looks_like_version,
    next_version,
    utc,
    versions_among,
)
from twisted_tftp.backends.naming import temporary_link_name
from twisted_tftp.errors import AccessViolation, FileAlreadyExists

#: The errors of symlink() on file systems without symbolic links.
_NO_SYMLINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class KeptVersions:
    """The placement of uploads each of which is kept as a version."""

    def __init__(self, keep: int | None = None, clock: Callable[[], float] = time.time) -> None:
        """Set up.

        @param keep: how many versions of each file are kept, at least one; None for all.
        @param clock: returns the time in seconds since 1970.
        """
        self._keep = None if keep is None else max(1, keep)
        self._clock = clock

    def check(self, target: ResolvedName) -> None:
        """Check the name; an upload never replaces a file.

        @raise AccessViolation: the name is not for uploads, or is that of a directory, a device
            or a read-only file.
        """
        if any(map(looks_like_version, (*target.missing, target.name))):
            raise AccessViolation("that name is for a version of a file")
        if len(target.name) > MAX_NAME_WITH_VERSIONS:
            raise AccessViolation("the name is too long for that of a version")
        try:
            status = target.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISLNK(status.st_mode):
            check_existing(target, status)

    def check_directory(self, directory: int) -> None:
        """Check that links can be made in a directory, and that its names can be listed."""
        temporary = temporary_link_name()
        try:
            os.symlink("version", temporary, dir_fd=directory)
        except OSError as error:
            if error.errno not in _NO_SYMLINKS:
                raise
            detail = "--write is version, and the file system has no symbolic links"
            raise AccessViolation("this server can't keep versions", detail) from error
        remove_temporary(temporary, directory)
        if not os.access(".", os.R_OK, dir_fd=directory, effective_ids=True):
            raise AccessViolation(detail=explain.not_listed(directory))

    def place(self, temporary: str, target: ResolvedName, destination: Destination) -> Placed:
        """Give the temporary file the name of a version, and lead the link to it.

        A regular file that has the name of the link becomes a version too.
        """
        lock_exclusively(destination.readable)
        commit = _Commit(target, destination, self._clock())
        adopted = commit.adopt_existing()
        try:
            name = commit.add(temporary)
        except BaseException:
            if adopted is not None:
                commit.remove(adopted)
            raise
        remove_temporary(temporary, target.directory)
        destination.sync()
        return Placed(name, 0 if self._keep is None else commit.remove_old(self._keep))


class _Commit:
    """The commit of one version, while the directory is locked."""

    def __init__(self, target: ResolvedName, destination: Destination, now: float) -> None:
        self._target = target
        self._name = target.name
        self._destination = destination
        self._directory = destination.descriptor
        self._now = now
        names = map(os.fsencode, os.listdir(destination.readable))
        self._versions = versions_among(names, target.name)
        self._newest: Version | None = None

    def adopt_existing(self) -> Version | None:
        """Make a regular file that has the name a version, with the time of its last change.

        It keeps its name too, until the link replaces it.

        @return: the version; None if there is no such file, or if it is one already.
        @raise FileAlreadyExists: it can't get another name.
        """
        try:
            status = self._status(self._name)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise AccessViolation("not a regular file")
        if status.st_nlink > 1 and self._is_version(status):
            return None  # it became one before a crash
        try:
            return self._link(
                self._name, self._directory, min(max(status.st_mtime, 0.0), self._now)
            )
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            detail = f"the existing file can't become a version: {error.strerror}"
            raise FileAlreadyExists(detail=detail) from error

    def add(self, temporary: str) -> bytes:
        """Give the temporary file the name of a version, then lead the link to it.

        If that fails, the version does not exist, and the link is as it was.

        @return: the name of the version.
        """
        source = self._target.directory
        try:
            version = self._link(os.fsencode(temporary), source, self._now)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # The name is free, because of the lock.
            version = next_version(self._versions, utc(self._now))
            name = version.name_of(self._name)
            os.rename(temporary, name, src_dir_fd=source, dst_dir_fd=self._directory)
        try:
            self._destination.sync()
            self._lead_link_to(version.name_of(self._name))
        except BaseException:
            self.remove(version)
            raise
        self._newest = version
        return version.name_of(self._name)

    def remove(self, version: Version) -> None:
        """Remove a version to which the link does not lead."""
        with contextlib.suppress(OSError):
            os.unlink(version.name_of(self._name), dir_fd=self._directory)

    def remove_old(self, keep: int) -> int:
        """Remove the oldest versions above `keep`, never the new one; errors are ignored.

        @return: the octets that this has freed.
        """
        others = [
            (name, status)
            for name, status in map(self._file_of, sorted(self._versions - {self._newest}))
            if status is not None and stat.S_ISREG(status.st_mode)
        ]
        freed = 0
        for name, status in others[: max(0, len(others) + 1 - keep)]:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._directory)
                freed += status.st_size
        return freed

    def _link(self, name: bytes, source: int, seconds: float) -> Version:
        """Give a file the name of a version too; return the version.

        @param name: a name of the file, in the directory `source`.
        @param seconds: the time of the version.
        """
        moment = utc(seconds)
        taken = set(self._versions)
        while True:
            version = next_version(taken, moment)
            try:
                os.link(
                    name,
                    version.name_of(self._name),
                    src_dir_fd=source,
                    dst_dir_fd=self._directory,
                    follow_symlinks=False,
                )
            except FileExistsError:
                taken.add(version)  # another program has made it since the names were listed
            else:
                self._versions.add(version)
                return version

    def _lead_link_to(self, version: bytes) -> None:
        """Replace what has the name by a link to a version."""
        while True:
            temporary = temporary_link_name()
            os.symlink(version, temporary, dir_fd=self._directory)
            try:
                os.rename(
                    temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory
                )
                return
            except FileNotFoundError:
                pass  # another server has started, and has removed it as a leftover
            except BaseException:
                remove_temporary(temporary, self._directory)
                raise

    def _is_version(self, status: os.stat_result) -> bool:
        """Return whether the file with that status has the name of a version too."""
        return any(
            other is not None and os.path.samestat(status, other)
            for _, other in map(self._file_of, self._versions)
        )

    def _file_of(self, version: Version) -> tuple[bytes, os.stat_result | None]:
        """Return the name of a version, and its status; None if there is no such file."""
        name = version.name_of(self._name)
        try:
            return name, self._status(name)
        except OSError:
            return name, None

    def _status(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self._directory, follow_symlinks=False)
