"""Find a name beneath a root directory so that nothing outside can be reached.

The path is walked one component at a time, each opened in the directory before it and never
followed when it is a symbolic link: a link's target is read from the link that was opened and
walked by the same rules. The directories on the way are held open, so `..` goes back to the one
that we came from whatever is renamed meanwhile, and never above the root. What was checked is
what was opened, so there is no moment at which a swap could lead elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

from twisted_tftp.backends.naming import components
from twisted_tftp.errors import AccessViolation, FileNotFound

#: Symbolic links on one way, as many as Linux follows.
MAX_LINKS = 40

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)


class Place:
    """A directory beneath the root, held open, and a name in it that is no symbolic link.

    The file may be missing. Use it as a context manager, or `close` it.

    @ivar directory: the descriptor of the directory.
    @ivar name: the last component.
    """

    def __init__(self, directory: int, name: bytes) -> None:
        self.directory = directory
        self.name = name

    def open_regular(self) -> int:
        """Open the file for reading and return its descriptor.

        @raise AccessViolation: it is not a regular file.
        @raise OSError: it is missing, or may not be read.
        """
        # A device is not even opened: that alone can rewind a tape or arm a watchdog.
        if not stat.S_ISREG(self.stat().st_mode):
            raise AccessViolation("not a regular file")
        # In case it was replaced since: a FIFO does not block, and what was opened counts.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(self.name, flags, dir_fd=self.directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise AccessViolation("not a regular file")
        return descriptor

    def stat(self) -> os.stat_result:
        """Return the status of what has the name.

        @raise FileNotFoundError: nothing has.
        """
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def close(self) -> None:
        """Close the directory; to be called once."""
        os.close(self.directory)

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def find(root: str, path: str) -> Place:
    """Walk `path` beneath the directory `root`; symbolic links are followed inside it.

    @param root: an absolute path, or one relative to the working directory; links in it are
        the operator's own and are followed.
    @raise FileNotFound: the path is none, or a part of it is missing.
    @raise AccessViolation: it leaves the root, or names a directory.
    @raise OSError: a directory on the way may not be entered.
    """
    walk = _Walk(root)
    try:
        return walk.to([part.encode("utf-8", "surrogateescape") for part in components(path)])
    finally:
        walk.close()


class _Walk:
    def __init__(self, root: str) -> None:
        self._root = root
        self._trail = [os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)]
        self._links = 0

    def to(self, ahead: list[bytes]) -> Place:
        ahead.reverse()  # the next component is the last one
        while ahead:
            name = ahead.pop()
            if name == b"..":
                if len(self._trail) == 1:
                    raise AccessViolation()
                os.close(self._trail.pop())
                continue
            target = self._link_target(name)
            if target is not None:
                ahead.extend(reversed(self._inside(target)))
            elif ahead:
                self._trail.append(self._enter(name))
            else:
                return Place(self._trail.pop(), name)
        raise AccessViolation("not a regular file")

    def close(self) -> None:
        for descriptor in self._trail:
            os.close(descriptor)

    def _enter(self, name: bytes) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=self._trail[-1])
        except OSError as error:
            # ELOOP: a link has taken the directory's place since we looked.
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotFound() from error
            raise

    def _link_target(self, name: bytes) -> bytes | None:
        """Return the target of `name` where it is a symbolic link."""
        try:
            target = os.readlink(name, dir_fd=self._trail[-1])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None  # no link, or nothing at all
            raise
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return target

    def _inside(self, target: bytes) -> list[bytes]:
        """Return the components of a link's target; an absolute one starts at the root again.

        @raise AccessViolation: it is absolute and not beneath the root.
        """
        parts = _parts(target)
        if target.startswith(b"/"):
            for root in (os.path.abspath(self._root), os.path.realpath(self._root)):
                above = _parts(os.fsencode(root))
                if parts[: len(above)] == above:
                    parts = parts[len(above) :]
                    break
            else:
                raise AccessViolation()
            while len(self._trail) > 1:
                os.close(self._trail.pop())
        return parts


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
