"""Buffer octets that were read from a file before the window needs them."""

from __future__ import annotations

from twisted_tftp.transfer.machine import Buffer

#: The factor by which each read is larger than the last one, up to the full buffer size.
GROWTH = 16

#: The size of the largest file that is read at once, in octets. Two reads would make a transfer of
#: 3 kB a tenth slower.
SMALL_FILE = 4096

#: The most octets to read at a time from a source that has not returned as many at once: while it
#: reads, the peer gets nothing.
SLOW_READ = 64 * 1024

#: The largest read-ahead of one read, in octets.
MAX_READ_AHEAD = 1024 * 1024

#: A new read gets at most this read-ahead in octets, divided by the number of running transfers.
#: Earlier ones keep what they got, so 1,000 of them have 112 MiB at most, and 10,000 have 164 MiB.
MAX_TOTAL_READ_AHEAD = 32 * 1024 * 1024


def read_ahead_of(transfers: int) -> int:
    """Return the read-ahead of a new download, in octets: less if there are many transfers.

    It is a power of two, so that most transfers of one file with the same options read the same
    pieces of it.

    @param transfers: the number of transfers, this one included.
    """
    share = min(MAX_READ_AHEAD, MAX_TOTAL_READ_AHEAD // transfers)
    return 1 << (share.bit_length() - 1)


class ReadAhead:
    """The octets of a file that a sender has read and may not have sent yet.

    The first read is of one window, and each further one is larger than the one before. So a
    transfer whose peer never acknowledges the first window holds no more than that window, or a
    small file.

    @ivar size: how many octets to read next; 0 if a window is larger than the buffer: then nothing
        is buffered.
    @ivar start: the offset in the file of the first buffered octet.
    @ivar octets: the buffered octets.
    """

    __slots__ = ("_limit", "_slow_limit", "octets", "size", "start")

    def __init__(self, size: int, window: int, file_size: int | None = None) -> None:
        """Set up an empty buffer of at most `size` octets for windows of `window` octets.

        @param file_size: the size of the file in octets; None if unknown.
        """
        # A multiple of the window, so that the buffer never ends in the middle of a window.
        self._limit = size // window * window
        self._slow_limit = min(self._limit, max(window, SLOW_READ // window * window))
        is_small = file_size is not None and file_size <= SMALL_FILE
        self.size = self._limit if is_small else min(window, self._limit)
        self.start = 0
        self.octets = memoryview(b"")

    def fill(self, octets: Buffer, start: int, is_quick: bool = True) -> None:
        """Replace the buffered octets by those of the file from the offset `start` on.

        @param is_quick: whether the source has returned them at once.
        """
        self.octets = memoryview(octets)
        self.start = start
        # A paced source may return a little at once, and let a larger read wait.
        is_fast = is_quick and self.size >= self._slow_limit
        self.size = min(GROWTH * self.size, self._limit if is_fast else self._slow_limit)

    def get(self, offset: int, length: int) -> memoryview | None:
        """Return `length` octets from `offset` on; None if they are not all buffered."""
        start = offset - self.start
        stop = start + length
        return self.octets[start:stop] if stop <= len(self.octets) else None
