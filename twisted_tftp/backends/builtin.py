"""The backend plugins of this package that need nothing else: their arguments.

`twisted/plugins/twisted_tftp_backends.py` names these functions. Each one is called as
`from_arguments` of L{IBackendPlugin<twisted_tftp.interfaces.IBackendPlugin>}.
"""

from __future__ import annotations

import re

from twisted_tftp.backends.arguments import Keywords, require_known
from twisted_tftp.backends.filesystem.backend import (
    DEFAULT_CACHE_SIZE,
    DEFAULT_UPLOAD_MODE,
    FilesystemBackend,
)
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.plugin import (
    INNER,
    PATH_SEPARATOR,
    make_backend,
    take_bool,
    take_size,
    take_text,
)
from twisted_tftp.backends.readonly import ReadOnlyBackend

#: The keywords of a filesystem backend.
FILESYSTEM_KEYWORDS = (
    "cache",
    "quota",
    "follow-links",
    "literal-names",
    "ignore-case",
    "upload-mode",
    "make-dirs",
)

#: The keywords of a memory backend.
MEMORY_KEYWORDS = ("capacity",)

#: The permissions of a file, as an octal number.
_FILE_MODE = re.compile(r"0?[0-7]{3}\Z")

#: The capacity of a memory backend if none is given, in octets.
DEFAULT_CAPACITY = 64 * 1024 * 1024


def filesystem(argument: str, keywords: Keywords) -> FilesystemBackend:
    """Make a L{FilesystemBackend} for a directory.

    @raise ValueError: an argument is not valid.
    """
    require_known(keywords, FILESYSTEM_KEYWORDS)
    if not argument:
        raise ValueError("it needs a directory, such as filesystem:/srv/tftp")
    cache = take_size(keywords, "cache", DEFAULT_CACHE_SIZE)
    return FilesystemBackend(
        argument,
        cache=DEFAULT_CACHE_SIZE if cache is None else cache,
        quota=take_size(keywords, "quota"),
        follow_links=_paths(take_text(keywords, "follow-links")),
        literal_names=take_bool(keywords, "literal-names"),
        ignore_case=take_bool(keywords, "ignore-case"),
        upload_mode=_file_mode(keywords),
        make_dirs=take_bool(keywords, "make-dirs"),
    )


def memory(argument: str, keywords: Keywords) -> MemoryBackend:
    """Make an empty L{MemoryBackend}.

    @raise ValueError: an argument is not valid.
    """
    require_known(keywords, MEMORY_KEYWORDS)
    if argument:
        raise ValueError(f"it takes no argument, only keywords: not {argument!r}")
    return MemoryBackend(capacity=take_size(keywords, "capacity", DEFAULT_CAPACITY))


def readonly(argument: str, keywords: Keywords) -> ReadOnlyBackend:
    """Make a L{ReadOnlyBackend} around the backend that `of` names.

    @raise ValueError: an argument is not valid.
    """
    require_known(keywords, (INNER,))
    inner = take_text(keywords, INNER)
    if argument or not inner:
        raise ValueError("it needs the backend that it wraps: readonly:of=filesystem:/srv/tftp")
    return ReadOnlyBackend(make_backend(inner))


def _paths(text: str) -> list[str]:
    return [path for path in text.split(PATH_SEPARATOR) if path]


def _file_mode(keywords: Keywords) -> int:
    text = take_text(keywords, "upload-mode", f"{DEFAULT_UPLOAD_MODE:04o}")
    if not _FILE_MODE.match(text):
        raise ValueError(f"upload-mode must be an octal number such as 0644 or 0600, not {text!r}")
    return int(text, 8)
