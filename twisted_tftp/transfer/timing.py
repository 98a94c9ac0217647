"""The retransmission timeout (RTO) of a transfer, and the idle limit after which it is given up.

The timeout is that of RFC 6298: the smoothed round-trip time plus four times its
variation, doubled at each retransmission, and limited by a lowest and a highest value. A doubled
timeout stays until a round-trip time is measured again. So a load that slows down every answer
does not cause a storm of retransmissions (RFC 6298 section 5.7).

After a long silence the timeout may exceed its highest value, until the peer answers. So a peer
that is silent for a minute, because it erases its flash memory, gets few datagrams meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_tftp.policy import DEFAULT_PATIENCE, DEFAULT_RETRIES, Policy, Retransmit

#: The shortest retransmission timeout, in seconds: longer than the pauses of firmware clients.
MIN_RTO = 0.02

#: The silence after which the retransmission timeout may exceed `max_rto`, in seconds.
LONG_SILENCE = 10.0

#: The longest retransmission timeout after a long silence, in seconds, if `max_rto` is shorter.
LONG_SILENCE_RTO = 5.0

#: The shortest timeout that RFC 2349 allows, in seconds. `utimeout` negotiates shorter ones.
MIN_RFC_TIMEOUT = 1.0

#: The fewest timeouts that make up the idle limit, if the client has negotiated the timeout: the
#: client repeats a lost datagram after one timeout, and a second loss must not end the transfer.
MIN_NEGOTIATED_TIMEOUTS = 2

#: The shortest time between two measurements of the round-trip time, in seconds.
MEASURE_INTERVAL = MIN_RTO / 2

#: How long a repeated last block is acknowledged again, in seconds. Clients repeat it after 5
#: seconds, or after the timeout that they have negotiated.
DALLY = 10.0

#: The longest time of dallying, in seconds: a client must not choose how long it keeps a socket.
MAX_DALLY = 60.0

#: The rate that is assumed for the first window, before it is measured, in octets per second.
FIRST_RATE = 1_250_000

_NEVER = float("inf")

# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
_ADAPTIVE = Retransmit.ADAPTIVE


class Timing:
    """The timeouts of one transfer, in seconds.

    @ivar rto: the current retransmission timeout.
    @ivar min_round_trip: the shortest measured round-trip time; 0 until that of a single datagram
        was measured.
    @ivar max_rto: the longest retransmission timeout before a long silence.
    @ivar idle_limit: the peer is given up if it sends nothing for so long: `first_answer_limit` or
        `patience`.
    @ivar first_answer_limit: the idle limit of a peer that has never answered, or whose port seems
        to be closed.
    @ivar patience: the idle limit of a peer that has answered.
    """

    __slots__ = (
        "_adaptive",
        "_deviation",
        "_long_silence",
        "_smoothed",
        "first_answer_limit",
        "idle_limit",
        "max_rto",
        "min_round_trip",
        "patience",
        "rto",
    )

    def __init__(
        self,
        *,
        first: float,
        max_rto: float,
        retries: int | None = None,
        patience: float = DEFAULT_PATIENCE,
        adaptive: bool = True,
        is_negotiated: bool = False,
    ) -> None:
        """Set up the timeouts before anything was measured.

        @param first: the first retransmission timeout; `max_rto` if that is shorter.
        @param max_rto: the longest retransmission timeout before a long silence. If not adaptive,
            every timeout has this value (RFC 2349).
        @param retries: the peer is given up if it sends nothing for `retries` times `max_rto`, and
            no timeout exceeds `max_rto`; None for a time in seconds.
        @param patience: the peer is given up after so many seconds of silence, without `retries`.
        @param adaptive: whether the timeout follows the measured round-trip times.
        @param is_negotiated: whether the peers have negotiated `max_rto`. No timeout exceeds it
            then, unless it is shorter than RFC 2349 allows.
        """
        #: The silence after which the timeout may exceed `max_rto`.
        self._long_silence = _NEVER
        if retries is None:
            if not is_negotiated:
                self._long_silence = LONG_SILENCE
                max_rto = max_rto if max_rto < patience else patience
            elif max_rto < MIN_RFC_TIMEOUT and not adaptive:
                retries = DEFAULT_RETRIES  # a longer silence would cost very many datagrams
            else:
                patience = max(patience, MIN_NEGOTIATED_TIMEOUTS * max_rto)
                if max_rto < MIN_RFC_TIMEOUT:
                    self._long_silence = DEFAULT_RETRIES * max_rto
        self.rto = first if adaptive and first < max_rto else max_rto
        self.max_rto = max_rto
        self.min_round_trip = self._smoothed = self._deviation = 0.0
        self._adaptive = adaptive
        limit = (retries or DEFAULT_RETRIES) * max_rto
        self.patience = patience = patience if retries is None else limit
        self.idle_limit = self.first_answer_limit = limit if limit < patience else patience

    @classmethod
    def of(cls, policy: Policy, timeout: float | None) -> Timing:
        """Return the timeouts of `policy`, with the negotiated `timeout` in seconds, if any."""
        return cls(
            first=policy.timeout,
            max_rto=timeout or policy.timeout,
            retries=policy.retries,
            patience=policy.patience,
            adaptive=policy.retransmit is _ADAPTIVE,
            is_negotiated=timeout is not None,
        )

    def add_round_trip(self, round_trip: float, is_single: bool = True) -> None:
        """Add the round-trip time of something that was sent only once (Karn's rule).

        @param is_single: whether it was a single datagram: to send a window takes more time.
        """
        self.add_round_trips((round_trip,), is_single)

    def add_round_trips(self, round_trips: Sequence[float], is_single: bool) -> None:
        """Add several round-trip times, the earliest first; see `add_round_trip`."""
        shortest, smoothed, deviation = self.min_round_trip, self._smoothed, self._deviation
        for round_trip in round_trips:
            if round_trip < shortest or (is_single and not shortest):
                shortest = round_trip
            if not smoothed:
                smoothed = round_trip or 1e-6
                deviation = round_trip / 2
            else:
                error = round_trip - smoothed
                smoothed += error / 8
                deviation += ((error if error > 0 else -error) - deviation) / 4
        self.min_round_trip, self._smoothed, self._deviation = shortest, smoothed, deviation
        if round_trips and self._adaptive:
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

    @property
    def may_shrink(self) -> bool:
        """Whether the next measured round trip may make the timeout much shorter.

        That is so before the first one was measured, and after a retransmission.
        """
        return self._adaptive and self.rto > self._estimated_rto()

    @property
    def is_much_too_long(self) -> bool:
        """Whether the next measured round trip may make the timeout shorter by a third or more.

        That is so after a retransmission, which doubles it.
        """
        return self._adaptive and self.rto >= 1.5 * self._estimated_rto()

    def back_off(self, silence: float = 0.0) -> None:
        """Double the retransmission timeout after a retransmission.

        @param silence: how long the peer has sent nothing, in seconds; 0 if it has never answered.
        """
        if self._adaptive:
            longest = self.max_rto
            if silence >= self._long_silence and longest < LONG_SILENCE_RTO:
                longest = LONG_SILENCE_RTO
            self.rto = min(2 * self.rto, longest)

    def note_answer(self) -> None:
        """Note an answer of the peer: from now on, `patience` and `max_rto` are the limits."""
        self.idle_limit = self.patience
        if self.rto > self.max_rto:
            self.rto = self.max_rto

    def note_port_unreachable(self) -> None:
        """Use `first_answer_limit` until the next answer: the peer's port seems to be closed."""
        self.idle_limit = self.first_answer_limit

    def dally_time(self, shortest: float) -> float:
        """Return how long to dally, in seconds: longer than `shortest` if timeouts are long."""
        return min(max(shortest, 2 * self.max_rto), MAX_DALLY)
