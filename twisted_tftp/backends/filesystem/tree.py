"""Look up the names of requests in the directory that a backend serves.

The walk of a path (L{twisted_tftp.backends.filesystem.path_walk}) takes each path literally. This
module decides which paths a name stands for. All functions may block.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from twisted_tftp.backends.filesystem import explain
from twisted_tftp.backends.filesystem.path_walk import IsEnd, ResolvedName, resolve
from twisted_tftp.backends.naming import with_slashes
from twisted_tftp.errors import BackendUnavailable, FileNotFound, TFTPError, from_os_error


class Tree:
    """A served directory with its subdirectories, and the rules that find the file of a name.

    @ivar root: the path of the directory.
    @ivar followed: the directories outside `root` into which symbolic links may lead reads.
    """

    def __init__(
        self,
        root: str,
        *,
        followed: Sequence[str] = (),
        has_literal_names: bool = False,
    ) -> None:
        """Set up, without opening the directory.

        @param has_literal_names: whether a backslash in a name is never a slash.
        """
        self.root = root
        self.followed = tuple(followed)
        self._has_literal_names = has_literal_names

    def alternative(self, path: str) -> str | None:
        """Return the path to use if no file has the literal name `path`; None if there is none."""
        return None if self._has_literal_names else with_slashes(path)

    def resolve_read(self, path: str) -> ResolvedName:
        """Walk to the file that `path` names in a read request; `resolve` lists the exceptions.

        A file of any type with the literal name comes first. If there is none, each backslash is a
        slash.
        """
        alternative = self.alternative(path)
        if alternative is None:
            return resolve(self.root, path, self.followed)
        return self._existing(path, self.followed) or resolve(
            self.root, alternative, self.followed
        )

    def resolve_write(
        self, path: str, *, makes_directories: bool = False, is_end: IsEnd | None = None
    ) -> ResolvedName:
        """Walk to the file that `path` names in a write request, but never out of the root.

        @param makes_directories: whether directories of the path may be missing.
        @param is_end: at which symbolic links the walk ends, if they are the last component.
        """
        alternative = self.alternative(path)
        if alternative is not None:
            existing = self._existing(path, (), is_end)
            if existing is not None:
                return existing
            path = alternative
        try:
            return resolve(self.root, path, allow_missing=makes_directories, is_end=is_end)
        except FileNotFoundError as error:
            if makes_directories:
                raise
            raise FileNotFound(detail=explain.missing_directory(error)) from error

    def check(self) -> None:
        """Check that the paths of `root` and `followed` are directories.

        @raise BackendUnavailable: one is not.
        """
        directories = [("root", self.root), *(("follow-links", path) for path in self.followed)]
        for role, path in directories:
            if not os.path.isdir(path):
                raise BackendUnavailable(f"{role} {path!r} is not a directory")

    def _existing(
        self, path: str, followed: Sequence[str], is_end: IsEnd | None = None
    ) -> ResolvedName | None:
        """Walk to the literal name `path`; return None if nothing has that name."""
        try:
            resolved = resolve(self.root, path, followed, is_end=is_end)
            try:
                resolved.stat()
            except BaseException:
                resolved.close()
                raise
            return resolved
        except (TFTPError, OSError) as error:
            failure = from_os_error(error) if isinstance(error, OSError) else error
            if isinstance(failure, FileNotFound):
                return None
            raise
