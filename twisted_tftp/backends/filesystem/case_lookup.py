"""Find the real name of a file whose name in a read request has letters of the wrong case.

Each component of the path is looked up in its directory: the exact name first, then the first
name in sort order that differs from it in the case of ASCII letters only. Other letters must be
exact, as in dnsmasq (`--tftp-lowercase`) and in the rules of tftp-hpa: boot loaders of Windows ask
for ASCII names. The result is a path only; the file is opened by the usual walk, with its rules.

The names of a directory are listed in a thread, and cached. A listing is valid as a cached content
is (L{twisted_tftp.backends.filesystem.content_cache}): device, inode, size, mtime and ctime of the
directory are unchanged, it was unchanged for `MIN_UNCHANGED` seconds before it was listed, and the
listing is not older than `MAX_AGE` seconds. One exception limits the work in a large directory
that changes all the time: a listing is always used for `PAUSE_PER_LISTING` times as long as it
took.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice

from twisted.logger import Logger

from twisted_tftp.backends.filesystem.content_cache import (
    MAX_AGE,
    MIN_UNCHANGED,
    Identity,
    identity,
)
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.filesystem.path_walk import resolve
from twisted_tftp.backends.filesystem.tree import Tree, is_missing
from twisted_tftp.backends.naming import components
from twisted_tftp.errors import FileNotFound, TFTPError
from twisted_tftp.protocol.printable import printable

#: The most directories whose names are cached.
MAX_DIRECTORIES = 256

#: The most names that are cached, and the most that are looked at in one directory.
MAX_NAMES = 250_000

#: The most components of a path that is looked up.
MAX_DEPTH = 32

#: The most lines in the log about names that differ in case only, until the caches are cleared.
MAX_REPORTS = 1000

#: How long a listing is used in any case, as a multiple of the time that it took.
PAUSE_PER_LISTING = 10.0

#: How many names an almost empty listing counts as.
_MIN_COST = 10


def fold(name: str) -> str:
    """Return `name` with ASCII letters in lower case; other characters stay as they are."""
    if name.isascii():
        return name.lower()
    return name.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


class Listing:
    """The names in a directory at one time.

    @ivar cost: how many names it counts as in the limit of the cache.
    """

    def __init__(self, names: Iterable[str], state: Identity | None, began: float) -> None:
        """Set up.

        @param names: the names in the directory.
        @param state: the identity of the directory; None if the listing may not be kept.
        @param began: when the listing began, in seconds of a monotonic clock.
        """
        self._state = state
        self._began = began
        self._always_until = began
        self._names: dict[str, str] = {}
        self._several: dict[str, list[str]] = {}
        for name in names:
            folded = fold(name)
            first = self._names.setdefault(name if folded == name else folded, name)
            if first is not name:
                self._several.setdefault(folded, [first]).append(name)
        for alike in self._several.values():
            alike.sort()
        self.cost = max(_MIN_COST, len(self._names))

    def finish(self, now: float) -> None:
        """Note that the listing has ended: it is used for a while in any case."""
        self._always_until = now + PAUSE_PER_LISTING * (now - self._began)

    def is_fresh(self, now: float) -> bool:
        """Return whether the listing is used even if the directory has changed."""
        return now < self._always_until

    def is_valid(self, status: os.stat_result, now: float) -> bool:
        """Return whether the directory, which has that status now, still has these names."""
        return self._state == identity(status) and now < self._began + MAX_AGE

    def find(self, name: str) -> list[str]:
        """Return the names that are equal to `name` without regard to case, the best one first."""
        folded = fold(name)
        alike = self._several.get(folded)
        if alike is not None:
            return [name] if name in alike else alike
        found = self._names.get(folded)
        return [] if found is None else [found]


class _Directory:
    """A cached listing, and the lock of the thread that replaces it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.listing: Listing | None = None


class _NotCached(Exception):
    """A directory must be listed in a thread."""


