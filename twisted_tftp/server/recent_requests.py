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

    A hash of the source chooses two of `SLOTS` octets, which store the second of its last request.
    An attacker can't predict the hash, so hardly any source of a flood shares both octets with
    others.
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
        seconds, number, second = self._seconds, hash(source), int(now) % 255 + 1
        first, other = number % SLOTS, number // SLOTS % SLOTS
        before, other_before = seconds[first], seconds[other]
        seconds[first] = seconds[other] = second
        return self._is_recent(before, second) and self._is_recent(other_before, second)

    def has(self, source: Hashable, now: float) -> bool:
        """Return whether `source` has sent a request not long ago."""
        if not self._seconds:
            return False
        number, second = hash(source), int(now) % 255 + 1
        slots = (number % SLOTS, number // SLOTS % SLOTS)
        return all(self._is_recent(self._seconds[slot], second) for slot in slots)

    def _is_recent(self, before: int, second: int) -> bool:
        return before > 0 and (second - before) % 255 <= self._remembered_for
