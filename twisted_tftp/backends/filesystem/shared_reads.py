"""Keep octets that several downloads of a file read, so that they are copied from it only once.

Machines that boot from one image ask for the same octets, one shortly after the other. A piece of
a file that was read once is only noted; if it is read again, it is kept for the next downloads.
A thousand clients of one file get it 1.3 times as fast.

The rules for changed files are those of the content cache: only downloads that found the file in
the same state (device, inode, size, mtime and ctime) share octets, only if it had not changed for
`MIN_UNCHANGED` seconds, and for at most `MAX_AGE` seconds.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from twisted_tftp.backends.filesystem.content_cache import MAX_AGE, Identity

#: The shortest read that is shared, in octets: to copy fewer octets costs less than to keep them.
MIN_SIZE = 8 * 1024

#: If so many pieces of a file were kept in a row and none was used, no more are kept: its
#: downloads are too far apart.
MAX_UNUSED = 16

#: How many pieces of all files are noted.
MAX_NOTED = 8192

#: Of how many files pieces are kept.
MAX_FILES = 256

#: A position in octets from the start of the file, and a number of octets.
_Piece = tuple[int, int]


class FileReads:
    """The pieces of one file that its downloads share.

    @ivar kept: when each piece was read, and its octets.
    @ivar used_at: when a download of the file began last.
    """

    __slots__ = ("_reads", "_unused", "kept", "used_at")

    def __init__(self, reads: SharedReads) -> None:
        self._reads = reads
        self._unused = 0  # pieces that were kept since a kept one was used
        self.kept: dict[_Piece, tuple[float, memoryview]] = {}
        self.used_at = 0.0

    def get(self, offset: int, length: int) -> memoryview | None:
        """Return the `length` octets at `offset`; None if they are not kept, or for too long."""
        read = self.kept.get((offset, length))
        if read is None or self._reads.clock() - read[0] >= MAX_AGE:
            return None
        self._unused = 0
        return read[1]

    def note_read(self, offset: int, length: int) -> bool:
        """Note that a piece is read; return whether to keep its octets, with `keep`."""
        return self._unused < MAX_UNUSED and self._reads.note_read(self, (offset, length))

    def keep(self, offset: int, data: memoryview) -> None:
        """Keep the octets at `offset`. They must not change any more."""
        piece = (offset, len(data))
        is_new = piece not in self.kept
        self.kept[piece] = self._reads.clock(), data
        self._unused += 1
        if is_new:
            self._reads.note_kept(self, piece)


class SharedReads:
    """The pieces that downloads share, of all files.

    @ivar octets: how many octets are kept.
    @ivar clock: returns the time in seconds of a monotonic clock.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set up; nothing is kept.

        @param capacity: the most octets that are kept.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        self._capacity = capacity
        self.clock = clock
        self.octets = 0
        self._files: OrderedDict[Identity, FileReads] = OrderedDict()
        self._noted: dict[tuple[FileReads, _Piece], float] = {}  # when it was read last
        self._kept: deque[tuple[FileReads, _Piece]] = deque()  # the oldest one first

    def of_file(self, identity: Identity) -> FileReads:
        """Return the pieces of a file, for a download that begins."""
        file, now = self._files.get(identity), self.clock()
        if file is None or now - file.used_at >= MAX_AGE:
            self._files[identity] = file = FileReads(self)
            if len(self._files) > MAX_FILES:
                self._files.popitem(last=False)
        self._files.move_to_end(identity)
        file.used_at = now
        return file

    def clear(self) -> None:
        """Share nothing of earlier downloads. Their octets stay until there are newer ones."""
        self._files.clear()

    def note_read(self, file: FileReads, piece: _Piece) -> bool:
        """Note that a piece is read; return whether it was read before, not too long ago."""
        now = self.clock()
        is_repeated = now - self._noted.get((file, piece), -MAX_AGE) < MAX_AGE
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted[file, piece] = now
        return is_repeated

    def note_kept(self, file: FileReads, piece: _Piece) -> None:
        """Note that a piece is kept; remove the oldest ones of all files to make room for it."""
        self._kept.append((file, piece))
        self.octets += piece[1]
        while self.octets > self._capacity:
            oldest, piece = self._kept.popleft()
            del oldest.kept[piece]
            self.octets -= piece[1]
