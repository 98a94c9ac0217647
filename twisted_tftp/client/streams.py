"""Read and write what runs forward only: pipes, terminals, devices, binary streams.

Nothing here blocks the reactor on a pipe: its octets are taken and given as far as they go at
once, and the reactor tells when there is more. (A thread would not do: nobody could end one that
waits for a silent pipe.)
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader, IFileWriter

#: Octets that a pipe takes whole, once it is writable.
PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)


@implementer(IFileWriter)
class StreamWriter:
    """Write to a binary stream that does not keep the caller waiting, as it comes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write octets; this blocks while the stream does."""
        view = memoryview(data)
        while view:
            written = self._stream.write(view)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "the stream does not block")
            view = view[written:]

    def commit(self) -> None:
        """Flush; the stream stays open."""
        self._stream.flush()

    def abort(self) -> None:
        """Leave what was written: it can't be taken back."""


class _Window:
    """The octets of a forward source that may be asked for again."""

    size = None

    def __init__(self) -> None:
        self._window = b""
        self._start = 0

    def _forget(self, offset: int) -> None:
        """Drop what lies before `offset`, which is at or after that of the last call."""
        self._window = self._window[offset - self._start :]
        self._start = offset


@implementer(IFileReader)
class StreamReader(_Window):
    """Read a binary stream that does not keep the caller waiting; the last window is kept."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def read(self, offset: int, length: int) -> bytes:
        """Return octets from `offset`, which is at or after that of the last call."""
        self._forget(offset)
        while len(self._window) < length:
            piece = self._stream.read(length - len(self._window))
            if piece is None:
                raise BlockingIOError(errno.EAGAIN, "the stream does not block")
            if not piece:
                break
            self._window += piece
        return self._window[:length]

    def close(self) -> None:
        """Leave the stream open: it is the caller's."""


class _Pipe:
    """A descriptor that a reactor watches while it is waited for."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int, event: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, event)
        self._waiting: Deferred[Any] | None = None

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "tftp"

    def _fire(self, result: Any) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting.callback(result)


@implementer(IReadDescriptor, IFileReader)
class PipeReader(_Pipe, _Window):
    """Read a pipe, a socket or a terminal; the last window is kept."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        """Read from `descriptor`, which stays the caller's and need not be non-blocking."""
        _Pipe.__init__(self, reactor, descriptor, select.POLLIN)
        _Window.__init__(self)
        self._length = 0
        self._ended = False

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return octets from `offset`, which is at or after that of the last call.

        A Deferred of them where the pipe has fewer and has not ended. One call at a time.
        """
        self._forget(offset)
        self._length = length
        if self._fill():
            return self._window[:length]
        self._waiting = Deferred()
        self._reactor.addReader(self)
        return self._waiting

    def doRead(self) -> None:
        """Take what has come."""
        try:
            if not self._fill():
                return
            result: Any = self._window[: self._length]
        except OSError:
            result = Failure()
        self._reactor.removeReader(self)
        self._fire(result)

    def connectionLost(self, reason: Failure) -> None:
        """The other side is gone, as reading will show; or the reactor ends."""
        if self._waiting is not None:
            self.doRead()

    def close(self) -> None:
        """Stop to wait; the descriptor stays open: it is the caller's."""
        if self._waiting is not None:
            self._reactor.removeReader(self)
            self._waiting = None

    def _fill(self) -> bool:
        """Read what is there; return whether that is all that is wanted or to be had."""
        pieces, missing = [self._window], self._length - len(self._window)
        while missing > 0 and not self._ended and self._poll.poll(0):
            piece = os.read(self._descriptor, missing)
            self._ended = not piece
            pieces.append(piece)
            missing -= len(piece)
        self._window = b"".join(pieces)
        return missing <= 0 or self._ended


@implementer(IWriteDescriptor, IFileWriter)
class PipeWriter(_Pipe):
    """Write to a pipe, a socket or a terminal as fast as it is read."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        """Write to `descriptor`, which stays the caller's and need not be non-blocking.

        A terminal, which takes less than `PIPE_BUF` octets, must be (see `make_writer`).
        """
        super().__init__(reactor, descriptor, select.POLLOUT)
        self._left = memoryview(b"")

    def write(self, data: bytes) -> Deferred[None] | None:
        """Write octets; a Deferred where they have to wait for who reads them."""
        self._left = memoryview(data)
        if self._push():
            return None
        self._waiting = Deferred()
        self._reactor.addWriter(self)
        return self._waiting

    def doWrite(self) -> None:
        """Write what there is room for."""
        try:
            if not self._push():
                return
            result: Any = None
        except OSError:
            result = Failure()
        self._reactor.removeWriter(self)
        self._fire(result)

    def connectionLost(self, reason: Failure) -> None:
        """The other side is gone, as writing will show; or the reactor ends."""
        if self._waiting is not None:
            self.doWrite()

    def commit(self) -> None:
        """All is written; the descriptor stays open: it is the caller's."""

    def abort(self) -> None:
        """Leave what was written: it can't be taken back."""
        if self._waiting is not None:
            self._reactor.removeWriter(self)
            self._waiting = None

    def _push(self) -> bool:
        """Write while there is room; return whether nothing is left."""
        left = self._left
        try:
            while left and self._poll.poll(0):
                left = left[os.write(self._descriptor, left[:PIPE_BUF]) :]
        except BlockingIOError:
            pass
        finally:
            self._left = left
        return not left


def make_reader(reactor: IReactorFDSet, descriptor: int) -> StreamReader | PipeReader:
    """Return what reads an open descriptor, whatever it is.

    @raise OSError: it is none.
    """
    if _waits(descriptor):
        return PipeReader(reactor, descriptor)
    return StreamReader(open(descriptor, "rb", buffering=0, closefd=False))


def make_writer(reactor: IReactorFDSet, descriptor: int) -> StreamWriter | PipeWriter:
    """Return what writes to an open descriptor, whatever it is.

    @raise OSError: it is none.
    """
    if os.isatty(descriptor):
        # Opened once more, and for good, to be non-blocking for us and not for its other users.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return PipeWriter(reactor, os.open(os.ttyname(descriptor), flags))
    if _waits(descriptor):
        return PipeWriter(reactor, descriptor)
    return StreamWriter(open(descriptor, "wb", buffering=0, closefd=False))


def _waits(descriptor: int) -> bool:
    """Whether reading or writing may wait for somebody: then a reactor can watch it."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
