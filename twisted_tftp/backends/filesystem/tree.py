"""Look up the names of requests in the directory that a backend serves.

The walk of a path (L{twisted_tftp.backends.filesystem.path_walk}) takes each path literally. This
module decides which paths a name stands for. All functions may block.
"""

from __future__ import annotations

from twisted_tftp.backends.filesystem.path_walk import ResolvedName, resolve
from twisted_tftp.backends.naming import with_slashes
from twisted_tftp.errors import FileNotFound, TFTPError, from_os_error


class Tree:
    """A directory with its subdirectories, and the rules of the names in it.

    @ivar root: the path of the directory.
    @ivar has_literal_names: whether a backslash in a name is never a slash.
    """

    def __init__(self, root: str, *, has_literal_names: bool = False) -> None:
        """Set up, without opening the directory."""
        self.root = root
        self.has_literal_names = has_literal_names

    def alternative(self, path: str) -> str | None:
        """Return the path to use if no file has the literal name `path`; None if there is none."""
        return None if self.has_literal_names else with_slashes(path)

    def resolve(self, path: str) -> ResolvedName:
        """Walk to the name that `path` stands for; see L{resolve} for the exceptions.

        If something has the literal name, it is that, whatever it is. Otherwise each backslash is
        a slash.
        """
        alternative = self.alternative(path)
        if alternative is None:
            return resolve(self.root, path)
        return self._existing(path) or resolve(self.root, alternative)

    def _existing(self, path: str) -> ResolvedName | None:
        """Walk to the literal name `path`; return None if there is nothing of that name."""
        try:
            resolved = resolve(self.root, path)
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
