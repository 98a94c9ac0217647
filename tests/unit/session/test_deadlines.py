"""Tests of `Alarms`: calls at deadlines, all with one delayed call of the reactor."""

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
    """Return a clock of virtual time."""
    return Clock()


@pytest.fixture
def alarms(clock: Clock) -> Alarms:
    """Return a set of alarms in virtual time."""
    return Alarms(clock, clock.seconds)


def test_alarms_go_off_in_the_order_of_their_deadlines(clock: Clock, alarms: Alarms) -> None:
    """Each alarm goes off once and at its deadline, whatever the order of setting them."""
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


def test_alarms_with_the_same_deadline_all_go_off(clock: Clock, alarms: Alarms) -> None:
    """They go off in the order in which they were set."""
    rung: list[int] = []
    for number in range(3):
        alarms.set(1.0, lambda number=number: rung.append(number))
    clock.advance(1)
    assert rung == [0, 1, 2]


def test_cancelled_alarm_does_not_go_off(clock: Clock, alarms: Alarms) -> None:
    """When the last alarm is cancelled, the delayed call of the reactor is cancelled too."""
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
    """The call of an alarm may cancel one with the same deadline, and set a later one."""
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


def test_alarm_set_by_the_call_of_another_does_not_delay_a_third(
    clock: Clock, alarms: Alarms
) -> None:
    """The delayed call is for the earliest alarm, even if a later alarm was set last."""
    rung: list[str] = []
    alarms.set(1.0, lambda: alarms.set(5.0, lambda: rung.append("last")))
    alarms.set(2.0, lambda: rung.append("second"))
    clock.advance(1)
    clock.advance(1)
    assert rung == ["second"]
    clock.advance(3)
    assert rung == ["second", "last"]


def test_alarms_go_off_after_the_call_of_another_has_raised(clock: Clock, alarms: Alarms) -> None:
    """An exception in one call does not stop alarms with the same or a later deadline."""
    rung: list[str] = []
    alarms.set(1.0, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    alarms.set(1.0, lambda: rung.append("second"))
    alarms.set(3.0, lambda: rung.append("third"))
    clock.advance(1)
    clock.advance(2)
    assert rung == ["second", "third"]


def test_no_alarm_is_early_if_the_clock_of_the_reactor_is_ahead(clock: Clock) -> None:
    """Deadlines are times of the clock of the alarms."""
    now = [0.0]
    alarms = Alarms(clock, lambda: now[0])
    rung: list[float] = []
    alarms.set(10.0, lambda: rung.append(now[0]))
    clock.advance(10)
    assert rung == []
    now[0] = 10.0
    clock.advance(10)
    assert rung == [10.0]


def test_many_alarms_may_be_a_little_late(clock: Clock, alarms: Alarms) -> None:
    """Above `MANY_ALARMS`, no alarm is early, and none is later than `MAX_LATENESS`."""
    rung: list[float] = []
    for _ in range(MANY_ALARMS + 1000):
        alarms.set(1.0, lambda: rung.append(clock.seconds()))
    clock.advance(1)
    assert MANY_ALARMS < len(rung) < MANY_ALARMS + 1000
    while len(rung) < MANY_ALARMS + 1000:
        clock.advance(0.001)
    assert 1.0 < max(rung) <= 1.0 + MAX_LATENESS


def test_alarm_may_be_set_again_while_it_goes_off(clock: Clock, alarms: Alarms) -> None:
    """The call of an alarm may set the same alarm for a later deadline."""
    rung: list[float] = []

    def ring() -> None:
        rung.append(clock.seconds())
        if len(rung) < 3:
            alarms.set_again(alarm, clock.seconds() + 1.0, ring)

    alarm = alarms.set(1.0, ring)
    for _ in range(5):
        clock.advance(1)
    assert rung == [1.0, 2.0, 3.0]
    assert clock.getDelayedCalls() == []


def test_cancelled_alarms_are_removed_from_the_heap(clock: Clock, alarms: Alarms) -> None:
    """The heap stays small while many alarms with late deadlines are set and cancelled."""
    alarms.set(1000.0, lambda: None)
    for _ in range(10 * CANCELLED_ALARMS_KEPT):
        alarms.cancel(alarms.set(255.0, lambda: None))
        assert len(alarms._heap) <= CANCELLED_ALARMS_KEPT + 1


def test_moved_alarms_are_removed_from_the_heap(clock: Clock, alarms: Alarms) -> None:
    """The heap stays small while an alarm is moved again and again."""
    alarm = alarms.set(1000.0, lambda: None)
    for number in range(10 * CANCELLED_ALARMS_KEPT):
        alarm = alarms.move(alarm, 900.0 - number / 100)
        assert len(alarms._heap) <= CANCELLED_ALARMS_KEPT + 1
