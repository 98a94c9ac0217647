"""Serve the files of a directory and its subdirectories, and store uploads there.

Calls that may wait for a disk are made in threads, so the reactor is not blocked. A file that the
kernel can find without reading a disk is opened at once. An upload becomes visible under its name
when it is complete, or never.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.explaining import explain_opening
from twisted_tftp.backends.filesystem import explain as explanations
from twisted_tftp.backends.filesystem.case_lookup import CaseLookup
from twisted_tftp.backends.filesystem.content_cache import ContentCache, Identity, identity
from twisted_tftp.backends.filesystem.kernel_lookup import FoundFile, KernelLookup
from twisted_tftp.backends.filesystem.leftovers import remove_temporary_files
from twisted_tftp.backends.filesystem.path_walk import resolve
from twisted_tftp.backends.filesystem.placement import Placement, SingleFile
from twisted_tftp.backends.filesystem.quota import Quota
from twisted_tftp.backends.filesystem.reader import (
    ChunkBudget,
    FilesystemReader,
    OpenFile,
    nowait_flags,
    read_cached,
)
from twisted_tftp.backends.filesystem.shared_pieces import SharedPieces
from twisted_tftp.backends.filesystem.threads import (
    READ_THREADS,
    WRITE_THREADS,
    InThread,
    Threads,
    open_in_thread,
)
from twisted_tftp.backends.filesystem.tree import Tree, is_missing
from twisted_tftp.backends.filesystem.upload import Upload, UploadRules
from twisted_tftp.backends.filesystem.version_placement import KeptVersions
from twisted_tftp.backends.filesystem.versions import is_version_link
from twisted_tftp.backends.filesystem.writer import FilesystemWriter
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IExplainable,
    IFileBackend,
    IFileReader,
    IWriteModes,
)
from twisted_tftp.policy import UploadSettings, WriteMode
from twisted_tftp.protocol.printable import printable

#: The default of `cache`, in octets.
DEFAULT_CACHE_SIZE = 16 * 1024 * 1024

#: The default mode of uploaded files.
DEFAULT_UPLOAD_MODE = 0o644


@implementer(IFileBackend, IBackendLifecycle, IExplainable, IWriteModes)
class FilesystemBackend:
    """A backend for the regular files of the directory `root` and its subdirectories.

    @ivar root: the path of the directory.
    @ivar content_cache: the cache of the contents of small files.
    @ivar write_modes: the write modes that a request may bring (L{IWriteModes}).
    @param root: the directory; it is looked up at each request, so it may be replaced.
    @param write: `never`, `create` (files are not replaced), `overwrite`, or `version`: each
        upload is kept as a file of its own, and the name is a link to the newest one. The rules in
        the context of a request replace `write`, `keep` and `make_dirs`.
    @param keep: with `version`, how many versions of a file are kept; None for all.
    @param cache: the most octets of small files that are kept in memory, and the most octets of
        pieces of other files; 0 to keep nothing.
    @param quota: the most octets that all files below `root` may have; None for no limit.
    @param follow_links: the directories outside `root` into which symbolic links may lead
        reads; nothing is written there.
    @param literal_names: whether a backslash in a name is never a slash.
    @param upload_mode: the mode of new files; None for the mode that the umask gives. A file
        that is replaced keeps its mode.
    @param ignore_case: whether a read finds a file whose name differs in the case of ASCII letters
        only, if no file has the exact name.
    @param make_dirs: whether an upload makes missing directories, eight of them at most.
    @param may_be_written: whether the rules of requests may allow uploads although `write` is
        `never`. The unfinished uploads of an earlier run are then removed at the start; otherwise
        they are removed before the first upload that a request's rules allow.
    @param reactor: the reactor of the threads; None for the global one, which is looked up
        when a thread is first needed.
    @param in_thread: calls a function in a thread; None for two pools of threads.
    @param write_behind: whether uploads are written in threads. If not, `write` blocks; that
        is 1.5 times as fast, and fits a process that has nothing else to do.
    @param lookup: finds files in the kernel's caches; None for a new one.
    @param content_cache: the cache of file contents; None for a new one of `cache` octets.
    @param shared_pieces: the pieces of files that downloads share; None for new ones, of as many
        octets as `content_cache` may have.
    @param clock: returns the time in seconds of a monotonic clock, for the quota.
    """

    write_modes = tuple(WriteMode)

    _log = Logger()

    def __init__(
        self,
        root: str,
        write: str = "never",
        *,
        cache: int = DEFAULT_CACHE_SIZE,
        quota: int | None = None,
        follow_links: Sequence[str] = (),
        literal_names: bool = False,
        upload_mode: int | None = DEFAULT_UPLOAD_MODE,
        make_dirs: bool = False,
        ignore_case: bool = False,
        keep: int | None = None,
        may_be_written: bool = False,
        reactor: Any = None,
        in_thread: InThread | None = None,
        write_behind: bool = True,
        lookup: KernelLookup | None = None,
        content_cache: ContentCache | None = None,
        shared_pieces: SharedPieces | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up, without opening a file."""
        self.root = root
        self._tree = Tree(root, followed=follow_links, has_literal_names=literal_names)
        self._write_behind = write_behind
        self._uploads = UploadSettings(WriteMode(write), keep, make_dirs)
        self._may_be_written = may_be_written or self._uploads.write is not WriteMode.NEVER
        self._has_leftovers = True  # of an earlier run, maybe
        self._upload_mode = upload_mode
        self._quota = None if quota is None else Quota(root, quota, clock)
        self._lookup = lookup or KernelLookup(root)
        self._case = CaseLookup(self._tree, self._lookup) if ignore_case else None
        self.content_cache = ContentCache(cache) if content_cache is None else content_cache
        self._pieces = shared_pieces or SharedPieces(self.content_cache.capacity)
        self._chunks = ChunkBudget()
        self._nowait_flags = nowait_flags()
        self._open_files: WeakValueDictionary[Identity, OpenFile] = WeakValueDictionary()
        self._in_read_thread = in_thread or Threads("tftp-read", READ_THREADS, reactor)
        self._in_write_thread = in_thread or Threads("tftp-write", WRITE_THREADS, reactor)

    def open_reader(
        self, path: str, context: TransferContext
    ) -> IFileReader | Deferred[FilesystemReader]:
        """Open a regular file: at once if that cannot block, otherwise in a thread."""
        try:
            found = self._lookup.find(path)
        except FileNotFound as error:
            found = self._find_alternative(path, error)
        if found is not None:
            try:
                reader = self.content_cache.open_reader(found.identity) or self._open_found(found)
            finally:
                found.close()
            if reader is not None:
                return reader
        return open_in_thread(
            self._in_read_thread,
            lambda: self._open(path),
            self._make_reader_of_opened,
        )

    def _find_alternative(self, path: str, missing: FileNotFound) -> FoundFile | None:
        """Find the file for a path that does not exist as written; None if a thread must find it.

        @param missing: the exception for the literal path.
        """
        alternative = self._tree.alternative(path)
        if alternative is not None:
            try:
                return self._lookup.find(alternative)
            except FileNotFound:
                if self._case is None:
                    raise
        if self._case is None:
            raise missing
        return self._find_in_any_case(path)

    def _find_in_any_case(self, path: str) -> FoundFile | None:
        """Find a file whose path differs only in upper and lower case; None if a thread must."""
        assert self._case is not None
        try:
            real = self._case.find_cached(path)
        finally:
            self._case.log_reports()
        return None if real is None else self._lookup.find(real)

    def _open_found(self, found: FoundFile) -> IFileReader | None:
        """Open a file that was found without a thread; cache its content if it is small.

        All readers of a file share one descriptor, and some pieces of it, as long as the file does
        not change: a thousand machines may boot from one file at the same time.
        """
        flags = self._nowait_flags
        if flags is not None and self._lookup.in_memory:
            flags = 0  # tmpfs does not support RWF_NOWAIT, and never waits for a disk
        state = found.identity
        file = self._open_files.get(state)
        if file is not None and not file.is_discarded:
            file.add_reader()
            return self._make_reader(file, flags, self._pieces_of(state))
        descriptor = found.open()
        if descriptor is None:
            return None
        file = OpenFile(descriptor)
        cache = self.content_cache
        if cache.may_cache(state) and cache.make_room(state[2]):
            data = read_cached(descriptor, state[2], flags)
            # The data is the content of the file only if the file was not changed meanwhile.
            if data is not None and identity(os.fstat(descriptor)) == state:
                file.discard()
                return cache.add(state, data)
        if file.identity == state:
            self._open_files[state] = file
            return self._make_reader(file, flags, self._pieces_of(state))
        return self._make_reader(file, flags)

    def _pieces_of(self, state: Identity) -> SharedPieces | None:
        """Return where a new reader of a file shares pieces; None if it must not share any."""
        cache = self.content_cache
        return self._pieces if cache.capacity and cache.has_settled(state) else None

    def _make_reader(
        self, file: OpenFile, flags: int | None, pieces: SharedPieces | None = None
    ) -> FilesystemReader:
        return FilesystemReader(file, self._in_read_thread, self._chunks, flags, pieces)

    def _open(self, path: str) -> OpenFile:
        """Walk to a regular file and open it; this may block."""
        with contextlib.suppress(OSError):
            self._lookup.detect_file_system()
        try:
            with self._tree.resolve_read(path) as resolved:
                return OpenFile(resolved.open_regular())
        except (TFTPError, OSError) as error:
            if self._case is None or not is_missing(error):
                raise
            real = self._case.find(path)
            if real is None:
                raise
        with resolve(self.root, real, self._tree.followed) as resolved:
            return OpenFile(resolved.open_regular())

    def _make_reader_of_opened(self, file: OpenFile) -> FilesystemReader:
        """Return the reader of a file that was opened in a thread."""
        if self._case is not None:
            self._case.log_reports()
        return self._make_reader(file, self._nowait_flags)

    @inlineCallbacks
    def explain(self, path: str, context: TransferContext) -> Any:
        """Return the size of a file or the ERROR; before it, the real name if its case differs."""
        lines = yield explain_opening(self, path, context)
        if self._case is not None:
            real = yield maybeDeferred(self._in_read_thread, self._case.find, path)
            if real is not None and real != path.lstrip("/"):
                return [f"file: {printable(real)}", *lines]
        return lines

    def open_writer(self, path: str, context: TransferContext) -> Deferred[FilesystemWriter]:
        """Create a temporary file, which gets the name `path` at the commit."""
        settings = self._uploads if context.uploads is None else context.uploads
        if settings.write is WriteMode.NEVER:
            raise AccessViolation("this server does not accept files", "--write is never")
        if self._has_leftovers and context.uploads is not None:
            self._remove_leftovers().addErrback(self._log_failed_removal)
        size = context.announced_size or 0
        in_thread = self._in_write_thread
        return open_in_thread(
            in_thread,
            lambda: self._open_upload(path, settings, size),
            lambda upload: FilesystemWriter(upload, in_thread, self._write_behind),
        )

    def _open_upload(self, path: str, settings: UploadSettings, size: int) -> Upload:
        """Create the temporary file of an upload; this may block."""
        placement: Placement = SingleFile(may_replace=settings.write is WriteMode.OVERWRITE)
        is_end = None
        if settings.write is WriteMode.VERSION:
            placement, is_end = KeptVersions(settings.keep), is_version_link
        rules = UploadRules(self.root, placement, self._upload_mode, self._quota)
        target = self._tree.resolve_write(
            path, makes_directories=settings.make_dirs, is_end=is_end
        )
        return Upload(target, rules, size)

    def check(self) -> None:
        """Check that `root` and the paths of `follow_links` are directories.

        @raise BackendUnavailable: one is not.
        """
        self._tree.check()

    def start(self) -> Deferred[None]:
        """Warn if the root can't be used; remove the unfinished uploads of an earlier run."""
        for text in explanations.problems_of_root(self.root, self._may_be_written):
            self._log.warn("{text}", text=text)
        return self._remove_leftovers() if self._may_be_written else succeed(None)

    def _remove_leftovers(self) -> Deferred[None]:
        self._has_leftovers = False
        removing = self._in_write_thread(remove_temporary_files, self.root)
        return removing.addCallback(self._log_removed)

    def _log_removed(self, count: int) -> None:
        if count:
            self._log.info("removed {count} unfinished uploads of an earlier run", count=count)

    def _log_failed_removal(self, failure: Failure) -> None:
        self._log.failure("unfinished uploads of an earlier run may remain", failure)

    def stop(self) -> None:
        """Do nothing: the threads end when nothing uses them any more."""

    def forget(self) -> None:
        """Clear the caches: file contents, the type of the file system, the size of all files."""
        self._lookup.forget_file_system()
        self.content_cache.clear()
        self._open_files.clear()
        self._pieces.clear()
        if self._case is not None:
            self._case.clear()
        if self._quota is not None:
            self._quota.discard_measurement()

    def remove_unfinished_uploads(self) -> Deferred[int]:
        """Remove the temporary files of earlier runs; the Deferred fires with their number."""
        if not self._may_be_written:
            return succeed(0)
        return self._in_write_thread(remove_temporary_files, self.root)
