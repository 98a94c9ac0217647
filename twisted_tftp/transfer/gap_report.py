"""Decide when a receiver reports a gap in a window (RFC 7440 section 4)."""

from __future__ import annotations


class GapReport:
    """Whether the ACK that reports the current gap was sent: each gap is reported once.

    @ivar is_reported: whether the current gap was reported; False if there is no gap.
    """

    __slots__ = ("_reported_at", "is_reported")

    def __init__(self) -> None:
        self.is_reported = False
        self._reported_at = float("-inf")

    def note_gap(self, now: float, round_trip: float) -> bool:
        """Note a block after a gap; return whether the gap must be reported now.

        The answer to a report takes a round trip. A new gap that is seen earlier belongs to the
        window that the peer will send again anyway. Half of the round trip is a margin for jitter.

        @param round_trip: the shortest round-trip time in seconds.
        """
        if self.is_reported or now - self._reported_at < round_trip / 2:
            return False
        self.is_reported = True
        self._reported_at = now
        return True
