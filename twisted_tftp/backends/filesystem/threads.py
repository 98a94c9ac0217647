"""Threads for calls that may wait for a disk, so that the reactor does not wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, Protocol, TypeVar
from weakref import finalize

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

#: The most threads that look up names and read files.
READ_THREADS = 16

#: The most threads that write and sync files. They are separate from those that read, because
#: downloads must not wait for slow syncs.
WRITE_THREADS = 16

#: How long the end of the process waits for threads, in seconds.
SHUTDOWN_WAIT = 2.0

#: Run a function in a thread: (function, arguments) -> Deferred of its result.
InThread = Callable[..., Deferred[Any]]


class Threads:
    """A pool of threads that starts when it is first used.

    It ends with the reactor, or when this object is garbage: each backend has pools of its own, so
    that one dead disk does not block the others, and a reload makes new backends.
    """

    def __init__(self, name: str, count: int, reactor: Any = None) -> None:
        """Set up, without starting a thread.

        @param name: the name of the pool.
        @param count: the most threads.
        @param reactor: the reactor in which results are delivered; None for the global one, which
            is looked up at the first call.
        """
        self._reactor = reactor
        self._name = name
        self._count = count
        self._pool: _Pool | None = None

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call `function(*args)` in a thread; return a Deferred of its result."""
        if self._pool is None:
            if self._reactor is None:
                from twisted.internet import reactor

                self._reactor = reactor
            self._pool = _Pool(self._reactor, self._name, self._count)
            # At the end of the process, the trigger of the reactor ends the threads.
            finalize(self, self._pool.end).atexit = False
        if self._pool.threads.joined:
            return fail(RuntimeError("the reactor has stopped"))
        return deferToThreadPool(self._reactor, self._pool.threads, function, *args)


class _Pool:
    """The running threads of a L{Threads}.

    @ivar threads: the pool of Twisted.
    """

    _log = Logger()

    def __init__(self, reactor: Any, name: str, count: int) -> None:
        """Start the pool; it starts threads when there is work for them."""
        self._reactor = reactor
        self._ending: Thread | None = None
        self.threads = ThreadPool(0, count, name)
        # Python does not end before other threads have ended, except daemon threads.
        self.threads.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self.threads.start()
        self._trigger: Any = reactor.addSystemEventTrigger(
            "during", "shutdown", self._end_with_reactor
        )

    def end(self) -> None:
        """End the threads when they have done their work; this does not wait for them.

        Any thread may call it.
        """
        if self._ending is None:
            self._ending = Thread(target=self._stop, daemon=True)
            self._ending.start()

    def _stop(self) -> None:
        self.threads.stop()
        self._reactor.callFromThread(self._remove_trigger)

    def _remove_trigger(self) -> None:
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None

    def _end_with_reactor(self) -> None:
        """End the threads; give up after `SHUTDOWN_WAIT` seconds, so that the process can end."""
        self._trigger = None
        self.end()
        assert self._ending is not None
        self._ending.join(SHUTDOWN_WAIT)
        if self._ending.is_alive():
            self._log.warn(
                "a call in a thread ({name}) has not ended: it is abandoned",
                name=self.threads.name,
            )


class Discardable(Protocol):
    """An open file that can be closed without a result.

    @ivar is_discarded: whether it is closed, and a temporary file removed.
    """

    is_discarded: bool

    def discard(self) -> None:
        """Close the file, and remove it if it is an unfinished upload; this may block."""


File = TypeVar("File", bound=Discardable)
Opened = TypeVar("Opened")


def open_in_thread(
    in_thread: InThread, open_file: Callable[[], File], wrap: Callable[[File], Opened]
) -> Deferred[Opened]:
    """Open a file in a thread; if the Deferred is cancelled, discard the file.

    A thread can't be stopped from outside. So the thread itself checks twice whether the file is
    still needed: before it opens the file, because the call may have waited long for a free
    thread; and after that, because no other thread may be left to discard the file when the
    process stops.

    @param in_thread: calls a function in a thread.
    @param open_file: opens the file; called in the thread.
    @param wrap: returns the reader or writer of the file; called in the reactor's thread.
    @return: fires with the result of `wrap`; it can be cancelled.
    """
    opening: Deferred[Opened] = Deferred()

    def open_or_discard() -> File:
        if opening.called:
            raise CancelledError
        file = open_file()
        if opening.called:
            file.discard()
        return file

    def opened(file: File) -> None:
        if not opening.called:
            opening.callback(wrap(file))
        elif not file.is_discarded:
            in_thread(file.discard)

    def failed(failure: Failure) -> None:
        if not opening.called:
            opening.errback(failure)

    in_thread(open_or_discard).addCallbacks(opened, failed)
    return opening
