"""The state machine that receives a file's blocks (a write on the server, a get of the client).

    RECEIVING --window full, gap or last block--> STORING --stored--> RECEIVING
    STORING --the last octets are stored--> DALLYING --timeout--> DONE
        \\________________________________________________________> FAILED

Blocks are counted from 1 without end; only the numbers on the wire have 16 bits. An ACK is sent
after the octets that it acknowledges are stored.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from struct import Struct

from twisted_tftp.errors import IllegalOperation, TFTPError, TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.blocks import Numbering
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import MEASURE_INTERVAL, UNANSWERED_DATAGRAMS, Timing

#: How long a repeated last block is acknowledged again, in seconds. Clients repeat it after 5
#: seconds, or after the timeout that they have negotiated.
DALLY = 10.0

#: The longest time of dallying, in seconds: a client must not choose how long it keeps a socket.
MAX_DALLY = 60.0

_NEVER = float("inf")

#: `Step.WAIT`: a global is ten times as fast to look up as an enum member.
_WAIT = Step.WAIT

#: The DATA header of block number 0, as a 32-bit number.
_DATA = wire.Opcode.DATA << 16


@lru_cache(128)  # each Struct takes some kilobytes
def _layouts(count: int, blksize: int) -> tuple[Struct, Struct]:
    """Return two parsers of `count` full DATA packets: of their headers, and of their blocks."""
    return Struct(">" + f"I{blksize}x" * count), Struct(f"4x{blksize}s" * count)


class ReceiverState(Enum):
    """The state of a receiver; each comment says what it waits for."""

    #: The next block.
    RECEIVING = "receiving"
    #: The session's call of `stored`, after it has stored what `take` returned.
    STORING = "storing"
    #: A repeated last block, which comes if its ACK was lost.
    DALLYING = "dallying"
    #: Nothing: the file is complete.
    DONE = "done"
    #: Nothing: the transfer has failed, see `failure` or `peer_error`.
    FAILED = "failed"


class Receiver:
    """The machine of one receiving transfer; `now` is the time in seconds of a monotonic clock.

    @ivar state: a `ReceiverState`.
    @ivar deadline: when to call `expire`; infinite if there is no deadline.
    @ivar reply: the datagram of a `Step.SEND`.
    @ivar complete: whether the last block has arrived.
    @ivar failure: the failure to report to the peer after a `Step.END`, or None.
    @ivar peer_error: code and message of the ERROR that ended the transfer, or None.
    @ivar answered: whether the peer has answered, which a forged address can't do.
    @ivar retransmissions: datagrams that were sent again.
    """

    __slots__ = (
        "_ack_at",
        "_acked",
        "_blksize",
        "_blocks",
        "_dally",
        "_expected",
        "_full_size",
        "_gap_reported",
        "_gap_reported_at",
        "_heard_at",
        "_may_measure",
        "_measure_at",
        "_numbering",
        "_received",
        "_sent_at",
        "_short_by",
        "_timing",
        "_unanswered",
        "_windowsize",
        "answered",
        "complete",
        "deadline",
        "failure",
        "peer_error",
        "reply",
        "retransmissions",
        "state",
    )

    def __init__(
        self,
        *,
        blksize: int,
        windowsize: int,
        first_reply: bytes | None,
        timing: Timing,
        rollover: Rollover = Rollover.ZERO,
        dally: float = DALLY,
    ) -> None:
        """Set up a machine that has sent nothing yet.

        @param blksize: octets of a block; a shorter block is the last one.
        @param windowsize: blocks that one ACK acknowledges (RFC 7440).
        @param first_reply: the datagram that `start` sends: the OACK, or ACK 0 if there is none.
            None for a client whose request was answered with DATA 1.
        @param dally: seconds for which a repeated last block is acknowledged again, at least.
        """
        self.state = ReceiverState.RECEIVING
        self.deadline = _NEVER
        self.reply = first_reply or b""
        self.complete = False
        self._short_by = 0  # octets by which the last block is shorter than the others
        self._full_size = blksize + wire.HEADER_SIZE
        #: The header of the next block on the hot path; None if `_unexpected` must handle it.
        self._expected: bytes | None = None
        self.failure: TFTPError | None = None
        self.peer_error: tuple[int, str] | None = None
        self.answered = False
        self.retransmissions = 0
        self._blksize = blksize
        self._windowsize = windowsize
        self._timing = timing
        self._dally = dally
        self._numbering = Numbering(rollover)
        self._blocks: list[bytes] = []  # received in order, not yet returned by `take`
        self._received = 0  # the last block received in order
        self._acked = 0  # the last block that was acknowledged
        self._ack_at = windowsize  # the block whose arrival triggers the next ACK
        self._gap_reported = False  # the ACK that reports the present gap was sent
        self._gap_reported_at = -_NEVER  # when the last gap was reported
        self._may_measure = False  # the last ACK was sent once: time its answer (Karn's rule)
        self._unanswered = 0  # sent before the peer has answered
        self._sent_at = 0.0
        self._heard_at = 0.0
        self._measure_at = 0.0

    @property
    def octets(self) -> int:
        """Octets of the file that were received in order."""
        return self._received * self._blksize - self._short_by

    @property
    def ack(self) -> bytes:
        """The ACK of the last block that was received in order."""
        return wire.ack(self._numbering.number(self._received))

    @property
    def repeats_first_answer(self) -> bool:
        """Whether the next datagram that it sends could be taken for the answer to a request."""
        return self._received == 0

    @property
    def wait(self) -> float:
        """The present retransmission timeout in seconds."""
        return self._timing.wait

    def start(self, now: float) -> Step:
        """Send the first reply."""
        self._heard_at = now
        if not self.reply:
            self._await_block(now)
            return Step.WAIT
        self._may_measure = True
        return self._send(now)

    def repeat(self, now: float) -> Step:
        """Handle a repeated request: send the first reply again, unless it was answered."""
        if self.answered:
            self._heard_at = now
            return Step.WAIT
        if self._unanswered >= UNANSWERED_DATAGRAMS:
            return Step.WAIT
        return self._send_again(now)

    def receive(self, datagram: bytes | memoryview, now: float) -> Step:
        """Process a datagram from the peer's address and port; its octets are copied."""
        if datagram[: wire.HEADER_SIZE] == self._expected and len(datagram) == self._full_size:
            # The hot path: the next block.
            self._received = received = self._received + 1
            self._heard_at = now
            self._blocks.append(bytes(datagram[wire.HEADER_SIZE :]))
            if received >= self._ack_at:
                return self._store()
            self._expected = wire.DATA_HEADERS[(received + 1) & 0xFFFF]
            self.deadline = now + self._timing.wait
            return _WAIT
        return self._unexpected(datagram, now)

    def receive_train(self, train: memoryview, size: int, now: float) -> int:
        """Process datagrams of `size` octets each from one buffer; return how many were processed.

        Only datagrams that are the next blocks in the middle of a window are processed; the caller
        passes the rest to `receive`. One call parses all headers, and another one all blocks: this
        costs a sixth of processing them one by one.
        """
        if self._expected is None or size != self._full_size:
            return 0
        number = (self._received + 1) & 0xFFFF
        count = min(len(train) // size, self._ack_at - 1 - self._received)
        count = min(count, 0x10000 - number)  # after 65535 the headers do not increase
        if not count:
            return 0
        headers, blocks = _layouts(count, self._blksize)
        expected = range(_DATA + number, _DATA + number + count)
        found = headers.unpack_from(train)
        if found != tuple(expected):
            count = next(at for at in range(count) if found[at] != expected[at])
            if not count:
                return 0
            _, blocks = _layouts(count, self._blksize)
        self._blocks += blocks.unpack_from(train)
        self._received = received = self._received + count
        self._heard_at = now
        self._expected = wire.DATA_HEADERS[(received + 1) & 0xFFFF]
        self.deadline = now + self._timing.wait
        return count

    def _unexpected(self, datagram: bytes | memoryview, now: float) -> Step:
        """Process any datagram that is not the next block in the middle of a window."""
        if len(datagram) < wire.HEADER_SIZE or datagram[0]:
            return Step.WAIT
        if datagram[1] != 3:
            return self._receive_other(datagram)
        number = datagram[2] << 8 | datagram[3]
        if self.state is not ReceiverState.RECEIVING:
            return self._receive_late(number, now)
        ahead = self._numbering.ahead(number, self._received + 1)
        if ahead:
            return self._receive_out_of_order(ahead, number, now)
        length = len(datagram) - wire.HEADER_SIZE
        if length > self._blksize:
            return self._fail(
                IllegalOperation(f"a block has more than the negotiated {self._blksize} octets")
            )
        self.answered = True
        self._heard_at = now
        if self._may_measure:
            self._may_measure = False
            self._timing.measured(now - self._sent_at)
            self._measure_at = now + MEASURE_INTERVAL
        elif self._gap_reported:
            self._timing.confirmed(now - self._sent_at)
        self._received += 1
        self._gap_reported = False
        self._blocks.append(bytes(datagram[wire.HEADER_SIZE :]))
        if length < self._blksize:
            self.complete = True
            self._short_by = self._blksize - length
            return self._store()
        if self._received == self._numbering.limit:
            return self._fail(
                TFTPError("the file needs more than 65,535 blocks: ask for a larger blksize")
            )
        if self._received >= self._ack_at:
            return self._store()
        if self._numbering.plain:
            self._expected = wire.DATA_HEADERS[(self._received + 1) & 0xFFFF]
        self._await_block(now)
        return Step.WAIT

    def take(self) -> bytes:
        """Return the octets received in order since the last call."""
        blocks = self._blocks
        if len(blocks) == 1:
            return blocks.pop()
        octets = b"".join(blocks)
        blocks.clear()
        return octets

    def stored(self, now: float) -> Step:
        """Acknowledge what `take` returned: it is stored, and a complete file is committed."""
        repeated = self._acked == self._received
        self._acked = self._received
        self._ack_at = self._received + self._windowsize
        self.reply = self.ack
        if self.complete:
            self.state = ReceiverState.DALLYING
            self._sent_at = now
            self.deadline = now + min(max(self._dally, 2 * self._timing.longest), MAX_DALLY)
            return Step.SEND
        self.state = ReceiverState.RECEIVING
        if repeated:
            self.retransmissions += 1
        # After a gap, the next block may be one that arrives late, and not an answer to this ACK.
        plain = not (repeated or self._gap_reported)
        self._may_measure = plain and now >= self._measure_at
        step = self._send(now)
        if plain and not self._may_measure and self.answered and self._numbering.plain:
            self._expected = wire.DATA_HEADERS[(self._received + 1) & 0xFFFF]
        return step

    def expire(self, now: float) -> Step:
        """Handle the deadline: send the ACK again, give up, or stop dallying."""
        if now < self.deadline:
            return Step.WAIT
        if self.state is ReceiverState.DALLYING:
            return self._end(ReceiverState.DONE)
        if now >= self._heard_at + self._timing.patience or (
            not self.answered and self._unanswered >= UNANSWERED_DATAGRAMS
        ):
            return self._fail(TransferTimedOut())
        if self.state is ReceiverState.STORING:
            self.deadline = self._heard_at + self._timing.patience
            return Step.WAIT
        self._timing.back_off()
        if self._acked != self._received:
            return self._store()
        return self._send_again(now)

    def _receive_other(self, datagram: bytes | memoryview) -> Step:
        if datagram[1] != wire.Opcode.ERROR:
            return Step.WAIT
        if self.state is ReceiverState.DALLYING:
            return self._end(ReceiverState.DONE)
        if self.complete:
            return Step.WAIT  # too late: the file is complete and is being committed
        self.peer_error = wire.parse_error(datagram)
        return self._end(ReceiverState.FAILED)

    def _receive_late(self, number: int, now: float) -> Step:
        """Process a block that arrives while octets are stored, or after the last block."""
        self._heard_at = now
        last = self._numbering.number(self._received)
        if self.state is ReceiverState.DALLYING and number == last:
            self.retransmissions += 1
            return Step.SEND
        return Step.WAIT

    def _receive_out_of_order(self, ahead: int, number: int, now: float) -> Step:
        """Process a block that is ahead (after a gap) or behind (of a window sent again)."""
        self._expected = None
        if ahead < self._windowsize:
            self.answered = True
            self._heard_at = now
            self._await_block(now)
            # A gap so soon after the last one is in the same window, which is sent again whole.
            if self._gap_reported or now - self._gap_reported_at < self._timing.least / 2:
                return Step.WAIT
            self._gap_reported = True
            self._gap_reported_at = now
            return self._store()
        # A repeated block is less than a window behind the newest one.
        reach = min(self._windowsize, self._received)
        oldest = self._received - reach + 1
        behind = self._numbering.ahead(number, oldest) if reach else 0
        if behind >= reach:
            return Step.WAIT
        block = oldest + behind
        if self._windowsize == 1 or now - self._heard_at >= self._timing.least / 2:
            # There was a pause, so the ACK was lost, and the peer sends the window again from this
            # block on. The window ends `windowsize` blocks later: no block would come after that.
            # (Without a pause, the network has duplicated the block.)
            self._ack_at = min(self._ack_at, block + self._windowsize - 1)
        self._heard_at = now
        self._await_block(now)
        if block == self._received and self._received >= self._ack_at:
            return self._store()
        return Step.WAIT

    def _store(self) -> Step:
        """Ask the session to store the received blocks; `stored` sends the ACK."""
        self._expected = None
        self.state = ReceiverState.STORING
        # A complete file is committed even if the peer is gone.
        self.deadline = _NEVER if self.complete else self._heard_at + self._timing.patience
        return Step.STORE

    def _await_block(self, now: float) -> None:
        self.deadline = min(now + self._timing.wait, self._heard_at + self._timing.patience)

    def _send_again(self, now: float) -> Step:
        self._may_measure = False
        self.retransmissions += 1
        return self._send(now)

    def _send(self, now: float) -> Step:
        self._sent_at = now
        if not self.answered:
            self._unanswered += 1
        self._await_block(now)
        return Step.SEND

    def _fail(self, failure: TFTPError) -> Step:
        self.failure = failure
        return self._end(ReceiverState.FAILED)

    def _end(self, state: ReceiverState) -> Step:
        self.state = state
        self.deadline = _NEVER
        self._expected = None
        self._blocks.clear()
        return Step.END
