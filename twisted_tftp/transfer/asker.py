"""The state machine that sends a client's RRQ or WRQ until the server answers.

    ASKING --an answer--> ANSWERED
       \\____ERROR, timeout____> FAILED

After that, a `Sender` or a `Receiver` transfers the file.
"""

from __future__ import annotations

from enum import Enum

from twisted_tftp.errors import ErrorCode, NoAnswer, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import Timing

_NEVER = float("inf")

#: Errors that are unlikely as an answer to our own request. They may belong to a client that used
#: our port before. The request is sent again at once, and a second such error is believed.
UNLIKELY_ERRORS = frozenset((ErrorCode.ILLEGAL_OPERATION, ErrorCode.UNKNOWN_TRANSFER_ID))


class AskerState(Enum):
    """The state of an asker; each comment says what it waits for."""

    #: The server's first answer.
    ASKING = "asking"
    #: Nothing: the server has answered, see `answer`.
    ANSWERED = "answered"
    #: Nothing: the request has failed, see `failure` or `peer_error`.
    FAILED = "failed"


class Asker:
    """The machine of one request; `now` is the time in seconds of a monotonic clock.

    @ivar state: an `AskerState`.
    @ivar deadline: when to call `expire`; infinite if there is no deadline.
    @ivar reply: the datagram of a `Step.SEND`: the request.
    @ivar began_at: when the request was first sent.
    @ivar answer: the server's OACK, DATA or ACK, or None.
    @ivar failure: why the request failed, or None.
    @ivar peer_error: code and message of the ERROR that refused the request, or None.
    @ivar retransmissions: how many times the request was sent again.
    @ivar round_trip: seconds from the request to its answer. None if the request was sent again:
        the answer may belong to any of the copies (Karn's rule).
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

    #: No octets of the file have been transferred yet.
    octets = 0
    answered = False
    repeats_first_answer = False

    def __init__(self, request: bytes, reading: bool, timing: Timing) -> None:
        """Set up a machine that has sent nothing yet.

        @param request: the RRQ or WRQ.
        @param reading: whether it is an RRQ. Without options, the answer to an RRQ is DATA 1, and
            the answer to a WRQ is ACK 0.
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
        """Process a datagram from the server's host; one that answers no request is ignored."""
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
        """Process no datagrams in one call (return 0): the first one is the answer."""
        return 0

    def expire(self, now: float) -> Step:
        """Handle the deadline: send the request again, or give up."""
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
