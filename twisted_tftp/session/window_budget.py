"""Limit the memory that the windows of all transfers take."""

from __future__ import annotations

#: The memory that the windows of all transfers share, in octets. A transfer may take `MIN_WINDOW`
#: even if nothing is left.
ALL_WINDOWS = 256 * 1024 * 1024

#: The size of a window that is always allowed, in octets.
MIN_WINDOW = 64 * 1024


class WindowBudget:
    """The memory that is left for windows; with many transfers, each new window gets less of it.

    A client that asks for the largest blocks and windows takes 4 MiB, and may start many
    transfers.
    """

    def __init__(self, total: int = ALL_WINDOWS) -> None:
        """Set up a budget of `total` octets; it is exceeded if each transfer has `MIN_WINDOW`."""
        self._left = total

    @property
    def room(self) -> int:
        """The largest size of the next window in octets: about a quarter of what is left.

        It is a power of two, so that the cache of `protocol.options` gets few different keys.
        """
        return max(MIN_WINDOW, 1 << (max(1, self._left // 4).bit_length() - 1))

    def take(self, octets: int) -> None:
        """Reserve a window of `octets`."""
        self._left -= octets

    def give_back(self, octets: int) -> None:
        """Release a window of `octets`."""
        self._left += octets
