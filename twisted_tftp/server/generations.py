"""Stop the backend of an earlier configuration when the last transfer that uses it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.interfaces import lifecycle_of
from twisted_tftp.server.transfer_log import TransferLog


@dataclass(frozen=True, eq=False)
class Generation:
    """The backend and the observer of one configuration.

    They are used until the last transfer that began with them has ended.

    @ivar backend: their L{IFileBackend}.
    @ivar observer: their L{ITransferObserver}.
    """

    backend: Any
    observer: Any


class Generations:
    """The generations that have transfers, and the current one, which gets the new requests.

    @ivar grace: how long a backend may take to stop, in seconds.
    """

    _log = Logger()

    def __init__(self, reactor: Any, grace: float) -> None:
        """Set up, without a generation.

        @param reactor: an `IReactorTime`.
        """
        self.grace = grace
        self._reactor = reactor
        self._used: list[Generation] = []  # the current one is the last
        # By the identity of the backend: those whose start has not ended.
        self._starting: dict[int, Deferred[Any]] = {}
        self._stopping: set[Deferred[Any]] = set()

    def __len__(self) -> int:
        """Return the number of generations."""
        return len(self._used)

    def begin(self, generation: Generation) -> None:
        """Make a generation the current one, and start its backend, unless it is used already."""
        is_used = self._uses_backend(generation.backend)
        self._used.append(generation)
        if not is_used:
            self._start(generation.backend)

    def replace(self, generation: Generation, earlier_ended: Deferred[None]) -> None:
        """Make a generation the current one; end the one before with its last transfer.

        @param earlier_ended: fires when the transfers of the generation before have ended.
        """
        earlier = self._used[-1]
        self.begin(generation)
        earlier_ended.addCallback(lambda _: self._end(earlier))

    def end_all(self) -> Deferred[Any]:
        """Stop all backends that are left; the Deferred fires when none is stopping any more.

        It may be cancelled, and then waits no longer.
        """
        for generation in list(self._used):
            self._end(generation)
        return DeferredList(list(self._stopping))

    def _start(self, backend: Any) -> None:
        started = maybeDeferred(lifecycle_of(backend).start)
        self._starting[id(backend)] = started
        started.addErrback(self._log_failure, "the backend failed to start")
        started.addBoth(self._note_started, backend)

    def _note_started(self, result: Any, backend: Any) -> Any:
        self._starting.pop(id(backend), None)
        return result

    def _end(self, generation: Generation) -> None:
        """Forget a generation; stop its backend if no other one uses it."""
        if generation not in self._used:
            return  # the service has been stopped
        self._used.remove(generation)
        if isinstance(generation.observer, TransferLog):
            try:
                generation.observer.flush()
            except Exception:
                self._log.failure("the log of transfers can't be written")
        if self._uses_backend(generation.backend):
            return
        stopping = self._stop(generation.backend)
        timer = self._reactor.callLater(self.grace, stopping.cancel)
        self._stopping.add(stopping)
        stopping.addBoth(self._note_stopped, stopping, timer)
        stopping.addErrback(self._log_failure, "the backend failed to stop, or took too long")

    def _stop(self, backend: Any) -> Deferred[Any]:
        """Stop a backend when its start has ended.

        If the Deferred is cancelled, a start that has not ended is cancelled, the backend is
        stopped, and nothing is waited for any more.
        """
        steps = self._starting.pop(id(backend), succeed(None))
        has_started = False

        def stop(_: Any) -> Any:
            nonlocal has_started
            has_started = True
            return lifecycle_of(backend).stop()

        def give_up(_: Deferred[Any]) -> None:
            if not has_started:
                steps.cancel()  # the start; the stop is called at once
            steps.cancel()

        def forward(result: Any) -> None:
            if not stopped.called:  # otherwise nobody waits any more
                stopped.callback(result)
            elif isinstance(result, Failure):
                self._log_failure(result, "the backend took too long to stop, and then failed")

        stopped: Deferred[Any] = Deferred(give_up)
        steps.addCallback(stop).addBoth(forward)
        return stopped

    def _note_stopped(self, result: Any, stopping: Deferred[Any], timer: Any) -> Any:
        self._stopping.discard(stopping)
        if timer.active():
            timer.cancel()
        return result

    def _uses_backend(self, backend: Any) -> bool:
        return any(generation.backend is backend for generation in self._used)

    def _log_failure(self, failure: Failure, text: str) -> None:
        self._log.failure(text, failure=failure)
