"""Tests of the limit of log lines, with the time of a `Clock`."""

from __future__ import annotations

from twisted.internet.task import Clock

from twisted_tftp.server.log_limit import LogLimit


def test_events_within_the_limit_have_their_own_lines_and_no_timer() -> None:
    """Nothing is scheduled as long as there is nothing to summarise."""
    clock, summaries = Clock(), list[int]()
    limit = LogLimit(clock, 2, summaries.append)
    for _ in range(3):
        assert limit.take_line()
        assert limit.take_line()
        clock.advance(60)
    assert clock.getDelayedCalls() == []
    assert summaries == []


def test_events_above_the_limit_are_summarised_at_the_end_of_the_interval() -> None:
    """The summary is the first line of the next interval, which has one line less."""
    clock, summaries = Clock(), list[int]()
    limit = LogLimit(clock, 2, summaries.append)
    assert [limit.take_line() for _ in range(5)] == [True, True, False, False, False]
    clock.advance(59)
    assert summaries == []
    clock.advance(1)
    assert summaries == [3]
    assert [limit.take_line() for _ in range(3)] == [True, False, False]
    clock.advance(60)
    assert summaries == [3, 2]
    clock.advance(60)
    assert [limit.take_line() for _ in range(2)] == [True, True]
    assert clock.getDelayedCalls() == []


def test_flush_summarises_at_once() -> None:
    """After it, no timer runs, and the next event has its own line."""
    clock, summaries = Clock(), list[int]()
    limit = LogLimit(clock, 1, summaries.append)
    assert [limit.take_line() for _ in range(3)] == [True, False, False]
    limit.flush()
    limit.flush()
    assert summaries == [2]
    assert clock.getDelayedCalls() == []
    assert limit.take_line()
