"""The lifecycle of several backends together, for wrappers of backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from twisted_tftp.interfaces import IBackendLifecycle


@implementer(IBackendLifecycle)
class CombinedLifecycle:
    """The lifecycle of several backends: each call is passed on to all of them.

    A backend that occurs twice gets each call once. A backend that does not provide
    L{IBackendLifecycle<twisted_tftp.interfaces.IBackendLifecycle>} gets none.
    """

    _log = Logger()

    def __init__(self, backends: Iterable[Any]) -> None:
        """Set up, without a call to a backend."""
        distinct = {id(backend): backend for backend in backends}.values()
        self._backends = [each for each in distinct if IBackendLifecycle.providedBy(each)]

    def check(self) -> None:
        """Check all backends.

        @raise BackendUnavailable: one of them cannot serve files.
        """
        for backend in self._backends:
            backend.check()

    def start(self) -> Deferred[None]:
        """Start all backends; if one fails, the others are started nevertheless."""
        return self._wait_for([backend.start for backend in self._backends])

    def forget(self) -> None:
        """Clear the caches of all backends; if one fails, the others are cleared nevertheless."""
        for backend in self._backends:
            try:
                backend.forget()
            except Exception:
                self._log.failure("a backend failed to clear its caches")

    def stop(self) -> Deferred[None]:
        """Stop all backends; if one fails, the others are stopped nevertheless."""
        return self._wait_for([backend.stop for backend in self._backends])

    def _wait_for(self, calls: Iterable[Callable[[], Any]]) -> Deferred[None]:
        """Make all calls; the Deferred fires when all have ended, with the first failure.

        The other failures are logged.
        """
        waiting = DeferredList([maybeDeferred(call) for call in calls], consumeErrors=True)
        return waiting.addCallback(self._report)

    def _report(self, results: list[tuple[bool, Any]]) -> Any:
        """Return the first failure of `results`, and log the others."""
        failures = [result for succeeded, result in results if not succeeded]
        for failure in failures[1:]:
            self._log.failure("another backend failed too", failure=failure)
        return failures[0] if failures else None
