"""Decide when a peer is given up, from the times of the last packets from it and to it."""

from __future__ import annotations

from twisted_tftp.transfer.timing import MIN_RTO, Timing

#: The most datagrams that a peer gets before it has answered: its address may be forged.
MAX_UNANSWERED_DATAGRAMS = 4

_NEVER = float("inf")


class PeerWatch:
    """What a machine knows about its peer; times are in seconds of the machine's clock.

    @ivar has_answered: whether the peer has answered, which a forged address can't do.
    @ivar answered_at: when the first packet of it came; infinite before that.
    @ivar heard_at: when a packet of it came last; at first, when the machine started.
    @ivar sent_at: when a packet was sent to it last.
    """

    __slots__ = (
        "_timing",
        "_unanswered",
        "answered_at",
        "has_answered",
        "heard_at",
        "sent_at",
    )

    def __init__(self, timing: Timing, has_answered: bool = False) -> None:
        """Set up the watch of a peer to which nothing was sent yet."""
        self.has_answered = has_answered
        self.answered_at = _NEVER
        self.heard_at = 0.0
        self.sent_at = 0.0
        if has_answered:
            timing.note_answer()
        self._timing = timing
        self._unanswered = 0  # datagrams sent before the peer has answered

    @property
    def give_up_at(self) -> float:
        """When the peer is given up if it sends nothing until then."""
        return self.heard_at + self._timing.idle_limit

    @property
    def is_at_datagram_limit(self) -> bool:
        """Whether the peer gets no more datagrams until it answers."""
        return not self.has_answered and self._unanswered >= MAX_UNANSWERED_DATAGRAMS

    def must_give_up(self, now: float) -> bool:
        """Return whether the peer must be given up `now`, when a deadline has passed."""
        return now >= self.give_up_at or self.is_at_datagram_limit

    def is_overdue(self, now: float) -> bool:
        """Return whether a peer that had never answered would be given up after this silence."""
        return now - self.heard_at >= self._timing.first_answer_limit

    def is_too_soon(self, now: float) -> bool:
        """Return whether a packet that arrives `now` comes too early to answer the last one sent.

        It then answers an earlier one. Half of a round trip is left as a margin for jitter.
        """
        return now - self.sent_at < min(self._timing.min_round_trip, self._timing.rto) / 2

    def look_at(self, deadline: float, now: float) -> float:
        """Return when to look at a flow: at the deadline, or before it if it may move.

        The alarm is not moved if a flow measures a round trip that makes the timeout shorter.
        After the first one, the deadline is four round trips after the OACK. So it is early
        enough to look after `MIN_RTO`, and each time after four times as long.
        """
        if deadline <= now + 2 * MIN_RTO or not self._timing.may_shrink:
            return deadline
        return min(deadline, now + max(MIN_RTO, 3 * (now - self.sent_at)))

    def note_heard(self, now: float) -> None:
        """Note an answer of the peer."""
        self.has_answered = True
        self.heard_at = now
        if now < self.answered_at:
            self.answered_at = now
        self._timing.note_answer()

    def back_off(self, now: float) -> None:
        """Make the retransmission timeout longer, when a packet is sent again."""
        self._timing.back_off(now - self.heard_at if self.has_answered else 0.0)

    def note_sent(self, now: float) -> float:
        """Note that a packet is sent; return the deadline for its answer."""
        self.sent_at = now
        if not self.has_answered:
            self._unanswered += 1
        timing = self._timing  # as `answer_deadline`, without its call
        due, give_up = now + timing.rto, self.heard_at + timing.idle_limit
        return due if due < give_up else give_up

    def answer_deadline(self, now: float) -> float:
        """Return the deadline for the next packet of the peer, if the wait for it begins `now`."""
        timing = self._timing
        due, give_up = now + timing.rto, self.heard_at + timing.idle_limit
        return due if due < give_up else give_up  # a third of the time of min()
