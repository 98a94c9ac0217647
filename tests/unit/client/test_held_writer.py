"""Test the writer that holds octets back while an answer is in doubt."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from twisted_tftp.client.held_writer import HeldWriter, Hold


class Sink:
    """A writer that records its calls; if it is slow, their Deferreds wait for the test."""

    def __init__(self, slow: bool = False) -> None:
        self.done: list[Any] = []
        self.waiting: list[Deferred[None]] = []
        self.slow = slow

    def _do(self, what: Any) -> Any:
        self.done.append(what)
        if not self.slow:
            return None
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def write(self, data: bytes) -> Any:
        return self._do(data)

    def commit(self) -> Any:
        return self._do("commit")

    def abort(self) -> None:
        self.done.append("abort")


EACH_HOLD = pytest.mark.parametrize("hold", list(Hold))


def nothing() -> None:
    """Do nothing: an `on_waiting` callback."""


@EACH_HOLD
def test_held_octets_are_written_once_and_in_order(hold: Hold) -> None:
    """`stop_holding` writes the held octets in one piece; later writes pass through."""
    sink = Sink()
    held = HeldWriter(sink, hold, nothing)
    assert held.write(b"one") is None
    assert held.write(b"two") is None
    assert sink.done == []
    held.stop_holding()
    held.stop_holding()
    held.write(b"three")
    held.commit()
    assert sink.done == [b"onetwo", b"three", "commit"]
    assert held.is_committing


@EACH_HOLD
@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("octets", [b"all", b""])
def test_commit_waits_for_stop_holding_and_for_the_held_octets(
    hold: Hold, slow: bool, octets: bytes
) -> None:
    """A commit waits for `stop_holding`, and until the held octets are written."""
    sink = Sink(slow)
    held = HeldWriter(sink, hold, nothing)
    if octets:
        held.write(octets)
    committed: list[Any] = []
    held.commit().addBoth(committed.append)
    assert sink.done == []
    assert not held.is_committing
    held.stop_holding()
    while sink.waiting:
        assert not committed
        sink.waiting.pop(0).callback(None)
    assert sink.done == [*[octets][: len(octets)], "commit"]
    assert committed == [None]


def test_write_above_the_limit_waits_for_stop_holding() -> None:
    """A write that exceeds `max_held` octets waits for `stop_holding`."""
    sink = Sink()
    held = HeldWriter(sink, Hold.DATA_AND_COMMIT, nothing, max_held=3)
    assert held.write(b"one") is None
    waits: list[Any] = []
    held.write(b"two").addBoth(waits.append)
    assert (sink.done, waits) == ([], [])
    held.stop_holding()
    assert (sink.done, waits) == ([b"onetwo"], [None])


@pytest.mark.parametrize("slow", [True, False])
def test_octets_above_the_limit_are_written_if_only_the_commit_is_held(slow: bool) -> None:
    """With Hold.COMMIT, octets above `max_held` are written, and the commit still waits."""
    sink = Sink(slow)
    held = HeldWriter(sink, Hold.COMMIT, nothing, max_held=3)
    held.write(b"one")
    written: list[Any] = []
    maybeDeferred(held.write, b"two").addBoth(written.append)
    assert sink.done == [b"onetwo"]
    assert not held.is_untouched
    if slow:
        assert not written
        sink.waiting.pop().callback(None)
    assert written == [None]
    committed: list[Any] = []
    held.commit().addBoth(committed.append)
    assert sink.done == [b"onetwo"]
    held.stop_holding()
    assert sink.done == [b"onetwo", "commit"]


@EACH_HOLD
def test_abort_drops_the_held_octets(hold: Hold) -> None:
    """After `abort` the held octets are never written."""
    sink = Sink()
    held = HeldWriter(sink, hold, nothing)
    held.write(b"one")
    held.commit()
    held.abort()
    held.stop_holding()
    assert sink.done == ["abort"]


@pytest.mark.parametrize("call", ["write", "commit"])
def test_write_error_of_held_octets_fails_the_next_calls(call: str) -> None:
    """If writing the held octets fails, the next `write` and `commit` fail with that error."""
    sink = Sink(slow=True)
    held = HeldWriter(sink, Hold.DATA_AND_COMMIT, nothing)
    held.write(b"one")
    held.stop_holding()
    failures: list[Any] = []
    (held.commit() if call == "commit" else held.write(b"two")).addErrback(failures.append)
    sink.waiting.pop().errback(OSError("full"))
    assert failures[0].check(OSError)
    assert sink.done == [b"one"]
    with pytest.raises(OSError, match="full"):
        held.write(b"three")


def test_on_waiting_is_called_for_each_call_that_waits() -> None:
    """`on_waiting` is called for a commit that waits, and for a write above the limit."""
    for hold, waits_by_then in ((Hold.COMMIT, [0, 0, 1]), (Hold.DATA_AND_COMMIT, [0, 1, 2])):
        told: list[None] = []
        on_waiting = partial(told.append, None)
        held = HeldWriter(Sink(), hold, on_waiting, max_held=3)
        waits = []
        for call in (lambda: held.write(b"one"), lambda: held.write(b"two"), held.commit):  # noqa: B023
            call()
            waits.append(len(told))
        assert waits == waits_by_then
        held.stop_holding()
        held.commit()
        assert len(told) == waits_by_then[-1]
