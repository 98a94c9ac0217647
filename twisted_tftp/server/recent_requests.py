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

    def __init__(self) -> None:
        """Set up an empty table."""
        self._seconds = bytearray()  # seconds modulo 255, from 1 on; 0 for no request

    def add(self, source: Hashable, now: float) -> bool:
        """Note a request; return whether `source` has sent one not long ago."""
        if not self._seconds:
            self._seconds = bytearray(SLOTS)
        seconds, number, second = self._seconds, hash(source), int(now) % 255 + 1
        first, other = number % SLOTS, number // SLOTS % SLOTS
        before, other_before = seconds[first], seconds[other]
        seconds[first] = seconds[other] = second
        return _is_recent(before, second) and _is_recent(other_before, second)


def _is_recent(before: int, second: int) -> bool:
    return before > 0 and (second - before) % 255 <= RECENT_SECONDS
