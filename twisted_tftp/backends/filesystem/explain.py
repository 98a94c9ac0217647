"""The reasons for the operator's log when the file system refuses a read or an upload."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

#: Whether this system can check access for the effective user.
_EFFECTIVE_IDS = os.access in os.supports_effective_ids

#: The reason if the name in a request leads above the root by `..`.
NAME_LEAVES_ROOT = "the name leads out of the root"

#: The reason if a symbolic link leads above the root, or to an absolute path outside it.
LINK_LEAVES_ROOT = "a link leads out of the root"


def not_entered(directory: int) -> str:
    """Return the reason if this process may not look up names in an open directory."""
    return f"{_directory(directory)} may not be entered by {_user(directory)}"


def not_writable_directory(directory: int) -> str:
    """Return the reason if this process may not create files in an open directory."""
    return f"{_directory(directory)} is not writable by {_user(directory)}"


def not_readable(status: os.stat_result) -> str:
    """Return the reason if this process may not read a file."""
    return f"not readable by {_user(status)}"


def not_writable(status: os.stat_result) -> str:
    """Return the reason if this process may not write to a file."""
    return f"not writable by {_user(status)}"


def missing_directory(error: FileNotFoundError) -> str:
    """Return the reason if the directory of an upload does not exist."""
    name = os.fsdecode(error.filename or "")
    return f"directory {name} does not exist, --make-dirs is off"


def problems_of_root(root: str, is_written: bool) -> Iterator[str]:
    """Return a sentence about each permission that this process lacks in the root directory.

    @param is_written: whether clients may write.
    """
    try:
        user = _user(os.stat(root))
    except OSError:
        return  # the requests will be refused
    if not os.access(root, os.X_OK, effective_ids=_EFFECTIVE_IDS):
        yield f"root {root!r} can't be read by {user}: all requests will be refused"
    elif is_written and not os.access(root, os.W_OK, effective_ids=_EFFECTIVE_IDS):
        yield (
            f"root {root!r} is not writable by {user}: clients can write only into directories "
            "below it that are"
        )


def _user(file: int | os.stat_result) -> str:
    """Return the user of this process, and the mode of a file, or of its descriptor."""
    status = os.fstat(file) if isinstance(file, int) else file
    return f"uid {os.geteuid()} (mode {stat.S_IMODE(status.st_mode):03o})"


def _directory(descriptor: int) -> str:
    """Return the path of an open directory as words; without /proc it is not known."""
    try:
        return f"directory {os.readlink(f'/proc/self/fd/{descriptor}')}"
    except OSError:
        return "a directory on the way"
