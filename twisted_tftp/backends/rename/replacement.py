"""Expand the replacement of a rename rule: groups, the client's address, upper and lower case."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

#: A piece of a replacement: an escape, or text without escapes.
_PIECE = re.compile(rb"\\(.)|[^\\]+", re.DOTALL)

#: The escapes that change the case of the letters after them.
_CASES: dict[bytes, Callable[[bytes], bytes]] = {
    b"U": bytes.upper,
    b"L": bytes.lower,
    b"E": bytes,
}


class Replacement:
    """One replacement.

    Its escapes are those of tftp-hpa: `\\0` is what the expression matches, and `\\1` to `\\9`
    what its groups match. `\\i` and `\\x` are the address of the client as text and in hexadecimal
    digits. `\\U` and `\\L` begin upper and lower case, and `\\E` ends both. Any other character
    after a backslash is itself.

    @ivar is_empty: whether it replaces a match by nothing.
    @ivar uses_address: whether the result depends on the address of the client.
    """

    def __init__(self, pattern: bytes) -> None:
        """Split a replacement into its pieces."""
        self._pieces = [(match[1], match[0]) for match in _PIECE.finditer(pattern)]
        self.is_empty = not pattern
        self.uses_address = any(escaped in (b"i", b"x") for escaped, _ in self._pieces)

    def expand(self, match: Any, host: str) -> bytes:
        """Return the text that replaces a match.

        @param match: a match of the expression; None if the expression must not match.
        @param host: the address of the client.
        """
        change_case: Callable[[bytes], bytes] = bytes
        result = []
        for escaped, text in self._pieces:
            if escaped in _CASES:
                change_case = _CASES[escaped]
            else:
                result.append(change_case(_expand_piece(escaped, text, match, host)))
        return b"".join(result)


def _expand_piece(escaped: bytes | None, text: bytes, match: Any, host: str) -> bytes:
    """Return one piece.

    @param escaped: the character after the backslash; None for text without escapes.
    """
    if escaped is None:
        return text
    if escaped.isdigit():
        number = int(escaped)
        if match is None or number > match.re.groups:
            return b""
        return match.group(number) or b""
    if escaped == b"i":
        return host.encode("ascii")
    if escaped == b"x":
        return _hexadecimal(host)
    return escaped


def _hexadecimal(host: str) -> bytes:
    """Return the octets of an address as hexadecimal digits, such as `C00002A9`."""
    return ipaddress.ip_address(host.partition("%")[0]).packed.hex().upper().encode("ascii")
