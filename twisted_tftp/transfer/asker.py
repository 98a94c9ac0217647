"""The state machine that sends a client's RRQ or WRQ until the server answers.

Its states::

    ASKING --an answer--> ANSWERED
       \\____ERROR, timeout____> FAILED

After that, a `Sender` or a `Receiver` transfers the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_tftp.errors import ErrorCode, NoAnswer, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import END, SEND, WAIT, Buffer, Step
from twisted_tftp.transfer.peer_watch import PeerWatch
from twisted_tftp.transfer.states import AskerState
from twisted_tftp.transfer.timing import Timing

_NEVER = float("inf")

#: Errors that are unlikely as an answer to our own request: they may be for a client that used our
#: port before. After the first one the request is sent again at once; the second one ends it.
UNLIKELY_ERRORS = frozenset((ErrorCode.ILLEGAL_OPERATION, ErrorCode.UNKNOWN_TRANSFER_ID))


class Asker:
    """The L{Machine} of one request.

    @ivar state: an `AskerState`.
    @ivar answer: the server's OACK, DATA or ACK, or None.
    @ivar round_trip: seconds from the request to its answer. None if the request was sent again:
        the answer may belong to any of the copies (Karn's rule).
    """

    __slots__ = (
        "_first_header",
        "_has_unlikely_error",
        "_is_unreachable",
        "_patience",
        "_unreachable_errors",
        "_watch",
        "answer",
        "datagrams",
        "deadline",
        "failure",
        "peer_error",
        "retransmissions",
        "round_trip",
        "state",
    )

    def __init__(
        self, request: bytes, is_read: bool, timing: Timing, patience: float | None = None
    ) -> None:
        """Set up a machine that has sent nothing yet.

        @param request: the RRQ or WRQ.
        @param is_read: whether it is an RRQ. Without options, the answer to an RRQ is DATA 1, and
            the answer to a WRQ is ACK 0.
        @param patience: how long to wait for an answer, in seconds; None for that of `timing`.
        """
        self.state = AskerState.ASKING
        self.deadline = _NEVER
        self.datagrams: Sequence[Buffer] = (request,)
        self.answer: bytes | None = None
        self.failure: TFTPError | None = None
        self.peer_error: tuple[int, str] | None = None
        self.retransmissions = 0
        self.round_trip: float | None = None
        self._first_header = wire.DATA_HEADERS[1] if is_read else wire.ACKS[0]
        self._patience = timing.patience if patience is None else patience
        # The user has chosen the server's address, so it is not forged.
        self._watch = PeerWatch(timing, has_answered=True)
        self._has_unlikely_error = False
        self._unreachable_errors = 0
        self._is_unreachable = False

    def start(self, now: float) -> Step:
        """Send the request."""
        self._watch.heard_at = now
        return self._ask(now)

    def receive(self, datagram: Buffer, now: float) -> Step:
        """Process a datagram from the server's host; ignore it if it is no answer to a request."""
        if self.state is not AskerState.ASKING:
            return WAIT
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.ERROR:
            error = wire.parse_error(datagram)
            if error[0] in UNLIKELY_ERRORS and not self._has_unlikely_error:
                self._has_unlikely_error = True
                self.retransmissions += 1
                return self._ask(now)
            self.peer_error = error
            return self._end(AskerState.FAILED)
        if opcode == wire.Opcode.OACK or datagram[: wire.HEADER_SIZE] == self._first_header:
            self.answer = bytes(datagram)
            if not self.retransmissions:
                self.round_trip = now - self._watch.sent_at
            return self._end(AskerState.ANSWERED)
        return WAIT

    def note_unreachable(self, now: float, more_tries: int) -> None:
        """Note that the server can't be reached `now`, as an ICMP error has reported.

        @param more_tries: how many such errors are allowed. The next one moves the deadline to
            `now`, and the request fails then.
        """
        self._unreachable_errors += 1
        if self._unreachable_errors > more_tries and self.state is AskerState.ASKING:
            self._is_unreachable = True
            self.deadline = now

    def expire(self, now: float) -> Step:
        """Handle the deadline: send the request again, or give up."""
        if now < self.deadline:
            return WAIT
        if self._is_unreachable or now >= self._watch.heard_at + self._patience:
            self.failure = NoAnswer()
            return self._end(AskerState.FAILED)
        self._watch.back_off(now)
        self.retransmissions += 1
        return self._ask(now)

    def _ask(self, now: float) -> Step:
        due, give_up_at = self._watch.note_sent(now), self._watch.heard_at + self._patience
        self.deadline = min(due, give_up_at)
        return SEND

    def _end(self, state: AskerState) -> Step:
        self.state = state
        self.deadline = _NEVER
        return END
