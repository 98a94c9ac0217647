"""Escape texts from the network for one line of a log or of a terminal."""

from __future__ import annotations

import re

#: Characters of a text of a peer's that are shown.
LONGEST = 300

#: Text that needs no escapes, as most names are.
_PLAIN = re.compile(r"[ -!#-\[\]-~]*\Z")


def printable(text: str) -> str:
    """Return `text` in one line of printable ASCII, everything else escaped.

    File names and error texts come from the network: a line break in them would forge a line
    of the log, an escape sequence would reach the reader's terminal.
    """
    if _PLAIN.match(text):
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\x{octet:02x}"
        for octet in octets
    )


def legible(text: str) -> str:
    """Return a text that may be a peer's in one line that no terminal acts on."""
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."
