"""The retransmission timeout (RTO) of a transfer, and the idle limit after which it is given up.

The timeout is that of RFC 6298: the smoothed round-trip time plus four times its
variation, doubled at each retransmission, and limited by a lowest and a highest value. A doubled
timeout stays until a round-trip time is measured again. So a load that slows down every answer
does not cause a storm of retransmissions (RFC 6298 section 5.7).
"""

from __future__ import annotations

from twisted_tftp.policy import Policy, Retransmit

#: The shortest retransmission timeout, in seconds: longer than the pauses of firmware clients.
MIN_RTO = 0.02

#: The shortest time between two measurements of the round-trip time, in seconds.
MEASURE_INTERVAL = MIN_RTO / 2

#: How long a repeated last block is acknowledged again, in seconds. Clients repeat it after 5
#: seconds, or after the timeout that they have negotiated.
DALLY = 10.0

#: The longest time of dallying, in seconds: a client must not choose how long it keeps a socket.
MAX_DALLY = 60.0

#: The rate that is assumed for the first window, before it is measured, in octets per second.
FIRST_RATE = 1_250_000


class Timing:
    """The timeouts of one transfer, in seconds.

    @ivar rto: the current retransmission timeout.
    @ivar min_round_trip: the shortest measured round-trip time; 0 until that of a single datagram
        was measured.
    @ivar max_rto: the longest retransmission timeout.
    @ivar idle_limit: a peer that sends nothing for so long is given up.
    """

    __slots__ = (
        "_adaptive",
        "_deviation",
        "_smoothed",
        "idle_limit",
        "max_rto",
        "min_round_trip",
        "rto",
    )

    def __init__(self, *, first: float, max_rto: float, retries: int, adaptive: bool) -> None:
        """Set up the timeouts before anything was measured.

        @param first: the first retransmission timeout; `max_rto` if that is shorter.
        @param max_rto: the longest retransmission timeout. If not adaptive, every timeout has this
            value (RFC 2349).
        @param retries: the peer is given up if it sends nothing for `retries` times `max_rto`.
        @param adaptive: whether the timeout follows the measured round-trip times.
        """
        self.rto = min(first, max_rto) if adaptive else max_rto
        self.max_rto = max_rto
        self.idle_limit = retries * max_rto
        self.min_round_trip = 0.0
        self._smoothed = 0.0
        self._deviation = 0.0
        self._adaptive = adaptive

    @classmethod
    def of(cls, policy: Policy, timeout: float | None) -> Timing:
        """Return the timeouts of `policy`, with the negotiated `timeout` in seconds, if any."""
        return cls(
            first=policy.timeout,
            max_rto=timeout or policy.timeout,
            retries=policy.retries,
            adaptive=policy.retransmit is Retransmit.ADAPTIVE,
        )

    def add_round_trip(self, round_trip: float, is_single: bool = True) -> None:
        """Add the round-trip time of something that was sent only once (Karn's rule).

        @param is_single: whether it was a single datagram: to send a window takes more time.
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
            self.rto = self._estimated_rto()

    def add_gap_round_trip(self, round_trip: float) -> None:
        """Add the time from reporting a gap to its answer, if it is likely to be a round trip.

        With packet loss, nearly every large window has a gap. Without these times, a doubled
        timeout would never shrink again. A late answer is ignored, because the timeout of the peer
        may have caused it. An early answer lowers `min_round_trip` by half of the difference only:
        it may be a block that arrived out of order.
        """
        if self._smoothed and round_trip > max(self._estimated_rto(), self.rto / 2):
            return
        if round_trip < self.min_round_trip:
            round_trip = self.min_round_trip = (self.min_round_trip + round_trip) / 2
        self.add_round_trip(round_trip, is_single=False)

    def _estimated_rto(self) -> float:
        rto = self._smoothed + 4 * self._deviation
        rto = MIN_RTO if rto < MIN_RTO else rto
        return rto if rto < self.max_rto else self.max_rto

    def extend_for_first_window(self, size: int) -> None:
        """Make the timeout longer for the first window than it was for the OACK.

        On a slow link, sending the first window takes many round trips of an OACK. If the window
        were sent again before its ACK can come, its round trip would never be measured (Karn's
        rule).

        @param size: the size of the first window in octets, without headers.
        """
        if self._adaptive:
            self.rto = min(self.rto + size / FIRST_RATE, self.max_rto)

    def back_off(self) -> None:
        """Double the retransmission timeout after a retransmission."""
        if self._adaptive:
            self.rto = min(2 * self.rto, self.max_rto)

    def dally_time(self, shortest: float) -> float:
        """Return how long to dally, in seconds: longer than `shortest` if timeouts are long."""
        return min(max(shortest, 2 * self.max_rto), MAX_DALLY)
