"""Backends that a user names by a text: `NAME:ARGUMENT,key=value,...`.

L{BackendSpec} is such a text in parts, and L{make_backend} makes the backend. The plugins are
found by L{twisted_tftp.backends.plugin_search}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from twisted.python.reflect import safe_repr

from twisted_tftp.backends.arguments import (
    ARGUMENT_KEY,
    normal,
    reject_unknown,
    require_known,
    take_bool,
    take_choice,
    take_number,
    take_seconds,
    take_size,
    take_text,
)
from twisted_tftp.backends.plugin_search import NAME, search
from twisted_tftp.backends.url_secrets import without_url_secrets
from twisted_tftp.interfaces import IFileBackend, IPathArguments
from twisted_tftp.protocol.printable import printable, printable_unicode

__all__ = [
    "BackendSpec",
    "installed_plugins",
    "make_backend",
    "reject_unknown",
    "require_known",
    "take_bool",
    "take_choice",
    "take_number",
    "take_seconds",
    "take_size",
    "take_text",
]

#: The keyword of a wrapper for the backend that it wraps; its value is the rest of the text.
INNER = "of"

#: The beginning of a keyword: its name and `=`.
_KEYWORD = re.compile(r"([a-z][a-z0-9_-]*)=")

#: The beginning of a URL, which is not a path.
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

#: The separator of several paths in one keyword.
PATH_SEPARATOR = ":"


@dataclass(frozen=True)
class BackendSpec:
    """What names a backend: the name of its plugin, an argument and keywords.

    @ivar name: the name of the plugin.
    @ivar argument: the text after the colon; it may be empty.
    @ivar keywords: the keywords with hyphens in their names, and their texts.
    """

    name: str
    argument: str = ""
    keywords: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> BackendSpec:
        r"""Convert `NAME:ARGUMENT,key=value,...` to its parts.

        A backslash in front of `,`, `=` or a backslash makes it an ordinary character. The value
        of `of` is the rest of the text, as it is.

        @raise ValueError: the text has another form.
        """
        name, colon, rest = text.partition(":")
        if not NAME.match(name) or "\0" in text:
            shown = without_url_secrets(text)
            raise ValueError(f"must be NAME:ARGUMENT,key=value,... not {shown!r}")
        argument = ""
        keywords: dict[str, str] = {}
        is_first = True
        while colon:
            keyword = _KEYWORD.match(rest)
            if keyword is None and not is_first:
                part = _split(rest)[0]
                raise ValueError(
                    f"{without_url_secrets(text)!r}: {part!r} is not key=value (write a comma as "
                    "'\\,' if it is part of a value)"
                )
            if keyword is None:
                argument, colon, rest = _split(rest)
            elif keyword[1] == INNER:
                _set(keywords, INNER, rest[keyword.end() :], text)
                break
            else:
                value, colon, rest = _split(rest[keyword.end() :])
                _set(keywords, keyword[1], value, text)
            is_first = False
        return cls(name, argument, keywords)

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> BackendSpec:
        """Convert a table of a configuration file: `type`, `path` (the argument) and keywords.

        @raise ValueError: it has no `type`, or a value that is no text, number or flag.
        """
        name = table.get("type")
        if not isinstance(name, str) or not NAME.match(name):
            raise ValueError("the table of a backend needs `type`, the name of a backend")
        argument = _value_text(ARGUMENT_KEY, table.get(ARGUMENT_KEY, ""))
        keywords: dict[str, str] = {}
        for key, value in table.items():
            if key not in ("type", ARGUMENT_KEY):
                if not _KEYWORD.fullmatch(f"{key}="):
                    raise ValueError(f"{key!r} cannot be the name of a keyword")
                _set(keywords, key, _value_text(key, value), name)
        return cls(name, argument, keywords)

    def __str__(self) -> str:
        """Return a text that L{parse} converts to an equal object."""
        argument = _escaped(self.argument)
        if _KEYWORD.match(argument):
            argument = argument.replace("=", "\\=", 1)
        parts = [argument] if argument or not self.keywords else []
        parts += [
            f"{key}={_escaped(value)}" for key, value in self.keywords.items() if key != INNER
        ]
        if INNER in self.keywords:
            parts.append(f"{INNER}={self.keywords[INNER]}")
        text = ",".join(parts)
        return f"{self.name}:{text}" if text else self.name

    def with_absolute_paths(self, folder: str) -> BackendSpec:
        """Return the same with relative paths made absolute: they start at `folder`.

        @raise ValueError: `of` is not a valid text.
        """
        plugin = installed_plugins().get(self.name)
        paths = plugin.paths if IPathArguments.providedBy(plugin) else ()
        argument = self.argument
        if "" in paths and argument:
            argument = _absolute(folder, argument)
        keywords = dict(self.keywords)
        for key in {normal(path) for path in paths} & keywords.keys():
            keywords[key] = _absolute_list(folder, keywords[key])
        if INNER in keywords:
            inner = BackendSpec.parse(keywords[INNER])
            keywords[INNER] = str(inner.with_absolute_paths(folder))
        return BackendSpec(self.name, argument, keywords)


def installed_plugins() -> dict[str, Any]:
    """Return the installed plugins by name, in sort order.

    The first call finds them, and logs one line for each that is broken.
    """
    return dict(sorted(search().plugins.items()))


def make_backend(spec: str | BackendSpec) -> Any:
    """Make the L{IFileBackend} that a text or a spec names.

    @raise ValueError: there is no such plugin, or an argument is not valid. The text is one line.
    """
    if isinstance(spec, str):
        spec = BackendSpec.parse(spec)
    plugins = installed_plugins()
    plugin = plugins.get(spec.name)
    if plugin is None:
        raise ValueError(_unknown(spec.name, list(plugins)))
    try:
        backend = plugin.from_arguments(spec.argument, dict(spec.keywords))
    except ValueError as error:
        raise ValueError(f"backend {spec.name}: {' '.join(str(error).split())}") from None
    except (Exception, SystemExit) as error:
        text = printable(f"{type(error).__name__}: {error}")
        raise ValueError(f"backend {spec.name}: its plugin fails: {text}") from error
    if not IFileBackend.providedBy(backend):
        shown = printable_unicode(safe_repr(backend))
        raise ValueError(f"backend {spec.name}: its plugin made no backend, but {shown}")
    return backend


def _unknown(name: str, known: list[str]) -> str:
    """Return the message for a name that no plugin has."""
    near = get_close_matches(name, known, 1)
    suggestion = f"did you mean {near[0]}?" if near else f"installed are {', '.join(known)}"
    return f"there is no backend {name!r}: {suggestion}"


def _split(text: str) -> tuple[str, str, str]:
    """Split at the first comma that has no backslash: (unescaped text, comma, rest)."""
    value: list[str] = []
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and text[index + 1 : index + 2] in ("\\", ",", "="):
            index += 1
            character = text[index]
        elif character == ",":
            return "".join(value), ",", text[index + 1 :]
        value.append(character)
        index += 1
    return "".join(value), "", ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _set(keywords: dict[str, str], key: str, value: str, source: str) -> None:
    """Add a keyword.

    @raise ValueError: it is there already.
    """
    if normal(key) in keywords:
        raise ValueError(f"{without_url_secrets(source)!r}: {key} is given twice")
    keywords[normal(key)] = value


def _value_text(key: str, value: object) -> str:
    """Return the text of a value of a table.

    @raise ValueError: a value of this type has none.
    """
    if isinstance(value, Mapping) and key == INNER:
        return str(BackendSpec.from_table(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{key} must not have a NUL character")
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and key != INNER and all(isinstance(one, str) for one in value):
        if any(PATH_SEPARATOR in one for one in value):
            raise ValueError(f"{key}: a path in a list can't have {PATH_SEPARATOR!r}")
        return PATH_SEPARATOR.join(value)
    if isinstance(value, list):
        raise ValueError(f"{key} must not be a list" if key == INNER else f"{key} must be texts")
    raise ValueError(f"{key} must be a text, a number or a flag, not {type(value).__name__}")


def _absolute(folder: str, path: str) -> str:
    return path if _URL.match(path) else os.path.join(folder, path)


def _absolute_list(folder: str, paths: str) -> str:
    """Make each path of a list absolute; a URL stays as it is."""
    if _URL.match(paths):
        return paths
    return PATH_SEPARATOR.join(
        _absolute(folder, path) if path else path for path in paths.split(PATH_SEPARATOR)
    )
