"""The option `--backend`: the type of its value, and the help about the backends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import ClassVar

from twisted_tftp.backends.plugin import BackendSpec, installed_plugins
from twisted_tftp.backends.plugin_search import search

#: The indentation of the lines below the name of a backend, in columns.
_INDENT = 4


class BackendText:
    """The name of a backend, its argument and its keywords."""

    placeholder: ClassVar[str] = "BACKEND"
    syntax: ClassVar[str] = (
        "`NAME:ARGUMENT,key=value,...`, such as `filesystem:/srv/tftp,cache=64M`; "
        "`--help-backends` lists the names"
    )

    def parse(self, text: str) -> BackendSpec:
        """Convert a text to its parts; the plugin checks them when the backend is made."""
        return BackendSpec.parse(text)

    def format(self, value: BackendSpec) -> str:
        """Return a text that L{parse} converts to this value."""
        return str(value)


def help_text(width: int) -> str:
    """Return the installed backends with their arguments, and those that are broken.

    @param width: the number of columns.
    """
    return "\n".join(_help_lines(width))


def _help_lines(width: int) -> Iterator[str]:
    yield "Use a backend with --backend NAME:ARGUMENT,key=value,... (write \\, for a comma)."
    for name, plugin in installed_plugins().items():
        first, *others = plugin.help.strip().splitlines()
        yield ""
        yield from textwrap.wrap(f"{name}: {first.strip()}", width, subsequent_indent=" " * 2)
        for line in others:
            yield from textwrap.wrap(
                line.strip(),
                width,
                initial_indent=" " * _INDENT,
                subsequent_indent=" " * (_INDENT + 2),
            )
    problems = search().problems
    if problems:
        yield ""
        yield from problems
