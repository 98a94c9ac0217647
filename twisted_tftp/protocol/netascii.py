"""Translate between local text and netascii, a piece at a time (RFC 764, RFC 1350 section 1).

Local text ends its lines with LF. On the wire LF is CR LF and a CR of the text is CR NUL, so a
pair may be cut by any block boundary; both translators carry the first half over.
"""

from __future__ import annotations


def encode(octets: bytes) -> bytes:
    """Return local text as netascii; it needs no memory between pieces."""
    return octets.replace(b"\r", b"\r\x00").replace(b"\n", b"\r\n")


class Decoder:
    """Turn netascii into local text, right at every cut.

    A CR followed by anything but LF or NUL is not netascii; it is kept as it is.
    """

    def __init__(self) -> None:
        self._held = b""

    def decode(self, octets: bytes, final: bool = False) -> bytes:
        """Return the text that `octets` adds; a CR at the end waits for what follows it.

        @param final: nothing follows, so a CR that waits is given out as it is.
        """
        octets = self._held + octets
        self._held = b""
        if octets.endswith(b"\r") and not final:
            octets, self._held = octets[:-1], b"\r"
        if b"\r" not in octets:
            return octets
        head, *pieces = octets.split(b"\r")
        out = [head]
        for piece in pieces:
            if piece.startswith(b"\n"):
                out.append(piece)
            elif piece.startswith(b"\x00"):
                out += (b"\r", piece[1:])
            else:
                out += (b"\r", piece)
        return b"".join(out)
