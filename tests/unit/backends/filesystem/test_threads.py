"""Tests of the threads of a backend, with a reactor that records its calls."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from twisted_tftp.backends.filesystem.threads import Threads


class RecordingReactor:
    """The methods of a reactor that threads need.

    @ivar calls: the calls from threads that wait for `run_one`.
    @ivar at_shutdown: what a shutdown of the reactor calls.
    """

    def __init__(self) -> None:
        self.calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self.at_shutdown: list[Callable[[], object]] = []

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], object]) -> None:
        assert (phase, event) == ("during", "shutdown")
        self.at_shutdown.append(call)

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        self.calls.put(lambda: function(*args))

    def run_one(self) -> None:
        """Make the next call from a thread."""
        self.calls.get(timeout=30)()


def test_results_are_delivered_in_the_given_reactor() -> None:
    """The threads of two calls end with the shutdown of that reactor."""
    reactor = RecordingReactor()
    threads = Threads("test", 1, reactor)
    results: list[int] = []
    for number in (3, 4):
        threads(pow, number, 2).addCallback(results.append)
        reactor.run_one()
    assert results == [9, 16]
    assert len(reactor.at_shutdown) == 1
    reactor.at_shutdown[0]()
    errors: list[Any] = []
    threads(pow, 2, 2).addErrback(errors.append)
    assert errors[0].check(RuntimeError)
