"""Tests of the alarm of one transfer, which is moved only if it would be late."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_tftp.session.deadlines import Alarms, LazyAlarm

#: A deadline that never comes, in seconds.
NEVER = float("inf")


class Fixture:
    """An alarm, and the times at which it has gone off."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.times: list[float] = []
        self.alarm = LazyAlarm(Alarms(self.clock, self.clock.seconds), self.went_off)
        self.next: float | None = None  # the deadline for which its call sets it

    def went_off(self) -> None:
        self.times.append(self.clock.seconds())
        following, self.next = self.next, None
        if following is not None:
            self.alarm.arm(following)


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_alarm_goes_off_once_at_its_deadline(fixture: Fixture) -> None:
    """After it has gone off, the alarm is not set."""
    fixture.alarm.arm(2.0)
    assert fixture.alarm.at == 2.0
    fixture.clock.pump([1.0, 1.0, 1.0, 1.0])
    assert fixture.times == [2.0]
    assert fixture.alarm.at == NEVER


def test_later_deadline_does_not_move_the_alarm(fixture: Fixture) -> None:
    """It goes off at the earlier deadline, and its call sets it for the later one."""
    fixture.alarm.arm(2.0)
    fixture.alarm.arm(3.0)
    assert fixture.alarm.at == 2.0
    fixture.next = 3.0
    fixture.clock.pump([2.0, 1.0, 1.0])
    assert fixture.times == [2.0, 3.0]


def test_earlier_deadline_moves_the_alarm(fixture: Fixture) -> None:
    """An alarm that is armed again for an earlier time goes off then, and only then."""
    fixture.alarm.arm(2.0)
    fixture.alarm.arm(1.0)
    fixture.clock.pump([1.0, 1.0])
    assert fixture.times == [1.0]


def test_infinite_deadline_sets_no_alarm(fixture: Fixture) -> None:
    """A machine without a deadline causes no delayed call of the reactor."""
    fixture.alarm.arm(NEVER)
    assert fixture.clock.getDelayedCalls() == []


def test_alarm_can_be_set_again_after_it_has_gone_off(fixture: Fixture) -> None:
    """It may be set later, and not only by its own call."""
    fixture.alarm.arm(1.0)
    fixture.clock.advance(1.0)
    fixture.alarm.arm(2.0)
    fixture.clock.advance(1.0)
    assert fixture.times == [1.0, 2.0]


def test_cancelled_alarm_does_not_go_off_but_can_be_set_again(fixture: Fixture) -> None:
    """`cancel` leaves no delayed call in the reactor."""
    fixture.alarm.arm(1.0)
    fixture.alarm.cancel()
    assert fixture.clock.getDelayedCalls() == []
    fixture.alarm.arm(3.0)
    fixture.clock.advance(3.0)
    assert fixture.times == [3.0]


def test_stopped_alarm_is_never_set_again(fixture: Fixture) -> None:
    """After `stop`, which may be called twice, `arm` does nothing."""
    fixture.alarm.arm(1.0)
    fixture.alarm.stop()
    fixture.alarm.stop()
    fixture.alarm.arm(2.0)
    assert fixture.clock.getDelayedCalls() == []
    fixture.clock.advance(5.0)
    assert fixture.times == []
