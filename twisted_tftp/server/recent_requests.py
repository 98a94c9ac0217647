"""Remember who has sent a request recently, in a table of fixed size.

A flood of requests from forged addresses cannot make it larger.
"""

from __future__ import annotations

from collections.abc import Hashable

#: The size of the table, in octets.
SLOTS = 1 << 23

#: How long a request is remembered, in seconds. Firmware asks again after 1 to 10 s.
RECENT_SECONDS = 15


class RecentRequests:
    """A table of the hosts, or of the hosts and ports, that have asked recently.

    A hash of the source chooses one of `SLOTS` octets, which has the second of its last request.
    An attacker can't predict the hash, so few sources of a flood share an octet.
    """

    def __init__(self, seconds: int = RECENT_SECONDS) -> None:
        """Set up an empty table.

        @param seconds: how long a request is remembered, at most 250.
        """
        self._remembered_for = seconds
        self._seconds = bytearray()  # seconds modulo 255, from 1 on; 0 for no request

    def add(self, source: Hashable, now: float) -> bool:
        """Note a request; return whether `source` has sent one not long ago."""
        if not self._seconds:
            self._seconds = bytearray(SLOTS)
        slot, second = hash(source) % SLOTS, int(now) % 255 + 1
        before, self._seconds[slot] = self._seconds[slot], second
        return before > 0 and (second - before) % 255 <= self._remembered_for

    def has(self, source: Hashable, now: float) -> bool:
        """Return whether `source` has sent a request not long ago."""
        if not self._seconds:
            return False
        before = self._seconds[hash(source) % SLOTS]
        return before > 0 and (int(now) % 255 + 1 - before) % 255 <= self._remembered_for
