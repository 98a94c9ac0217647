"""Send a file's blocks: the machine of who sends DATA (a read on the server, a put on the client).

    OFFERING --ACK 0--> SENDING --ACK of the last block--> DONE
        \\__________________\\____________________________> FAILED

Blocks are counted from 1 without end; only the wire has 16 bits. Everything after the last
acknowledged block is "the window": it is sent whole, always from its first block, so offsets
only grow and a source that runs forward needs to remember one window.
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
_BURST = Step.BURST  # ten times as fast to look up


class SenderState(Enum):
    """What the sender awaits."""

    #: The OACK is out; the ACK 0 that accepts it is awaited.
    OFFERING = "offering"
    #: A window is out, or its octets are awaited from the source; an ACK is awaited.
    SENDING = "sending"
    #: Nothing: the last block was acknowledged.
    DONE = "done"
    #: Nothing: it can't go on; `failure` or `peer_error` says why.
    FAILED = "failed"


class Sender:
    """Send `size` octets in blocks and windows; `now` is seconds of any clock that only grows.

    @ivar state: a `SenderState`.
    @ivar deadline: when to call `expire`; infinite where nothing is awaited.
    @ivar offset: octets from the start of the file where the wanted octets begin.
    @ivar length: how many octets are wanted; 0 where the last block is an empty one.
    @ivar reply: the datagram of a `Step.SEND`.
    @ivar datagrams: the window of a `Step.BURST`, as `burst` returns it.
    @ivar failure: what to tell the peer after a `Step.END`, or None.
    @ivar peer_error: code and message of the ERROR that ended the transfer, or None.
    @ivar answered: the peer has sent something that only a real peer can.
    @ivar retransmissions: datagrams sent again.
    """

    __slots__ = (
        "_acked",
        "_at_hand",
        "_at_hand_from",
        "_blksize",
        "_burst_end",
        "_burst_start",
        "_clean",
        "_datagrams",
        "_doubtful",
        "_echoes",
        "_expected",
        "_heard_at",
        "_last",
        "_measure_at",
        "_numbering",
        "_oack",
        "_read_ahead",
        "_sent",
        "_sent_at",
        "_size",
        "_span",
        "_times_sent",
        "_timing",
        "_total",
        "_wanting",
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
        @param size: octets of the file, or None where only its end tells.
        @param oack: the OACK to offer first, or None.
        @param read_ahead: octets to ask the source for at a time, and to keep, where a window
            is smaller; 0 to keep none. They must stay as they are until more are wanted.
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
        self._sent = 0  # the last block ever sent
        self._burst_end = 0  # the last block of the last burst
        self._burst_start = 0  # and its first one
        self._times_sent = 0  # how often the present window was sent
        self._echoes = 0  # duplicate ACKs that the window before may still draw
        self._last: int | None = None  # the block that ends the file, once it was sent
        self._total = 0  # octets of the file, once the last block was sent
        self._clean = False  # the round trip of the last burst can be measured (Karn's rule)
        self._doubtful = 0  # next ACKs that may answer either copy of a window, after a timeout
        self._datagrams = 0  # sent before the peer has answered
        self._wanting = False  # octets are awaited from the source
        self._sent_at = 0.0
        self._heard_at = 0.0
        self._span = windowsize * blksize
        # Whole windows only, so that a window is never cut by the end of what is at hand.
        self._read_ahead = read_ahead // self._span * self._span
        self._at_hand = memoryview(b"")  # octets of the file from `_at_hand_from` on
        self._at_hand_from = 0
        self._expected: bytes | None = (
            None  # the ACK that moves the window on, where nothing else is going on
        )
        self._measure_at = 0.0

    @property
    def octets(self) -> int:
        """Octets of the file that were acknowledged."""
        return self._total if self._acked == self._last else self._acked * self._blksize

    @property
    def repeats_first_answer(self) -> bool:
        """Whether what it sends next may pass for the first answer to a request.

        That is an OACK, or a window that begins with block 1.
        """
        return self._acked == 0

    def start(self, now: float) -> Step:
        """Send the OACK or, where there is none, the first block."""
        self._heard_at = now
        limit = self._numbering.limit
        if limit is not None and self._size is not None and self._size >= limit * self._blksize:
            return self._fail(_too_long())
        if self._oack is None:
            return self._want(now)
        self._clean = True
        return self._send_oack(now)

    def repeat(self, now: float) -> Step:
        """Answer a request that came again: repeat the first answer, if it is still due."""
        if self.answered or self._wanting:
            self._heard_at = now
            return Step.WAIT
        if self._datagrams >= UNANSWERED_DATAGRAMS:
            return Step.WAIT
        return self._again(now)

    def receive(self, datagram: bytes | memoryview, now: float) -> Step:
        """Take a datagram that came from the peer's address and port."""
        if datagram == self._expected:
            # The hot path: the whole window was acknowledged, the next one is at hand, and
            # neither is near the end of the file or a rollover that is not to 0.
            block = self._burst_end
            start = block * self._blksize - self._at_hand_from
            stop = start + self._span
            if stop <= len(self._at_hand):
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
                        self._at_hand[start:stop],
                    )
                else:
                    self.datagrams = self._cut(self._at_hand[start:stop], block + 1)
                return _BURST
        return self._unexpected(datagram, now)

    def _unexpected(self, datagram: bytes | memoryview, now: float) -> Step:
        """Take whatever is not the expected ACK, or finds no octets at hand."""
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
            if self._clean:
                self._timing.measured(now - self._sent_at)
            step = self._want(now)
            self._timing.first_flight(min(self.length, self._span))
            return step
        if not ahead:
            return self._duplicate(now)
        if ahead > self._sent - self._acked:
            return Step.WAIT
        self._acked += ahead
        self.answered = True
        self._heard_at = now
        if self._clean:
            self._clean = False
            self._timing.measured(now - self._sent_at, alone=self._burst_start == self._burst_end)
        elif self._doubtful:
            self._doubtful -= 1
        elif not self._wanting:
            self._timing.confirmed(now - self._sent_at)
        if self._acked == self._last:
            return self._end(SenderState.DONE)
        if not self._wanting and self._acked < self._burst_end:
            if self._times_sent > 1 and self._too_soon(now):
                return Step.WAIT
        else:
            self._echoes = self._times_sent - 1
        return self._want(now)

    def burst(self, data: Buffer, now: float) -> Sequence[Buffer]:
        """Return a window of `data`, the octets that were wanted, as header, octets, header, ...

        Each header and the octets after it are one datagram. Fewer octets than wanted end the
        file. An empty answer means that the machine has ended.
        """
        self._wanting = False
        if self._read_ahead:
            if len(data) < self.length:
                self._size = self.offset + len(data)
            self._at_hand = memoryview(data)
            self._at_hand_from = self.offset
            data = self._at_hand[: self._span]
        return self._window(data, now)

    def _window(self, data: Buffer, now: float) -> Sequence[Buffer]:
        """Return the window of `data`, octets from `offset` on; fewer than `_span` are the end."""
        blksize = self._blksize
        before = self.offset // blksize
        block = self._burst_start = before + 1
        length = len(data)
        count = length // blksize
        if count < self._windowsize:
            count += 1
            self._last = before + count
            self._total = self.offset + length
        limit = self._numbering.limit
        if limit is not None and block + count - 1 > limit:
            count = limit + 1 - block
            self._last = None
            if count <= 0:
                self._fail(_too_long())
                return ()
            data = data[: count * blksize]
        last = self._burst_end = before + count
        again = self._sent - before
        if again > 0:
            self.retransmissions += min(again, count)
            self._times_sent += 1
            self._clean = False
        else:
            self._times_sent = 1
            self._clean = True
        if last > self._sent:
            self._sent = last
        self._mark_sent(now)
        if self._numbering.plain and self._clean and self.answered and self._last is None:
            self._expected = wire.ACKS[last & 0xFFFF]
        else:
            self._expected = None
        if count == 1:
            return (wire.DATA_HEADERS[self._numbering.number(block)], data)
        return self._cut(memoryview(data), block, count)

    def _cut(self, view: memoryview, block: int, count: int = 0) -> Sequence[Buffer]:
        """Return the blocks of `view` from `block` on, `count` or as many as it holds."""
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
        """Act on the deadline: send again, or give up."""
        if now < self.deadline:
            return Step.WAIT
        if now >= self._heard_at + self._timing.patience or (
            not self.answered and self._datagrams >= UNANSWERED_DATAGRAMS
        ):
            return self._fail(TransferTimedOut())
        if self._wanting:
            self.deadline = self._heard_at + self._timing.patience
            return Step.WAIT
        self._timing.back_off()
        return self._again(now)

    def _receive_other(self, opcode: int, datagram: bytes | memoryview, now: float) -> Step:
        if opcode == wire.Opcode.ERROR:
            self.peer_error = wire.parse_error(datagram)
            return self._end(SenderState.FAILED)
        return Step.WAIT

    def _duplicate(self, now: float) -> Step:
        """Tell a gap from an echo, and from an ACK that the network repeated.

        In lock step a duplicate ACK never causes DATA (RFC 1123 section 4.2.3.1). In a window
        it says that the first block was lost (RFC 7440 section 4), unless the window before was
        sent more than once: each copy is acknowledged, and answering the echoes with windows
        would be the Sorcerer's Apprentice in the large.
        """
        if not self.answered:
            return Step.WAIT
        self._heard_at = now
        if self._sent - self._acked < 2 or self._wanting or self._too_soon(now):
            return Step.WAIT
        if self._echoes > 0:
            self._echoes -= 1
            return Step.WAIT
        return self._want(now)

    def _too_soon(self, now: float) -> bool:
        """Whether an ACK that comes `now` can't answer the last burst, but one before it.

        What it asks for is under way already; sending it once more would multiply the window.
        """
        return now - self._sent_at < min(self._timing.least, self._timing.wait) / 2

    def _want(self, now: float) -> Step:
        """Ask for the octets of the window that follows the last acknowledged block."""
        self._expected = None
        self.offset = offset = self._acked * self._blksize
        left = _NEVER if self._size is None else self._size - offset
        if self._read_ahead:
            start = offset - self._at_hand_from
            window = min(self._span, left)
            if start + window <= len(self._at_hand) and self._sent:
                stop = int(start + window)
                self.datagrams = self._window(self._at_hand[start:stop], now)
                return Step.BURST if self.datagrams else Step.END
        self.length = int(min(max(self._span, self._read_ahead), left))
        self._wanting = True
        self.deadline = self._heard_at + self._timing.patience
        return Step.READ

    def _again(self, now: float) -> Step:
        self._clean = False
        self._doubtful = 2
        if self.state is not SenderState.OFFERING:
            return self._want(now)
        self.retransmissions += 1
        return self._send_oack(now)

    def _send_oack(self, now: float) -> Step:
        self._mark_sent(now)
        return Step.SEND

    def _mark_sent(self, now: float) -> None:
        self._sent_at = now
        self.deadline = now + self._timing.wait
        if not self.answered:
            self._datagrams += 1
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
