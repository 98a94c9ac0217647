"""A folder that a filesystem backend serves, with clocks that a test controls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred

from tests.support.backends import lookup_of
from tests.support.deferreds import value
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.filesystem.content_cache import ContentCache
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.filesystem.reader import FilesystemReader
from twisted_tftp.backends.filesystem.shared_pieces import SharedPieces
from twisted_tftp.context import Direction, Endpoint, TransferContext

#: The context of a read.
CONTEXT = TransferContext(
    Endpoint("192.0.2.1", 1), None, Direction.READ, b"file", "octet", {}, None
)


class ShiftedClock:
    """A clock ahead of the system's, as if time had passed since the files were changed."""

    def __init__(self) -> None:
        self.ahead = 10.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Served:
    """A backend of a folder, with its caches; threads run at once.

    @ivar clock: the clock that sets the times of files, by default ten seconds ahead.
    @ivar now: the time of the monotonic clock, in seconds.
    """

    def __init__(
        self, root: Path, capacity: int = 1_000_000, lookup: KernelLookup | None = None
    ) -> None:
        self.root = root
        self.clock = ShiftedClock()
        self.now = 0.0
        self.content_cache = ContentCache(capacity, self.clock, lambda: self.now)
        self.shared_pieces = SharedPieces(capacity, lambda: self.now)
        self.lookup = lookup or lookup_of(root)
        self.backend = FilesystemBackend(
            str(root),
            in_thread=maybeDeferred,
            lookup=self.lookup,
            content_cache=self.content_cache,
            shared_pieces=self.shared_pieces,
        )

    def open(self, name: str = "file") -> Any:
        """Return a reader; if the kernel can't find the file in its caches, a thread opens it."""
        return value(self.backend.open_reader(name, CONTEXT))

    def read(self, name: str = "file") -> tuple[bytes, bool]:
        """Return a file's octets, and whether they came from memory."""
        reader = self.open(name)
        octets = bytes(value(reader.read(0, reader.size))) if reader.size else b""
        reader.close()
        return octets, not isinstance(reader, FilesystemReader)