class CaseLookup:
    """Finds the real names of files below a root, with a cache of the names in directories."""

    _log = Logger()

    def __init__(
        self,
        tree: Tree,
        lookup: KernelLookup,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty cache.

        @param tree: the root and the rules for names.
        @param lookup: checks without blocking whether a directory is unchanged.
        @param clock: returns the time in seconds of the clock that sets the times of directories.
        @param monotonic: returns the time in seconds of a monotonic clock.
        """
        self._tree = tree
        self._lookup = lookup
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._directories: OrderedDict[str, _Directory] = OrderedDict()
        self._cost = 0
        self._reported: set[str] = set()
        self._reports: list[str] = []

    def clear(self) -> None:
        """Remove all listings, and forget what was logged."""
        with self._lock:
            self._directories.clear()
            self._cost = 0
            self._reported.clear()

    def find_cached(self, path: str) -> str | None:
        """Return the real path of a file without blocking; None if a thread must look it up.

        @raise FileNotFound: there is none.
        """
        try:
            real = self._find(path, self._cached_listing)
        except _NotCached:
            return None
        if real is None:
            raise FileNotFound()
        return real

    def find(self, path: str) -> str | None:
        """Return the real path of a file; None if there is none. This may block.

        @raise AccessViolation: the path leads through a directory that may not be entered.
        """
        return self._find(path, self._current_listing)

    def log_reports(self) -> None:
        """Log which files the last lookups have chosen out of several; once for each of them."""
        if not self._reports:
            return
        with self._lock:
            reports, self._reports = self._reports, []
        for text in reports:
            self._log.warn("{text}", text=text)

    def _find(self, path: str, listing_of: Callable[[str], Listing]) -> str | None:
        for spelling in (path, self._tree.alternative(path)):
            names = [] if spelling is None else components(spelling)
            if names and len(names) <= MAX_DEPTH and ".." not in names:
                real = self._find_names(names, listing_of)
                if real is not None:
                    return real
        return None

    def _find_names(self, names: list[str], listing_of: Callable[[str], Listing]) -> str | None:
        """Return the path in which the components are as in their directories."""
        real = ""
        for name in names:
            alike = listing_of(real).find(name)
            if not alike:
                return None
            prefix = f"{real}/" if real else ""
            if len(alike) > 1:
                names_alike = ", ".join(printable(prefix + each) for each in alike)
                self._report(f"names that differ in case only: {names_alike}; the first is served")
            real = prefix + alike[0]
        return real

    def _report(self, text: str) -> None:
        """Keep a line for the log, which only the reactor's thread may write."""
        with self._lock:
            if text not in self._reported and len(self._reported) < MAX_REPORTS:
                self._reported.add(text)
                self._reports.append(text)

    def _cached_listing(self, path: str) -> Listing:
        """Return the valid listing of a directory.

        @raise _NotCached: there is none.
        """
        with self._lock:
            directory = self._directories.get(path)
            if directory is None or directory.listing is None:
                raise _NotCached
            self._directories.move_to_end(path)
            listing = directory.listing
        now = self._monotonic()
        if not listing.is_fresh(now):
            status = self._lookup.directory_status(path)
            if status is None or not listing.is_valid(status, now):
                raise _NotCached
        return listing

    def _current_listing(self, path: str) -> Listing:
        """Return a valid listing of a directory; list it if there is none. This may block."""
        with self._lock:
            directory = self._directories.setdefault(path, _Directory())
        with directory.lock:  # several threads that need one listing wait for it
            listing = directory.listing
            if listing is not None and listing.is_fresh(self._monotonic()):
                return listing
            try:
                with resolve(self._tree.root, f"{path}/.x", self._tree.followed) as inside:
                    status = os.fstat(inside.directory)
                    if listing is None or not listing.is_valid(status, self._monotonic()):
                        listing = self._list(inside.directory, path)
            except (TFTPError, OSError) as error:
                self._drop(path)
                if not is_missing(error) and not isinstance(error, PermissionError):
                    raise
                return Listing((), None, 0.0)
            self._keep(path, directory, listing)
            return listing

    def _list(self, descriptor: int, path: str) -> Listing:
        """List the names in an open directory."""
        began, clock = self._monotonic(), self._clock()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        readable = os.open(".", flags, dir_fd=descriptor)
        try:
            before = os.fstat(readable)
            with os.scandir(readable) as entries:
                names = [_text(entry.name) for entry in islice(entries, MAX_NAMES + 1)]
            after = os.fstat(readable)
        finally:
            os.close(readable)
        state: Identity | None = identity(before)
        changed = max(before.st_mtime, before.st_ctime)
        if identity(after) != state or clock - changed < MIN_UNCHANGED:
            state = None
        if len(names) > MAX_NAMES:
            self._report(
                f"more than {MAX_NAMES:,} names in {printable(path) or 'the root'}: case counts"
            )
            names = []
        listing = Listing(names, state, began)
        listing.finish(self._monotonic())
        return listing

    def _drop(self, path: str) -> None:
        with self._lock:
            self._remove(path)

    def _remove(self, path: str) -> None:
        """Remove a directory from the cache, with the lock held."""
        removed = self._directories.pop(path, None)
        if removed is not None and removed.listing is not None:
            self._cost -= removed.listing.cost

    def _keep(self, path: str, directory: _Directory, listing: Listing) -> None:
        """Cache a listing; remove the least recently used ones if there are too many names."""
        with self._lock:
            self._remove(path)
            directory.listing = listing
            self._directories[path] = directory
            self._cost += listing.cost
            while len(self._directories) > 1 and (
                self._cost > MAX_NAMES or len(self._directories) > MAX_DIRECTORIES
            ):
                self._remove(next(iter(self._directories)))


def _text(name: str) -> str:
    """Return a name in a directory as names in requests are: UTF-8 with surrogate escapes."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")
