"""Read regular files: pages in the page cache at once, and other pages in a thread.

With the flag `RWF_NOWAIT`, Linux reads from its page cache only. Each read is first tried with
this flag; a thread is used only if a page is not cached. On systems without the flag, all reads
are made in threads, in large pieces.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.filesystem.content_cache import identity
from twisted_tftp.backends.filesystem.shared_pieces import SharedPieces
from twisted_tftp.backends.filesystem.threads import InThread
from twisted_tftp.interfaces import IFileReader

#: The most octets of one read in a thread, without `RWF_NOWAIT`.
CHUNK_SIZE = 256 * 1024

#: The most octets of such reads that all readers together keep in memory. If there are very many
#: readers, each of them reads fewer octets at a time.
ALL_CHUNKS_SIZE = 64 * 1024 * 1024

#: The octets that the kernel is told to read ahead after a page that was not cached.
PREFETCH_SIZE = 1024 * 1024

_NO_OCTETS = memoryview(b"")


def nowait_flags() -> int | None:
    """Return the flag of `preadv` for reads from the page cache only; None if there is none."""
    flags: int | None = getattr(os, "RWF_NOWAIT", None)
    return flags


class ChunkBudget:
    """The limit of the memory of all readers that use a thread for each read.

    @ivar readers: the number of these readers.
    """

    def __init__(
        self, chunk_size: int = CHUNK_SIZE, all_chunks_size: int = ALL_CHUNKS_SIZE
    ) -> None:
        """Set up, with no readers.

        @param chunk_size: the most octets of one reader.
        @param all_chunks_size: the most octets of all readers together.
        """
        self._chunk_size = chunk_size
        self._all_chunks_size = all_chunks_size
        self.readers = 0

    @property
    def size(self) -> int:
        """How many octets each reader may read at a time."""
        return min(self._chunk_size, self._all_chunks_size // max(1, self.readers))

    def add_reader(self) -> None:
        """Add a reader; all readers may then have to read fewer octets at a time."""
        self.readers += 1

    def remove_reader(self) -> None:
        """Remove a reader."""
        self.readers -= 1


class OpenFile:
    """An open regular file that one or more readers share.

    @ivar descriptor: its file descriptor.
    @ivar size: its size in octets when it was opened.
    @ivar identity: its device, inode, size, mtime and ctime when it was opened.
    @ivar readers: how many readers it has.
    @ivar is_discarded: whether it is closed.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over `descriptor`, for one reader."""
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.identity = identity(status)
        self.is_discarded = False
        self.readers = 1

    def add_reader(self) -> None:
        """Add a reader."""
        self.readers += 1

    def discard(self) -> None:
        """Remove a reader, and close the file if it was the last one."""
        self.readers -= 1
        if not self.readers:
            self.is_discarded = True
            os.close(self.descriptor)


@implementer(IFileReader)
class FilesystemReader:
    """The reader of an open file; the file may be renamed or deleted meanwhile."""

    def __init__(
        self,
        file: OpenFile,
        in_thread: InThread,
        chunks: ChunkBudget,
        flags: int | None,
        pieces: SharedPieces | None = None,
    ) -> None:
        """Set up a reader of `file`; L{close} calls the `discard` of the file.

        @param in_thread: calls a function in a thread.
        @param chunks: tells how many octets to read at a time if all reads need a thread.
        @param flags: see L{nowait_flags}; 0 if no read ever waits.
        @param pieces: the pieces that readers share; None to share nothing.
        """
        self.size = file.size
        self._file = file
        self._descriptor = file.descriptor
        self._in_thread = in_thread
        self._flags = flags or 0
        self._nowait = flags is not None
        self._chunks = chunks
        self._pieces = pieces
        self._counted = False  # whether `chunks` counts this reader
        self._view = _NO_OCTETS  # of a buffer that is used again
        self._chunk = b""  # the octets that were read in a thread last, from `_chunk_at` on
        self._chunk_at = 0
        self._reading = False
        self._closed = False

    def read(self, offset: int, length: int) -> memoryview | Deferred[memoryview]:
        """Read from the page cache now, or from the disk in a thread."""
        start = offset - self._chunk_at
        if start >= 0 and start + length <= len(self._chunk):
            return memoryview(self._chunk)[start : start + length]
        if self._nowait:
            data = self._read_shared(offset, length) or self._read_into_view(offset, length)
            if data is not None:
                return data
        return self._read_in_thread(offset, length)

    def _read_shared(self, offset: int, length: int) -> memoryview | None:
        """Return octets that other readers of the file share; None if this one must read them."""
        if self._pieces is None or self._file.readers == 1:
            return None
        data = self._pieces.read((self._file.identity, offset, length), self._fill)
        if data is not None:
            self._view = _NO_OCTETS
        return data

    def _read_into_view(self, offset: int, length: int) -> memoryview | None:
        """Read into this reader's own buffer; return None if the octets are not all in memory."""
        if len(self._view) < length:
            self._view = memoryview(bytearray(length))
        view = self._view[:length]
        return view if self._fill(view, offset) else None

    def _fill(self, view: memoryview, offset: int) -> bool:
        """Read into `view` from the page cache; return False if the octets are not all there."""
        try:
            return os.preadv(self._descriptor, (view,), offset, self._flags) == len(view)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self._nowait = False
            return False

    def close(self) -> None:
        """Close the file; if a thread is reading it, close it after that.

        If the descriptor were closed during the read, another file could get the same number.
        """
        self._closed = True
        if self._counted:
            self._chunks.remove_reader()
        if not self._reading:
            self._file.discard()

    def _read_in_thread(self, offset: int, length: int) -> Deferred[memoryview]:
        """Read from the disk, in a thread.

        If the system has `RWF_NOWAIT`, the kernel is told to read ahead, so that the next read
        finds its pages in the cache. Otherwise this call reads more than requested, for the next
        reads.
        """
        self._reading = True
        if not self._nowait and not self._counted:
            self._counted = True
            self._chunks.add_reader()
        amount = length if self._nowait else max(length, self._chunks.size)
        reading = self._in_thread(_read, self._descriptor, offset, amount, self._nowait)
        return reading.addBoth(self._read_done, offset, length)

    def _read_done(self, result: Any, offset: int, length: int) -> Any:
        self._reading = False
        if self._closed:
            self._file.discard()
        if isinstance(result, Failure):
            return result
        self._chunk, self._chunk_at = result, offset
        return memoryview(result)[:length]


def read_cached(descriptor: int, size: int, flags: int | None) -> bytes | None:
    """Return the first `size` octets of a file if all of them are in memory, otherwise None.

    @param flags: as for a L{FilesystemReader}.
    """
    if flags is None:
        return None
    data = bytearray(size)
    try:
        if size and os.preadv(descriptor, (data,), 0, flags) != size:
            return None
    except OSError:
        return None
    return bytes(data)


def _read(descriptor: int, offset: int, length: int, prefetch: bool) -> bytes:
    """Read `length` octets, fewer only at the end of the file; this may block."""
    if prefetch:
        os.posix_fadvise(descriptor, offset, PREFETCH_SIZE, os.POSIX_FADV_WILLNEED)
    pieces = []
    while length > 0:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)
