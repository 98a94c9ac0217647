"""Tests of the threads of a backend, with a reactor that records its calls."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

import twisted_tftp.backends.filesystem.threads
from tests.support.logs import captured_log
from twisted_tftp.backends.filesystem.threads import Threads


class RecordingReactor:
    """The methods of a reactor that threads need.

    @ivar calls: the calls from threads that wait for `run_one`.
    @ivar at_shutdown: what a shutdown of the reactor calls.
    """

    def __init__(self) -> None:
        self.calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self.at_shutdown: list[Callable[[], object]] = []

    def addSystemEventTrigger(
        self, phase: str, event: str, call: Callable[[], object]
    ) -> Callable[[], object]:
        assert (phase, event) == ("during", "shutdown")
        self.at_shutdown.append(call)
        return call

    def removeSystemEventTrigger(self, call: Callable[[], object]) -> None:
        self.at_shutdown.remove(call)

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


def test_threads_end_when_nothing_uses_them() -> None:
    """What was begun is done first; then the reactor does not know the pool any more."""
    reactor = RecordingReactor()
    threads = Threads("test-unused", 2, reactor)
    may_end = threading.Event()
    results: list[bool] = []
    threads(may_end.wait, 30).addCallback(results.append)
    del threads
    may_end.set()
    reactor.run_one()
    assert results == [True]
    reactor.run_one()
    assert reactor.at_shutdown == []
    assert not [each for each in threading.enumerate() if "test-unused" in each.name]


def test_shutdown_waits_for_threads_that_nothing_uses() -> None:
    """The removal of an unfinished upload must not be abandoned; the pool is ended once."""
    reactor = RecordingReactor()
    threads = Threads("test", 1, reactor)
    may_end = threading.Event()
    ended: list[bool] = []
    threads(lambda: ended.append(may_end.wait(30)))
    del threads
    threading.Timer(0.1, may_end.set).start()
    reactor.at_shutdown.pop()()
    assert ended == [True]
    for _ in range(2):
        reactor.run_one()


def test_shutdown_does_not_wait_for_a_call_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the name of the threads, and no guess about the cause."""
    monkeypatch.setattr(twisted_tftp.backends.filesystem.threads, "SHUTDOWN_WAIT", 0.1)
    reactor = RecordingReactor()
    threads = Threads("test", 1, reactor)
    may_end = threading.Event()
    threads(may_end.wait, 30)
    with captured_log() as lines:
        reactor.at_shutdown[0]()
    may_end.set()
    assert lines == ["a call in a thread (test) has not ended: it is abandoned"]
    for _ in range(2):
        reactor.run_one()
