"""Explain in the operator's log why the file system refuses a read or an upload."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

#: Whether this system can check access for the effective user.
_EFFECTIVE_IDS = os.access in os.supports_effective_ids

#: The log text if the name in a request leads above the root by `..`.
NAME_LEAVES_ROOT = "the name leads out of the root"

#: The log text if a symbolic link leads above the root, or to an absolute path outside it.
LINK_LEAVES_ROOT = "a link leads out of the root"


def not_entered(directory: int) -> str:
    """Return the log text for an open directory in which this process may not look up names."""
    return f"{_directory(directory)} may not be entered by {_user_and_mode(directory)}"


def not_writable_directory(directory: int) -> str:
    """Return the log text for an open directory in which this process may not create files."""
    return f"{_directory(directory)} is not writable by {_user_and_mode(directory)}"


def not_listed(directory: int) -> str:
    """Return the log text for an open directory whose names this process may not list."""
    return f"{_directory(directory)} is not readable by {_user_and_mode(directory)}"


def not_readable(status: os.stat_result) -> str:
    """Return the log text for a file that this process may not read."""
    return f"not readable by {_user_and_mode(status)}"


def not_writable(status: os.stat_result) -> str:
    """Return the log text for a file that this process may not write to."""
    return f"not writable by {_user_and_mode(status)}"


def missing_directory(error: FileNotFoundError) -> str:
    """Return the log text for an upload into a directory that does not exist."""
    name = os.fsdecode(error.filename or "")
    return f"directory {name} does not exist, --make-dirs is off"


def problems_of_root(root: str, allows_writes: bool) -> Iterator[str]:
    """Return a log text if this process lacks a permission in the root directory.

    @param allows_writes: whether clients may write.
    """
    try:
        user = _user_and_mode(os.stat(root))
    except OSError:
        return  # the requests will be refused
    if not os.access(root, os.X_OK, effective_ids=_EFFECTIVE_IDS):
        yield f"root {root!r} may not be entered by {user}: all requests will be refused"
    elif allows_writes and not os.access(root, os.W_OK, effective_ids=_EFFECTIVE_IDS):
        yield (
            f"root {root!r} is not writable by {user}: clients can create files only in writable "
            "directories below it"
        )


def _user_and_mode(file: int | os.stat_result) -> str:
    """Return the user ID of this process and the mode of a file, as text.

    @param file: a descriptor or the status of the file.
    """
    status = os.fstat(file) if isinstance(file, int) else file
    return f"uid {os.geteuid()} (mode {stat.S_IMODE(status.st_mode):03o})"


def _directory(descriptor: int) -> str:
    """Return a phrase with the path of an open directory; without /proc the path is unknown."""
    try:
        return f"directory {os.readlink(f'/proc/self/fd/{descriptor}')}"
    except OSError:
        return "a directory of the path"
