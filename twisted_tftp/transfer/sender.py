"""The state machine that sends a file: a read on the server, an upload of the client.

Its states::

    OFFERING --ACK 0--> SENDING --ACK of the last block--> DONE
        \\__________________\\____________________________> FAILED

The window is the blocks after the last acknowledged block. It is always sent whole, from its first
block. So offsets never decrease, and a forward-only source needs to keep only one window.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted_tftp.errors import TFTPError, TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.blocks import too_many_blocks
from twisted_tftp.transfer.file_blocks import FileBlocks
from twisted_tftp.transfer.flight import Flight
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import END, READ, SEND, WAIT, Buffer, Step
from twisted_tftp.transfer.peer_watch import PeerWatch
from twisted_tftp.transfer.states import SenderState
from twisted_tftp.transfer.timing import MEASURE_INTERVAL, Timing

_NEVER = float("inf")

# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
_OFFERING = SenderState.OFFERING
_SENDING = SenderState.SENDING
_DONE = SenderState.DONE


class Sender:
    """The L{TransferMachine} of one sending transfer.

    @ivar state: a `SenderState`.
    @ivar offset: of a `Step.READ`: where to read, in octets from the start of the file.
    @ivar length: of a `Step.READ`: how many octets to read; 0 if the last block is empty.
    """

    __slots__ = (
        "_acked",
        "_asked_at",
        "_blocks",
        "_expected_ack",
        "_flight",
        "_is_reading",
        "_measure_at",
        "_timing",
        "_watch",
        "datagrams",
        "deadline",
        "failure",
        "length",
        "offset",
        "peer_error",
        "retransmissions",
        "state",
    )

    def __init__(
        self,
        *,
        blksize: int,
        windowsize: int,
        size: int | None,
        oack: bytes | None,
        timing: Timing,
        rollover: Rollover = Rollover.ZERO,
        read_ahead: int = 0,
        has_answered: bool = False,
    ) -> None:
        """Set up a machine that has sent nothing yet.

        @param blksize: octets of a block.
        @param windowsize: blocks sent for one ACK (RFC 7440).
        @param size: octets of the file; None if it is known only at the end of the file.
        @param oack: the OACK to send first, or None.
        @param read_ahead: octets to read at a time and to buffer, if a window is smaller; 0 for no
            buffer. The octets given to `supply` must not change until the next `Step.READ`.
        @param has_answered: whether the peer has answered before.
        """
        self.state = _SENDING if oack is None else _OFFERING
        self.deadline = _NEVER
        self.offset = self.length = 0
        self.datagrams: Sequence[Buffer] = () if oack is None else (oack,)
        self.failure: TFTPError | None = None
        self.peer_error: tuple[int, str] | None = None
        self.retransmissions = 0
        self._blocks = FileBlocks(blksize, windowsize, size, rollover, read_ahead)
        self._timing = timing
        self._watch = PeerWatch(timing, has_answered)
        self._flight = Flight()
        self._acked = 0  # the last block acknowledged
        self._is_reading = False  # the session is reading octets from the source
        self._asked_at = 0.0  # when the session was asked to read
        self._measure_at = 0.0  # when the hot path measures a round trip again
        #: The ACK of the whole window; None if `_receive_unexpected` must handle every ACK.
        self._expected_ack: bytes | None = None

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
        """Octets of the file that were acknowledged."""
        blocks = self._blocks
        if self.state is _DONE and blocks.size is not None:
            return blocks.size
        return self._acked * blocks.blksize

    @property
    def repeats_first_answer(self) -> bool:
        """Whether it sends the OACK or block 1 next, as the answer to a request."""
        return self._acked == 0

    def start(self, now: float) -> Step:
        """Send the OACK, or the first window if there is no OACK."""
        self._watch.heard_at = now
        if self._blocks.are_too_many:
            return self._end(SenderState.FAILED, too_many_blocks())
        if self.state is _SENDING:
            return self._next_window(now)
        self._flight.may_measure = True
        self.deadline = self._watch.note_sent(now)
        return SEND

    @property
    def may_deadline_shrink(self) -> bool:
        """Whether the deadline may become much earlier when the progress of a flow is known."""
        return self._timing.may_shrink

    @property
    def is_reading(self) -> bool:
        """Whether it waits for the octets of a `Step.READ`."""
        return self._is_reading

    def repeat(self, now: float) -> Step:
        """Handle a repeated request: send the first answer again, unless it was acknowledged."""
        if self._watch.has_answered or self._is_reading:
            self._watch.heard_at = now
        elif not self._watch.is_at_datagram_limit:
            return self._send_again(now)
        return WAIT

    def is_overdue(self, now: float) -> bool:
        """Return whether a peer that had never answered would be given up after this silence."""
        return self._watch.is_overdue(now)

    def note_port_unreachable(self) -> None:
        """Note that the peer's port seems to be closed: wait less, until its next packet."""
        self._timing.note_port_unreachable()
        self._flight.note_retransmission()  # so that the next ACK ends the shorter wait
        self._expected_ack = None

    def receive(self, datagram: Buffer, now: float) -> Step:
        """Process a datagram from the peer's address and port."""
        if datagram == self._expected_ack:
            # The hot path: the ACK of the whole window, if the next one is buffered. The file ends
            # in neither of them, and number 0 follows 65535.
            flight, blocks = self._flight, self._blocks
            buffer = blocks.buffer
            block = flight.end
            start = block * blocks.blksize - buffer.start
            stop = start + blocks.window_size
            if stop <= len(buffer.octets):
                watch = self._watch
                if now >= self._measure_at:
                    self._measure_at = now + MEASURE_INTERVAL
                    self._timing.add_round_trip(
                        now - watch.sent_at, is_single=flight.start == block
                    )
                self._acked = block
                watch.heard_at = watch.sent_at = now
                self.deadline = now + self._timing.rto
                flight.expected_duplicates = 0
                flight.start = block + 1
                flight.end = flight.highest_sent = end = block + blocks.windowsize
                self._expected_ack = wire.ACKS[end & 0xFFFF]
                if end == block + 1:
                    self.datagrams = (wire.DATA_HEADERS[end & 0xFFFF], buffer.octets[start:stop])
                else:
                    self.datagrams = blocks.numbering.packets(
                        buffer.octets[start:stop], block + 1, end, blocks.blksize
                    )
                return SEND
        return self._receive_unexpected(datagram, now)

    @property
    def early_read(self) -> int:
        """How many octets to read and give to `preload` before `start`; usually 0."""
        return self._blocks.early_read if self.state is _OFFERING else 0

    def preload(self, data: Buffer) -> None:
        """Buffer the octets of the whole file; any other number of octets is ignored."""
        if len(data) == self._blocks.size:
            self._blocks.buffer.fill(data, 0)

    def supply(self, data: Buffer, now: float) -> Step:
        """Send a window of the octets that a `Step.READ` asked for; fewer octets end the file."""
        self._is_reading = False
        is_quick = now == self._asked_at
        return self._send_window(self._blocks.fill(data, self.offset, self.length, is_quick), now)

    def offer(self, least: int) -> Offer | None:
        """Return what a flow needs to send at least `least` windows; None if that is not possible.

        Only the ACK of a window, or of an OACK, that was sent once is left to a flow. After a
        retransmission, the machine first measures a round trip: until then a second loss would be
        repaired after the doubled timeout.
        """
        blocks, watch, end = self._blocks, self._watch, self._flight.end
        if self._expected_ack is not None:
            if self._timing.is_much_too_long:
                return None  # the alarm does not follow a flow that makes the timeout shorter
            return blocks.offer(least, end, watch.sent_at, self._measure_at, False)
        is_oack_sent = self.state is _OFFERING and self._flight.may_measure
        if is_oack_sent and blocks.buffer.size and blocks.numbering.wraps_to_0:
            return blocks.offer(least, end, watch.sent_at, self._measure_at, True)
        return None

    def take_back(self, progress: Progress) -> Sequence[Buffer]:
        """Continue from where a flow is, as if this machine had processed all packets itself.

        @return: the datagrams of the window that the flow could not send.
        """
        if not progress.acks:
            return ()
        blocks, flight, timing, watch = self._blocks, self._flight, self._timing, self._watch
        round_trips = progress.round_trips
        if self.state is _OFFERING:
            self._note_first_answer(round_trips[0], watch.sent_at + round_trips[0])
            round_trips = round_trips[1:]
        timing.add_round_trips(round_trips, blocks.windowsize == 1)
        self._measure_at = progress.measure_at
        self._acked = acked = flight.end + progress.blocks - progress.window
        end = acked + progress.window
        flight.note_sent(acked + 1, end)
        flight.expected_duplicates = 0
        watch.heard_at = progress.at
        self.deadline = watch.note_sent(progress.at)
        if progress.has_last:
            blocks.last = end
        self._expected_ack = None if progress.has_last else wire.ACKS[end & 0xFFFF]
        return blocks.datagrams(end - progress.unsent + 1, end) if progress.unsent else ()

    def resume(self, progress: Progress, datagram: Buffer, now: float) -> Step:
        """Continue from where a flow is, and process the datagram that has ended it."""
        end = self._flight.end + progress.blocks
        if progress.has_last and datagram == wire.ACKS[end & 0xFFFF]:
            # The usual end: the times are not used any more.
            self._blocks.last = self._acked = end
            self._watch.note_heard(now)
            return self._end(_DONE)
        self.take_back(progress)
        return self.receive(datagram, now)

    def look_at(self, now: float) -> float:
        """Return when to look at a flow again: at the deadline, or before it if it may move."""
        return self._watch.look_at(self.deadline, now)

    def expire(self, now: float) -> Step:
        """Handle the deadline: send again, or give up."""
        if now < self.deadline:
            return WAIT
        if self._watch.must_give_up(now):
            return self._end(SenderState.FAILED, TransferTimedOut())
        if self._is_reading:
            self.deadline = self._watch.give_up_at
            return WAIT
        self._watch.back_off(now)
        return self._send_again(now)

    def _receive_unexpected(self, datagram: Buffer, now: float) -> Step:
        """Process any datagram except the expected ACK when the next window is buffered."""
        if len(datagram) < wire.HEADER_SIZE or datagram[0]:
            return WAIT
        opcode = datagram[1]
        if opcode == 4:  # ACK
            ahead = self._blocks.numbering.blocks_ahead(
                datagram[2] << 8 | datagram[3], self._acked
            )
            if self.state is _OFFERING:
                return WAIT if ahead else self._begin_sending(now)
            if not ahead:
                return self._process_duplicate(now)
            if ahead <= self._flight.highest_sent - self._acked:
                return self._process_ack(self._acked + ahead, now)
        elif opcode == wire.Opcode.ERROR:
            self.peer_error = wire.parse_error(datagram)
            return self._end(SenderState.FAILED)
        return WAIT

    def _begin_sending(self, now: float) -> Step:
        """Send the first window after the ACK 0 of the OACK."""
        self._note_first_answer(now - self._watch.sent_at, now)
        return self._next_window(now)

    def _note_first_answer(self, round_trip: float, now: float) -> None:
        """Note that the OACK was acknowledged, so that the first window is next."""
        self.state = _SENDING
        self._watch.note_heard(now)
        if self._flight.may_measure:
            self._timing.add_round_trip(round_trip)
        blocks = self._blocks
        self._timing.extend_for_first_window(min(blocks.window_size, blocks.octets_left(0)))

    def _process_ack(self, block: int, now: float) -> Step:
        """Process the ACK of `block`, which was not acknowledged before."""
        flight = self._flight
        watch = self._watch
        self._acked = block
        watch.heard_at = now
        if not watch.has_answered:
            watch.note_heard(now)
        flight.measure(self._timing, now - watch.sent_at, not self._is_reading)
        if block == self._blocks.last:
            return self._end(_DONE)
        if not self._is_reading and block < flight.end:
            # A gap in the window (RFC 7440 section 4), or the ACK of an earlier copy.
            if flight.copies > 1 and self._watch.is_too_soon(now):
                return WAIT
        else:
            flight.expected_duplicates = flight.copies - 1
        return self._next_window(now)

    def _process_duplicate(self, now: float) -> Step:
        """Process a duplicate ACK, which reports a gap or was caused by a copy of the window.

        In lock step, it causes no DATA (RFC 1123 section 4.2.3.1), but it ends a long wait. With
        windows, it reports a lost first block (RFC 7440 section 4). But each copy of the previous
        window is acknowledged; a window for each such ACK would be the Sorcerer's Apprentice bug.
        """
        flight = self._flight
        if not self._watch.has_answered:
            return WAIT
        self._watch.note_heard(now)
        if not self._is_reading:
            self.deadline = min(self.deadline, self._watch.answer_deadline(now))
        if (
            flight.highest_sent - self._acked < 2
            or self._is_reading
            or self._watch.is_too_soon(now)
        ):
            return WAIT
        if not flight.expected_duplicates:
            return self._next_window(now)
        flight.expected_duplicates -= 1
        return WAIT

    def _next_window(self, now: float) -> Step:
        """Send the window after the last acknowledged block, or ask for its octets first."""
        self._expected_ack = None
        blocks = self._blocks
        self.offset = offset = self._acked * blocks.blksize
        window = blocks.buffered_window(offset)
        if window is not None:
            return self._send_window(window, now)
        self.length = blocks.read_length(offset)
        self._is_reading = True
        self._asked_at = now
        self.deadline = self._watch.give_up_at
        return READ

    def _send_window(self, data: Buffer, now: float) -> Step:
        """Send a window: `data`, the octets from `offset` on. A short window ends the file."""
        blocks = self._blocks
        acked = self.offset // blocks.blksize
        end, self.datagrams = blocks.window(data, acked)
        if end <= acked:
            return self._end(SenderState.FAILED, too_many_blocks())
        self.retransmissions += self._flight.note_sent(acked + 1, end)
        self.deadline = self._watch.note_sent(now)
        in_middle = self._watch.has_answered and blocks.last is None
        is_usual = in_middle and self._flight.may_measure and blocks.numbering.wraps_to_0
        self._expected_ack = wire.ACKS[end & 0xFFFF] if is_usual else None
        return SEND

    def _send_again(self, now: float) -> Step:
        self._flight.note_retransmission()
        if self.state is not _OFFERING:
            return self._next_window(now)
        self.retransmissions += 1
        self.deadline = self._watch.note_sent(now)
        return SEND

    def _end(self, state: SenderState, failure: TFTPError | None = None) -> Step:
        self.state = state
        self.failure = failure
        self.deadline = _NEVER
        self._expected_ack = None
        return END
