"""Serve the files beneath a directory, and take uploads that appear whole or not at all.

Nothing here blocks the reactor: names are looked up, and uploads written, in threads. A read is
tried where it stands with RWF_NOWAIT, which answers from the page cache or not at all; only a
page that is not there yet costs a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from twisted_tftp.backends.filesystem.content_cache import Contents, Identity, identity
from twisted_tftp.backends.filesystem.kernel_lookup import CachedOpener, Found
from twisted_tftp.backends.filesystem.path_walk import find
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.filesystem.upload import Upload, sweep
from twisted_tftp.backends.naming import WriteMode
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, BackendUnavailable
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IFileBackend,
    IFileReader,
    IFileWriter,
)

#: Octets of an upload that are given to a thread at a time, and held before the client waits.
FLUSH, HOLD = 256 * 1024, 1024 * 1024

#: Octets that are written at a time where no thread is asked.
AT_ONCE = 64 * 1024

#: Octets read in one go where each read costs a thread, by one reader and by all of them together:
#: with very many transfers each reads less at a time.
CHUNK, CHUNKS_IN_ALL = 256 * 1024, 64 * 1024 * 1024

#: Octets that the system is asked to fetch beyond a page that was not in memory.
READ_AHEAD = 1024 * 1024

#: Octets of small files that are kept in memory where nothing else is said.
CACHE = 16 * 1024 * 1024

_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)

#: Threads that look names up and read cold pages, and threads that write and sync: a disk that
#: is slow to sync must not keep others from being served.
READ_THREADS, WRITE_THREADS = 16, 16

#: Seconds at the end of the process in which threads may finish what they do.
LAST_WAIT = 2.0

#: Run a function in a thread: (function, arguments) -> Deferred of its result.
InThread = Callable[..., Deferred[Any]]


@implementer(IFileBackend, IBackendLifecycle)
class FilesystemBackend:
    """The regular files beneath the directory `root`."""

    _log = Logger()

    def __init__(
        self,
        root: str,
        write: str = "never",
        *,
        cache: int = CACHE,
        quota: int | None = None,
        in_thread: InThread | None = None,
        write_behind: bool = True,
    ) -> None:
        """Serve `root`.

        @param root: a directory; it is looked up at each request, so it may be replaced.
        @param write: `never`, `create` (no file is replaced) or `overwrite`.
        @param cache: octets of small files to keep in memory; 0 for none.
        @param quota: octets that uploads may make the files beneath `root` have in all; None for
            no bound.
        @param in_thread: how to run what may block; None for threads of its own.
        @param write_behind: whether uploads are written in threads. If not, whoever brings the
            octets waits for each write: 1.5 times as fast for who has nothing else to do.
        """
        self.root = root
        self._write_behind = write_behind
        self._write = WriteMode(write)
        self._quota = None if quota is None else Quota(root, quota)
        self._cached = CachedOpener(root)
        self._cache = cache
        self._contents = Contents(cache)
        self._chunks = _Chunks()
        self._open_files: WeakValueDictionary[Identity, _OpenFile] = WeakValueDictionary()
        self._in_read_thread = in_thread or _Threads("tftp-read", READ_THREADS)
        self._in_write_thread = in_thread or _Threads("tftp-write", WRITE_THREADS)

    def open_reader(
        self, path: str, context: TransferContext
    ) -> IFileReader | Deferred[FilesystemReader]:
        """Open a regular file: now where nothing can block, otherwise in a thread."""
        in_thread = self._in_read_thread
        found = self._cached.find(path)
        if found is not None:
            try:
                reader = self._contents.reader(found.status) or self._open_found(found)
            finally:
                found.close()
            if reader is not None:
                return reader
        return _given_or_dropped(
            in_thread,
            lambda: self._open(path),
            self._reader,
        )

    def _open_found(self, found: Found) -> IFileReader | None:
        """Open a file that was found without a thread; keep its content if it is small.

        A thousand machines boot from one file: a descriptor that is open serves all who ask
        while the file is the same.
        """
        # tmpfs refuses RWF_NOWAIT, and needs it least.
        flags = 0 if self._cached.in_memory else _NOWAIT
        state = identity(found.status)
        file = self._open_files.get(state)
        if file is not None and not file.discarded:
            file.readers += 1
            return self._reader(file, flags)
        descriptor = found.open()
        if descriptor is None:
            return None
        file = _OpenFile(descriptor)
        if self._contents.wants(found.status):
            data = _read_now(descriptor, found.status.st_size, flags)
            # Read between two looks at it that show the same, it is what it was at both.
            if data is not None and identity(os.fstat(descriptor)) == state:
                file.discard()
                return self._contents.add(found.status, data)
        if identity(file.status) == state:
            self._open_files[state] = file
        return self._reader(file, flags)

    def _reader(self, file: _OpenFile, flags: int = _NOWAIT) -> FilesystemReader:
        return FilesystemReader(file, self._in_read_thread, self._chunks, flags)

    def _open(self, path: str) -> _OpenFile:
        """Walk to a regular file and open it; this may block."""
        with contextlib.suppress(OSError):
            self._cached.learn()
        with find(self.root, path) as place:
            return _OpenFile(place.open_regular())

    def open_writer(self, path: str, context: TransferContext) -> Deferred[FilesystemWriter]:
        """Open a temporary file beside the target."""
        if self._write is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files")
        replace = self._write is WriteMode.OVERWRITE
        size = context.announced_size or 0
        in_thread = self._in_write_thread
        return _given_or_dropped(
            in_thread,
            lambda: Upload(self.root, path, replace, size, self._quota),
            lambda upload: FilesystemWriter(upload, in_thread, self._write_behind),
        )

    def check(self) -> None:
        """Find out whether the root is there.

        @raise BackendUnavailable: it is no directory.
        """
        if not os.path.isdir(self.root):
            raise BackendUnavailable(f"root {self.root!r} is not a directory")

    def start(self) -> Deferred[None]:
        """Remove what a crash has left of uploads."""
        return self.sweep().addCallback(self._swept)

    def _swept(self, count: int) -> None:
        if count:
            self._log.info("removed {count} uploads that a crash had cut off", count=count)

    def stop(self) -> None:
        """Do nothing: the threads end with the process."""

    def forget(self) -> None:
        """Forget contents, the kind of the file system, and the room in the tree."""
        self._cached.forget()
        self._contents = Contents(self._cache)
        self._open_files.clear()
        if self._quota is not None:
            self._quota.forget()

    def sweep(self) -> Deferred[int]:
        """Remove what uploads left behind that a crash has cut off; fires with how many."""
        if self._write is WriteMode.NEVER:
            return succeed(0)
        return self._in_write_thread(sweep, self.root)


class _Threads:
    """A pool of threads that starts when it is first used and ends with the reactor."""

    _log = Logger()

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPool(0, count, name)
        # Python waits for other threads before it ends.
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        from twisted.internet import reactor

        if not self._pool.started:
            self._pool.start()
            reactor.addSystemEventTrigger("during", "shutdown", self._end)
        if self._pool.joined:
            return fail(RuntimeError("the reactor has stopped"))
        return deferToThreadPool(reactor, self._pool, function, *args)  # type: ignore[arg-type]

    def _end(self) -> None:
        """End the threads; leave those alone that a disk holds, or the process would not end."""
        ending = Thread(target=self._pool.stop, daemon=True)
        ending.start()
        ending.join(LAST_WAIT)
        if ending.is_alive():
            self._log.warn("a disk does not answer: what was asked of it is given up")


def _given_or_dropped(
    in_thread: InThread, open_file: Callable[[], Any], wrap: Callable[[Any], Any]
) -> Deferred[Any]:
    """Open a file in a thread and return a Deferred of it, wrapped; cancelled, it is discarded.

    A thread can't be called back, so it looks itself whether the file is still wanted: first, for
    it may have waited long behind a slow disk, and last, since after a stop there may be no other
    thread to do it.
    """
    given: Deferred[Any] = Deferred()

    def open_or_discard() -> Any:
        if given.called:
            raise CancelledError
        file = open_file()
        if given.called:
            file.discard()
        return file

    def opened(file: Any) -> None:
        if not given.called:
            given.callback(wrap(file))
        elif not file.discarded:
            in_thread(file.discard)

    def failed(failure: Failure) -> None:
        if not given.called:
            given.errback(failure)

    in_thread(open_or_discard).addCallbacks(opened, failed)
    return given


class _Chunks:
    """How much each reader that needs threads may read at a time."""

    def __init__(self) -> None:
        self.readers = 0

    @property
    def size(self) -> int:
        """Octets of one read."""
        return min(CHUNK, CHUNKS_IN_ALL // max(1, self.readers))


class _OpenFile:
    """A regular file, open for one reader or several."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.status = os.fstat(descriptor)
        self.size = self.status.st_size
        self.readers = 1
        self.discarded = False

    def discard(self) -> None:
        """Close the file, if this was the last reader."""
        self.readers -= 1
        if not self.readers:
            self.discarded = True
            os.close(self.descriptor)


