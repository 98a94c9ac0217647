"""A reader that holds back the end of an upload while the server's answer is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader
from twisted_tftp.transfer.machine import Buffer

_T = TypeVar("_T")


@implementer(IFileReader)
class HeldReader:
    """A reader that wraps another one, and holds the last octets back until `stop_holding`.

    The server stores the file when it has received the last block, so the last block must wait.
    From a source that can't be read again, only the first window is read before `stop_holding`.

    @ivar reader: the wrapped reader.
    @ivar offset: the offset of the last octets that were read.
    @ivar has_returned_end: whether the end of the file was returned.
    @ivar size: the size of the file in octets. None if it is unknown, or if the file is empty: the
        sender then has to read the end of the file, and that read can be held back.
    """

    def __init__(self, reader: IFileReader, *, can_reread: bool, is_held: bool) -> None:
        """Wrap `reader`.

        @param can_reread: whether the octets can be read again after the file is opened again.
        @param is_held: whether to hold octets back; otherwise only `offset`, `is_reading` and
            `has_returned_end` are kept up to date.
        """
        self.reader = reader
        self.size: int | None = reader.size or None
        self.offset = 0
        self.has_returned_end = False
        self._can_reread = can_reread
        self._is_held = is_held
        self._is_reading = False
        self._waiting: Callable[[], None] | None = None  # a read that waits for `stop_holding`

    @property
    def is_reading(self) -> bool:
        """Whether the wrapped reader is reading."""
        return self._is_reading

    def read(self, offset: int, length: int) -> Buffer | Deferred[Buffer]:
        """Return octets, or a Deferred if they must wait."""
        if self._is_held and offset and not self._can_reread:
            return self._wait(lambda: self.read(offset, length))
        octets: Buffer | Deferred[Buffer] = b""
        if self.reader.size != 0:
            octets = self.reader.read(offset, length)
        if isinstance(octets, Deferred):
            self._is_reading = True
            octets.addBoth(self._was_read)
            return octets.addCallback(self._give, offset, length)
        return self._give(octets, offset, length)

    def close(self) -> None:
        """Close the wrapped reader."""
        self._waiting = None
        self.reader.close()

    def stop_holding(self) -> None:
        """Hold nothing back from now on."""
        self._is_held = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def _was_read(self, result: _T) -> _T:
        self._is_reading = False
        return result

    def _give(self, octets: Buffer, offset: int, length: int) -> Buffer | Deferred[Buffer]:
        self.offset = offset
        is_end = len(octets) < length or (self.size is not None and offset + length >= self.size)
        if is_end and self._is_held:
            return self._wait(lambda: self._give(octets, offset, length))
        self.has_returned_end = self.has_returned_end or is_end
        return octets

    def _wait(self, read: Callable[[], Buffer | Deferred[Buffer]]) -> Deferred[Buffer]:
        result: Deferred[Any] = Deferred()  # as `chainDeferred` requires

        def resume() -> None:
            maybeDeferred(read).chainDeferred(result)

        self._waiting = resume
        return result
