"""Round trips in, waits out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.transfer.timing import MIN_WAIT, Timing


def timing(first: float = 1.0, longest: float = 1.0, adaptive: bool = True) -> Timing:
    return Timing(first=first, longest=longest, retries=10, adaptive=adaptive)


def test_first_wait_is_the_configured_one_not_the_negotiated() -> None:
    """U-Boot and curl negotiate 5 s; that is the longest wait, not the first."""
    assert timing(first=1.0, longest=5.0).wait == 1.0


def test_first_wait_is_shortened_to_a_shorter_negotiated_one() -> None:
    """A negotiated utimeout below the configured timeout bounds the first wait too."""
    assert timing(first=1.0, longest=0.25).wait == 0.25


def test_wait_follows_the_round_trip() -> None:
    """After one round trip R the wait is R + 4 * R / 2 (RFC 6298 section 2.2)."""
    waits = timing()
    waits.add_round_trip(0.1)
    assert waits.wait == pytest.approx(0.3)


def test_wait_narrows_when_the_round_trip_is_steady() -> None:
    """The variation decays, so the wait comes near to the round trip itself."""
    waits = timing()
    for _ in range(60):
        waits.add_round_trip(0.1)
    assert 0.1 <= waits.wait < 0.11


def test_wait_has_a_floor() -> None:
    """A fast network does not make a hiccup of the client a loss."""
    waits = timing()
    waits.add_round_trip(0.0001)
    assert waits.wait == MIN_WAIT


def test_longest_wait_below_the_floor_wins() -> None:
    """A client that negotiates 10 ms is never waited for longer."""
    waits = timing(longest=0.01)
    waits.add_round_trip(0.0001)
    assert waits.wait == 0.01


def test_backing_off_doubles_up_to_the_longest() -> None:
    """Each retransmission doubles the wait, up to the longest."""
    waits = timing(first=0.25)
    seen = []
    for _ in range(4):
        waits.back_off()
        seen.append(waits.wait)
    assert seen == [0.5, 1.0, 1.0, 1.0]


def test_backed_off_wait_stays_until_a_round_trip_is_measured() -> None:
    """A measured round trip ends the backing off (RFC 6298 section 5.7)."""
    waits = timing()
    waits.add_round_trip(0.1)
    waits.back_off()
    waits.back_off()
    assert waits.wait == 1.0
    waits.add_round_trip(0.1)
    assert waits.wait < 0.3


def measured_and_backed_off() -> Timing:
    """Return waits whose round trip is a tenth of a second and whose wait has come to one."""
    waits = timing()
    for _ in range(60):
        waits.add_round_trip(0.1)
    for _ in range(4):
        waits.back_off()
    assert waits.wait == 1.0
    return waits


def test_answer_to_a_gap_takes_the_doubling_back() -> None:
    """Where each window has a gap there is no other round trip to measure."""
    waits = measured_and_backed_off()
    waits.add_gap_round_trip(0.1)
    assert waits.wait < 0.2


def test_late_answer_to_a_gap_is_not_taken_in() -> None:
    """It comes after the peer's own timeout, which says nothing of the path."""
    waits = measured_and_backed_off()
    waits.add_gap_round_trip(0.6)
    assert waits.wait == 1.0


def test_shortest_round_trip_is_approached_by_answers_to_gaps() -> None:
    """One that comes soon may be of a block that was overtaken; many are not."""
    waits = timing()
    waits.add_round_trip(0.1)
    waits.add_gap_round_trip(0.002)
    assert 0.05 <= waits.min_round_trip < 0.06
    for _ in range(10):
        waits.add_gap_round_trip(0.002)
    assert waits.min_round_trip < 0.003


def test_window_that_is_sooner_than_a_datagram_was_is_the_shortest_round_trip() -> None:
    """The peer was slow to open its file; what a window takes bounds the path's share of that."""
    waits = timing()
    waits.add_round_trip(0.1, is_single=False)
    assert waits.min_round_trip == 0.0
    waits.add_round_trip(0.1)
    waits.add_round_trip(0.01, is_single=False)
    assert waits.min_round_trip == 0.01


def test_fixed_wait_is_always_the_longest() -> None:
    """Fixed waits keep to RFC 2349 whatever is measured."""
    waits = timing(first=1.0, longest=3.0, adaptive=False)
    assert waits.wait == 3.0
    waits.add_round_trip(0.01)
    waits.back_off()
    assert waits.wait == 3.0


def test_patience_is_the_retries_times_the_longest_wait() -> None:
    """A client may pause to write its flash for as long as it has negotiated."""
    assert timing(longest=6.0).patience == 60.0


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 255))
def test_wait_stays_within_its_bounds(samples: list[float], longest: float) -> None:
    """No round trip drives the wait out of its bounds, and the least one is known."""
    waits = timing(longest=longest)
    for sample in samples:
        waits.add_round_trip(sample)
        assert min(MIN_WAIT, longest) <= waits.wait <= longest
        waits.back_off()
        assert waits.wait <= longest
    assert waits.min_round_trip <= max(samples)
