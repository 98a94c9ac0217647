"""Keep pieces of files that several downloads read, so that each piece is copied only once.

Machines that boot from one image read the same pieces, one machine shortly after the other. If
several downloads of a file run, the first read of a piece is only noted. If the same piece is read
again within `MAX_AGE` seconds, its octets are kept for further downloads. Otherwise each download
uses one buffer for all of its reads, which stays in the cache of the processor: kept octets that
nobody else uses would make it 7 % slower.

Downloads share pieces only if they have found the file in the same state (device, inode, size,
mtime and ctime), and if it had not changed for `MIN_UNCHANGED` seconds before (see
`content_cache`). Some changes do not change the times of a file when they happen, such as stores
through a mapping. So a piece is used for `MAX_AGE` seconds only. A download that begins right
after such a change may get some old pieces and some new ones.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from twisted_tftp.backends.filesystem.content_cache import Identity

#: How long a piece is used after it was read, in seconds. The machines of a rack read it within a
#: fraction of this time.
MAX_AGE = 2.0

#: The shortest piece that is shared, in octets: to copy fewer octets costs less than to keep them.
MIN_SIZE = 8 * 1024

#: The most pieces that are noted. They need 2 MB.
MAX_NOTED = 8192

#: A piece: the state of its file, its offset in octets from the start of the file, and its length
#: in octets.
Piece = tuple[Identity, int, int]


class SharedPieces:
    """The pieces of all files that are kept, and those that were read once.

    @ivar octets: how many octets are kept. Downloads may hold others, which were removed since.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set up; nothing is kept.

        @param capacity: the most octets that are kept.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        self._capacity = capacity
        self._clock = clock
        self.octets = 0
        # When each piece was read, and its octets; the piece that was read first comes first.
        self._kept: OrderedDict[Piece, tuple[float, bytearray]] = OrderedDict()
        self._noted: dict[Piece, float] = {}  # when each piece was read last
        self._spare: bytearray | None = None

    def get(self, piece: Piece) -> memoryview | None:
        """Return the octets of a piece; None if they are not kept."""
        expired = self._clock() - MAX_AGE
        while self._kept and next(iter(self._kept.values()))[0] <= expired:
            self._remove_oldest()
        kept = self._kept.get(piece)
        return None if kept is None else memoryview(kept[1])

    def note_read(self, piece: Piece) -> bool:
        """Note that a piece is read from the file; return whether it should be kept."""
        now = self._clock()
        is_repeated = now - self._noted.get(piece, -MAX_AGE) < MAX_AGE
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted[piece] = now
        return is_repeated

    def buffer(self, length: int) -> bytearray:
        """Return the buffer for the octets of the piece that is kept next."""
        if self._spare is None or len(self._spare) != length:
            self._spare = bytearray(length)
        return self._spare

    def keep(self, piece: Piece) -> None:
        """Keep a piece whose octets are in `buffer`, in place of the oldest ones."""
        octets = self.buffer(piece[2])
        self._spare = None
        self._kept[piece] = self._clock(), octets
        self.octets += len(octets)
        while self.octets > self._capacity:
            self._remove_oldest()

    def clear(self) -> None:
        """Remove all pieces. Downloads that use their octets continue."""
        self._kept.clear()
        self._noted.clear()
        self.octets = 0

    def _remove_oldest(self) -> None:
        _, (_, octets) = self._kept.popitem(last=False)
        self.octets -= len(octets)
        # The memory is used for the next piece: the first use of new memory takes 30 µs for
        # 256 KiB. A bytearray does not change its size while a download holds its octets.
        try:
            octets.append(octets.pop())
        except BufferError:
            return
        self._spare = octets
