"""Split the name in a request into the components of a path below a root."""

from __future__ import annotations

from enum import Enum

from twisted_tftp.errors import AccessViolation, FileNotFound

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
