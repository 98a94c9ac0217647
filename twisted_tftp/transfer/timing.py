"""The timeouts of a transfer: when to retransmit, and when to give up a peer.

The retransmission timeout is that of RFC 6298: the smoothed round-trip time plus four times its
variation, doubled at each retransmission, and limited by a shortest and a longest wait. A doubled
timeout stays until a round-trip time is measured again. So a load that slows down every answer
does not cause a storm of retransmissions (RFC 6298 section 5.7).
"""

from __future__ import annotations

from twisted_tftp.policy import Policy, Retransmit

#: The shortest retransmission timeout, in seconds: longer than the pauses of firmware clients.
MIN_WAIT = 0.02

#: The shortest time between two measurements of the round-trip time, in seconds.
MEASURE_INTERVAL = MIN_WAIT / 2

#: How long a repeated last block is acknowledged again, in seconds. Clients repeat it after 5
#: seconds, or after the timeout that they have negotiated.
DALLY = 10.0

#: The longest time of dallying, in seconds: a client must not choose how long it keeps a socket.
MAX_DALLY = 60.0

#: The rate that is assumed for the first window, before it is measured, in octets per second.
FIRST_RATE = 1_250_000


class Timing:
    """The timeouts of one transfer, in seconds.

    @ivar wait: the current retransmission timeout.
    @ivar min_round_trip: the shortest measured round-trip time; 0 until that of a single datagram
        was measured.
    @ivar longest: the longest retransmission timeout.
    @ivar patience: how long a peer may send nothing before it is given up.
    """

    __slots__ = (
        "_adaptive",
        "_deviation",
        "_smoothed",
        "longest",
        "min_round_trip",
        "patience",
        "wait",
    )

    def __init__(self, *, first: float, longest: float, retries: int, adaptive: bool) -> None:
        """Set up the timeouts before anything was measured.

        @param first: the first retransmission timeout; `longest` if that is shorter.
        @param longest: the longest retransmission timeout. If not adaptive, every timeout has this
            value (RFC 2349).
        @param retries: the peer is given up if it sends nothing for `retries` times `longest`.
        @param adaptive: whether the timeout follows the measured round-trip times.
        """
        self.wait = min(first, longest) if adaptive else longest
        self.longest = longest
        self.patience = retries * longest
        self.min_round_trip = 0.0
        self._smoothed = 0.0
        self._deviation = 0.0
        self._adaptive = adaptive

    @classmethod
    def of(cls, policy: Policy, timeout: float | None) -> Timing:
        """Return the timeouts of `policy`, with the negotiated `timeout` in seconds, if any."""
        return cls(
            first=policy.timeout,
            longest=timeout or policy.timeout,
            retries=policy.retries,
            adaptive=policy.retransmit is Retransmit.ADAPTIVE,
        )

    def add_round_trip(self, round_trip: float, is_single: bool = True) -> None:
        """Add the round-trip time of something that was sent only once (Karn's rule).

        @param is_single: whether it was a single datagram: sending a window takes time.
        """
        if round_trip < self.min_round_trip or (is_single and not self.min_round_trip):
            self.min_round_trip = round_trip
        if not self._smoothed:
            self._smoothed = round_trip or 1e-6
            self._deviation = round_trip / 2
        else:
            error = round_trip - self._smoothed
            self._smoothed += error / 8
            self._deviation += ((error if error > 0 else -error) - self._deviation) / 4
        if self._adaptive:
            self.wait = self._estimate()

    def add_gap_round_trip(self, round_trip: float) -> None:
        """Add the time from reporting a gap to its answer, if it is likely to be a round trip.

        With packet loss, nearly every large window has a gap. Without these times, a doubled
        timeout would never shrink again. A late answer is ignored, because the timeout of the peer
        may have caused it. An early answer lowers `min_round_trip` by half of the difference only:
        it may be a block that arrived out of order.
        """
        if self._smoothed and round_trip > max(self._estimate(), self.wait / 2):
            return
        if round_trip < self.min_round_trip:
            round_trip = self.min_round_trip = (self.min_round_trip + round_trip) / 2
        self.add_round_trip(round_trip, is_single=False)

    def _estimate(self) -> float:
        wait = self._smoothed + 4 * self._deviation
        wait = MIN_WAIT if wait < MIN_WAIT else wait
        return wait if wait < self.longest else self.longest

    def first_flight(self, octets: int) -> None:
        """Wait longer for the answer to the first window than for that to the OACK.

        On a slow link, sending the first window takes many round trips of an OACK. If the window
        were sent again before its answer can come, it would never be measured (Karn's rule).

        @param octets: octets of the file in the first window.
        """
        if self._adaptive:
            self.wait = min(self.wait + octets / FIRST_RATE, self.longest)

    def back_off(self) -> None:
        """Double the retransmission timeout after a retransmission."""
        if self._adaptive:
            self.wait = min(2 * self.wait, self.longest)

    def dally_time(self, shortest: float) -> float:
        """Return how long to dally, in seconds: longer than `shortest` if timeouts are long."""
        return min(max(shortest, 2 * self.longest), MAX_DALLY)
