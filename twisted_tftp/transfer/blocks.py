"""Number blocks: absolute ones, counted from 1 for ever, to the 16 bits on the wire and back."""

from __future__ import annotations

from twisted_tftp.policy import Rollover

#: The largest block number on the wire.
LAST_NUMBER = 65535


class Numbering:
    """Block numbers of one transfer under its rollover.

    Block 0 is the request (an ACK 0 answers the OACK); it never comes again, even where 65535 is
    followed by 0.
    """

    __slots__ = ("_cycle", "_first", "limit", "plain")

    def __init__(self, rollover: Rollover) -> None:
        #: The last block there can be, or None.
        self.limit = LAST_NUMBER if rollover is Rollover.NONE else None
        #: Whether a number is its block's low 16 bits, and nothing else is to be looked at.
        self.plain = rollover is Rollover.ZERO
        # Block k has the number (k - first) % cycle + first, where first is that after 65535.
        self._first = 1 if rollover is Rollover.ONE else 0
        self._cycle = 65536 - self._first

    def number(self, block: int) -> int:
        """Return the number on the wire of the absolute `block` (0 and up)."""
        return (block - self._first) % self._cycle + self._first if block else 0

    def ahead(self, number: int, block: int) -> int:
        """Return how many blocks `number` is ahead of the absolute `block`.

        The answer is from 0 to 65535; a number that lies behind comes out as one far ahead.
        """
        if number < self._first:
            return self._cycle - 1 if block else 0
        return (number - block) % self._cycle if block or not self._first else number
