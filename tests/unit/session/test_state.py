"""The table of the transitions of a session."""

from __future__ import annotations

from graphlib import TopologicalSorter

from twisted_tftp.session.state import ENDED, OPENING, OVER, TRANSITIONS, SessionState

#: The states to which a client goes back, to send its request again.
BACK = {SessionState.OPENING, SessionState.NEGOTIATING}


def test_every_state_has_a_row() -> None:
    """The table says for each state which ones may follow."""
    assert set(TRANSITIONS) == set(SessionState)


def test_every_state_is_reached_and_leads_to_the_end() -> None:
    """No state is out of reach, and none is a dead end."""
    reached = {OPENING}
    while True:
        more = reached.union(*(TRANSITIONS[state] for state in reached))
        if more == reached:
            break
        reached = more
    assert reached == set(SessionState)
    leading = {ENDED}
    while True:
        more = leading | {state for state in SessionState if TRANSITIONS[state] & leading}
        if more == leading:
            break
        leading = more
    assert leading == set(SessionState)


def test_apart_from_going_back_no_state_comes_twice() -> None:
    """A session ends: without the requests of a client that are sent again there is no cycle."""
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
    """So observers are told of one outcome."""
    assert all(TRANSITIONS[state] <= set(OVER) for state in OVER)
    assert TRANSITIONS[ENDED] == frozenset()
