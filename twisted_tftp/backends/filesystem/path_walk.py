"""Find a file below a root directory; no path, link or race leads to a file outside the root.

The path is walked one component at a time: each directory is opened relative to the one before
it. The kernel follows no symbolic link. Instead, the target of a link is read, and its components
are walked by the same rules. All directories of the path stay open. So `..` leads back to the
directory that the walk came from, even if directories are renamed meanwhile, and never above the
root. All checks are made on objects that are open, so a file that is replaced between a check and
its use makes no difference.

Links may lead out of the root into directories that the operator has named. The walk then goes on
in that directory by the same rules, as if it were the root, and never leaves it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from types import TracebackType

from twisted_tftp.backends.filesystem import explain
from twisted_tftp.backends.naming import components
from twisted_tftp.errors import AccessViolation, FileNotFound

#: The most symbolic links in the walk of one path, as in Linux.
MAX_LINKS = 40

#: The most directories that an upload may make.
MAX_MISSING = 8

#: The most directories between the root and a file for which directories are made. Without this
#: limit, clients could make a tree, a few levels at a time, that is too deep to be measured, and
#: each walk through it would need thousands of descriptors.
MAX_MADE_DEPTH = 32

#: The longest path of a file for which directories are made, in octets.
MAX_MADE_PATH = 1024

#: The longest name in a directory, in octets.
MAX_NAME = 255

#: The flags to open a directory that is no symbolic link, only to find names in it.
DIRECTORY_FLAGS = (
    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)
)


#: Returns whether the walk ends at a symbolic link, and does not follow it: (the name of the link,
#: its target).
IsEnd = Callable[[bytes, bytes], bool]


class ResolvedName:
    """The result of a walk: an open directory, and a name in it that is not a symbolic link.

    If the walk was told to end at certain links, the name may be that of such a link.

    A file with that name need not exist. Use the object as a context manager, or call `close`.

    @ivar directory: the descriptor of the directory.
    @ivar name: the name in the directory, or in the last missing one.
    @ivar missing: the names of directories that do not exist yet: the first is missing in
        `directory`, each other one in the directory before it.
    """

    def __init__(self, directory: int, name: bytes, missing: tuple[bytes, ...] = ()) -> None:
        self.directory = directory
        self.name = name
        self.missing = missing

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
        if self.missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
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


def resolve(
    root: str,
    path: str,
    followed: Iterable[str] = (),
    *,
    allow_missing: bool = False,
    is_end: IsEnd | None = None,
) -> ResolvedName:
    """Walk `path` below the directory `root`; symbolic links that stay inside it are followed.

    @param root: the path of a directory, absolute or relative to the working directory. Symbolic
        links in it are followed, because the operator has chosen them.
    @param followed: the paths of the directories outside `root` into which links may lead.
    @param allow_missing: whether up to `MAX_MISSING` directories of the path need not exist.
    @param is_end: at which symbolic links the walk ends, if they are the last component; None if
        at none.
    @raise FileNotFound: no file can have that path, or a part of it does not exist.
    @raise AccessViolation: the path leads out of the root, or names a directory; or a directory of
        the path may not be entered; or no directories may be made for the path.
    @raise OSError: the walk fails for another reason.
    """
    walk = _Walk(root, followed, allow_missing, is_end)
    try:
        return walk.to([part.encode("utf-8", "surrogateescape") for part in components(path)])
    finally:
        walk.close()


class _Walk:
    """The walk of one path: the open directories from the root to the current one."""

    def __init__(
        self, root: str, followed: Iterable[str], allow_missing: bool, is_end: IsEnd | None
    ) -> None:
        self._root = root
        self._allow_missing = allow_missing
        self._is_end = is_end
        self._followed = followed  # directories outside into which a link may still lead
        self._trail = [_open_top(root)]
        self._links = 0

    def to(self, ahead: list[bytes]) -> ResolvedName:
        """Walk the components `ahead`; return the last one with its directory."""
        octets = sum(map(len, ahead)) + len(ahead)
        # In both lists, the next component is at the end.
        ahead.reverse()
        of_links: list[bytes] = []  # from the targets of links: they come before `ahead`
        while of_links or ahead:
            is_of_link = bool(of_links)
            name = (of_links or ahead).pop()
            if name == b"..":
                if len(self._trail) > 1:
                    os.close(self._trail.pop())
                elif is_of_link:
                    # The link has led to the parent of the root.
                    above = _parts(os.fsencode(os.path.realpath(self._root)))[:-1]
                    of_links = self._leave(above, of_links[::-1])[::-1]
                else:
                    raise AccessViolation(detail=self._explain_leaving())
                continue
            is_last = not (of_links or ahead)
            target = self._link_target(name)
            if target is not None and not (is_last and self._ends_at(name, target)):
                of_links.extend(reversed(self._components_of(target)))
            elif not is_last:
                try:
                    self._trail.append(self._enter(name))
                except FileNotFoundError:
                    # A directory that only a link names is not made.
                    if is_of_link or of_links or not self._allow_missing:
                        raise
                    return self._resolve_missing([name, *reversed(ahead)], octets)
            else:
                return ResolvedName(self._trail.pop(), name)
        raise AccessViolation("not a regular file")

    def _ends_at(self, name: bytes, target: bytes) -> bool:
        return self._is_end is not None and self._is_end(name, target)

    def close(self) -> None:
        for descriptor in self._trail:
            os.close(descriptor)

    def _explain_leaving(self) -> str:
        """Return the log text for what has led above the root: the request's name, or a link."""
        return explain.LINK_LEAVES_ROOT if self._links else explain.NAME_LEAVES_ROOT

    def _enter(self, name: bytes) -> int:
        try:
            return os.open(name, DIRECTORY_FLAGS, dir_fd=self._trail[-1])
        except OSError as error:
            # ELOOP: a symbolic link has replaced the directory since it was checked.
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotFound() from error
            raise

    def _resolve_missing(self, names: list[bytes], octets: int) -> ResolvedName:
        """Return the name of a file in directories that are missing below the current one.

        @param octets: the length of the whole path.
        @raise AccessViolation: too many directories are missing, or the path is too long.
        """
        if b".." in names:
            raise FileNotFound()
        if any(len(name) > MAX_NAME for name in names):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        *missing, last = names
        if len(missing) > MAX_MISSING:
            raise AccessViolation("too many directories are missing")
        depth = len(self._trail) - 1 + len(missing)
        if depth > MAX_MADE_DEPTH or octets > MAX_MADE_PATH:
            raise AccessViolation("the path is too long to make its directories")
        return ResolvedName(self._trail.pop(), last, tuple(missing))

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

    def _components_of(self, target: bytes) -> list[bytes]:
        """Return the components of a link's target; if it is absolute, go back to the root first.

        @raise AccessViolation: the target is absolute, and in no directory that may be served.
        """
        parts = _parts(target)
        if not target.startswith(b"/"):
            return parts
        inside = _below(self._root, parts)
        if inside is None:
            return self._leave([], parts)
        while len(self._trail) > 1:
            os.close(self._trail.pop())
        return inside

    def _leave(self, above: list[bytes], parts: list[bytes]) -> list[bytes]:
        """Leave the root by a link, and continue in the followed directory that it leads into.

        The comparison of paths only selects the directory. What is inside it is walked like what
        is inside the root, and it is not left any more.

        @param above: the components of the absolute path that the link has led to.
        @param parts: the other components of the targets of links.
        @return: the components inside the followed directory.
        @raise AccessViolation: the link does not lead into a followed directory.
        """
        while parts and parts[0] == b"..":
            above, parts = above[:-1], parts[1:]
        for directory in self._followed:
            inside = _below(directory, above + parts)
            if inside is not None:
                top = _open_top(directory)
                left, self._trail = self._trail, [top]
                self._root, self._followed = directory, ()
                for descriptor in left:
                    os.close(descriptor)
                return inside
        raise AccessViolation(detail=explain.LINK_LEAVES_ROOT)


def _open_top(path: str) -> int:
    """Open a directory that the operator has chosen; symbolic links in `path` are followed."""
    return os.open(path, DIRECTORY_FLAGS & ~os.O_NOFOLLOW)


def _below(directory: str, parts: list[bytes]) -> list[bytes] | None:
    """Return the components of an absolute path below `directory`; None if it is not below it."""
    for path in (os.path.abspath(directory), os.path.realpath(directory)):
        above = _parts(os.fsencode(path))
        if parts[: len(above)] == above:
            return parts[len(above) :]
    return None


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
