"""Serve the files of one directory and those below it, and store uploads there.

Nothing here blocks the reactor: what may wait for a disk is done in threads. A file that the
kernel finds without a disk is opened at once. An upload appears under its name when all of it is
there, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from twisted_tftp.backends.filesystem.content_cache import Contents, Identity, identity
from twisted_tftp.backends.filesystem.kernel_lookup import CachedOpener, Found
from twisted_tftp.backends.filesystem.path_walk import find
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.filesystem.reader import (
    FilesystemReader,
    OpenFile,
    SharedChunks,
    nowait_flags,
    read_cached,
)
from twisted_tftp.backends.filesystem.threads import (
    READ_THREADS,
    WRITE_THREADS,
    InThread,
    Threads,
    open_in_thread,
)
from twisted_tftp.backends.filesystem.upload import Upload, sweep
from twisted_tftp.backends.filesystem.writer import FilesystemWriter
from twisted_tftp.backends.naming import WriteMode
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, BackendUnavailable
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend, IFileReader

#: Octets of small files that are kept in memory where nothing else is said.
CACHE = 16 * 1024 * 1024


@implementer(IFileBackend, IBackendLifecycle)
class FilesystemBackend:
    """The regular files beneath the directory `root`.

    @ivar contents: the contents of small files that are in memory.
    """

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
        opener: CachedOpener | None = None,
        contents: Contents | None = None,
        clock: Callable[[], float] = time.monotonic,
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
        @param opener: finds the files that the kernel has in memory; None for one of its own.
        @param contents: the contents of small files; None for a store of `cache` octets.
        @param clock: seconds of a monotonic clock, for the quota.
        """
        self.root = root
        self._write_behind = write_behind
        self._write = WriteMode(write)
        self._quota = None if quota is None else Quota(root, quota, clock)
        self._cached = opener or CachedOpener(root)
        self.contents = Contents(cache) if contents is None else contents
        self._chunks = SharedChunks()
        self._nowait_flags = nowait_flags()
        self._open_files: WeakValueDictionary[Identity, OpenFile] = WeakValueDictionary()
        self._in_read_thread = in_thread or Threads("tftp-read", READ_THREADS)
        self._in_write_thread = in_thread or Threads("tftp-write", WRITE_THREADS)

    def open_reader(
        self, path: str, context: TransferContext
    ) -> IFileReader | Deferred[FilesystemReader]:
        """Open a regular file: now where nothing can block, otherwise in a thread."""
        found = self._cached.find(path)
        if found is not None:
            try:
                reader = self.contents.reader(found.status) or self._open_found(found)
            finally:
                found.close()
            if reader is not None:
                return reader
        return open_in_thread(
            self._in_read_thread,
            lambda: self._open(path),
            lambda file: self._reader(file, self._nowait_flags),
        )

    def _open_found(self, found: Found) -> IFileReader | None:
        """Open a file that was found without a thread; keep its content if it is small.

        A thousand machines boot from one file: a descriptor that is open serves all who ask
        while the file is the same.
        """
        flags = self._nowait_flags
        if flags is not None and self._cached.in_memory:
            flags = 0  # tmpfs refuses RWF_NOWAIT, and does not need it
        state = identity(found.status)
        file = self._open_files.get(state)
        if file is not None and not file.discarded:
            file.share()
            return self._reader(file, flags)
        descriptor = found.open()
        if descriptor is None:
            return None
        file = OpenFile(descriptor)
        if self.contents.wants(found.status):
            data = read_cached(descriptor, found.status.st_size, flags)
            # The file was the same before and after the read, so this is its content.
            if data is not None and identity(os.fstat(descriptor)) == state:
                file.discard()
                return self.contents.add(found.status, data)
        if identity(file.status) == state:
            self._open_files[state] = file
        return self._reader(file, flags)

    def _reader(self, file: OpenFile, flags: int | None) -> FilesystemReader:
        return FilesystemReader(file, self._in_read_thread, self._chunks, flags)

    def _open(self, path: str) -> OpenFile:
        """Walk to a regular file and open it; this may block."""
        with contextlib.suppress(OSError):
            self._cached.learn()
        with find(self.root, path) as place:
            return OpenFile(place.open_regular())

    def open_writer(self, path: str, context: TransferContext) -> Deferred[FilesystemWriter]:
        """Open a temporary file beside the target."""
        if self._write is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files")
        replace = self._write is WriteMode.OVERWRITE
        size = context.announced_size or 0
        in_thread = self._in_write_thread
        return open_in_thread(
            in_thread,
            lambda: Upload(self.root, path, replace, size, self._quota),
            lambda upload: FilesystemWriter(upload, in_thread, self._write_behind),
        )

    def check(self) -> None:
        """Check that the root is a directory.

        @raise BackendUnavailable: it is not.
        """
        if not os.path.isdir(self.root):
            raise BackendUnavailable(f"root {self.root!r} is not a directory")

    def start(self) -> Deferred[None]:
        """Remove the temporary files of uploads that a crash has interrupted."""
        return self.sweep().addCallback(self._swept)

    def _swept(self, count: int) -> None:
        if count:
            self._log.info("removed {count} unfinished uploads of an earlier run", count=count)

    def stop(self) -> None:
        """Do nothing: the threads end with the process."""

    def forget(self) -> None:
        """Clear the caches: file contents, the kind of the file system, the size of the tree."""
        self._cached.forget()
        self.contents.clear()
        self._open_files.clear()
        if self._quota is not None:
            self._quota.forget()

    def sweep(self) -> Deferred[int]:
        """Remove the temporary files of earlier runs; the Deferred fires with their number."""
        if self._write is WriteMode.NEVER:
            return succeed(0)
        return self._in_write_thread(sweep, self.root)
