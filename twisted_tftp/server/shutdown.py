"""Stop a service in steps: drain its transfers, end those that are left, and release the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_tftp.server import reasons
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.listeners import Listeners
from twisted_tftp.server.transfers import Transfers

#: How long transfers and the backend may take to end after L{Shutdown.hurry}, in seconds.
SHORT_GRACE = 1.0


class Shutdown:
    """Stops a service in steps, each with a time limit."""

    def __init__(
        self, reactor: Any, listeners: Listeners, transfers: Transfers, log: Logger
    ) -> None:
        """Set up; nothing is stopped yet.

        @param reactor: an `IReactorTime`.
        @param log: gets a line if transfers still run.
        """
        self._reactor = reactor
        self._listeners = listeners
        self._transfers = transfers
        self._log = log
        self._waits_for: Deferred[Any] | None = None  # the end of the current step
        self._is_hurried = False

    def reset(self) -> None:
        """Prepare for the next stop: the service starts again."""
        self._waits_for = None
        self._is_hurried = False

    def run(
        self, configuration: Configuration, stop_parts: Callable[[], Deferred[Any]]
    ) -> Deferred[Any]:
        """Drop new requests, wait for transfers, end those that are left, then stop the parts.

        @param configuration: says how long each step may take.
        @param stop_parts: stops what the transfers needed, such as the backend.
        @return: fires when all steps are done, or have taken too long.
        """
        listeners = self._listeners
        listeners.stop_accepting()
        # On a single port, the running transfers need the request port.
        closed = [] if configuration.policy.single_port else [listeners.close()]
        steps = self._drain(configuration.drain)
        steps.addBoth(lambda _: self._cancel_all(configuration))
        steps.addBoth(lambda _: DeferredList([*closed, listeners.close()]))
        steps.addBoth(lambda _: self._wait_for(stop_parts(), configuration.grace))
        return steps

    def hurry(self) -> None:
        """End all transfers now, or when the stop begins.

        Each of the later steps gets `SHORT_GRACE` seconds at most.
        """
        self._is_hurried = True
        if self._waits_for is not None:
            self._waits_for.cancel()

    def _drain(self, seconds: float) -> Deferred[Any]:
        """Return a Deferred that fires when no transfer runs, or after `seconds`."""
        drained = self._waits_for = self._transfers.when_none_runs()
        if self._transfers.running:
            self._log.info("waiting for {count} transfers", count=self._transfers.running)
            # The second signal may come before the first one has had its effect.
            time = 0.0 if self._is_hurried else seconds
            deadline = self._reactor.callLater(time, drained.cancel)
            drained.addBoth(_cancel_timer, deadline)
        return drained

    def _cancel_all(self, configuration: Configuration) -> Deferred[Any]:
        """End all transfers; fires when their files are released, or after the grace."""
        reason = (
            reasons.SECOND_SIGNAL if self._is_hurried else reasons.drain_ended(configuration.drain)
        )
        ended = self._transfers.cancel_all("the server is being stopped", reason)
        return self._wait_for(ended, configuration.grace)

    def _wait_for(self, end: Deferred[Any], grace: float) -> Deferred[Any]:
        """Return `end`, which is cancelled after `grace` seconds, and by L{hurry}."""
        self._waits_for = end
        if not end.called:
            seconds = SHORT_GRACE if self._is_hurried else grace
            timer = self._reactor.callLater(seconds, end.cancel)
            end.addBoth(_cancel_timer, timer)
        return end


def _cancel_timer(result: Any, timer: IDelayedCall) -> Any:
    """Cancel a timer, and return `result`."""
    if timer.active():
        timer.cancel()
    return result
