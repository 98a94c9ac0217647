"""Readers and writers of forward-only files: pipes, terminals, devices, binary streams.

Pipes never block the reactor: only octets that can be read or written at once are transferred, and
the reactor reports when more can be. (Threads can't do this, because a thread that waits for a
pipe can't be stopped.)
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.interfaces import IFileReader, IFileWriter
from twisted_tftp.session.forward_window import ForwardWindow
from twisted_tftp.transfer.machine import Buffer

_T = TypeVar("_T")

#: The most octets that a writable pipe accepts in one write without blocking.
PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)


class ReadableStream(Protocol):
    """A binary stream to upload from, such as a file that is open for reading."""

    def read(self, length: int, /) -> bytes | None:
        """Return at most `length` octets; none at the end, None if there are none yet."""


class WritableStream(Protocol):
    """A binary stream to download into, such as a file that is open for writing."""

    def write(self, data: Buffer, /) -> int | None:
        """Write octets; return how many, or None if there is no room yet."""

    def flush(self) -> None:
        """Write what is buffered."""


@implementer(IFileWriter)
class StreamWriter:
    """A writer to a binary stream that does not block for long, such as a file."""

    def __init__(self, stream: WritableStream) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write octets; this blocks if the stream blocks."""
        view = memoryview(data)
        while view:
            written = self._stream.write(view)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "the non-blocking stream has no room yet")
            view = view[written:]

    def commit(self) -> None:
        """Flush the stream, and leave it open."""
        self._stream.flush()

    def abort(self) -> None:
        """Do nothing: what was written can't be removed."""


@implementer(IFileReader)
class StreamReader:
    """A reader of a binary stream that does not block for long; it keeps the last window."""

    size = None

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream
        self._window = ForwardWindow()

    def read(self, offset: int, length: int) -> bytes:
        """Return octets from `offset` on; `offset` never decreases from call to call."""
        window = self._window
        window.move_to(offset)
        while len(window.octets) < length:
            piece = self._stream.read(length - len(window.octets))
            if piece is None:
                raise BlockingIOError(errno.EAGAIN, "the non-blocking stream has no data yet")
            if not piece:
                break
            window.append(piece)
        return window.octets[:length]

    def close(self) -> None:
        """Leave the stream open: it belongs to the caller."""


class _Pipe(Generic[_T]):
    """A descriptor that the reactor watches while a read or a write waits for it.

    The type variable is the result of that read or write.
    """

    def __init__(self, reactor: IReactorFDSet, descriptor: int, event: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, event)
        self._waiting: Deferred[_T] | None = None

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "tftp"

    def _fire(self, result: _T | Failure) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting.callback(result)


@implementer(IReadDescriptor, IFileReader)
class PipeReader(_Pipe[bytes]):
    """A reader of a pipe, a socket or a terminal; it keeps the last window."""

    size = None

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        """Read from `descriptor`.

        @param descriptor: it belongs to the caller, and may be in blocking mode.
        """
        super().__init__(reactor, descriptor, select.POLLIN)
        self._window = ForwardWindow()
        self._length = 0
        self._ended = False

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return octets from `offset` on, or a Deferred if the pipe does not have enough yet.

        `offset` never decreases from call to call. Only one read is under way at a time.
        """
        self._window.move_to(offset)
        self._length = length
        if self._fill():
            return self._window.octets[:length]
        self._waiting = Deferred()
        self._reactor.addReader(self)
        return self._waiting

    def doRead(self) -> None:
        """Read what has arrived; the reactor calls this."""
        try:
            if not self._fill():
                return
            result: bytes | Failure = self._window.octets[: self._length]
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
        """Read what has arrived; return whether that is enough, or the end of the source."""
        pieces, missing = [], self._length - len(self._window.octets)
        while missing > 0 and not self._ended and self._poll.poll(0):
            piece = os.read(self._descriptor, missing)
            self._ended = not piece
            pieces.append(piece)
            missing -= len(piece)
        self._window.append(b"".join(pieces))
        return missing <= 0 or self._ended


@implementer(IWriteDescriptor, IFileWriter)
class PipeWriter(_Pipe[None]):
    """A writer to a pipe, a socket or a terminal, as fast as the other side reads."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        """Write to `descriptor`.

        @param descriptor: it belongs to the caller. It may be in blocking mode, except for a
            terminal, which accepts fewer than `PIPE_BUF` octets (see L{make_writer}).
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
            result: Failure | None = None
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
    if _may_block(descriptor):
        return PipeReader(reactor, descriptor)
    return StreamReader(open(descriptor, "rb", buffering=0, closefd=False))


def make_writer(reactor: IReactorFDSet, descriptor: int) -> StreamWriter | PipeWriter:
    """Return a writer for an open descriptor of any kind.

    @raise OSError: the descriptor is not open.
    """
    if os.isatty(descriptor):
        # The terminal is opened a second time, and never closed: the new descriptor is
        # non-blocking for this process only, and not for others that use the terminal.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return PipeWriter(reactor, os.open(os.ttyname(descriptor), flags))
    if _may_block(descriptor):
        return PipeWriter(reactor, descriptor)
    return StreamWriter(open(descriptor, "wb", buffering=0, closefd=False))


def _may_block(descriptor: int) -> bool:
    """Return whether reading or writing may block, so that the reactor must watch `descriptor`."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
