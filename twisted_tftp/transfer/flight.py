"""Keep track of the window that a sender has sent last: its blocks, its copies and its ACKs."""

from __future__ import annotations

from twisted_tftp.transfer.timing import Timing

#: How many ACKs after a retransmission may belong to either copy of a window.
AMBIGUOUS_ACKS = 2


class Flight:
    """The last window that was sent; before the first window, the OACK (block 0).

    @ivar start: its first block.
    @ivar end: its last block.
    @ivar highest_sent: the last block that was ever sent.
    @ivar copies: how many times the window was sent.
    @ivar expected_duplicates: how many more duplicate ACKs the copies of the previous window
        can cause.
    @ivar may_measure: whether the window was sent once, so that its ACK gives a round-trip time
        (Karn's rule).
    """

    __slots__ = (
        "_ambiguous_acks",
        "copies",
        "end",
        "expected_duplicates",
        "highest_sent",
        "may_measure",
        "start",
    )

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.highest_sent = 0
        self.copies = 0
        self.expected_duplicates = 0
        self.may_measure = False
        self._ambiguous_acks = 0

    def note_sent(self, start: int, end: int) -> int:
        """Note that the blocks `start` to `end` are sent; return how many were sent before."""
        sent_before = self.highest_sent - start + 1
        self.start = start
        self.end = end
        if sent_before <= 0:
            self.highest_sent = end
            self.copies = 1
            self.may_measure = True
            return 0
        self.highest_sent = max(self.highest_sent, end)
        self.copies += 1
        self.may_measure = False
        return min(sent_before, end - start + 1)

    def note_retransmission(self) -> None:
        """Note that the window is sent again: the next ACKs may belong to any copy of it."""
        self.may_measure = False
        self._ambiguous_acks = AMBIGUOUS_ACKS

    def measure(self, timing: Timing, round_trip: float, answers_window: bool) -> None:
        """Give the time between the window and an ACK to `timing`, if it is a round-trip time.

        @param answers_window: False if the ACK came while the next window was being read from the
            file.
        """
        if self.may_measure:
            self.may_measure = False
            timing.add_round_trip(round_trip, is_single=self.start == self.end)
        elif self._ambiguous_acks:
            self._ambiguous_acks -= 1
            timing.note_answer()
        elif answers_window:
            timing.add_gap_round_trip(round_trip)
