"""Escape text from the network, for one line of a log or a terminal."""

from __future__ import annotations

import re

#: Characters of a peer's text that are shown; the rest is cut off.
LONGEST = 300

#: Text that needs no escapes, like most file names.
_PLAIN = re.compile(r"[ -!#-\[\]-~]*\Z")


def printable(text: str) -> str:
    """Return `text` as one line of printable ASCII, with everything else escaped.

    File names and error texts come from the network. A line break in them would forge a line of
    the log, and an escape sequence would act on the reader's terminal.
    """
    if _PLAIN.match(text):
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\x{octet:02x}"
        for octet in octets
    )


def legible(text: str) -> str:
    """Return `text`, which may come from a peer, as one line without control characters."""
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."
