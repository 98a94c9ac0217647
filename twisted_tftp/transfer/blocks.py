"""Convert absolute block numbers (1, 2, ... without end) to the 16 bits on the wire and back."""

from __future__ import annotations

from twisted_tftp.policy import Rollover

#: The largest block number on the wire.
LAST_NUMBER = 65535


class Numbering:
    """The block numbers of one transfer, with its rollover.

    Absolute block 0 is the request or the OACK, which ACK 0 acknowledges. It occurs once, even if
    number 0 follows 65535.
    """

    __slots__ = ("_cycle", "_first", "limit", "plain")

    def __init__(self, rollover: Rollover) -> None:
        #: The highest absolute block number, or None if there is no limit.
        self.limit = LAST_NUMBER if rollover is Rollover.NONE else None
        #: Whether the number on the wire is simply the low 16 bits of the absolute number.
        self.plain = rollover is Rollover.ZERO
        # Block k has the number (k - first) % cycle + first; `first` is the number after 65535.
        self._first = 1 if rollover is Rollover.ONE else 0
        self._cycle = 65536 - self._first

    def number(self, block: int) -> int:
        """Return the number on the wire of the absolute block number `block` (0 or more)."""
        return (block - self._first) % self._cycle + self._first if block else 0

    def ahead(self, number: int, block: int) -> int:
        """Return how many blocks the wire number `number` is ahead of the absolute `block`.

        The result is from 0 to 65535. A number that is behind looks like one far ahead.
        """
        if number < self._first:
            return self._cycle - 1 if block else 0
        return (number - block) % self._cycle if block or not self._first else number
