"""Tests of the table of transitions between the states of a session."""

from __future__ import annotations

from graphlib import TopologicalSorter

from twisted_tftp.session.state import (
    CLOSED,
    OPENING,
    STATES_WITH_OUTCOME,
    TRANSITIONS,
    SessionState,
)

#: The states to which the session of a client returns when its request is sent again.
BACK = {SessionState.OPENING, SessionState.NEGOTIATING}


def test_table_has_a_row_for_every_state() -> None:
    """The table has, for each state, the states that may follow it."""
    assert set(TRANSITIONS) == set(SessionState)


def test_every_state_can_be_reached_and_leads_to_the_end() -> None:
    """Each state can be reached from OPENING, and CLOSED can be reached from each state."""
    reached = {OPENING}
    while True:
        more = reached.union(*(TRANSITIONS[state] for state in reached))
        if more == reached:
            break
        reached = more
    assert reached == set(SessionState)
    leading = {CLOSED}
    while True:
        more = leading | {state for state in SessionState if TRANSITIONS[state] & leading}
        if more == leading:
            break
        leading = more
    assert leading == set(SessionState)


def test_no_state_comes_twice_unless_the_request_is_sent_again() -> None:
    """Without the transitions back to the opening or the negotiation, there is no cycle."""
    forward = {
        state: {
            after
            for after in following
            if after not in BACK or (state, after) == (OPENING, SessionState.NEGOTIATING)
        }
        for state, following in TRANSITIONS.items()
    }
    TopologicalSorter(forward).prepare()


def test_no_state_without_an_outcome_follows_one_with_an_outcome() -> None:
    """An outcome is final, so observers are told of one outcome only."""
    assert all(TRANSITIONS[state] <= set(STATES_WITH_OUTCOME) for state in STATES_WITH_OUTCOME)
    assert TRANSITIONS[CLOSED] == frozenset()
