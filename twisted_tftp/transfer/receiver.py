"""Receive a file's blocks: the machine of who receives DATA (a write on the server, a get).

    RECEIVING --window full, gap or last block--> STORING --stored--> RECEIVING
    STORING --the last octets are stored--> DALLYING --quiet--> DONE
        \\______________________________________________________> FAILED

Blocks are counted from 1 without end; only the wire has 16 bits. A block counts as acknowledged
when what it brought is stored, so an ACK waits for the store.
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

#: Seconds for which a repeated last block is answered: clients repeat it after 5 seconds, or after
#: the timeout that they have negotiated.
DALLY = 10.0

#: Seconds for which it is answered at most: a client does not choose how long it keeps a socket.
LONGEST_DALLY = 60.0

_NEVER = float("inf")

_WAIT = Step.WAIT  # ten times as fast to look up

#: The header of block 0 as a number.
_DATA = wire.Opcode.DATA << 16


@lru_cache(128)  # one of a transfer's two takes some kilobytes
def _layouts(count: int, blksize: int) -> tuple[Struct, Struct]:
    """Return what reads the headers of full DATA, as numbers, and what reads their blocks."""
    return Struct(">" + f"I{blksize}x" * count), Struct(f"4x{blksize}s" * count)


class ReceiverState(Enum):
    """What the receiver awaits."""

    #: The next block.
    RECEIVING = "receiving"
    #: The store's word that it has what `take` gave out.
    STORING = "storing"
    #: Nothing but the last block again, if its ACK was lost.
    DALLYING = "dallying"
    #: Nothing: the file is complete.
    DONE = "done"
    #: Nothing: it can't go on; `failure` or `peer_error` says why.
    FAILED = "failed"


class Receiver:
    """Receive blocks and windows; `now` is seconds of any clock that only grows.

    @ivar state: a `ReceiverState`.
    @ivar deadline: when to call `expire`; infinite where nothing is awaited.
    @ivar reply: the datagram of a `Step.SEND`.
    @ivar complete: the last block has come.
    @ivar failure: what to tell the peer after a `Step.END`, or None.
    @ivar peer_error: code and message of the ERROR that ended the transfer, or None.
    @ivar answered: the peer has sent something that only a real peer can.
    @ivar retransmissions: datagrams sent again.
    """

    __slots__ = (
        "_ack_at",
        "_acked",
        "_blksize",
        "_blocks",
        "_clean",
        "_dally",
        "_datagrams",
        "_expected",
        "_full",
        "_gap_at",
        "_gap_told",
        "_have",
        "_heard_at",
        "_measure_at",
        "_missing",
        "_numbering",
        "_sent_at",
        "_timing",
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

        @param blksize: octets of a block; a shorter one is the last.
        @param windowsize: blocks that one ACK answers (RFC 7440).
        @param first_reply: what `start` sends: the OACK, or the ACK 0 where there is none; a
            client that was answered with the first block has nothing to send.
        @param dally: seconds for which a repeated last block is answered, at least.
        """
        self.state = ReceiverState.RECEIVING
        self.deadline = _NEVER
        self.reply = first_reply or b""
        self.complete = False
        self._missing = 0  # octets by which the last block is shorter
        self._full = blksize + wire.HEADER_SIZE
        #: The header of the next block, where nothing else is going on.
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
        self._blocks: list[bytes] = []  # received in order, not yet given to the store
        self._have = 0  # the last block received in order
        self._acked = 0  # the last block that an ACK named
        self._ack_at = windowsize  # the block whose arrival is to be acknowledged
        self._gap_told = False  # the ACK that tells of the present gap was sent
        self._gap_at = -_NEVER  # when the last gap was told
        self._clean = False  # the last ACK was sent once (Karn's rule)
        self._datagrams = 0  # sent before the peer has answered
        self._sent_at = 0.0
        self._heard_at = 0.0
        self._measure_at = 0.0

    @property
    def octets(self) -> int:
        """Octets of the file received in order."""
        return self._have * self._blksize - self._missing

    @property
    def ack(self) -> bytes:
        """The ACK of all that was received in order."""
        return wire.ack(self._numbering.number(self._have))

    @property
    def repeats_first_answer(self) -> bool:
        """Whether what it sends next may pass for the first answer to a request."""
        return self._have == 0

    @property
    def wait(self) -> float:
        """Seconds to wait for an answer, by the measured round trips."""
        return self._timing.wait

    def start(self, now: float) -> Step:
        """Send the first reply."""
        self._heard_at = now
        if not self.reply:
            self._await_block(now)
            return Step.WAIT
        self._clean = True
        return self._send(now)

    def repeat(self, now: float) -> Step:
        """Answer a request that came again: repeat the first reply, if it is still due."""
        if self.answered:
            self._heard_at = now
            return Step.WAIT
        if self._datagrams >= UNANSWERED_DATAGRAMS:
            return Step.WAIT
        return self._send_again(now)

    def receive(self, datagram: bytes | memoryview, now: float) -> Step:
        """Take a datagram that came from the peer's address and port; its octets are copied."""
        if datagram[: wire.HEADER_SIZE] == self._expected and len(datagram) == self._full:
            # The hot path: the next block.
            self._have = have = self._have + 1
            self._heard_at = now
            self._blocks.append(bytes(datagram[wire.HEADER_SIZE :]))
            if have >= self._ack_at:
                return self._store()
            self._expected = wire.DATA_HEADERS[(have + 1) & 0xFFFF]
            self.deadline = now + self._timing.wait
            return _WAIT
        return self._unexpected(datagram, now)

    def receive_train(self, train: memoryview, size: int, now: float) -> int:
        """Take datagrams of `size` octets each that came in one piece; return how many.

        Those are taken that are the next blocks in the middle of a window; what follows them is
        for `receive`. All headers are looked at in one call, and all blocks cut in another: a
        sixth of the cost of one by one.
        """
        if self._expected is None or size != self._full:
            return 0
        number = (self._have + 1) & 0xFFFF
        count = min(len(train) // size, self._ack_at - 1 - self._have)
        count = min(count, 0x10000 - number)  # the header after 65535 is no larger number
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
        self._have = have = self._have + count
        self._heard_at = now
        self._expected = wire.DATA_HEADERS[(have + 1) & 0xFFFF]
        self.deadline = now + self._timing.wait
        return count

    def _unexpected(self, datagram: bytes | memoryview, now: float) -> Step:
        """Take whatever is not the next block in the middle of a window."""
        if len(datagram) < wire.HEADER_SIZE or datagram[0]:
            return Step.WAIT
        if datagram[1] != 3:
            return self._receive_other(datagram)
        number = datagram[2] << 8 | datagram[3]
        if self.state is not ReceiverState.RECEIVING:
            return self._receive_late(number, now)
        ahead = self._numbering.ahead(number, self._have + 1)
        if ahead:
            return self._receive_out_of_order(ahead, number, now)
        length = len(datagram) - wire.HEADER_SIZE
        if length > self._blksize:
            return self._fail(
                IllegalOperation(f"a block has more than the agreed {self._blksize} octets")
            )
        self.answered = True
        self._heard_at = now
        if self._clean:
            self._clean = False
            self._timing.measured(now - self._sent_at)
            self._measure_at = now + MEASURE_INTERVAL
        elif self._gap_told:
            self._timing.confirmed(now - self._sent_at)
        self._have += 1
        self._gap_told = False
        self._blocks.append(bytes(datagram[wire.HEADER_SIZE :]))
        if length < self._blksize:
            self.complete = True
            self._missing = self._blksize - length
            return self._store()
        if self._have == self._numbering.limit:
            return self._fail(
                TFTPError("the file needs more than 65,535 blocks: ask for a larger blksize")
            )
        if self._have >= self._ack_at:
            return self._store()
        if self._numbering.plain:
            self._expected = wire.DATA_HEADERS[(self._have + 1) & 0xFFFF]
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
        """Acknowledge: what `take` gave out is stored, and the file too where it is complete."""
        repeated = self._acked == self._have
        self._acked = self._have
        self._ack_at = self._have + self._windowsize
        self.reply = self.ack
        if self.complete:
            self.state = ReceiverState.DALLYING
            self._sent_at = now
            self.deadline = now + min(max(self._dally, 2 * self._timing.longest), LONGEST_DALLY)
            return Step.SEND
        self.state = ReceiverState.RECEIVING
        if repeated:
            self.retransmissions += 1
        # After a gap the next block may be the one that was overtaken: no answer to this ACK.
        plain = not (repeated or self._gap_told)
        self._clean = plain and now >= self._measure_at
        step = self._send(now)
        if plain and not self._clean and self.answered and self._numbering.plain:
            self._expected = wire.DATA_HEADERS[(self._have + 1) & 0xFFFF]
        return step

    def expire(self, now: float) -> Step:
        """Act on the deadline: send the ACK again, give up, or end the dallying."""
        if now < self.deadline:
            return Step.WAIT
        if self.state is ReceiverState.DALLYING:
            return self._end(ReceiverState.DONE)
        if now >= self._heard_at + self._timing.patience or (
            not self.answered and self._datagrams >= UNANSWERED_DATAGRAMS
        ):
            return self._fail(TransferTimedOut())
        if self.state is ReceiverState.STORING:
            self.deadline = self._heard_at + self._timing.patience
            return Step.WAIT
        self._timing.back_off()
        if self._acked != self._have:
            return self._store()
        return self._send_again(now)

    def _receive_other(self, datagram: bytes | memoryview) -> Step:
        if datagram[1] != wire.Opcode.ERROR:
            return Step.WAIT
        if self.state is ReceiverState.DALLYING:
            return self._end(ReceiverState.DONE)
        if self.complete:
            return Step.WAIT  # too late: the file is whole and is being put in its place
        self.peer_error = wire.parse_error(datagram)
        return self._end(ReceiverState.FAILED)

    def _receive_late(self, number: int, now: float) -> Step:
        """Take a block that came while storing, or after the last one."""
        self._heard_at = now
        if self.state is ReceiverState.DALLYING and number == self._numbering.number(self._have):
            self.retransmissions += 1
            return Step.SEND
        return Step.WAIT

    def _receive_out_of_order(self, ahead: int, number: int, now: float) -> Step:
        """Tell a gap (a block ahead) from a window that came again (one behind)."""
        self._expected = None
        if ahead < self._windowsize:
            self.answered = True
            self._heard_at = now
            self._await_block(now)
            # A gap so soon after the last one is of the same window, which comes again whole.
            if self._gap_told or now - self._gap_at < self._timing.least / 2:
                return Step.WAIT
            self._gap_told = True
            self._gap_at = now
            return self._store()
        # A block in hand is less than a window behind the newest one.
        reach = min(self._windowsize, self._have)
        oldest = self._have - reach + 1
        behind = self._numbering.ahead(number, oldest) if reach else 0
        if behind >= reach:
            return Step.WAIT
        block = oldest + behind
        if self._windowsize == 1 or now - self._heard_at >= self._timing.least / 2:
            # After a pause: the ACK was lost, and the window comes again from this block on. It
            # ends a window later; waiting for more than that would wait for ever. (Without a
            # pause it is a block that the network has repeated.)
            self._ack_at = min(self._ack_at, block + self._windowsize - 1)
        self._heard_at = now
        self._await_block(now)
        if block == self._have and self._have >= self._ack_at:
            return self._store()
        return Step.WAIT

    def _store(self) -> Step:
        """Hand over what is in hand; the ACK follows in `stored`."""
        self._expected = None
        self.state = ReceiverState.STORING
        # A complete file is put in its place whether or not the peer is still there.
        self.deadline = _NEVER if self.complete else self._heard_at + self._timing.patience
        return Step.STORE

    def _await_block(self, now: float) -> None:
        self.deadline = min(now + self._timing.wait, self._heard_at + self._timing.patience)

    def _send_again(self, now: float) -> Step:
        self._clean = False
        self.retransmissions += 1
        return self._send(now)

    def _send(self, now: float) -> Step:
        self._sent_at = now
        if not self.answered:
            self._datagrams += 1
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
