"""Limit the memory that the windows of all transfers take."""

from __future__ import annotations

#: The memory that the windows of all transfers share, in octets. A transfer may take `MIN_WINDOW`
#: even if nothing is left.
ALL_WINDOWS = 256 * 1024 * 1024

#: The size of a window that is always allowed, in octets.
MIN_WINDOW = 64 * 1024

#: How long the octets of a window may take if the rate is limited, in seconds. Clients send their
#: ACK again after a second without a packet.
MAX_WINDOW_SECONDS = 0.5


def largest_window(max_rate: int) -> int:
    """Return the size of the largest window, in octets, for a limit of octets per second."""
    return max(1, int(max_rate * MAX_WINDOW_SECONDS))


class WindowBudget:
    """The memory that is left for windows. With many transfers, each new window is smaller.

    A client that asks for the largest blocks and windows takes 4 MiB, and may start many
    transfers.
    """

    def __init__(self, total: int = ALL_WINDOWS) -> None:
        """Set up a budget of `total` octets. Windows of `MIN_WINDOW` may exceed it."""
        self._left = total

    @property
    def window_limit(self) -> int:
        """The largest size of the next window in octets: about a quarter of what is left.

        It is a power of two, so that the cache of `protocol.options` gets few different keys.
        """
        return max(MIN_WINDOW, 1 << (max(1, self._left // 4).bit_length() - 1))

    def reserve(self, size: int) -> None:
        """Reserve `size` octets for a window."""
        self._left -= size

    def release(self, size: int) -> None:
        """Release `size` octets of a window that is not used any more."""
        self._left += size
