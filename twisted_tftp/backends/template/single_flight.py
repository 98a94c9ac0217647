"""Share one running operation among all callers that want its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """An operation that runs at most once at a time.

    @ivar is_running: whether it runs.
    """

    def __init__(self) -> None:
        self.is_running = False
        self._waiting: list[Deferred[T]] = []

    def join(self, start: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Return a Deferred of the result of the running operation; start it if none runs.

        If the Deferred is cancelled, the operation continues for the other callers.
        """
        waiting: Deferred[T] = Deferred()
        self._waiting.append(waiting)
        if not self.is_running:
            self.is_running = True
            start().addBoth(self._finish)
        return waiting

    def _finish(self, result: T | Failure) -> None:
        self.is_running = False
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(result)  # a Failure makes it fail
