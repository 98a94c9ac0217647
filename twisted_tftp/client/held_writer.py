"""Hold back what is written to a file while the answer that it comes from is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.interfaces import IFileWriter

#: Octets that are held back at most.
MOST_HELD = 4 * 1024 * 1024


class Hold(Enum):
    """What is held back of a file."""

    #: All of it: whoever writes more than `MOST_HELD` octets has to wait.
    FILE = "file"
    #: The commit: up to `MOST_HELD` octets stay in memory, and more are written.
    END = "end"


@implementer(IFileWriter)
class HeldWriter:
    """Keep octets in memory until `let_through` is called; then hand them to another writer.

    @ivar writer: the other writer.
    @ivar untouched: nothing has reached it yet.
    @ivar committing: the other writer puts the file in its place, or has done so.
    """

    def __init__(self, writer: Any, hold: Hold, on_waiting: Callable[[], None]) -> None:
        """Hold back what is meant for `writer`, an L{IFileWriter}.

        @param on_waiting: called whenever a call begins to wait for `let_through`.
        """
        self.writer = writer
        self.untouched = True
        self.committing = False
        self._hold = hold
        self._on_waiting = on_waiting
        self._settled = False
        self._held: list[bytes] = []
        self._octets = 0
        self._queue: list[Callable[[], None]] = []  # calls that wait, in their order
        self._writing = False  # what was held back is being written
        self._failure: Failure | None = None

    def write(self, data: bytes) -> Any:
        """Hold `data`, or hand it on."""
        if not self.untouched:
            return self._after_held(self.writer.write, data)
        self._held.append(data)
        self._octets += len(data)
        if self._octets <= MOST_HELD:
            return None
        if self._hold is Hold.END:
            self._write_held()
        else:
            self._on_waiting()
        return self._after_held(_nothing)

    def commit(self) -> Any:
        """Commit once nothing is in doubt any more."""
        if self._settled:
            return self._after_held(self._commit)
        self._on_waiting()
        return self._wait(self._commit)  # all writes are done, so the queue is empty

    def abort(self) -> Any:
        """Drop what is held, and abort the other writer."""
        self._held.clear()
        self._queue.clear()
        return self.writer.abort()

    def let_through(self) -> None:
        """Write what was held, and hold nothing back any more."""
        self._settled = True
        if self.untouched:
            self._write_held()
        elif not self._writing:
            self._go_on()

    def _commit(self) -> Any:
        self.committing = True
        return self.writer.commit()

    def _write_held(self) -> None:
        self.untouched = False
        held, self._held = self._held, []
        if not held:
            self._go_on()
            return
        self._writing = True
        written = maybeDeferred(self.writer.write, b"".join(held))
        written.addErrback(self._failed)
        written.addCallback(self._written)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    def _written(self, _: object) -> None:
        self._writing = False
        self._go_on()

    def _go_on(self) -> None:
        queue, self._queue = self._queue, []
        for call in queue:
            call()

    def _after_held(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function` when what was held is written: now, or return a Deferred of it."""
        if self._failure is not None:
            self._failure.raiseException()
        if self.untouched or self._writing:
            return self._wait(function, *args)
        return function(*args)

    def _wait(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()

        def call() -> None:
            if self._failure is not None:
                result.errback(self._failure)
            else:
                maybeDeferred(function, *args).chainDeferred(result)

        self._queue.append(call)
        return result


def _nothing() -> None:
    """Wait, and do nothing."""
