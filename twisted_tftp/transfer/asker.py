"""Ask for a transfer until the server answers: the machine of who sends an RRQ or a WRQ.

    ASKING --an answer--> ANSWERED
       \\____ERROR, silence____> FAILED

What comes after is the business of a `Sender` or a `Receiver`.
"""

from __future__ import annotations

from enum import Enum

from twisted_tftp.errors import ErrorCode, NoAnswer, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import Timing

_NEVER = float("inf")

#: Errors that a request like ours is hardly answered with, but that of a client which had the port
#: before may be. The request is sent again at once, and the second one is believed.
UNLIKELY_ERRORS = frozenset((ErrorCode.ILLEGAL_OPERATION, ErrorCode.UNKNOWN_TRANSFER_ID))


class AskerState(Enum):
    """What the asker awaits."""

    #: The server's first answer.
    ASKING = "asking"
    #: Nothing: `answer` has it.
    ANSWERED = "answered"
    #: Nothing: `failure` or `peer_error` says why.
    FAILED = "failed"


class Asker:
    """Send a request; `now` is seconds of any clock that only grows.

    @ivar state: an `AskerState`.
    @ivar deadline: when to call `expire`; infinite where nothing is awaited.
    @ivar reply: the request, the datagram of a `Step.SEND`.
    @ivar began_at: when the request was sent first.
    @ivar answer: the OACK, DATA or ACK that came, or None.
    @ivar failure: why it ended, or None.
    @ivar peer_error: code and message of the ERROR that refused the request, or None.
    @ivar retransmissions: requests sent again.
    @ivar round_trip: seconds from the request to its answer; None where it was sent again, since
        the answer may be to either (Karn's rule).
    """

    __slots__ = (
        "_asked_at",
        "_first",
        "_has_unlikely_error",
        "_timing",
        "answer",
        "began_at",
        "deadline",
        "failure",
        "peer_error",
        "reply",
        "retransmissions",
        "round_trip",
        "state",
    )

    #: Of the file nothing has gone either way yet.
    octets = 0
    answered = False
    repeats_first_answer = False

    def __init__(self, request: bytes, reading: bool, timing: Timing) -> None:
        """Set up a machine that has sent nothing yet.

        @param request: the RRQ or WRQ.
        @param reading: it is an RRQ, and its answer without options is the first block; of a
            WRQ it is the ACK 0.
        """
        self.state = AskerState.ASKING
        self.deadline = _NEVER
        self.reply = request
        self.answer: bytes | None = None
        self.failure: TFTPError | None = None
        self.peer_error: tuple[int, str] | None = None
        self.retransmissions = 0
        self.round_trip: float | None = None
        self._first = wire.DATA_HEADERS[1] if reading else wire.ACKS[0]
        self._timing = timing
        self._has_unlikely_error = False
        self._asked_at = 0.0
        self.began_at = 0.0

    def start(self, now: float) -> Step:
        """Send the request."""
        self.began_at = now
        return self._ask(now)

    def receive(self, datagram: bytes | memoryview, now: float) -> Step:
        """Take a datagram from the server's host; what answers no request is passed over."""
        if self.state is not AskerState.ASKING:
            return Step.WAIT
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.ERROR:
            error = wire.parse_error(datagram)
            if error[0] in UNLIKELY_ERRORS and not self._has_unlikely_error:
                self._has_unlikely_error = True
                self.retransmissions += 1
                return self._ask(now)
            self.peer_error = error
            return self._end(AskerState.FAILED)
        if opcode == wire.Opcode.OACK or datagram[: wire.HEADER_SIZE] == self._first:
            self.answer = bytes(datagram)
            if not self.retransmissions:
                self.round_trip = now - self._asked_at
            return self._end(AskerState.ANSWERED)
        return Step.WAIT

    def receive_train(self, train: memoryview, size: int, now: float) -> int:
        """Take no datagrams in one piece: the first one is the answer."""
        return 0

    def expire(self, now: float) -> Step:
        """Act on the deadline: ask again, or give up."""
        if now < self.deadline:
            return Step.WAIT
        if now >= self.began_at + self._timing.patience:
            self.failure = NoAnswer()
            return self._end(AskerState.FAILED)
        self._timing.back_off()
        self.retransmissions += 1
        return self._ask(now)

    def _ask(self, now: float) -> Step:
        self._asked_at = now
        self.deadline = min(now + self._timing.wait, self.began_at + self._timing.patience)
        return Step.SEND

    def _end(self, state: AskerState) -> Step:
        self.state = state
        self.deadline = _NEVER
        return Step.END
