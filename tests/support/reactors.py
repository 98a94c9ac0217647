"""Run a reactor that belongs to one test, not the global one, until something has happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

T = TypeVar("T")


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
    reactor.removeAll()
    for reader in left | internal:
        reader.connectionLost(None)
    # Twisted leaves this to the garbage collector. Hundreds of tests would leave more descriptors
    # than `select` can wait for.
    reactor._poller.close()
    assert not left
    assert not reactor.getDelayedCalls()
