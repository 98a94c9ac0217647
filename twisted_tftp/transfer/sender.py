"""The state machine that sends a file's blocks (a read on the server, a put of the client).

    OFFERING --ACK 0--> SENDING --ACK of the last block--> DONE
        \\__________________\\____________________________> FAILED

Blocks are counted from 1 without end; only the numbers on the wire have 16 bits. The window is the
blocks after the last acknowledged block. It is always sent whole, from its first block. So offsets
never decrease, and a forward-only source needs to keep one window.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from twisted_tftp.errors import TFTPError, TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.blocks import Numbering
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import MEASURE_INTERVAL, UNANSWERED_DATAGRAMS, Timing

Buffer = bytes | memoryview
_NEVER = float("inf")

#: `Step.BURST`: a global is ten times as fast to look up as an enum member.
_BURST = Step.BURST


class SenderState(Enum):
    """The state of a sender; each comment says what it waits for."""

    #: The ACK 0 that accepts the OACK.
    OFFERING = "offering"
    #: An ACK of the window that was sent, or octets of the next window from the source.
    SENDING = "sending"
    #: Nothing: the last block was acknowledged.
    DONE = "done"
    #: Nothing: the transfer has failed, see `failure` or `peer_error`.
    FAILED = "failed"


class Sender:
    """The machine of one sending transfer; `now` is the time in seconds of a monotonic clock.

    @ivar state: a `SenderState`.
    @ivar deadline: when to call `expire`; infinite if there is no deadline.
    @ivar offset: of a `Step.READ`: where to read, in octets from the start of the file.
    @ivar length: of a `Step.READ`: how many octets to read; 0 if the last block is empty.
    @ivar reply: the datagram of a `Step.SEND`.
    @ivar datagrams: the window of a `Step.BURST`, as `burst` returns it.
    @ivar failure: the failure to report to the peer after a `Step.END`, or None.
    @ivar peer_error: code and message of the ERROR that ended the transfer, or None.
    @ivar answered: whether the peer has answered, which a forged address can't do.
    @ivar retransmissions: datagrams that were sent again.
    """

    __slots__ = (
        "_acked",
        "_ambiguous_acks",
        "_blksize",
        "_buffered",
        "_buffered_from",
        "_burst_end",
        "_burst_start",
        "_echoes",
        "_expected",
        "_file_octets",
        "_heard_at",
        "_is_reading",
        "_last_block",
        "_may_measure",
        "_measure_at",
        "_numbering",
        "_oack",
        "_read_ahead",
        "_sent",
        "_sent_at",
        "_size",
        "_times_sent",
        "_timing",
        "_unanswered",
        "_window_octets",
        "_windowsize",
        "answered",
        "datagrams",
        "deadline",
        "failure",
        "length",
        "offset",
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
        size: int | None,
        oack: bytes | None,
        timing: Timing,
        rollover: Rollover = Rollover.ZERO,
        read_ahead: int = 0,
    ) -> None:
        """Set up a machine that has sent nothing yet.

        @param blksize: octets of a block.
        @param windowsize: blocks sent for one ACK (RFC 7440).
        @param size: octets of the file; None if that is known only at its end.
        @param oack: the OACK to send first, or None.
        @param read_ahead: octets to read from the source at a time, and to buffer, if a window is
            smaller; 0 for no buffer. These octets must not change until the next `Step.READ`.
        """
        self.state = SenderState.SENDING if oack is None else SenderState.OFFERING
        self.deadline = _NEVER
        self.offset = 0
        self.length = 0
        self.reply = oack or b""
        self.datagrams: Sequence[Buffer] = ()
        self.failure: TFTPError | None = None
        self.peer_error: tuple[int, str] | None = None
        self.answered = False
        self.retransmissions = 0
        self._blksize = blksize
        self._windowsize = windowsize
        self._size = size
        self._oack = oack
        self._timing = timing
        self._numbering = Numbering(rollover)
        self._acked = 0  # the last block acknowledged
        self._sent = 0  # the last block that was ever sent
        self._burst_end = 0  # the last block of the last burst
        self._burst_start = 0  # the first block of the last burst
        self._times_sent = 0  # how often the present window was sent
        self._echoes = 0  # duplicate ACKs that copies of the previous window may still cause
        self._last_block: int | None = None  # the last block of the file, once it was sent
        self._file_octets = 0  # octets of the file, once the last block was sent
        self._may_measure = False  # the last burst was sent once: time its ACK (Karn's rule)
        self._ambiguous_acks = 0  # next ACKs that may belong to any copy of a window
        self._unanswered = 0  # sent before the peer has answered
        self._is_reading = False  # the session is reading octets from the source
        self._sent_at = 0.0
        self._heard_at = 0.0
        self._window_octets = windowsize * blksize
        # A multiple of the window, so that the buffer never ends in the middle of a window.
        self._read_ahead = read_ahead // self._window_octets * self._window_octets
        self._buffered = memoryview(b"")  # octets of the file from `_buffered_from` on
        self._buffered_from = 0
        #: The ACK of the whole window on the hot path; None if `_unexpected` must handle it.
        self._expected: bytes | None = None
        self._measure_at = 0.0

    @property
    def octets(self) -> int:
        """Octets of the file that were acknowledged."""
        if self._acked == self._last_block:
            return self._file_octets
        return self._acked * self._blksize

    @property
    def repeats_first_answer(self) -> bool:
        """Whether the next datagram that it sends could be taken for the answer to a request.

        Such datagrams are an OACK, and a window that starts with block 1.
        """
        return self._acked == 0

    def start(self, now: float) -> Step:
        """Send the OACK, or the first window if there is no OACK."""
        self._heard_at = now
        limit = self._numbering.limit
        if limit is not None and self._size is not None and self._size >= limit * self._blksize:
            return self._fail(_too_long())
        if self._oack is None:
            return self._next_window(now)
        self._may_measure = True
        return self._send_oack(now)

    def repeat(self, now: float) -> Step:
        """Handle a repeated request: send the first answer again, unless it was acknowledged."""
        if self.answered or self._is_reading:
            self._heard_at = now
            return Step.WAIT
        if self._unanswered >= UNANSWERED_DATAGRAMS:
            return Step.WAIT
        return self._send_again(now)

    def receive(self, datagram: bytes | memoryview, now: float) -> Step:
        """Process a datagram from the peer's address and port."""
        if datagram == self._expected:
            # The hot path: the whole window was acknowledged, the next one is buffered, the file
            # does not end in either, and number 0 follows 65535.
            block = self._burst_end
            start = block * self._blksize - self._buffered_from
            stop = start + self._window_octets
            if stop <= len(self._buffered):
                self._acked = block
                self._heard_at = now
                self._echoes = 0
                if now >= self._measure_at:
                    self._measure_at = now + MEASURE_INTERVAL
                    self._timing.measured(
                        now - self._sent_at, alone=self._burst_start == self._burst_end
                    )
                self._sent_at = now
                self.deadline = now + self._timing.wait
                self._burst_start = block + 1
                self._burst_end = self._sent = end = block + self._windowsize
                self._expected = wire.ACKS[end & 0xFFFF]
                if end == block + 1:
                    self.datagrams = (
                        wire.DATA_HEADERS[end & 0xFFFF],
                        self._buffered[start:stop],
                    )
                else:
                    self.datagrams = self._split(self._buffered[start:stop], block + 1)
                return _BURST
        return self._unexpected(datagram, now)

    def _unexpected(self, datagram: bytes | memoryview, now: float) -> Step:
        """Process any datagram except the expected ACK of a window whose successor is buffered."""
        if len(datagram) < wire.HEADER_SIZE or datagram[0]:
            return Step.WAIT
        opcode = datagram[1]
        if opcode != 4:
            return self._receive_other(opcode, datagram, now)
        ahead = self._numbering.ahead(datagram[2] << 8 | datagram[3], self._acked)
        if self.state is SenderState.OFFERING:
            if ahead:
                return Step.WAIT
            self.state = SenderState.SENDING
            self.answered = True
            self._heard_at = now
            if self._may_measure:
                self._timing.measured(now - self._sent_at)
            step = self._next_window(now)
            self._timing.first_flight(min(self.length, self._window_octets))
            return step
        if not ahead:
            return self._duplicate(now)
        if ahead > self._sent - self._acked:
            return Step.WAIT
        self._acked += ahead
        self.answered = True
        self._heard_at = now
        if self._may_measure:
            self._may_measure = False
            self._timing.measured(now - self._sent_at, alone=self._burst_start == self._burst_end)
        elif self._ambiguous_acks:
            self._ambiguous_acks -= 1
        elif not self._is_reading:
            self._timing.confirmed(now - self._sent_at)
        if self._acked == self._last_block:
            return self._end(SenderState.DONE)
        if not self._is_reading and self._acked < self._burst_end:
            if self._times_sent > 1 and self._too_soon(now):
                return Step.WAIT
        else:
            self._echoes = self._times_sent - 1
        return self._next_window(now)

    def burst(self, data: Buffer, now: float) -> Sequence[Buffer]:
        """Return a window of `data`, the octets of a `Step.READ`, as header, octets, header, ...

        Each header and the octets after it form one datagram. If `data` is shorter than `length`,
        it ends the file. An empty result means that the machine has ended.
        """
        self._is_reading = False
        if self._read_ahead:
            if len(data) < self.length:
                self._size = self.offset + len(data)
            self._buffered = memoryview(data)
            self._buffered_from = self.offset
            data = self._buffered[: self._window_octets]
        return self._window(data, now)

    def _window(self, data: Buffer, now: float) -> Sequence[Buffer]:
        """Return the window of `data`, octets from `offset` on; a short window ends the file."""
        blksize = self._blksize
        before = self.offset // blksize
        block = self._burst_start = before + 1
        length = len(data)
        count = length // blksize
        if count < self._windowsize:
            count += 1
            self._last_block = before + count
            self._file_octets = self.offset + length
        limit = self._numbering.limit
        if limit is not None and block + count - 1 > limit:
            count = limit + 1 - block
            self._last_block = None
            if count <= 0:
                self._fail(_too_long())
                return ()
            data = data[: count * blksize]
        last = self._burst_end = before + count
        again = self._sent - before
        if again > 0:
            self.retransmissions += min(again, count)
            self._times_sent += 1
            self._may_measure = False
        else:
            self._times_sent = 1
            self._may_measure = True
        if last > self._sent:
            self._sent = last
        self._mark_sent(now)
        in_middle = self.answered and self._last_block is None
        if in_middle and self._may_measure and self._numbering.plain:
            self._expected = wire.ACKS[last & 0xFFFF]
        else:
            self._expected = None
        if count == 1:
            return (wire.DATA_HEADERS[self._numbering.number(block)], data)
        return self._split(memoryview(data), block, count)

    def _split(self, view: memoryview, block: int, count: int = 0) -> Sequence[Buffer]:
        """Return the datagrams of `view`, numbered from `block` on: `count`, or a whole window."""
        blksize = self._blksize
        count = count or self._windowsize
        datagrams: list[Buffer] = [b""] * (2 * count)
        datagrams[1::2] = [
            view[start : start + blksize] for start in range(0, count * blksize, blksize)
        ]
        first, last = block & 0xFFFF, (block + count - 1) & 0xFFFF
        if self._numbering.plain and first <= last:
            datagrams[::2] = wire.DATA_HEADERS[first : last + 1]
        else:
            number = self._numbering.number
            datagrams[::2] = [
                wire.DATA_HEADERS[number(each)] for each in range(block, block + count)
            ]
        return datagrams

    def expire(self, now: float) -> Step:
        """Handle the deadline: send again, or give up."""
        if now < self.deadline:
            return Step.WAIT
        if now >= self._heard_at + self._timing.patience or (
            not self.answered and self._unanswered >= UNANSWERED_DATAGRAMS
        ):
            return self._fail(TransferTimedOut())
        if self._is_reading:
            self.deadline = self._heard_at + self._timing.patience
            return Step.WAIT
        self._timing.back_off()
        return self._send_again(now)

    def _receive_other(self, opcode: int, datagram: bytes | memoryview, now: float) -> Step:
        if opcode == wire.Opcode.ERROR:
            self.peer_error = wire.parse_error(datagram)
            return self._end(SenderState.FAILED)
        return Step.WAIT

    def _duplicate(self, now: float) -> Step:
        """Process a duplicate ACK, which may report a gap or may be an echo.

        In lock step, a duplicate ACK never causes DATA (RFC 1123 section 4.2.3.1). With windows, a
        duplicate ACK reports that the first block of the window was lost (RFC 7440 section 4). But
        if the previous window was sent more than once, each copy is acknowledged. These additional
        ACKs are echoes. If each of them caused a window, the Sorcerer's Apprentice bug would occur
        with whole windows.
        """
        if not self.answered:
            return Step.WAIT
        self._heard_at = now
        if self._sent - self._acked < 2 or self._is_reading or self._too_soon(now):
            return Step.WAIT
        if self._echoes > 0:
            self._echoes -= 1
            return Step.WAIT
        return self._next_window(now)

    def _too_soon(self, now: float) -> bool:
        """Return whether an ACK that arrives `now` is too early to answer the last burst.

        It then answers an earlier burst, and the blocks that it asks for are already on the way.
        Sending them once more would duplicate the window.
        """
        return now - self._sent_at < min(self._timing.least, self._timing.wait) / 2

    def _next_window(self, now: float) -> Step:
        """Send the window after the last acknowledged block, or ask for its octets first."""
        self._expected = None
        self.offset = offset = self._acked * self._blksize
        left = _NEVER if self._size is None else self._size - offset
        if self._read_ahead:
            start = offset - self._buffered_from
            window = min(self._window_octets, left)
            if start + window <= len(self._buffered) and self._sent:
                stop = int(start + window)
                self.datagrams = self._window(self._buffered[start:stop], now)
                return Step.BURST if self.datagrams else Step.END
        self.length = int(min(max(self._window_octets, self._read_ahead), left))
        self._is_reading = True
        self.deadline = self._heard_at + self._timing.patience
        return Step.READ

    def _send_again(self, now: float) -> Step:
        self._may_measure = False
        self._ambiguous_acks = 2
        if self.state is not SenderState.OFFERING:
            return self._next_window(now)
        self.retransmissions += 1
        return self._send_oack(now)

    def _send_oack(self, now: float) -> Step:
        self._mark_sent(now)
        return Step.SEND

    def _mark_sent(self, now: float) -> None:
        self._sent_at = now
        self.deadline = now + self._timing.wait
        if not self.answered:
            self._unanswered += 1
        give_up = self._heard_at + self._timing.patience
        if give_up < self.deadline:
            self.deadline = give_up

    def _fail(self, failure: TFTPError) -> Step:
        self.failure = failure
        return self._end(SenderState.FAILED)

    def _end(self, state: SenderState) -> Step:
        self.state = state
        self.deadline = _NEVER
        self._expected = None
        return Step.END


def _too_long() -> TFTPError:
    return TFTPError("the file needs more than 65,535 blocks: ask for a larger blksize")