@implementer(IFileReader)
class FilesystemReader:
    """Read an open file; what happens to its name does not matter any more."""

    def __init__(
        self, file: _OpenFile, in_thread: InThread, chunks: _Chunks, flags: int = _NOWAIT
    ) -> None:
        """Read `file`.

        @param flags: how to read so that nothing is waited for.
        """
        self.size = file.size
        self._file = file
        self._descriptor = file.descriptor
        self._in_thread = in_thread
        self._flags = flags
        self._nowait = bool(_NOWAIT)
        self._chunks = chunks
        self._counted = False  # among those that need threads for all that they read
        self._view = memoryview(b"")
        self._chunk = b""  # what the last thread has read, from `_chunk_at` on
        self._chunk_at = 0
        self._reading = False
        self._closed = False

    def read(self, offset: int, length: int) -> memoryview | Deferred[memoryview]:
        """Read from the page cache now, or from the disk in a thread."""
        start = offset - self._chunk_at
        if start >= 0 and start + length <= len(self._chunk):
            return memoryview(self._chunk)[start : start + length]
        if self._nowait:
            if len(self._view) < length:
                self._view = memoryview(bytearray(length))
            view = self._view[:length]
            try:
                if os.preadv(self._descriptor, (view,), offset, self._flags) == length:
                    return view
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                self._nowait = False
        self._reading = True
        # Where the page cache can be asked, what comes next will be there; elsewhere each read
        # costs a thread, so it had better be a large one.
        if not self._nowait and not self._counted:
            self._counted = True
            self._chunks.readers += 1
        amount = length if self._nowait else max(length, self._chunks.size)
        reading = self._in_thread(_read, self._descriptor, offset, amount, self._nowait)
        return reading.addBoth(self._read_done, offset, length)

    def close(self) -> None:
        """Close the file; while a thread reads it, as soon as that is done.

        Its descriptor must not be closed before: another file could get the same number.
        """
        self._closed = True
        if self._counted:
            self._chunks.readers -= 1
        if not self._reading:
            self._file.discard()

    def _read_done(self, result: Any, offset: int, length: int) -> Any:
        self._reading = False
        if self._closed:
            self._file.discard()
        if isinstance(result, Failure):
            return result
        self._chunk, self._chunk_at = result, offset
        return memoryview(result)[:length]


