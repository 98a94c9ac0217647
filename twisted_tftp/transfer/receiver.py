"""The state machine that receives a file: a write on the server, a download of the client.

Its states::

    RECEIVING --window full, gap or last block--> STORING --stored--> RECEIVING
    STORING --the last octets are stored--> DALLYING --timeout--> DONE
        \\________________________________________________________> FAILED

Blocks are counted from 1 without end; only the numbers on the wire have 16 bits. An ACK is sent
after the octets that it acknowledges are stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_tftp.errors import IllegalOperation, TFTPError, TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.blocks import numbering_of, too_many_blocks
from twisted_tftp.transfer.gap_report import GapReport
from twisted_tftp.transfer.machine import END, SEND, STORE, WAIT, Buffer, Step
from twisted_tftp.transfer.peer_watch import PeerWatch
from twisted_tftp.transfer.states import ReceiverState
from twisted_tftp.transfer.timing import DALLY, MEASURE_INTERVAL, Timing
from twisted_tftp.transfer.trains import blocks_of

_NEVER = float("inf")


class Receiver:
    """The L{TransferMachine} of one receiving transfer.

    @ivar state: a `ReceiverState`.
    @ivar is_complete: whether the last block has arrived.
    """

    __slots__ = (
        "_ack_at",
        "_acked",
        "_blksize",
        "_blocks",
        "_dally",
        "_full_size",
        "_gap",
        "_may_measure",
        "_measure_at",
        "_next_header",
        "_numbering",
        "_received",
        "_short_by",
        "_timing",
        "_watch",
        "_windowsize",
        "datagrams",
        "deadline",
        "failure",
        "is_complete",
        "peer_error",
        "retransmissions",
        "state",
    )

    def __init__(
        self,
        *,
        blksize: int,
        windowsize: int,
        first_answer: bytes | None,
        timing: Timing,
        rollover: Rollover = Rollover.ZERO,
        dally: float = DALLY,
        has_answered: bool = False,
    ) -> None:
        """Set up a machine that has sent nothing yet.

        @param blksize: octets of a block; a shorter block is the last one.
        @param windowsize: blocks that one ACK acknowledges (RFC 7440).
        @param first_answer: the datagram that `start` sends: the OACK, or ACK 0 if there is none.
            None for a client that has got DATA 1 as the answer to its request.
        @param dally: how long a repeated last block is acknowledged again, at least, in seconds.
        @param has_answered: whether the peer has answered before.
        """
        self.state = ReceiverState.RECEIVING
        self.deadline = _NEVER
        self.datagrams: Sequence[Buffer] = () if first_answer is None else (first_answer,)
        self.is_complete = False
        self._short_by = 0  # octets by which the last block is shorter than the others
        self._full_size = blksize + wire.HEADER_SIZE
        #: The header of the next block; None if `_receive_unexpected` must handle every block.
        self._next_header: bytes | None = None
        self.failure: TFTPError | None = None
        self.peer_error: tuple[int, str] | None = None
        self.retransmissions = 0
        self._blksize = blksize
        self._windowsize = windowsize
        self._timing = timing
        self._watch = PeerWatch(timing, has_answered)
        self._dally = dally
        self._numbering = numbering_of(rollover)
        self._blocks: list[bytes] = []  # received in order, not yet returned by `take`
        self._received = 0  # the last block received in order
        self._acked = 0  # the last block that was acknowledged
        self._ack_at = windowsize  # the block whose arrival triggers the next ACK
        self._gap = GapReport()
        self._may_measure = False  # the last ACK was sent once; time its answer (Karn's rule)
        self._measure_at = 0.0  # when the hot path measures a round trip again

    @property
    def has_answered(self) -> bool:
        """Whether the peer has answered, which a forged address can't do."""
        return self._watch.has_answered

    @property
    def answered_at(self) -> float:
        """When the peer's first packet came; infinite before that."""
        return self._watch.answered_at

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
        """Whether its next datagram could be mistaken for the answer to a request."""
        return self._received == 0

    def start(self, now: float) -> Step:
        """Send the first answer."""
        self._watch.heard_at = now
        if not self.datagrams:
            self.deadline = self._watch.answer_deadline(now)
            return WAIT
        self._may_measure = True
        self.deadline = self._watch.note_sent(now)
        return SEND

    def repeat(self, now: float) -> Step:
        """Handle a repeated request: send the first answer again, unless it was answered."""
        if self._watch.has_answered:
            self._watch.heard_at = now
            return WAIT
        return WAIT if self._watch.is_at_datagram_limit else self._send_again(now)

    def is_overdue(self, now: float) -> bool:
        """Return whether a peer that had never answered would be given up after this silence."""
        return not self.is_complete and self._watch.is_overdue(now)

    def note_port_unreachable(self) -> None:
        """Note that the peer's port seems to be closed: wait less, until its next packet."""
        self._timing.note_port_unreachable()
        # The hot path would not end the shorter wait: leave it, also after the next ACK.
        self._next_header = None
        self._measure_at = 0.0

    def receive(self, datagram: Buffer, now: float) -> Step:
        """Process a datagram from the peer's address and port; its octets are copied."""
        if datagram[: wire.HEADER_SIZE] == self._next_header and len(datagram) == self._full_size:
            # The hot path: the next block.
            self._received = received = self._received + 1
            self._watch.heard_at = now
            self._blocks.append(bytes(datagram[wire.HEADER_SIZE :]))
            if received >= self._ack_at:
                return self._store()
            self._next_header = wire.DATA_HEADERS[(received + 1) & 0xFFFF]
            self.deadline = now + self._timing.rto
            return WAIT
        return self._receive_unexpected(datagram, now)

    def receive_train(self, train: memoryview, size: int, now: float) -> int:
        """Process datagrams of `size` octets each from one buffer; return how many were processed.

        Only datagrams that are the next blocks in the middle of a window are processed; the caller
        passes the rest to `receive`. One call parses all headers, and another one all blocks: this
        costs a sixth of processing them one by one.
        """
        if self._next_header is None or size != self._full_size:
            return 0
        wanted = min(len(train) // size, self._ack_at - 1 - self._received)
        blocks = blocks_of(train, self._received + 1, wanted, self._blksize)
        count = len(blocks)
        if count:
            self._blocks += blocks
            self._received = received = self._received + count
            self._watch.heard_at = now
            self._next_header = wire.DATA_HEADERS[(received + 1) & 0xFFFF]
            self.deadline = now + self._timing.rto
        return count

    def _receive_unexpected(self, datagram: Buffer, now: float) -> Step:
        """Process any datagram that is not the next block in the middle of a window."""
        if len(datagram) < wire.HEADER_SIZE or datagram[0]:
            return WAIT
        if datagram[1] != 3:
            return self._receive_other(datagram)
        number = datagram[2] << 8 | datagram[3]
        if self.state is not ReceiverState.RECEIVING:
            return self._receive_late(number, now)
        ahead = self._numbering.blocks_ahead(number, self._received + 1)
        if ahead:
            return self._receive_out_of_order(ahead, number, now)
        return self._receive_next(datagram, now)

    def _receive_next(self, datagram: Buffer, now: float) -> Step:
        """Process the next block."""
        length = len(datagram) - wire.HEADER_SIZE
        if length > self._blksize:
            text = f"a block has more than the negotiated {self._blksize} octets"
            return self._end(ReceiverState.FAILED, IllegalOperation(text))
        watch = self._watch
        watch.note_heard(now)
        if self._may_measure:
            self._may_measure = False
            self._timing.add_round_trip(now - watch.sent_at)
            self._measure_at = now + MEASURE_INTERVAL
        elif self._gap.is_reported:
            self._timing.add_gap_round_trip(now - watch.sent_at)
        self._received += 1
        self._gap.is_reported = False
        self._blocks.append(bytes(datagram[wire.HEADER_SIZE :]))
        if length < self._blksize:
            self.is_complete = True
            self._short_by = self._blksize - length
            return self._store()
        if self._received == self._numbering.limit:
            return self._end(ReceiverState.FAILED, too_many_blocks())
        if self._received >= self._ack_at:
            return self._store()
        if self._numbering.wraps_to_0:
            self._next_header = wire.DATA_HEADERS[(self._received + 1) & 0xFFFF]
        self.deadline = watch.answer_deadline(now)
        return WAIT

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
        self.datagrams = (self.ack,)
        if self.is_complete:
            self.state = ReceiverState.DALLYING
            self._watch.sent_at = now
            self.deadline = now + self._timing.dally_time(self._dally)
            return SEND
        self.state = ReceiverState.RECEIVING
        if repeated:
            self.retransmissions += 1
        # After a gap, the next block may be one that arrives late, and not an answer to this ACK.
        is_new = not (repeated or self._gap.is_reported)
        self._may_measure = is_new and now >= self._measure_at
        self.deadline = self._watch.note_sent(now)
        if is_new and not self._may_measure and self.has_answered and self._numbering.wraps_to_0:
            self._next_header = wire.DATA_HEADERS[(self._received + 1) & 0xFFFF]
        return SEND

    def expire(self, now: float) -> Step:
        """Handle the deadline: send the ACK again, give up, or stop dallying."""
        if now < self.deadline:
            return WAIT
        if self.state is ReceiverState.DALLYING:
            return self._end(ReceiverState.DONE)
        if self._watch.must_give_up(now):
            return self._end(ReceiverState.FAILED, TransferTimedOut())
        if self.state is ReceiverState.STORING:
            self.deadline = self._watch.give_up_at
            return WAIT
        self._watch.back_off(now)
        if self._acked != self._received:
            return self._store()
        return self._send_again(now)

    def _receive_other(self, datagram: Buffer) -> Step:
        if datagram[1] != wire.Opcode.ERROR:
            return WAIT
        if self.state is ReceiverState.DALLYING:
            return self._end(ReceiverState.DONE)
        if self.is_complete:
            return WAIT  # the file is complete and is being committed
        self.peer_error = wire.parse_error(datagram)
        return self._end(ReceiverState.FAILED)

    def _receive_late(self, number: int, now: float) -> Step:
        """Process a block that arrives while octets are stored, or after the last block."""
        self._watch.heard_at = now
        last = self._numbering.number(self._received)
        if self.state is ReceiverState.DALLYING and number == last:
            self.retransmissions += 1
            return SEND
        return WAIT

    def _receive_out_of_order(self, ahead: int, number: int, now: float) -> Step:
        """Process a block after a gap, or a repeated block of a window that is sent again.

        A gap is reported by the ACK of the last block before it (RFC 7440 section 4).
        """
        self._next_header = None
        if ahead < self._windowsize:
            self._watch.note_heard(now)
            self.deadline = self._watch.answer_deadline(now)
            return self._store() if self._gap.note_gap(now, self._timing.min_round_trip) else WAIT
        block = self._numbering.repeated_block(number, self._received, self._windowsize)
        if block is None:
            return WAIT
        if self._windowsize == 1 or now - self._watch.heard_at >= self._timing.min_round_trip / 2:
            # After a pause, the ACK was lost, and the peer sends the window again from this block
            # on. The window ends after `windowsize` blocks, and must be acknowledged there: no
            # block follows. (Without a pause, the network has duplicated the block.)
            self._ack_at = min(self._ack_at, block + self._windowsize - 1)
        self._watch.note_heard(now)
        self.deadline = self._watch.answer_deadline(now)
        if block == self._received and self._received >= self._ack_at:
            return self._store()
        return WAIT

    def _store(self) -> Step:
        """Ask the session to store the received blocks; `stored` sends the ACK."""
        self._next_header = None
        self.state = ReceiverState.STORING
        # A complete file is committed even if the peer is gone.
        self.deadline = _NEVER if self.is_complete else self._watch.give_up_at
        return STORE

    def _send_again(self, now: float) -> Step:
        self._may_measure = False
        self._next_header = None  # the hot path does not end a long silence
        self.retransmissions += 1
        self.deadline = self._watch.note_sent(now)
        return SEND

    def _end(self, state: ReceiverState, failure: TFTPError | None = None) -> Step:
        self.state = state
        self.failure = failure
        self.deadline = _NEVER
        self._next_header = None
        self._blocks.clear()
        return END
