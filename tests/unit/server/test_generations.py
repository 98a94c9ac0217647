"""Tests of the generations: each backend is started and stopped once, in this order."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.support.deferreds import results_of
from tests.support.logs import captured_log
from twisted_tftp.interfaces import IBackendLifecycle, NoLifecycle
from twisted_tftp.server.generations import Generation, Generations
from twisted_tftp.server.transfer_log import TransferLog
from twisted_tftp.testing import Recorder

#: How long a backend may take to stop, in seconds.
GRACE = 10.0


@implementer(IBackendLifecycle)
class SlowBackend(NoLifecycle):
    """A backend whose start and stop take time.

    @ivar calls: the calls that it has got.
    @ivar cancelled: those whose Deferreds were cancelled.
    @ivar started: the result of `start`.
    @ivar stopped: the result of `stop`.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self.started: Deferred[None] = Deferred(lambda _: self.cancelled.append("start"))
        self.stopped: Deferred[None] = Deferred(lambda _: self.cancelled.append("stop"))

    def start(self) -> Any:
        self.calls.append("start")
        return self.started

    def stop(self) -> Any:
        self.calls.append("stop")
        return self.stopped


class Rig:
    """Generations, of which the first one is replaced by a second one.

    @ivar old: the backend of the first one.
    """

    def __init__(self, observer: Any = None) -> None:
        self.clock = Clock()
        self.generations = Generations(self.clock, GRACE)
        self.old = SlowBackend()
        self.generations.begin(Generation(self.old, observer or Recorder()))

    def replace(self) -> None:
        new = Generation(SlowBackend(), Recorder())
        self.generations.replace(new, succeed(None))


def test_stop_waits_for_the_start() -> None:
    """A backend that is still being started when nothing uses it any more."""
    rig = Rig()
    rig.replace()
    assert rig.old.calls == ["start"]
    rig.old.started.callback(None)
    assert rig.old.calls == ["start", "stop"]
    rig.old.stopped.callback(None)
    assert rig.clock.getDelayedCalls() == []


def test_stop_follows_a_start_that_fails_later() -> None:
    """The failure is logged once."""
    rig = Rig()
    rig.replace()
    with captured_log() as lines:
        rig.old.started.errback(OSError("a mistake"))
    assert rig.old.calls == ["start", "stop"]
    assert len(lines) == 1
    assert lines[0].startswith("the backend failed to start")


@pytest.mark.parametrize("is_started", [False, True])
def test_start_and_stop_have_limited_time(is_started: bool) -> None:
    """What has not ended is cancelled; a backend is stopped also if its start has not ended."""
    rig = Rig()
    if is_started:
        rig.old.started.callback(None)
    rig.replace()
    with captured_log():
        rig.clock.advance(GRACE)
    assert rig.old.calls == ["start", "stop"]
    assert rig.old.cancelled == ([] if is_started else ["start"]) + ["stop"]
    assert rig.clock.getDelayedCalls() == []


def test_end_of_all_can_be_cancelled_during_a_start() -> None:
    """A service that is stopped in a hurry waits for nothing."""
    rig = Rig()
    ended = results_of(rig.generations.end_all())
    assert not ended
    ending = rig.generations.end_all()
    with captured_log():
        ending.cancel()
    assert len(results_of(ending)) == 1
    assert len(ended) == 1
    assert rig.old.calls == ["start", "stop"]
    assert rig.clock.getDelayedCalls() == []


def test_log_that_fails_does_not_keep_the_backend() -> None:
    """The failure is logged, and the backend is stopped."""

    class FailingLog(TransferLog):
        def flush(self) -> None:
            raise OSError("no space is left")

    rig = Rig(FailingLog(reactor=Clock()))
    rig.old.started.callback(None)
    with captured_log() as lines:
        rig.replace()
    assert rig.old.calls == ["start", "stop"]
    assert lines[0].startswith("the log of transfers can't be written")
    assert len(rig.generations) == 1


def test_cleanup_of_a_stop_that_took_too_long_is_not_cancelled() -> None:
    """The backend has an end of its own for the cancelled stop; its failure is logged."""
    rig = Rig()
    cleanup: Deferred[None] = Deferred(lambda _: rig.old.cancelled.append("cleanup"))
    rig.old.stopped.addErrback(lambda _: cleanup)
    rig.old.started.callback(None)
    rig.replace()
    assert rig.old.calls == ["start", "stop"]
    rig.clock.advance(GRACE)
    assert rig.old.cancelled == ["stop"]
    with captured_log() as lines:
        cleanup.errback(ValueError("late"))
    (line,) = lines
    assert line.startswith("the backend took too long to stop, and then failed")
