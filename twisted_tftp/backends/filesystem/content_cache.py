"""Keep the contents of small, hot files in memory, each use checked against the file.

A content is used only for the file that it was read from: the same device and inode, size, and
times of change to the nanosecond. What is done to a file through open, write, truncate, rename,
link, unlink or chmod changes its ctime; that nothing is done within the clock tick of the last
change, which would not show, is made sure of by keeping a content only once it has stood for a
while. What does not change the ctime when it happens is seen after `LIFE` seconds at the latest:
stores through a shared mapping, the rest of one write that takes seconds, another disk image
mounted from the same device.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable

from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader

#: Octets of a file that is small.
SMALL = 64 * 1024

#: Octets that the memory of a content costs beside its octets.
OVERHEAD = 600

#: Seconds for which a file must not have changed: more than a tick of any file system's clock.
SETTLED = 2.5

#: Seconds after which a content is read again, whatever the file's times say.
LIFE = 5.0

#: Old contents that are looked at, at most, to make room for a new one.
LOOKS = 8

#: What a content belongs to.
Identity = tuple[int, int, int, int, int]


def identity(status: os.stat_result) -> Identity:
    """Return what tells one state of a file from every other."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


class Content:
    """The octets of a file, and how many readers have them."""

    __slots__ = ("data", "identity", "readers", "until")

    def __init__(self, of: Identity, data: bytes, until: float) -> None:
        self.identity = of
        self.data = data
        self.until = until
        self.readers = 0


class Contents:
    """Contents of up to `capacity` octets in all, those in use among them.

    @ivar capacity: the most octets that the contents use.
    @ivar octets: the octets that the contents use now, with `OVERHEAD` for each.
    """

    def __init__(
        self,
        capacity: int,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty store.

        @param clock: seconds of the clock that file times are taken from.
        @param monotonic: seconds of a clock that only grows.
        """
        self.capacity = capacity
        self._clock = clock
        self._monotonic = monotonic
        self.octets = 0
        self._by_inode: OrderedDict[tuple[int, int], Content] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of contents."""
        return len(self._by_inode)

    def clear(self) -> None:
        """Remove all contents; readers keep those that they have."""
        self._by_inode.clear()
        self.octets = 0

    def reader(self, status: os.stat_result) -> ContentReader | None:
        """Return a reader of the file with that status, if its content is known."""
        inode = (status.st_dev, status.st_ino)
        content = self._by_inode.get(inode)
        if content is None:
            return None
        if content.identity != identity(status) or self._monotonic() >= content.until:
            if not content.readers:
                self._drop(inode)
            return None
        self._by_inode.move_to_end(inode)
        return ContentReader(content)

    def wants(self, status: os.stat_result) -> bool:
        """Whether the content of a file with that status would be kept; makes room for it."""
        cost = status.st_size + OVERHEAD
        if status.st_size > SMALL or cost > self.capacity:
            return False
        if (status.st_dev, status.st_ino) in self._by_inode:
            return False  # an older state of it is being read
        if self._clock() - max(status.st_mtime, status.st_ctime) < SETTLED:
            return False
        for _ in range(LOOKS):
            if self.octets + cost <= self.capacity:
                return True
            inode = next(iter(self._by_inode))
            if self._by_inode[inode].readers:
                self._by_inode.move_to_end(inode)
            else:
                self._drop(inode)
        return self.octets + cost <= self.capacity

    def add(self, status: os.stat_result, data: bytes) -> ContentReader:
        """Keep the content of a file that is wanted, and return a reader of it.

        @param status: what the file was before and after it was read.
        """
        content = Content(identity(status), data, self._monotonic() + LIFE)
        self._by_inode[status.st_dev, status.st_ino] = content
        self.octets += len(data) + OVERHEAD
        return ContentReader(content)

    def _drop(self, inode: tuple[int, int]) -> None:
        content = self._by_inode.pop(inode)
        self.octets -= len(content.data) + OVERHEAD


@implementer(IFileReader)
class ContentReader:
    """Read a content, which stays in memory as long."""

    __slots__ = ("_content", "_view", "size")

    def __init__(self, content: Content) -> None:
        content.readers += 1
        self._content = content
        self._view = memoryview(content.data)
        self.size = len(content.data)

    def read(self, offset: int, length: int) -> memoryview:
        """Return the octets there."""
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Let go of the content."""
        self._content.readers -= 1
