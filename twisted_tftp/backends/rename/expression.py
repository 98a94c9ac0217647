"""Compile POSIX extended regular expressions, and match names in linear time.

A name comes from the network, and Python's `re` can take exponential time. So the expressions are
compiled by RE2, which takes linear time. As in POSIX, the longest of several alternatives matches.
"""

from __future__ import annotations

import re
from typing import Any

#: The extra of this package that installs RE2.
EXTRA = "twisted-tftp[rename]"

#: An escape of a letter or a digit in a regular expression.
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

#: The escapes of letters that have the same meaning in RE2 as in the C library of GNU.
_KNOWN_ESCAPES = b"wWsSbB"

#: The most memory that the compiled form of one expression may use, in octets.
MAX_MEMORY = 1024 * 1024


class Expression:
    """One compiled expression; names are octets.

    Patterns and names are taken as Latin-1, so each octet is one character, as with a C program in
    the locale `C`.
    """

    def __init__(self, pattern: bytes, *, ignore_case: bool = False) -> None:
        """Compile an expression.

        @raise ValueError: it is not valid, or RE2 is not installed.
        """
        _check_escapes(pattern)
        re2 = _import_re2()
        options = re2.Options()
        options.posix_syntax = options.longest_match = True
        options.one_line = True  # ^ and $ match at the ends of the name only
        options.dot_nl = True
        options.perl_classes = options.word_boundary = True  # \w, \s and \b, as in GNU's library
        options.case_sensitive = not ignore_case
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        options.max_mem = MAX_MEMORY
        try:
            self._compiled = re2.compile(pattern, options)
        except re2.error as error:
            raise ValueError(f"the regular expression is not valid: {_text(error)}") from None

    def search(self, name: bytes) -> Any:
        """Return the first match in a name, with the methods of `re.Match`; None if none."""
        return self._compiled.search(name)


def _check_escapes(pattern: bytes) -> None:
    """Check that the escapes mean the same in RE2.

    @raise ValueError: one does not.
    """
    for (escaped,) in (match.groups() for match in _ESCAPE.finditer(pattern)):
        shown = "\\" + escaped.decode("latin-1")
        if escaped.isdigit():
            raise ValueError(f"back-references such as {shown} are not supported in expressions")
        if escaped in b"<>":
            raise ValueError(f"{shown} is not supported: use \\b")
        if escaped.isalpha() and escaped not in _KNOWN_ESCAPES:
            raise ValueError(f"{shown} has no meaning in a POSIX expression")


def _import_re2() -> Any:
    try:
        import re2
    except ImportError:
        raise ValueError(f"rename rules need google-re2: pip install '{EXTRA}'") from None
    return re2


def _text(error: Exception) -> str:
    (reason,) = error.args
    return reason.decode("latin-1") if isinstance(reason, bytes) else str(reason)
