"""The writer of an upload, which writes to a temporary file in a thread."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.filesystem.threads import InThread
from twisted_tftp.backends.filesystem.upload import Upload
from twisted_tftp.context import StoredFile
from twisted_tftp.interfaces import IFileWriter

#: The number of octets in memory above which a thread writes them.
WRITE_SIZE = 256 * 1024

#: The number of octets in memory above which the client has to wait for its ACK.
HELD_SIZE = 1024 * 1024

#: The number of octets in memory above which they are written if no thread is used.
INLINE_WRITE_SIZE = 64 * 1024


@implementer(IFileWriter)
class FilesystemWriter:
    """The writer of one upload.

    It collects octets in memory until there are enough of them for a call in a thread. If that
    call fails, the next `write` or `commit` fails: at the latest the commit, before the last ACK
    to the client.
    """

    def __init__(
        self,
        upload: Upload,
        in_thread: InThread,
        behind: bool = True,
        write_size: int = WRITE_SIZE,
        held_size: int = HELD_SIZE,
    ) -> None:
        """Set up a writer to the temporary file of `upload`.

        @param in_thread: calls a function in a thread.
        @param behind: whether octets are written in threads; otherwise `write` blocks.
        @param write_size: the number of octets in memory above which a thread writes them.
        @param held_size: the number of octets in memory above which `write` returns a Deferred.
        """
        self._upload = upload
        self._in_thread = in_thread
        self._behind = behind
        self._write_size = write_size
        self._held_size = held_size
        self._held: list[bytes] = []
        self._held_octets = 0
        self._flushing: Deferred[None] | None = None
        self._room: Deferred[None] | None = None  # fires when the next octets can be written
        self._failure: Failure | None = None

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take octets; if too many are in memory, return a Deferred that fires when there is room.

        @raise Exception: the octets of an earlier call could not be written.
        """
        if self._failure is not None:
            self._failure.raiseException()
        self._held.append(data)
        self._held_octets += len(data)
        if not self._behind:
            if self._held_octets >= INLINE_WRITE_SIZE:
                self._upload.write(self._take())
            return None
        if self._held_octets < self._write_size:
            return None
        if self._flushing is None:
            self._flush()
        if self._held_octets < self._held_size:
            return None
        self._room = Deferred()
        return self._room

    def commit(self) -> Deferred[StoredFile | None]:
        """Write the octets in memory, and give the file its name."""
        return self._when_idle().addCallback(self._commit)

    def abort(self) -> Deferred[None]:
        """Remove the temporary file."""
        self._held.clear()
        self._held_octets = 0
        return self._when_idle().addCallback(lambda _: self._in_thread(self._upload.discard))

    def _commit(self, _: object) -> Deferred[StoredFile | None]:
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
        elif self._held_octets >= self._write_size:
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

        def wait_again(_: object) -> None:
            self._when_idle().chainDeferred(idle)

        self._flushing.addCallback(wait_again)
        return idle
