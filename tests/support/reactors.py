"""Run a reactor that belongs to one test, not the global one, until something has happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.python.failure import Failure

T = TypeVar("T")

#: The most delayed calls that may be scheduled while no time passes. Code that sets a deadline
#: again and again would otherwise hang the test.
MAX_CALLS_AT_A_TIME = 10_000


def spin(reactor: Any, until: Callable[[], object], seconds: float = 20.0) -> None:
    """Run `reactor` until `until()` is true; fail after `seconds`."""
    limit = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < limit, "the awaited event has not happened"
        reactor.iterate(0.01)


def outcome(reactor: Any, deferred: Deferred[T]) -> T:
    """Run `reactor` until `deferred` fires; return its result or raise its failure."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    spin(reactor, lambda: results)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


@pytest.fixture
def reactor() -> Iterator[Any]:
    """Return a reactor that is not the global one; the test must leave no reader and no timer."""
    reactor = EPollReactor()
    internal = set(reactor.getReaders())
    yield reactor
    left = set(reactor.getReaders()) - internal
    # The threads of a backend end with the reactor. Otherwise they would end when the backend is
    # garbage, and would then call a reactor that is closed.
    reactor.fireSystemEvent("shutdown")
    reactor.removeAll()
    for reader in left | internal:
        reader.connectionLost(None)
    # Twisted leaves this to the garbage collector. Hundreds of tests would leave more descriptors
    # than `select` can wait for.
    reactor._poller.close()
    assert not left
    assert not reactor.getDelayedCalls()


class ClockedReactor(Clock):
    """A reactor whose time passes only when the test lets it pass; its sockets are real.

    A busy machine may stop the test for any time between two steps. With this reactor no timeout
    ends meanwhile. Give its method `seconds` as the clock to what runs on it.
    """

    def __init__(self, reactor: Any) -> None:
        """Set up, with the sockets of `reactor`."""
        super().__init__()
        self._sockets = reactor
        self._now = 0.0
        self._calls_now = 0  # delayed calls that were scheduled at this time

    def callLater(self, delay: float, function: Any, *args: Any, **settings: Any) -> Any:
        """Schedule a delayed call; fail if the code under test schedules calls without end."""
        if self.seconds() != self._now:
            self._now, self._calls_now = self.seconds(), 0
        self._calls_now += 1
        assert self._calls_now < MAX_CALLS_AT_A_TIME, "no time passes between delayed calls"
        return super().callLater(delay, function, *args, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sockets, name)

    def iterate(self, delay: float = 0.0) -> None:
        """Serve the sockets, and run the delayed calls that are due; no time passes."""
        self._sockets.iterate(delay)
        self.advance(0)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; serve the sockets after each delayed call."""
        end = self.seconds() + seconds
        while (calls := self.getDelayedCalls()) and calls[0].getTime() <= end:
            self.advance(max(0.0, calls[0].getTime() - self.seconds()))
            self.iterate()
        self.advance(max(0.0, end - self.seconds()))


@pytest.fixture
def clocked(reactor: Any) -> Iterator[ClockedReactor]:
    """Return a reactor whose time the test controls; the test must leave no delayed call."""
    clocked = ClockedReactor(reactor)
    yield clocked
    assert not clocked.getDelayedCalls()