def _read_now(descriptor: int, size: int, flags: int) -> bytes | None:
    """Return the first `size` octets of a file if they are all in memory."""
    data = bytearray(size)
    if not _NOWAIT:
        return None
    try:
        if size and os.preadv(descriptor, (data,), 0, flags) != size:
            return None
    except OSError:
        return None
    return bytes(data)


def _read(descriptor: int, offset: int, length: int, read_ahead: bool) -> bytes:
    """Read `length` octets, fewer only at the end of the file."""
    if read_ahead:
        os.posix_fadvise(descriptor, offset, READ_AHEAD, os.POSIX_FADV_WILLNEED)
    pieces = []
    while length > 0:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)


@implementer(IFileWriter)
class FilesystemWriter:
    """Write an upload: through a thread, some blocks behind the client; or at once.

    Octets are held in memory until there are enough of them to be worth a thread. What fails
    there fails the next call, at the latest the commit, before the client's last ACK.
    """

    def __init__(self, upload: Upload, in_thread: InThread, behind: bool = True) -> None:
        self._upload = upload
        self._in_thread = in_thread
        self._behind = behind
        self._held: list[bytes] = []
        self._held_octets = 0
        self._flushing: Deferred[None] | None = None
        self._room: Deferred[None] | None = None  # fires when more can be taken
        self._failure: Failure | None = None

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take octets; once too many are held, say when there is room again."""
        if self._failure is not None:
            self._failure.raiseException()
        self._held.append(data)
        self._held_octets += len(data)
        if not self._behind:
            if self._held_octets >= AT_ONCE:
                self._upload.write(self._take())
            return None
        if self._held_octets < FLUSH:
            return None
        if self._flushing is None:
            self._flush()
        if self._held_octets < HOLD:
            return None
        self._room = Deferred()
        return self._room

    def commit(self) -> Deferred[None]:
        """Write what is held, and put the file in its place."""
        return self._when_idle().addCallback(self._commit)

    def abort(self) -> Deferred[None]:
        """Remove the temporary file."""
        self._held.clear()
        self._held_octets = 0
        return self._when_idle().addCallback(lambda _: self._in_thread(self._upload.discard))

    def _commit(self, _: object) -> Deferred[None]:
        if self._failure is not None:
            self._failure.raiseException()
        return self._in_thread(self._upload.commit, self._take())

    def _take(self) -> list[bytes]:
        pieces, self._held = self._held, []
        self._held_octets = 0
        return pieces

    def _flush(self) -> None:
        self._flushing = self._in_thread(self._upload.write, self._take())
        self._flushing.addBoth(self._flushed)

    def _flushed(self, result: Any) -> None:
        self._flushing = None
        if isinstance(result, Failure):
            self._failure = result
        elif self._held_octets >= FLUSH:
            self._flush()
        room, self._room = self._room, None
        if room is None:
            return
        if self._failure is not None:
            room.errback(self._failure)
        else:
            room.callback(None)

    def _when_idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no thread writes."""
        if self._flushing is None:
            return succeed(None)
        idle: Deferred[None] = Deferred()

        def look(_: object) -> None:
            self._when_idle().chainDeferred(idle)

        self._flushing.addCallback(look)
        return idle
