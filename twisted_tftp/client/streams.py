"""Readers and writers of forward-only files: pipes, terminals, devices, binary streams.

Pipes never block the reactor: only octets that can be read or written at once are transferred, and
the reactor reports when there is more. (A thread is no alternative, because a thread that waits
for a silent pipe can't be stopped.)
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

#: The most octets that a writable pipe accepts in one write without blocking.
PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)


@implementer(IFileWriter)
class StreamWriter:
    """A writer to a binary stream that does not block for long, such as a file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write octets; this blocks if the stream blocks."""
        view = memoryview(data)
        while view:
            written = self._stream.write(view)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "the stream does not block")
            view = view[written:]

    def commit(self) -> None:
        """Flush the stream, and leave it open."""
        self._stream.flush()

    def abort(self) -> None:
        """Do nothing: what was written can't be removed."""


class _Window:
    """The last octets of a forward-only source, which may be read again."""

    size = None

    def __init__(self) -> None:
        self._window = b""
        self._start = 0

    def _forget(self, offset: int) -> None:
        """Drop the octets before `offset`, which never decreases from call to call."""
        self._window = self._window[offset - self._start :]
        self._start = offset


@implementer(IFileReader)
class StreamReader(_Window):
    """A reader of a binary stream that does not block for long; it keeps the last window."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def read(self, offset: int, length: int) -> bytes:
        """Return octets from `offset` on; `offset` never decreases from call to call."""
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
        """Leave the stream open: it belongs to the caller."""


class _Pipe:
    """A descriptor that the reactor watches while a read or a write waits for it."""

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
    """A reader of a pipe, a socket or a terminal; it keeps the last window."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        """Read from `descriptor`, which belongs to the caller and need not be non-blocking."""
        _Pipe.__init__(self, reactor, descriptor, select.POLLIN)
        _Window.__init__(self)
        self._length = 0
        self._ended = False

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return octets from `offset` on, or a Deferred if the pipe does not have enough yet.

        `offset` never decreases from call to call. Only one read is under way at a time.
        """
        self._forget(offset)
        self._length = length
        if self._fill():
            return self._window[:length]
        self._waiting = Deferred()
        self._reactor.addReader(self)
        return self._waiting

    def doRead(self) -> None:
        """Read what has arrived; the reactor calls this."""
        try:
            if not self._fill():
                return
            result: Any = self._window[: self._length]
        except OSError:
            result = Failure()
        self._reactor.removeReader(self)
        self._fire(result)

    def connectionLost(self, reason: Failure) -> None:
        """Read once more: the other side has closed the pipe, or the reactor stops."""
        if self._waiting is not None:
            self.doRead()

    def close(self) -> None:
        """Stop waiting, and leave the descriptor open: it belongs to the caller."""
        if self._waiting is not None:
            self._reactor.removeReader(self)
            self._waiting = None

    def _fill(self) -> bool:
        """Read what has arrived; return whether it is enough, or the source has ended."""
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
    """A writer to a pipe, a socket or a terminal, as fast as the other side reads."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        """Write to `descriptor`, which belongs to the caller.

        It need not be non-blocking. The exception is a terminal, because it accepts fewer than
        `PIPE_BUF` octets (see `make_writer`).
        """
        super().__init__(reactor, descriptor, select.POLLOUT)
        self._left = memoryview(b"")

    def write(self, data: bytes) -> Deferred[None] | None:
        """Write octets; return a Deferred if they must wait until the other side reads."""
        self._left = memoryview(data)
        if self._push():
            return None
        self._waiting = Deferred()
        self._reactor.addWriter(self)
        return self._waiting

    def doWrite(self) -> None:
        """Write what there is room for; the reactor calls this."""
        try:
            if not self._push():
                return
            result: Any = None
        except OSError:
            result = Failure()
        self._reactor.removeWriter(self)
        self._fire(result)

    def connectionLost(self, reason: Failure) -> None:
        """Write once more: the other side has closed the pipe, or the reactor stops."""
        if self._waiting is not None:
            self.doWrite()

    def commit(self) -> None:
        """Do nothing: everything is written, and the descriptor belongs to the caller."""

    def abort(self) -> None:
        """Stop waiting; what was written can't be removed."""
        if self._waiting is not None:
            self._reactor.removeWriter(self)
            self._waiting = None

    def _push(self) -> bool:
        """Write while there is room; return whether everything is written."""
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
    """Return a reader for an open descriptor of any kind.

    @raise OSError: the descriptor is not open.
    """
    if _waits(descriptor):
        return PipeReader(reactor, descriptor)
    return StreamReader(open(descriptor, "rb", buffering=0, closefd=False))


def make_writer(reactor: IReactorFDSet, descriptor: int) -> StreamWriter | PipeWriter:
    """Return a writer for an open descriptor of any kind.

    @raise OSError: the descriptor is not open.
    """
    if os.isatty(descriptor):
        # Opened once more, and never closed, so that it is non-blocking for us only, and not for
        # other users of the terminal.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return PipeWriter(reactor, os.open(os.ttyname(descriptor), flags))
    if _waits(descriptor):
        return PipeWriter(reactor, descriptor)
    return StreamWriter(open(descriptor, "wb", buffering=0, closefd=False))


def _waits(descriptor: int) -> bool:
    """Return whether reading or writing may block, so that the reactor must watch `descriptor`."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
