"""Convert between local text and netascii, one piece at a time (RFC 764, RFC 1350 section 1).

Lines of local text end with LF. In netascii an LF is sent as CR LF, and a CR as CR NUL. A block
boundary may split such a pair; the decoder then keeps the CR until the next piece.
"""

from __future__ import annotations


def encode(octets: bytes) -> bytes:
    """Return local text as netascii. A text may be split anywhere and encoded in pieces."""
    return octets.replace(b"\r", b"\r\x00").replace(b"\n", b"\r\n")


class Decoder:
    """A decoder from netascii to local text, for input that may be split anywhere.

    A CR that is not followed by LF or NUL is not valid netascii. It is returned unchanged.
    """

    def __init__(self) -> None:
        self._held = b""

    def decode(self, octets: bytes, final: bool = False) -> bytes:
        """Return the text of the next `octets`; a CR at their end is kept for the next call.

        @param final: no octets follow, so a CR at the end is returned unchanged.
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
