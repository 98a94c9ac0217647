"""Escape text from the network: L{printable} for logs, L{printable_unicode} for terminals."""

from __future__ import annotations

#: The most characters that L{printable_unicode} returns of a text; the rest is cut off.
MAX_CHARACTERS = 300

#: The most characters of a text about an operator's own files, which may list several mistakes.
MAX_OWN_CHARACTERS = 2000


def printable(text: str) -> str:
    """Return `text` as one line of printable ASCII; other characters are escaped as octets.

    File names and error texts come from the network. A line break in them would add a forged line
    to the log, and an escape sequence would control the terminal on which the log is read.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\x{octet:02x}"
        for octet in octets
    )


def printable_unicode(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return `text` as one line without control characters, cut off after `limit` characters.

    Letters of all languages remain, because terminals show them.
    """
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
    return shown if len(shown) <= limit else shown[:limit] + "..."
