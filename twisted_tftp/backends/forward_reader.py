"""Read from a source that can't seek, such as a pipe (for backends that users write)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader

_File = TypeVar("_File")


@implementer(IFileReader)
class ForwardReader:
    """A reader of a source that can't seek; it keeps the octets of the last read.

    They may be needed again: a server that has lost a datagram reads its window a second time,
    from the same offset.

    @ivar size: octets of the source; None if unknown.
    @ivar close: closes the source.
    """

    def __init__(
        self, size: int | None, read: Callable[[int], Any], close: Callable[[], None]
    ) -> None:
        """Set up.

        @param read: returns the next octets of the source (at most that many), or a Deferred of
            them; fewer only at its end.
        """
        self.size = size
        self.close = close
        self._read = read
        self._octets = b""
        self._start = 0  # the offset of the first of these octets
        self._is_at_end = False

    def read(self, offset: int, length: int) -> Any:
        """Return octets from `offset` on, as a Deferred if the source has to be read.

        @param offset: not lower than that of the read before.
        """
        skipped = min(offset - self._start, len(self._octets))
        self._octets = self._octets[skipped:]
        self._start += skipped
        wanted = offset + length - self._start - len(self._octets)
        if wanted <= 0 or self._is_at_end:
            return self._octets[offset - self._start :][:length]
        return maybeDeferred(self._read, wanted).addCallback(self._append, wanted, offset, length)

    def _append(self, piece: bytes, wanted: int, offset: int, length: int) -> Any:
        self._octets += piece
        self._is_at_end = len(piece) < wanted
        return self.read(offset, length)


def cancellable_opening(
    opening: Deferred[_File], release: Callable[[_File], object]
) -> Deferred[_File]:
    """Return a Deferred of the same file as `opening`; it can be cancelled while `opening` can't.

    @param release: called with the file if it is opened after the returned Deferred was
        cancelled.
    """
    opened: Deferred[_File] = Deferred()

    def arrived(result: _File | Failure) -> None:
        if not opened.called:
            opened.callback(result)
        elif not isinstance(result, Failure):
            release(result)

    opening.addBoth(arrived)
    return opened
