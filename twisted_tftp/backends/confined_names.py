r"""Resolve the `..` in the names of requests, for wrappers that put names below a prefix.

A wrapper decides by the text of a name, before a backend looks at it. So the backend must not
understand the name in another way:

 - Each `..` is resolved here, and the backend gets a name without one. A backend of files would
   walk from the target of a symbolic link, so `link/../a` can be another file for it.
 - A backend may take each backslash for a slash. If that makes a component `..`, the slashes are
   put in here. Other names keep their backslashes: a file may have one in its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from twisted_tftp.backends.naming import components, with_slashes
from twisted_tftp.errors import AccessViolation

#: The longest name, in characters, for which a result is cached.
MAX_CACHED_NAME = 128

#: The most names for which a result is cached.
MAX_CACHED_NAMES = 1024


def is_start(parts: Sequence[str]) -> bool:
    """Return whether the components lead nowhere: to the start of all names."""
    return not parts


def confined(path: str, is_border: Callable[[Sequence[str]], bool] = is_start) -> list[str]:
    """Return the components of `path`, without `..`; the list is not empty.

    @param is_border: returns whether the components of a directory are those of a border, out of
        which no `..` may lead; the start of all names is one in any case.
    @raise FileNotFound: no file can have that name.
    @raise AccessViolation: only a directory can have that name, or a `..` leads out of a border.
    """
    slashed = with_slashes(path)
    if slashed is not None and ".." in slashed.split("/"):
        path = slashed
    parts = components(path)
    if ".." not in parts:
        return parts
    kept: list[str] = []
    for part in parts:
        if part != "..":
            kept.append(part)
        elif not kept or is_border(kept):
            raise AccessViolation(detail=f".. leads out of /{'/'.join(kept)}")
        else:
            kept.pop()
    return kept


def _confined_path(path: str) -> str:
    return "/".join(confined(path))


_cached_path = lru_cache(MAX_CACHED_NAMES)(_confined_path)


def confined_path(path: str) -> str:
    """Return L{confined} as a path without a leading slash; it raises the same exceptions."""
    return (_cached_path if len(path) <= MAX_CACHED_NAME else _confined_path)(path)


def prefix_components(prefix: str) -> tuple[str, ...]:
    r"""Return the components of a prefix that an operator has configured; none for `/`.

    @raise ValueError: it contains `..`, a backslash or NUL.
    """
    parts = tuple(part for part in prefix.split("/") if part not in ("", "."))
    if ".." in parts or "\\" in prefix or "\0" in prefix:
        raise ValueError(f"{prefix!r} must not contain `..`, a backslash or NUL")
    return parts
