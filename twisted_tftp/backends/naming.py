"""Split the paths of requests, and name the temporary files of uploads."""

from __future__ import annotations

import re
import secrets

from twisted_tftp.errors import AccessViolation, FileNotFound

_UPLOAD_PREFIX = ".tftp-upload-"
_LINK_PREFIX = ".tftp-link-"
_TEMPORARY = re.compile(r"\.tftp-(?:upload|link)-[0-9a-f]{16}\Z")
_TEMPORARY_LINK = re.compile(r"\.tftp-link-[0-9a-f]{16}\Z")

#: The longest path that Linux accepts, in octets.
MAX_PATH = 4096


def components(path: str) -> list[str]:
    """Return the components of `path`, including each `..`; a leading `/` makes no difference.

    @raise FileNotFound: no file can have that name.
    @raise AccessViolation: only a directory can have that name.
    """
    if not path or "\x00" in path or len(path) > MAX_PATH:
        raise FileNotFound(detail="no file can have that name")
    if path.endswith(("/", "/.", "/..")) or path in (".", ".."):
        raise AccessViolation("not a regular file")
    return [component for component in path.split("/") if component not in ("", ".")]


def with_slashes(path: str) -> str | None:
    """Return `path` with a slash for each backslash; None if it has no backslash.

    The boot managers of Windows send names such as `\\Boot\\BCD`. A backend uses this path only if
    it has no file of the literal name.
    """
    return path.replace("\\", "/") if "\\" in path else None


def temporary_name() -> str:
    """Return an unguessable name for the temporary file of an upload."""
    return _UPLOAD_PREFIX + secrets.token_hex(8)


def temporary_link_name() -> str:
    """Return an unguessable name for a symbolic link that gets its name by a rename."""
    return _LINK_PREFIX + secrets.token_hex(8)


def is_temporary(name: str) -> bool:
    """Return whether `name` is that of a temporary file or link of an upload."""
    return _TEMPORARY.match(name) is not None


def is_temporary_link(name: str) -> bool:
    """Return whether `name` is that of a temporary link of an upload."""
    return _TEMPORARY_LINK.match(name) is not None
