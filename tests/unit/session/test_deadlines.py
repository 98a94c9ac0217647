"""Alarms go off at their deadlines, with one timer of the reactor for all."""

from __future__ import annotations

import random

import pytest
from twisted.internet.task import Clock

from twisted_tftp.session.deadlines import (
    CANCELLED_ALARMS_KEPT,
    MANY_ALARMS,
    MAX_LATENESS,
    Alarms,
)


@pytest.fixture
def clock() -> Clock:
    """Return virtual time."""
    return Clock()


@pytest.fixture
def alarms(clock: Clock) -> Alarms:
    """Return alarms in virtual time."""
    return Alarms(clock, clock.seconds)


def test_alarms_go_off_in_the_order_of_their_deadlines(clock: Clock, alarms: Alarms) -> None:
    """Whatever the order in which they were set, each goes off at its time and once."""
    deadlines = [float(number) for number in range(1, 101)]
    random.Random(1).shuffle(deadlines)
    rung: list[tuple[float, float]] = []
    for deadline in deadlines:
        alarms.set(deadline, lambda at=deadline: rung.append((at, clock.seconds())))
    assert len(clock.getDelayedCalls()) == 1
    for _ in range(200):
        clock.advance(1)
    assert rung == [(float(number), float(number)) for number in range(1, 101)]
    assert clock.getDelayedCalls() == []


def test_alarms_of_one_moment_all_go_off(clock: Clock, alarms: Alarms) -> None:
    """Equal deadlines are no conflict."""
    rung: list[int] = []
    for number in range(3):
        alarms.set(1.0, lambda number=number: rung.append(number))
    clock.advance(1)
    assert rung == [0, 1, 2]


def test_cancelled_alarm_does_not_go_off(clock: Clock, alarms: Alarms) -> None:
    """Neither does the reactor's timer stay once the last alarm is cancelled."""
    rung: list[str] = []
    first = alarms.set(1.0, lambda: rung.append("first"))
    alarms.set(2.0, lambda: rung.append("second"))
    alarms.cancel(first)
    clock.advance(1)
    clock.advance(1)
    assert rung == ["second"]
    last = alarms.set(5.0, lambda: rung.append("last"))
    alarms.cancel(last)
    assert clock.getDelayedCalls() == []


def test_alarm_may_cancel_and_set_others(clock: Clock, alarms: Alarms) -> None:
    """One that goes off at the same time can still be cancelled; a new one waits its turn."""
    rung: list[str] = []

    def ring() -> None:
        rung.append("first")
        alarms.cancel(other)
        alarms.set(1.5, lambda: rung.append("late"))

    alarms.set(1.0, ring)
    other = alarms.set(1.0, lambda: rung.append("other"))
    clock.advance(1)
    assert rung == ["first"]
    clock.advance(0.5)
    assert rung == ["first", "late"]
    assert clock.getDelayedCalls() == []


def test_alarm_set_by_another_does_not_delay_a_third(clock: Clock, alarms: Alarms) -> None:
    """The reactor's timer is that of the earliest one, whichever was set last."""
    rung: list[str] = []
    alarms.set(1.0, lambda: alarms.set(5.0, lambda: rung.append("last")))
    alarms.set(2.0, lambda: rung.append("second"))
    clock.advance(1)
    clock.advance(1)
    assert rung == ["second"]
    clock.advance(3)
    assert rung == ["second", "last"]


def test_alarm_that_fails_does_not_keep_the_others_from_going_off(
    clock: Clock, alarms: Alarms
) -> None:
    """The failure is logged."""
    rung: list[str] = []
    alarms.set(1.0, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    alarms.set(1.0, lambda: rung.append("second"))
    alarms.set(3.0, lambda: rung.append("third"))
    clock.advance(1)
    clock.advance(2)
    assert rung == ["second", "third"]


def test_clock_of_the_reactor_that_is_ahead_makes_no_alarm_early(clock: Clock) -> None:
    """What counts is the clock of the alarms."""
    now = [0.0]
    alarms = Alarms(clock, lambda: now[0])
    rung: list[float] = []
    alarms.set(10.0, lambda: rung.append(now[0]))
    clock.advance(10)
    assert rung == []
    now[0] = 10.0
    clock.advance(10)
    assert rung == [10.0]


def test_very_many_alarms_may_be_late_a_little(clock: Clock, alarms: Alarms) -> None:
    """A busy server is woken less often; no alarm is early, and none later than the bound."""
    rung: list[float] = []
    for _ in range(MANY_ALARMS + 1000):
        alarms.set(1.0, lambda: rung.append(clock.seconds()))
    clock.advance(1)
    assert MANY_ALARMS < len(rung) < MANY_ALARMS + 1000
    while len(rung) < MANY_ALARMS + 1000:
        clock.advance(0.001)
    assert 1.0 < max(rung) <= 1.0 + MAX_LATENESS


def test_alarm_may_be_set_again_while_it_goes_off(clock: Clock, alarms: Alarms) -> None:
    """A deadline that has moved on costs no new alarm."""
    rung: list[float] = []

    def ring() -> None:
        rung.append(clock.seconds())
        if len(rung) < 3:
            alarms.again(alarm, clock.seconds() + 1.0, ring)

    alarm = alarms.set(1.0, ring)
    for _ in range(5):
        clock.advance(1)
    assert rung == [1.0, 2.0, 3.0]
    assert clock.getDelayedCalls() == []


def test_cancelled_alarms_do_not_pile_up(clock: Clock, alarms: Alarms) -> None:
    """A storm of transfers with long timeouts leaves nothing behind."""
    alarms.set(1000.0, lambda: None)
    for _ in range(10 * CANCELLED_ALARMS_KEPT):
        alarms.cancel(alarms.set(255.0, lambda: None))
        assert len(alarms._heap) <= CANCELLED_ALARMS_KEPT + 1
