"""A writer that holds back the data of a download while the server's answer is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.interfaces import IFileWriter

#: The most octets that a `HeldWriter` holds back by default.
MAX_HELD = 4 * 1024 * 1024

#: A write or a commit of the wrapped writer.
_Call = Callable[[], Deferred[None] | None]


class Hold(Enum):
    """What is held back while the answer is in doubt."""

    #: All data, and the commit. A write that would exceed `max_held` octets waits.
    DATA_AND_COMMIT = "data and commit"
    #: The commit. Data is held too, up to `max_held` octets; if there is more, all is written.
    COMMIT = "commit"


class _State(Enum):
    """What happens to the octets of the file; each comment says what is awaited."""

    #: They are held: awaits the call of `stop_holding`, or more octets than may be held.
    HOLDING = "holding"
    #: The held octets are being written: awaits the end of that write.
    WRITING_HELD = "writing held"
    #: Each write goes to the wrapped writer at once: awaits the commit.
    PASSING = "passing"
    #: The file is being committed, or was committed: awaits nothing.
    COMMITTING = "committing"


@implementer(IFileWriter)
class HeldWriter:
    """A writer that wraps another one, and holds octets in memory until `stop_holding`.

    @ivar writer: the wrapped writer.
    """

    def __init__(
        self,
        writer: IFileWriter,
        hold: Hold,
        on_waiting: Callable[[], None],
        max_held: int = MAX_HELD,
    ) -> None:
        """Wrap `writer`.

        @param on_waiting: called whenever a write or a commit starts to wait for `stop_holding`.
        @param max_held: the most octets that are held back.
        """
        self.writer = writer
        self._state = _State.HOLDING
        self._hold = hold
        self._on_waiting = on_waiting
        self._max_held = max_held
        self._is_settled = False  # `stop_holding` was called
        self._held: list[bytes] = []
        self._octets = 0
        self._queue: list[Callable[[], None]] = []  # calls that wait, in order
        self._failure: Failure | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether the wrapped writer has got no data yet."""
        return self._state is _State.HOLDING

    @property
    def is_committing(self) -> bool:
        """Whether the wrapped writer is committing the file, or has committed it."""
        return self._state is _State.COMMITTING

    def write(self, data: bytes) -> Deferred[None] | None:
        """Hold `data` back, or write it to the wrapped writer."""
        if not self.is_untouched:
            return self._after_held(partial(self.writer.write, data))
        self._held.append(data)
        self._octets += len(data)
        if self._octets <= self._max_held:
            return None
        if self._hold is Hold.COMMIT:
            self._write_held()
        else:
            self._on_waiting()
        return self._after_held(_nothing)

    def commit(self) -> Deferred[None] | None:
        """Commit the file once the answer is not in doubt any more."""
        if self._is_settled:
            return self._after_held(self._commit)
        self._on_waiting()
        return self._wait(self._commit)  # all writes are done, so the queue is empty

    def abort(self) -> Deferred[None] | None:
        """Drop the held octets, and abort the wrapped writer."""
        self._held.clear()
        self._queue.clear()
        aborted: Deferred[None] | None = self.writer.abort()
        return aborted

    def stop_holding(self) -> None:
        """Write the held octets, and hold nothing back from now on."""
        self._is_settled = True
        if self._state is _State.HOLDING:
            self._write_held()
        elif self._state is _State.PASSING:
            self._make_waiting_calls()

    def _commit(self) -> Deferred[None] | None:
        self._state = _State.COMMITTING
        committed: Deferred[None] | None = self.writer.commit()
        return committed

    def _write_held(self) -> None:
        held, self._held = self._held, []
        if not held:
            self._written(None)
            return
        self._state = _State.WRITING_HELD
        written = maybeDeferred(self.writer.write, b"".join(held))
        written.addErrback(self._failed)
        written.addCallback(self._written)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    def _written(self, _: object) -> None:
        self._state = _State.PASSING
        self._make_waiting_calls()

    def _make_waiting_calls(self) -> None:
        queue, self._queue = self._queue, []
        for call in queue:
            call()

    def _after_held(self, call: _Call) -> Deferred[None] | None:
        """Make `call` once the held octets are written; return its result or a Deferred of it."""
        if self._failure is not None:
            self._failure.raiseException()
        if self._state in (_State.HOLDING, _State.WRITING_HELD):
            return self._wait(call)
        return call()

    def _wait(self, call: _Call) -> Deferred[None]:
        result: Deferred[Any] = Deferred()  # as `chainDeferred` requires

        def make_call() -> None:
            if self._failure is not None:
                result.errback(self._failure)
            else:
                maybeDeferred(call).chainDeferred(result)

        self._queue.append(make_call)
        return result


def _nothing() -> None:
    """Do nothing: the result of a write that waits until its octets are written."""
