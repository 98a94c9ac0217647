"""A reader that holds back the end of an upload while the server's answer is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader
from twisted_tftp.net.udp import Buffer

_T = TypeVar("_T")


@implementer(IFileReader)
class HeldReader:
    """A wrapper of a reader whose last octets wait until `let_through` is called.

    The server stores the file when it has got the last block, so that must wait. A source that
    can't be read again is not read beyond its first window either.

    @ivar reader: the wrapped reader.
    @ivar offset: the offset of the last octets that were read.
    @ivar has_given_end: whether the end of the file was returned.
    @ivar size: octets of the file. None if they are not known, or if the file is empty: the sender
        then reads the end, which can be held back.
    """

    def __init__(self, reader: IFileReader, *, can_reread: bool, is_held: bool) -> None:
        """Wrap `reader`.

        @param can_reread: whether the octets can be read again after the file is opened again.
        @param is_held: whether to hold octets back; otherwise the reading is only watched.
        """
        self.reader = reader
        self.size: int | None = reader.size or None
        self.offset = 0
        self.has_given_end = False
        self._can_reread = can_reread
        self._is_held = is_held
        self._is_reading = False
        self._waiting: Callable[[], None] | None = None  # a read that waits for `let_through`

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

    def let_through(self) -> None:
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
        self.has_given_end = self.has_given_end or is_end
        return octets

    def _wait(self, read: Callable[[], Buffer | Deferred[Buffer]]) -> Deferred[Buffer]:
        result: Deferred[Any] = Deferred()  # as `chainDeferred` requires

        def go_on() -> None:
            maybeDeferred(read).chainDeferred(result)

        self._waiting = go_on
        return result
