"""Cache the contents of small files in memory; each use checks that the file is unchanged.

A cached content is used only if device, inode, size, mtime and ctime (in nanoseconds) of the file
are those of the file that was read. Most operations change the ctime: write, truncate, rename,
link, unlink and chmod.

Two kinds of changes would not be noticed, so there are two more rules:

 - A second change within one tick of the file system's clock leaves the ctime as it is. So a
   content is cached only if the file has not changed for `MIN_UNCHANGED` seconds.
 - Some changes do not set the ctime when they happen: stores through a shared mapping, the rest
   of a single write that takes seconds, another disk image that is mounted from the same device.
   So a content is used for `MAX_AGE` seconds only.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable

from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader

#: The largest file that is cached, in octets.
MAX_FILE_SIZE = 64 * 1024

#: The memory that a content needs in addition to its octets, in octets.
OVERHEAD = 600

#: How long a file must be unchanged before it is cached, in seconds: longer than a tick of any
#: file system's clock.
MIN_UNCHANGED = 2.5

#: How long a cached content is used before the file is read again, in seconds.
MAX_AGE = 5.0

#: How many contents are examined, the least recently used first, to make room for a new one.
MAX_EVICTION_CHECKS = 8

#: Device, inode, size, mtime and ctime of a file; the times are in nanoseconds.
Identity = tuple[int, int, int, int, int]


def identity(status: os.stat_result) -> Identity:
    """Return the values that change when the file changes or is replaced."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


class CachedContent:
    """The cached octets of a file, and the number of readers that use them."""

    __slots__ = ("data", "expires", "identity", "readers")

    def __init__(self, identity: Identity, data: bytes, expires: float) -> None:
        self.identity = identity
        self.data = memoryview(data)
        self.expires = expires
        self.readers = 0


class ContentCache:
    """The cache of the contents of small files, with at most `capacity` octets in total.

    @ivar capacity: the limit of `octets`.
    @ivar octets: the memory of all contents in octets, with `OVERHEAD` for each one.
    """

    def __init__(
        self,
        capacity: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty cache.

        @param clock: returns the time in seconds of the clock that sets the times of files.
        @param monotonic: returns the time in seconds of a monotonic clock.
        """
        self.capacity = capacity
        self._clock = clock
        self._monotonic = monotonic
        self.octets = 0
        self._by_inode: OrderedDict[tuple[int, int], CachedContent] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of contents."""
        return len(self._by_inode)

    def clear(self) -> None:
        """Remove all contents; open readers keep theirs."""
        self._by_inode.clear()
        self.octets = 0

    def open_reader(self, identity: Identity) -> ContentReader | None:
        """Return a reader of the file with that identity; None if its content is not cached.

        A content of an earlier state of the file is removed if no reader uses it.
        """
        inode = identity[:2]
        content = self._by_inode.get(inode)
        if content is None:
            return None
        if content.identity != identity or self._monotonic() >= content.expires:
            if not content.readers:
                self._remove(inode)
            return None
        self._by_inode.move_to_end(inode)
        return ContentReader(content)

    def may_cache(self, identity: Identity) -> bool:
        """Return whether a file may be cached: it is small, and has not changed for a while."""
        device, inode, size = identity[:3]
        if size > MAX_FILE_SIZE or size + OVERHEAD > self.capacity:
            return False
        if (device, inode) in self._by_inode:
            return False  # readers still use the content of an earlier state of this file
        return self.has_settled(identity)

    def has_settled(self, identity: Identity) -> bool:
        """Return whether the last change of a file is so old that the next has another ctime."""
        return self._clock() - max(identity[3:]) / 1e9 >= MIN_UNCHANGED

    def make_room(self, size: int) -> bool:
        """Remove contents that no reader uses, until a file of `size` octets fits.

        @return: whether it fits. Only `MAX_EVICTION_CHECKS` contents are examined.
        """
        cost = size + OVERHEAD
        for _ in range(MAX_EVICTION_CHECKS):
            if self.octets + cost <= self.capacity:
                return True
            inode = next(iter(self._by_inode))
            if self._by_inode[inode].readers:
                self._by_inode.move_to_end(inode)
            else:
                self._remove(inode)
        return self.octets + cost <= self.capacity

    def add(self, identity: Identity, data: bytes) -> ContentReader:
        """Add the content of a file that may be cached and fits; return a reader of it.

        @param identity: the identity of the file, the same before and after the read.
        """
        content = CachedContent(identity, data, self._monotonic() + MAX_AGE)
        self._by_inode[identity[:2]] = content
        self.octets += len(data) + OVERHEAD
        return ContentReader(content)

    def _remove(self, inode: tuple[int, int]) -> None:
        content = self._by_inode.pop(inode)
        self.octets -= len(content.data) + OVERHEAD


@implementer(IFileReader)
class ContentReader:
    """A reader of cached octets, which stay in memory until the reader is closed."""

    __slots__ = ("_content", "_view", "size")

    def __init__(self, content: CachedContent) -> None:
        content.readers += 1
        self._content = content
        self._view = content.data
        self.size = content.identity[2]

    def read(self, offset: int, length: int) -> memoryview:
        """Return octets from memory."""
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Release the content."""
        self._content.readers -= 1
