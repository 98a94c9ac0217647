"""Bound the octets that the windows of all transfers may have in memory."""

from __future__ import annotations

#: Octets of all windows together.
ALL_WINDOWS = 256 * 1024 * 1024

#: Octets of one window that there is always room for.
LEAST_WINDOW = 64 * 1024


class WindowBudget:
    """What windows may have: much while there are few transfers, and little when there are many.

    A client that asks for the largest blocks and windows holds 4 MiB, and may do so many times.
    """

    def __init__(self, total: int = ALL_WINDOWS) -> None:
        """Have `total` octets to give away, beside the `LEAST_WINDOW` of each transfer."""
        self._left = total

    @property
    def room(self) -> int:
        """Octets that the next window may have: about a quarter of what is left.

        A power of two, so that negotiations have few different answers to remember.
        """
        return max(LEAST_WINDOW, 1 << (max(1, self._left // 4).bit_length() - 1))

    def take(self, octets: int) -> None:
        """Count a window of `octets`."""
        self._left -= octets

    def give_back(self, octets: int) -> None:
        """Count a window out."""
        self._left += octets
