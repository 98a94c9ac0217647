"""Run what may wait for a disk in threads, so that the reactor does not wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

#: Threads that look names up and read what is not in memory.
READ_THREADS = 16

#: Threads that write and sync. They are others than those that read: a disk that is slow to sync
#: must not keep anybody from being served.
WRITE_THREADS = 16

#: Seconds at the end of the process in which threads may finish what they do.
SHUTDOWN_WAIT = 2.0

#: Run a function in a thread: (function, arguments) -> Deferred of its result.
InThread = Callable[..., Deferred[Any]]


class Threads:
    """A pool of threads that starts when it is first used and ends with the reactor."""

    _log = Logger()

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPool(0, count, name)
        # Python waits for other threads before it ends.
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        from twisted.internet import reactor

        if not self._pool.started:
            self._pool.start()
            reactor.addSystemEventTrigger("during", "shutdown", self._end)
        if self._pool.joined:
            return fail(RuntimeError("the reactor has stopped"))
        return deferToThreadPool(reactor, self._pool, function, *args)  # type: ignore[arg-type]

    def _end(self) -> None:
        """End the threads, but do not wait for a disk for ever: the process has to end."""
        ending = Thread(target=self._pool.stop, daemon=True)
        ending.start()
        ending.join(SHUTDOWN_WAIT)
        if ending.is_alive():
            self._log.warn("a disk does not answer: what was asked of it is given up")


class Discardable(Protocol):
    """An open file that can be given up.

    @ivar discarded: whether nothing is left of it.
    """

    discarded: bool

    def discard(self) -> None:
        """Give it up; this may block."""


File = TypeVar("File", bound=Discardable)
Opened = TypeVar("Opened")


def open_in_thread(
    in_thread: InThread, open_file: Callable[[], File], wrap: Callable[[File], Opened]
) -> Deferred[Opened]:
    """Open a file in a thread; where that is cancelled, discard the file.

    Nobody can end a thread from outside. So the thread looks itself whether the file is still
    wanted: before it opens the file, for it may have waited long for a slow disk; and after that,
    since after a stop there may be no other thread to discard the file.

    @param in_thread: how to run a function in a thread.
    @param open_file: opens the file, in the thread.
    @param wrap: makes of the file what is to be returned, in the reactor.
    @return: fires with what `wrap` returns; it can be cancelled.
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
        elif not file.discarded:
            in_thread(file.discard)

    def failed(failure: Failure) -> None:
        if not opening.called:
            opening.errback(failure)

    in_thread(open_or_discard).addCallbacks(opened, failed)
    return opening
