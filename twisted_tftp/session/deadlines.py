"""Alarms that call sessions at their deadlines, all with one delayed call of the reactor.

Making and cancelling a delayed call of the reactor costs 3 µs, and a small transfer sets two
alarms. An entry of a heap costs a tenth of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.runtime import seconds

#: The number of alarms above which alarms may be late. Most packets move the deadline of their
#: transfer, but not its alarm, which then goes off too early and is set again (3 µs). With 1,000
#: transfers in lock step, there is such an alarm for every two packets if alarms are on time, for
#: every four if they may be 18 ms late, and for every nine if they may be 45 ms late. The
#: throughput is 5 % higher with 45 ms than with 18 ms.
MANY_ALARMS = 100

#: How late an alarm may be for each alarm above `MANY_ALARMS`, in seconds.
LATENESS_PER_ALARM = 50e-6

#: How late a `LazyAlarm` may go off, in seconds: a smaller change of its deadline is ignored.
SLACK = 0.005

#: How late an alarm may be at most, in seconds.
MAX_LATENESS = 0.1

#: The shortest delayed call if there are more than `MANY_ALARMS`, in seconds: each call costs the
#: reactor more than an alarm does.
MIN_TIMER_DELAY = 0.005

#: The number of heap entries above which cancelled alarms are removed, if they are the majority.
CANCELLED_ALARMS_KEPT = 1000

_NEVER = float("inf")

#: A deadline, a unique number, and the function to call: None if the alarm was cancelled.
Alarm = list[Any]


def use_monotonic_time(reactor: Any) -> None:
    """Make the global `reactor` use the monotonic clock for its delayed calls.

    By default it uses the time of day: when that is set back, delayed calls are late by as much.
    Call this only in a main program, not in a library, and before there are delayed calls. Some
    parts of Twisted, such as the log of its web server, use `reactor.seconds` as the time of day.
    """
    if reactor.seconds is seconds and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


class Alarms:
    """A set of alarms at times of `clock`, which may differ from the clock of the reactor."""

    _log = Logger()

    def __init__(self, reactor: Any, clock: Callable[[], float]) -> None:
        """Set up a set without alarms, which waits with `IReactorTime` `reactor`."""
        self._reactor = reactor
        self._clock = clock
        self._heap: list[Alarm] = []
        self._live = 0
        self._number = 0
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def set(self, deadline: float, call: Callable[[], None]) -> Alarm:
        """Set an alarm that calls `call` at `deadline`, or at most `MAX_LATENESS` later."""
        if self._live > MANY_ALARMS:
            deadline += min((self._live - MANY_ALARMS) * LATENESS_PER_ALARM, MAX_LATENESS)
        self._number += 1
        alarm = [deadline, self._number, call]
        heappush(self._heap, alarm)
        self._live += 1
        if self._timer is None or deadline < self._timer_at:
            self._wait(deadline)
        return alarm

    def set_again(self, alarm: Alarm, deadline: float, call: Callable[[], None]) -> None:
        """Set an alarm again, with less work than `set`. Call this only while it goes off."""
        if self._live > MANY_ALARMS:
            deadline += min((self._live - MANY_ALARMS) * LATENESS_PER_ALARM, MAX_LATENESS)
        alarm[0] = deadline
        alarm[2] = call
        heappush(self._heap, alarm)
        self._live += 1

    def move(self, alarm: Alarm, deadline: float) -> Alarm:
        """Return an alarm that replaces `alarm`, and goes off at another time."""
        call, alarm[2] = alarm[2], None
        self._live -= 1
        self._remove_cancelled()
        return self.set(deadline, call)

    def cancel(self, alarm: Alarm) -> None:
        """Cancel an alarm. Call this once, and not after the alarm has gone off."""
        alarm[2] = None
        self._live -= 1
        if not self._live:
            self._heap.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        else:
            self._remove_cancelled()

    def _remove_cancelled(self) -> None:
        """Remove the cancelled alarms from the heap if they are many and more than half of it."""
        heap = self._heap
        if len(heap) > CANCELLED_ALARMS_KEPT and self._live < len(heap) // 2:
            heap[:] = [each for each in heap if each[2] is not None]
            heapify(heap)

    def _wait(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        shortest = MIN_TIMER_DELAY if self._live > MANY_ALARMS else 0.0
        delay = max(shortest, deadline - self._clock())
        self._timer = self._reactor.callLater(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # Alarms that are set by the calls below go off in a later run.
        due: list[Alarm] = []
        heap, now = self._heap, self._clock()
        while heap and heap[0][0] <= now:
            due.append(heappop(heap))
        for alarm in due:
            call = alarm[2]
            if call is None:
                continue  # cancelled, maybe by a call in this loop
            self._live -= 1
            alarm[2] = None
            try:
                call()
            except Exception:
                self._log.failure("unexpected exception in the call of an alarm")
        while heap and heap[0][2] is None:
            heappop(heap)
        if heap and (self._timer is None or heap[0][0] < self._timer_at):
            self._wait(heap[0][0])


def _nothing() -> None:
    """Do nothing: the call of an alarm that was stopped."""


class LazyAlarm:
    """One alarm of a transfer, which is moved only if it would be late.

    Most packets move the deadline to a later time, but not the alarm. So it may go off too early,
    and is then set again.

    @ivar at: when it goes off; infinite if it is not set.
    """

    __slots__ = ("_alarm", "_alarms", "_call", "_is_going_off", "_is_stopped", "at")

    def __init__(self, alarms: Alarms, call: Callable[[], None]) -> None:
        """Set up an alarm that is not set; `call` is called when it goes off."""
        self.at = _NEVER
        self._alarms = alarms
        self._call = call
        self._alarm: Alarm | None = None
        self._is_going_off = False
        self._is_stopped = False

    def arm(self, deadline: float) -> None:
        """Make sure that it goes off at `deadline`, or at most `SLACK` plus `MAX_LATENESS` later.

        An alarm that is set for an earlier time stays. Its call sets it again.
        """
        if self.at <= deadline + SLACK or deadline == _NEVER or self._is_stopped:
            return
        alarm, was_set = self._alarm, self.at != _NEVER
        self.at = deadline
        if alarm is None:
            self._alarm = self._alarms.set(deadline, self._go_off)
        elif was_set:
            self._alarm = self._alarms.move(alarm, deadline)
        elif self._is_going_off:
            self._is_going_off = False
            self._alarms.set_again(alarm, deadline, self._go_off)
        else:
            self._alarm = self._alarms.set(deadline, self._go_off)

    def cancel(self) -> None:
        """Make sure that it does not go off; it can be set again."""
        if self.at != _NEVER and self._alarm is not None:
            self._alarms.cancel(self._alarm)
        self._alarm = None
        self._is_going_off = False
        self.at = _NEVER

    def stop(self) -> None:
        """Make sure that it never goes off again."""
        if self.at != _NEVER and self._alarm is not None:
            self._alarms.cancel(self._alarm)
        self._alarm = None
        self.at = _NEVER
        self._is_stopped = True
        self._call = _nothing  # a cycle of references would wait for the garbage collector

    def _go_off(self) -> None:
        self.at = _NEVER
        self._is_going_off = True
        try:
            self._call()
        finally:
            self._is_going_off = False
