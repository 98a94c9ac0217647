"""Decide how long to wait: for an answer before sending again, and for a peer before giving up.

The wait is the round trip's estimate of RFC 6298 (smoothed round trip plus four times its
variation), doubled at each retransmission, within a floor and the longest wait. A doubled wait
stays until a round trip was measured again, so that a load that slows every answer does not
provoke a storm of retransmissions (RFC 6298 section 5.7).
"""

from __future__ import annotations

#: Shortest wait in seconds: above the hiccups of a client that runs from firmware.
FLOOR = 0.02

#: Seconds between two measured round trips where they are shorter.
MEASURE_INTERVAL = FLOOR / 2

#: Octets a second that a first window may count on, before its round trip was measured.
FIRST_RATE = 1_250_000

#: A peer that has never answered gets so many datagrams in all: its address may be forged.
UNANSWERED_DATAGRAMS = 4


class Timing:
    """Waits of one transfer, in seconds.

    @ivar wait: how long to wait for an answer to what is sent now.
    @ivar least: the shortest round trip; 0 before there was one of a single datagram.
    @ivar longest: the longest wait.
    @ivar patience: silence after which a peer is given up.
    """

    __slots__ = ("_adaptive", "_deviation", "_smoothed", "least", "longest", "patience", "wait")

    def __init__(self, *, first: float, longest: float, retries: int, adaptive: bool) -> None:
        """Set up the waits before anything was measured.

        @param first: the first wait; `longest` where that is shorter.
        @param longest: the longest wait between two retransmissions, and where not adaptive
            each wait (RFC 2349).
        @param retries: the peer is given up after so many times `longest` of silence.
        """
        self.wait = min(first, longest) if adaptive else longest
        self.longest = longest
        self.patience = retries * longest
        self.least = 0.0
        self._smoothed = 0.0
        self._deviation = 0.0
        self._adaptive = adaptive

    def measured(self, round_trip: float, alone: bool = True) -> None:
        """Take in a round trip of what was sent once (Karn's rule).

        @param alone: it was a single datagram, and not a window that takes time to send.
        """
        if round_trip < self.least or (alone and not self.least):
            self.least = round_trip
        if not self._smoothed:
            self._smoothed = round_trip or 1e-6
            self._deviation = round_trip / 2
        else:
            error = round_trip - self._smoothed
            self._smoothed += error / 8
            self._deviation += ((error if error > 0 else -error) - self._deviation) / 4
        if self._adaptive:
            self.wait = self._estimate()

    def confirmed(self, round_trip: float) -> None:
        """Take in a round trip from a gap to its answer, where that is likely to be one.

        Large windows under loss have a gap nearly each; without this a doubled wait would never
        be taken back. What comes late may be the work of the peer's own timeout. What comes
        sooner than ever may be no answer, but a block that was overtaken; or `least` was measured
        when the peer was slow: so it is approached.
        """
        if self._smoothed and round_trip > max(self._estimate(), self.wait / 2):
            return
        if round_trip < self.least:
            round_trip = self.least = (self.least + round_trip) / 2
        self.measured(round_trip, alone=False)

    def _estimate(self) -> float:
        wait = self._smoothed + 4 * self._deviation
        wait = FLOOR if wait < FLOOR else wait
        return wait if wait < self.longest else self.longest

    def first_flight(self, octets: int) -> None:
        """Wait longer for the first window than for the small datagram that was measured.

        On a slow link the window alone takes many round trips of an OACK; sent again before its
        answer can come, it would never be measured (Karn's rule).
        """
        if self._adaptive:
            self.wait = min(self.wait + octets / FIRST_RATE, self.longest)

    def back_off(self) -> None:
        """Double the wait after a retransmission."""
        if self._adaptive:
            self.wait = min(2 * self.wait, self.longest)
