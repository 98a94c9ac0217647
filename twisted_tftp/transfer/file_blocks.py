"""Divide a file into the blocks and windows that a sender sends, and buffer its octets."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.blocks import numbering_of
from twisted_tftp.transfer.flow import Offer
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.read_ahead import SMALL_FILE, ReadAhead

#: Stands for the size of a file that is not known: more octets than any file has.
_UNKNOWN_SIZE = 1 << 63


#: The read-ahead in octets from which on a small file is read before the peer has answered. With
#: less read-ahead there are hundreds of transfers, and the addresses of most may be forged.
MIN_EARLY_READ_AHEAD = 128 * 1024


class FileBlocks:
    """The blocks of one file, with absolute block numbers. The last one is shorter than `blksize`.

    @ivar blksize: octets of a block.
    @ivar windowsize: blocks of a window (RFC 7440).
    @ivar window_size: octets of a window.
    @ivar size: octets of the file; None if it is known only at the end of the file.
    @ivar last: the last block of the file, once it was sent; None before.
    @ivar numbering: the numbers of the blocks on the wire.
    @ivar buffer: the octets that were read and may not have been sent yet.
    """

    __slots__ = (
        "_may_read_early",
        "blksize",
        "buffer",
        "last",
        "numbering",
        "size",
        "window_size",
        "windowsize",
    )

    def __init__(
        self,
        blksize: int,
        windowsize: int,
        size: int | None,
        rollover: Rollover,
        read_ahead: int,
    ) -> None:
        """Set up; nothing is buffered.

        @param size: octets of the file; None if unknown.
        @param read_ahead: octets to read at a time and to buffer, if a window is smaller; 0 for no
            buffer.
        """
        self.blksize = blksize
        self.windowsize = windowsize
        self.window_size = windowsize * blksize
        self.size = size
        self.last: int | None = None
        self.numbering = numbering_of(rollover)
        self.buffer = ReadAhead(read_ahead, self.window_size, size)
        self._may_read_early = bool(self.buffer.size) and read_ahead >= MIN_EARLY_READ_AHEAD

    @property
    def are_too_many(self) -> bool:
        """Whether the file is known to have more blocks than there are block numbers."""
        limit = self.numbering.limit
        return limit is not None and self.size is not None and self.size >= limit * self.blksize

    @property
    def early_read(self) -> int:
        """How many octets to read before the peer has answered: all of a small file, or none."""
        size = self.size
        return size if size and size <= SMALL_FILE and self._may_read_early else 0

    def octets_left(self, offset: int) -> int:
        """Return how many octets the file has from `offset` on; a huge number if unknown."""
        return (_UNKNOWN_SIZE if self.size is None else self.size) - offset

    def buffered_window(self, offset: int) -> memoryview | None:
        """Return the octets of the window at `offset`; None if they are not all buffered."""
        if not self.buffer.octets:
            return None  # nothing was read yet, or nothing is ever buffered
        return self.buffer.get(offset, min(self.window_size, self.octets_left(offset)))

    def read_length(self, offset: int) -> int:
        """Return how many octets to read at `offset`; 0 at the end of the file."""
        return min(max(self.window_size, self.buffer.size), self.octets_left(offset))

    def fill(self, data: Buffer, offset: int, length: int, is_quick: bool) -> Buffer:
        """Buffer octets that were read; return those of the window at `offset`.

        @param data: the octets from `offset` on.
        @param length: how many octets were asked for; fewer of them end the file.
        @param is_quick: whether the source has returned them at once.
        """
        if not self.buffer.size:
            return data
        if len(data) < length:
            self.size = offset + len(data)
        self.buffer.fill(data, offset, is_quick)
        return self.buffer.octets[: self.window_size]

    def window(self, data: Buffer, acked: int) -> tuple[int, Sequence[Buffer]]:
        """Return the last block of a window and its datagrams: header, octets, header, ...

        A window that ends after block `acked` has no datagrams: there are no numbers left.

        @param data: the octets of the window; if they do not fill it, they end the file.
        @param acked: the block before the window.
        """
        count = len(data) // self.blksize
        if count < self.windowsize:
            count += 1
            self.last = acked + count
            self.size = acked * self.blksize + len(data)
        limit = self.numbering.limit
        if limit is not None and acked + count > limit:
            count = limit - acked
            self.last = None
            data = data[: count * self.blksize]
        end = acked + count
        if count == 1:
            return end, (wire.DATA_HEADERS[self.numbering.number(end)], data)
        return end, self.numbering.packets(memoryview(data), acked + 1, end, self.blksize)

    def offer(
        self, least: int, sent: int, sent_at: float, measure_at: float, is_first: bool
    ) -> Offer | None:
        """Return what a flow needs to send the windows after block `sent`.

        None if there are fewer than `least`: a flow costs as much as a few packets.

        @param is_first: whether `sent` is 0 and stands for the OACK.
        """
        octets, start = self.buffer.octets, self.buffer.start
        position = sent * self.blksize - start
        is_file_end = start + len(octets) == self.size
        # At the end of the file, a window that is not full follows the full ones.
        if len(octets) - position < (least - is_file_end) * self.window_size:
            return None
        return Offer(
            *(octets, position, is_file_end, sent & 0xFFFF, self.blksize, self.windowsize),
            *(sent_at, measure_at, is_first),
        )

    def datagrams(self, first: int, last: int) -> Sequence[Buffer]:
        """Return the datagrams of the blocks `first` to `last`, which are buffered."""
        octets = self.buffer.octets[(first - 1) * self.blksize - self.buffer.start :]
        return self.numbering.packets(octets, first, last, self.blksize)
