"""Tests of the flood defence: which peers have not answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twisted_tftp.policy import Policy
from twisted_tftp.server.flood_defence import (
    TIME_TO_ANSWER,
    TIMEOUTS_UNTIL_GIVEN_UP,
    FloodDefence,
    UnansweredTransfers,
)

#: A policy with a timeout of one second.
POLICY = Policy(timeout=1.0)


class Stub:
    """The part of a session that the flood defence uses; its first answer was sent at time 0."""

    def __init__(self, first_answer_at: float = 0.0) -> None:
        self.first_answer_at = first_answer_at
        self.peer_has_answered = self.is_finished = self.ended_for_room = self.caught_up = False

    def end_for_room(self) -> None:
        self.is_finished = self.ended_for_room = True


def defence(
    *sessions: Stub, receive_waiting: Callable[[Any], None] = lambda session: None
) -> tuple[FloodDefence, UnansweredTransfers]:
    unanswered = UnansweredTransfers()
    for session in sessions:
        unanswered.add(session)  # type: ignore[arg-type]
    return FloodDefence(POLICY, unanswered, receive_waiting), unanswered


def test_oldest_silent_transfer_makes_room() -> None:
    """It is ended when its peer had time to answer, and not before."""
    answered, opening, old, young = Stub(), Stub(float("inf")), Stub(), Stub(0.05)
    answered.peer_has_answered = True
    flood, _ = defence(answered, opening, old, young)
    assert not flood.make_room(TIME_TO_ANSWER / 2)
    assert flood.make_room(TIME_TO_ANSWER)
    assert [each.is_finished for each in (answered, opening, old, young)] == [
        *[False] * 2,
        True,
        False,
    ]


def test_answer_that_waits_in_a_socket_keeps_its_transfer() -> None:
    """The socket is read before its transfer is ended."""

    def receive_waiting(session: Stub) -> None:
        session.peer_has_answered = True

    session = Stub()
    flood, _ = defence(session, receive_waiting=receive_waiting)
    assert not flood.make_room(1.0)
    assert not session.is_finished


@pytest.mark.parametrize("now", [1.0, TIMEOUTS_UNTIL_GIVEN_UP + 1])
def test_waiting_error_ends_its_transfer(now: float) -> None:
    """An ERROR in the socket is not an answer: it ends the transfer."""

    def receive_waiting(session: Stub) -> None:
        session.is_finished = session.caught_up = True
        unanswered.remove(session)  # type: ignore[arg-type]

    session = Stub()
    flood, unanswered = defence(session, receive_waiting=receive_waiting)
    if now > TIMEOUTS_UNTIL_GIVEN_UP:
        flood.review(now)
    else:
        assert not flood.make_room(now)
    assert session.caught_up
    assert not session.ended_for_room
    assert not unanswered.new
    assert not unanswered.silent


@pytest.mark.parametrize("silent", [False, True])
def test_review_looks_at_each_transfer_in_turn(silent: bool) -> None:
    """Transfers that stay in their group do not keep the review from reaching the others."""
    stay = [Stub(0.0 if silent else 10.0) for _ in range(8)]
    change = Stub()
    flood, unanswered = defence(*stay, change)
    if silent:
        for _ in range(5):
            flood.review(1.0)
        assert len(unanswered.silent) == 9
        change.peer_has_answered = True
    for _ in range(5):
        flood.review(1.0)
    assert set(unanswered.silent) == set(stay if silent else [change])


def test_review_gives_up_transfers_that_are_silent_for_long() -> None:
    """Until they are ended, they count as silent."""
    session = Stub()
    flood, unanswered = defence(session)
    flood.review(TIMEOUTS_UNTIL_GIVEN_UP)
    assert list(unanswered.silent) == [session]
    flood.review(TIMEOUTS_UNTIL_GIVEN_UP + 0.1)
    assert session.is_finished


def test_review_forgets_transfers_that_were_answered() -> None:
    """An answer is noticed when the review looks at the transfer."""
    sessions = [Stub() for _ in range(10)]
    flood, unanswered = defence(*sessions)
    for _ in range(5):
        flood.review(1.0)
    assert len(unanswered.silent) == 10
    for session in sessions:
        session.peer_has_answered = True
    for _ in range(5):
        flood.review(1.0)
    assert not unanswered.silent


@pytest.mark.parametrize(("max_transfers", "most"), [(10, 100), (5000, 500)])
def test_flood_is_a_share_of_silent_transfers(max_transfers: int, most: int) -> None:
    """There must be more than `MIN_SILENT_IN_FLOOD` of them; `is_flood` changes nothing."""
    unanswered = UnansweredTransfers()
    flood = FloodDefence(Policy(max_transfers=max_transfers), unanswered, lambda session: None)
    for _ in range(most):
        unanswered.regroup(Stub(), 1.0)  # type: ignore[arg-type]
    assert not flood.is_flood
    unanswered.regroup(Stub(), 1.0)  # type: ignore[arg-type]
    assert flood.is_flood
    assert len(unanswered.silent) == most + 1
