"""Say what names mean: those in requests, those of uploads that are not whole yet."""

from __future__ import annotations

import re
import secrets
from enum import Enum

from twisted_tftp.errors import AccessViolation, FileNotFound

_UPLOAD_PREFIX = ".tftp-upload-"
_TEMPORARY = re.compile(re.escape(_UPLOAD_PREFIX) + r"[0-9a-f]{16}\Z")

#: What Linux takes for a path; nothing longer can be there.
MAX_PATH = 4096


class WriteMode(Enum):
    """Which files a client may write."""

    NEVER = "never"
    #: New ones only.
    CREATE = "create"
    #: New ones, and in the place of old ones.
    OVERWRITE = "overwrite"


def components(path: str) -> list[str]:
    """Return the components of `path`, `..` included; it starts at the root, with `/` or not.

    @raise FileNotFound: no file can have that name.
    @raise AccessViolation: the name is that of a directory.
    """
    if not path or "\x00" in path or len(path) > MAX_PATH:
        raise FileNotFound()
    if path.endswith(("/", "/.", "/..")) or path in (".", ".."):
        raise AccessViolation("not a regular file")
    return [component for component in path.split("/") if component not in ("", ".")]


def temporary_name() -> str:
    """Return a name for an upload while it is written; nobody can guess it."""
    return _UPLOAD_PREFIX + secrets.token_hex(8)


def is_temporary(name: str) -> bool:
    """Whether a file of that name is an upload that is not whole yet, or never will be."""
    return _TEMPORARY.match(name) is not None
