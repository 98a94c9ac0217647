"""Limit the log lines of a frequent event: above the limit, events are counted and summarised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

#: The interval in which lines are counted, in seconds.
INTERVAL = 60.0


class LogLimit:
    """The limit of the log lines of one kind of event.

    In each interval the first `max_lines` events get a line of their own. If there are more, they
    are counted, and at the end of the interval one line says how many there were. That line is
    the first one of the next interval.
    """

    def __init__(self, reactor: Any, max_lines: int, log_summary: Callable[[int], None]) -> None:
        """Set up, with no events.

        @param reactor: an `IReactorTime`.
        @param max_lines: the most lines of an interval, at least 1.
        @param log_summary: logs one line; called with the number of events that got no line.
        """
        self._reactor = reactor
        self._max_lines = max_lines
        self._log_summary = log_summary
        self._lines = 0  # in the current interval
        self._interval_ends = 0.0
        self._unlogged = 0  # the events of the current interval that got no line
        self._timer: IDelayedCall | None = None  # runs while `_unlogged` is not 0

    def take_line(self) -> bool:
        """Count an event; return whether it gets a line of its own."""
        if self._timer is not None:
            self._unlogged += 1
            return False
        now = self._reactor.seconds()
        if now >= self._interval_ends:
            self._begin_interval(now, 0)
        if self._lines < self._max_lines:
            self._lines += 1
            return True
        self._unlogged = 1
        self._timer = self._reactor.callLater(self._interval_ends - now, self._end_interval)
        return False

    def flush(self) -> None:
        """Log the summary now, and begin a new interval at the next event."""
        if self._timer is not None:
            self._timer.cancel()
            self._end_interval()
        self._interval_ends = 0.0

    def _begin_interval(self, now: float, lines: int) -> None:
        self._lines = lines
        self._interval_ends = now + INTERVAL

    def _end_interval(self) -> None:
        self._timer = None
        self._begin_interval(self._reactor.seconds(), 1)
        self._log_summary(self._unlogged)
