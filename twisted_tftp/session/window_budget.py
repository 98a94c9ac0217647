"""Bound the octets that the windows of all transfers may have in memory."""

from __future__ import annotations

#: Octets of all windows, and of one that there is always room for.
TOTAL, LEAST = 256 * 1024 * 1024, 64 * 1024


class WindowBudget:
    """What windows may have: much while there are few transfers, and little when there are many.

    A client that asks for the largest blocks and windows holds 4 MiB, and may do so many times.
    """

    def __init__(self, total: int = TOTAL) -> None:
        """Have `total` octets to give away, beside the `LEAST` of each transfer."""
        self._left = total

    @property
    def room(self) -> int:
        """Octets that the next window may have: about a quarter of what is left.

        A power of two, so that negotiations have few different answers to remember.
        """
        return max(LEAST, 1 << (max(1, self._left // 4).bit_length() - 1))

    def take(self, octets: int) -> None:
        """Count a window of `octets`."""
        self._left -= octets

    def give_back(self, octets: int) -> None:
        """Count a window out."""
        self._left += octets
