"""Decide when a peer is given up, from the times at which it was heard and was sent something."""

from __future__ import annotations

from twisted_tftp.transfer.timing import Timing

#: The number of datagrams for a peer that has never answered: its address may be forged.
UNANSWERED_DATAGRAMS = 4


class PeerWatch:
    """What a machine knows about its peer; times are in seconds of the machine's clock.

    @ivar answered: whether the peer has answered, which a forged address can't do.
    @ivar heard_at: when it was heard last; at first, when the machine has started.
    @ivar sent_at: when it was sent something last.
    """

    __slots__ = ("_timing", "_unanswered", "answered", "heard_at", "sent_at")

    def __init__(self, timing: Timing, answered: bool = False) -> None:
        """Set up the watch of a peer that was sent nothing yet."""
        self.answered = answered
        self.heard_at = 0.0
        self.sent_at = 0.0
        self._timing = timing
        self._unanswered = 0  # datagrams sent before the peer has answered

    @property
    def give_up_at(self) -> float:
        """When the peer is given up if it sends nothing until then."""
        return self.heard_at + self._timing.patience

    @property
    def is_at_limit(self) -> bool:
        """Whether the peer gets no more datagrams until it answers."""
        return not self.answered and self._unanswered >= UNANSWERED_DATAGRAMS

    def must_give_up(self, now: float) -> bool:
        """Return whether the peer must be given up, if it has not answered until its deadline."""
        return now >= self.give_up_at or self.is_at_limit

    def note_heard(self, now: float) -> None:
        """Note an answer of the peer."""
        self.answered = True
        self.heard_at = now

    def note_sent(self, now: float) -> float:
        """Note that something is sent; return the deadline of its answer."""
        self.sent_at = now
        if not self.answered:
            self._unanswered += 1
        timing = self._timing  # as `answer_due`, without its call
        due, give_up = now + timing.wait, self.heard_at + timing.patience
        return due if due < give_up else give_up

    def answer_due(self, now: float) -> float:
        """Return the deadline of what is expected from `now` on."""
        timing = self._timing
        due, give_up = now + timing.wait, self.heard_at + timing.patience
        return due if due < give_up else give_up  # a third of the time of min()
