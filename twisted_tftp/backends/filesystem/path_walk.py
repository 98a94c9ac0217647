"""Find a file below a root directory; no path, link or race leads to a file outside the root.

The path is walked one component at a time: each directory is opened relative to the one before
it. The kernel follows no symbolic link. Instead, the target of a link is read, and its components
are walked by the same rules. All directories of the path stay open. So `..` leads back to the
directory that the walk came from, even if directories are renamed meanwhile, and never above the
root. All checks are made on objects that are open, so a file that is replaced between a check and
its use makes no difference.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

from twisted_tftp.backends.filesystem import explain
from twisted_tftp.backends.naming import components
from twisted_tftp.errors import AccessViolation, FileNotFound

#: The most symbolic links in the walk of one path, as in Linux.
MAX_LINKS = 40

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)


class ResolvedName:
    """The result of a walk: an open directory, and a name in it that is not a symbolic link.

    A file with that name need not exist. Use the object as a context manager, or call `close`.

    @ivar directory: the descriptor of the directory.
    @ivar name: the name in the directory.
    """

    def __init__(self, directory: int, name: bytes) -> None:
        self.directory = directory
        self.name = name

    def open_regular(self) -> int:
        """Open the file for reading and return its descriptor.

        @raise AccessViolation: it is not a regular file, or may not be read.
        @raise OSError: it is missing, for instance.
        """
        # A device must not be opened: even that can rewind a tape or start a watchdog.
        status = self.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AccessViolation("not a regular file")
        # The file may be replaced here. So open without blocking, and check again.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        try:
            descriptor = os.open(self.name, flags, dir_fd=self.directory)
        except PermissionError as error:
            raise AccessViolation(detail=explain.not_readable(status)) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise AccessViolation("not a regular file")
        return descriptor

    def stat(self) -> os.stat_result:
        """Return the status of the file with that name, of any type.

        @raise FileNotFoundError: there is none.
        """
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def close(self) -> None:
        """Close the directory; call this once."""
        os.close(self.directory)

    def __enter__(self) -> ResolvedName:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def resolve(root: str, path: str) -> ResolvedName:
    """Walk `path` below the directory `root`; symbolic links that stay inside it are followed.

    @param root: the path of a directory, absolute or relative to the working directory. Symbolic
        links in it are followed, because the operator has chosen them.
    @raise FileNotFound: no file can have that path, or a part of it does not exist.
    @raise AccessViolation: the path leads out of the root, or names a directory; or a directory of
        the path may not be entered.
    @raise OSError: the walk fails for another reason.
    """
    walk = _Walk(root)
    try:
        return walk.to([part.encode("utf-8", "surrogateescape") for part in components(path)])
    finally:
        walk.close()


class _Walk:
    """The walk of one path: the open directories from the root to the current one."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._trail = [os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)]
        self._links = 0

    def to(self, ahead: list[bytes]) -> ResolvedName:
        """Walk the components `ahead`; return the last one with its directory."""
        ahead.reverse()  # the next component is at the end of the list
        while ahead:
            name = ahead.pop()
            if name == b"..":
                if len(self._trail) == 1:
                    raise AccessViolation(detail=self._reason_to_leave())
                os.close(self._trail.pop())
                continue
            target = self._link_target(name)
            if target is not None:
                ahead.extend(reversed(self._components_inside(target)))
            elif ahead:
                self._trail.append(self._enter(name))
            else:
                return ResolvedName(self._trail.pop(), name)
        raise AccessViolation("not a regular file")

    def close(self) -> None:
        for descriptor in self._trail:
            os.close(descriptor)

    def _reason_to_leave(self) -> str:
        """Return what has led above the root: the name of the request, or a link on its way."""
        return explain.LINK_LEAVES_ROOT if self._links else explain.NAME_LEAVES_ROOT

    def _enter(self, name: bytes) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=self._trail[-1])
        except OSError as error:
            # ELOOP: a symbolic link has replaced the directory since it was checked.
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotFound() from error
            raise

    def _link_target(self, name: bytes) -> bytes | None:
        """Return the target of the symbolic link `name`; None if it is not a link."""
        try:
            target = os.readlink(name, dir_fd=self._trail[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None  # not a link, or not there
            if error.errno == errno.EACCES:
                detail = explain.not_entered(self._trail[-1])
                raise AccessViolation(detail=detail) from error
            raise
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return target

    def _components_inside(self, target: bytes) -> list[bytes]:
        """Return the components of a link's target; if it is absolute, go back to the root first.

        @raise AccessViolation: the target is absolute, and not below the root.
        """
        parts = _parts(target)
        if target.startswith(b"/"):
            for root in (os.path.abspath(self._root), os.path.realpath(self._root)):
                above = _parts(os.fsencode(root))
                if parts[: len(above)] == above:
                    parts = parts[len(above) :]
                    break
            else:
                raise AccessViolation(detail=explain.LINK_LEAVES_ROOT)
            while len(self._trail) > 1:
                os.close(self._trail.pop())
        return parts


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
