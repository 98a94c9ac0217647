"""Call sessions at their deadlines, all with one timer of the reactor.

A timer of the reactor that is made and cancelled costs 3 µs, and a small transfer sets two; an
entry of a heap costs a tenth of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.runtime import seconds

#: With more alarms than this each may be late: a server of a thousand transfers is then woken half
#: as often for deadlines that have moved on. (Each alarm costs 3 µs; if none may be late, half as
#: many go off as there are packets.)
MANY_ALARMS = 100

#: Seconds by which an alarm may be late for each alarm above `MANY_ALARMS`.
LATENESS_PER_ALARM = 20e-6

#: Seconds by which an alarm may be late at most.
MOST_LATENESS = 0.1

#: Seconds between two wakes of so many: each wake costs the reactor more than an alarm does.
SHORTEST_WAIT = 0.005

#: Cancelled alarms that are kept before they are cleared out, where they are the most.
CANCELLED_ALARMS_KEPT = 1000

#: A deadline, a number that makes it unique, and what to call then: None once it was cancelled.
Alarm = list[Any]


def use_monotonic_time(reactor: Any) -> None:
    """Let timers of the global `reactor` go by a clock that nobody sets.

    Twisted's go by the time of day: when that is set back, they are late by as much. To be called
    by who has the process to himself, before there are timers: some parts of Twisted, such as the
    log of its web server, take `reactor.seconds` for the time of day.
    """
    if reactor.seconds is seconds and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


class Alarms:
    """Alarms in seconds of `clock`, which need not be that of the reactor."""

    _log = Logger()

    def __init__(self, reactor: Any, clock: Callable[[], float]) -> None:
        """Wait with L{IReactorTime} `reactor`."""
        self._reactor = reactor
        self._clock = clock
        self._heap: list[Alarm] = []
        self._live = 0
        self._number = 0
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def set(self, deadline: float, call: Callable[[], None]) -> Alarm:
        """Call `call` at `deadline` or a little later."""
        if self._live > MANY_ALARMS:
            deadline += min((self._live - MANY_ALARMS) * LATENESS_PER_ALARM, MOST_LATENESS)
        self._number += 1
        alarm = [deadline, self._number, call]
        heappush(self._heap, alarm)
        self._live += 1
        if self._timer is None or deadline < self._timer_at:
            self._wait(deadline)
        return alarm

    def again(self, alarm: Alarm, deadline: float, call: Callable[[], None]) -> None:
        """Set an alarm once more; to be called while it goes off."""
        if self._live > MANY_ALARMS:
            deadline += min((self._live - MANY_ALARMS) * LATENESS_PER_ALARM, MOST_LATENESS)
        alarm[0] = deadline
        alarm[2] = call
        heappush(self._heap, alarm)
        self._live += 1

    def cancel(self, alarm: Alarm) -> None:
        """Don't call; to be called once, and not after the alarm went off."""
        alarm[2] = None
        self._live -= 1
        if not self._live:
            self._heap.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif len(self._heap) > CANCELLED_ALARMS_KEPT and self._live < len(self._heap) // 2:
            self._heap[:] = [each for each in self._heap if each[2] is not None]
            heapify(self._heap)

    def _wait(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        shortest = SHORTEST_WAIT if self._live > MANY_ALARMS else 0.0
        delay = max(shortest, deadline - self._clock())
        self._timer = self._reactor.callLater(delay, self._fired)

    def _fired(self) -> None:
        self._timer = None
        # What is set by those that are called now is for another time.
        due: list[Alarm] = []
        heap, now = self._heap, self._clock()
        while heap and heap[0][0] <= now:
            due.append(heappop(heap))
        for alarm in due:
            call = alarm[2]
            if call is None:
                continue  # also where one called before it has cancelled it
            self._live -= 1
            alarm[2] = None
            try:
                call()
            except Exception:
                self._log.failure("a timer failed")
        while heap and heap[0][2] is None:
            heappop(heap)
        if heap and (self._timer is None or heap[0][0] < self._timer_at):
            self._wait(heap[0][0])
