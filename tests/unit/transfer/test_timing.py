"""Tests of the retransmission timeouts, which follow the measured round-trip times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.transfer.timing import MIN_RTO, Timing


def timing(first: float = 1.0, max_rto: float = 1.0, adaptive: bool = True) -> Timing:
    return Timing(first=first, max_rto=max_rto, retries=10, adaptive=adaptive)


def test_first_wait_is_the_configured_timeout() -> None:
    """U-Boot and curl negotiate 5 s; that is the longest wait, and not the first one."""
    assert timing(first=1.0, max_rto=5.0).rto == 1.0


def test_first_wait_is_at_most_the_negotiated_timeout() -> None:
    """A negotiated timeout below the configured one limits the first wait too."""
    assert timing(first=1.0, max_rto=0.25).rto == 0.25


def test_wait_follows_the_round_trip_time() -> None:
    """After one round-trip time R, the wait is R + 4 * R / 2 (RFC 6298 section 2.2)."""
    waits = timing()
    waits.add_round_trip(0.1)
    assert waits.rto == pytest.approx(0.3)


def test_wait_approaches_a_constant_round_trip_time() -> None:
    """The variation decays, so the wait comes close to the round-trip time itself."""
    waits = timing()
    for _ in range(60):
        waits.add_round_trip(0.1)
    assert 0.1 <= waits.rto < 0.11


def test_wait_has_a_minimum() -> None:
    """On a fast network, a short pause of the client is not taken for a loss."""
    waits = timing()
    waits.add_round_trip(0.0001)
    assert waits.rto == MIN_RTO


def test_wait_is_limited_by_a_longest_wait_below_the_minimum() -> None:
    """If the client negotiates 10 ms, no wait is longer than that."""
    waits = timing(max_rto=0.01)
    waits.add_round_trip(0.0001)
    assert waits.rto == 0.01


def test_backing_off_doubles_the_wait_up_to_the_longest_one() -> None:
    """Each retransmission doubles the wait, up to the longest wait."""
    waits = timing(first=0.25)
    seen = []
    for _ in range(4):
        waits.back_off()
        seen.append(waits.rto)
    assert seen == [0.5, 1.0, 1.0, 1.0]


def test_backed_off_wait_stays_until_a_round_trip_is_measured() -> None:
    """A new measurement replaces the doubled wait (RFC 6298 section 5.7)."""
    waits = timing()
    waits.add_round_trip(0.1)
    waits.back_off()
    waits.back_off()
    assert waits.rto == 1.0
    waits.add_round_trip(0.1)
    assert waits.rto < 0.3


def measured_and_backed_off() -> Timing:
    """Return timeouts with a round-trip time of 0.1 s and a wait that has backed off to 1 s."""
    waits = timing()
    for _ in range(60):
        waits.add_round_trip(0.1)
    for _ in range(4):
        waits.back_off()
    assert waits.rto == 1.0
    return waits


def test_answer_to_a_gap_ends_the_backing_off() -> None:
    """If every window has a gap, no other round-trip time can be measured."""
    waits = measured_and_backed_off()
    waits.add_gap_round_trip(0.1)
    assert waits.rto < 0.2


def test_late_answer_to_a_gap_is_not_measured() -> None:
    """The timeout of the peer may have caused it, so its time is no round-trip time."""
    waits = measured_and_backed_off()
    waits.add_gap_round_trip(0.6)
    assert waits.rto == 1.0


def test_answers_to_gaps_lower_the_shortest_round_trip_in_steps() -> None:
    """One early answer may be a block that came out of order, so it counts only half."""
    waits = timing()
    waits.add_round_trip(0.1)
    waits.add_gap_round_trip(0.002)
    assert 0.05 <= waits.min_round_trip < 0.06
    for _ in range(10):
        waits.add_gap_round_trip(0.002)
    assert waits.min_round_trip < 0.003


def test_round_trip_of_a_window_can_lower_the_shortest_one() -> None:
    """The first value comes from a single datagram; that of a window may only lower it."""
    waits = timing()
    waits.add_round_trip(0.1, is_single=False)
    assert waits.min_round_trip == 0.0
    waits.add_round_trip(0.1)
    waits.add_round_trip(0.01, is_single=False)
    assert waits.min_round_trip == 0.01


def test_fixed_wait_is_always_the_longest_one() -> None:
    """If the waits are not adaptive, measurements do not change them (RFC 2349)."""
    waits = timing(first=1.0, max_rto=3.0, adaptive=False)
    assert waits.rto == 3.0
    waits.add_round_trip(0.01)
    waits.back_off()
    assert waits.rto == 3.0


def test_idle_limit_is_the_retries_times_the_longest_timeout() -> None:
    """A client may pause, to write its flash for example, for ten negotiated timeouts."""
    assert timing(max_rto=6.0).idle_limit == 60.0


def patient(
    *,
    max_rto: float = 1.0,
    patience: float = 60.0,
    adaptive: bool = True,
    negotiated: bool = False,
) -> Timing:
    """Return the timeouts of a transfer without retries."""
    return Timing(
        first=1.0, max_rto=max_rto, patience=patience, adaptive=adaptive, is_negotiated=negotiated
    )


def test_idle_limit_is_the_patience_if_there_are_no_retries() -> None:
    """A peer that has answered is waited for 60 s, another one for ten timeouts."""
    waits = patient()
    assert (waits.idle_limit, waits.patience) == (10.0, 60.0)
    waits.note_answer()
    assert waits.idle_limit == 60.0


def test_patience_limits_the_wait_for_the_first_answer_too() -> None:
    """A peer that has never answered is not waited for longer than another one."""
    assert patient(patience=3.0).first_answer_limit == 3.0


def test_retries_limit_both_silences() -> None:
    """The peer is given up after `retries` timeouts, whether it has answered or not."""
    waits = Timing(first=1.0, max_rto=2.0, retries=4)
    assert (waits.patience, waits.first_answer_limit) == (8.0, 8.0)


def test_peer_that_negotiates_a_long_timeout_gets_two_of_them() -> None:
    """It repeats a lost packet after one timeout, and that may be lost too."""
    assert patient(max_rto=100.0, negotiated=True).patience == 200.0
    assert patient(max_rto=100.0).patience == 60.0


def test_closed_port_ends_the_patience_until_the_next_answer() -> None:
    """A peer whose port seems to be closed is waited for like one that has never answered."""
    waits = patient()
    waits.note_answer()
    waits.note_port_unreachable()
    assert waits.idle_limit == 10.0
    waits.note_answer()
    assert waits.idle_limit == 60.0


@pytest.mark.parametrize("adaptive", [False, True])
def test_wait_is_not_longer_than_the_patience(adaptive: bool) -> None:
    """The expected packet makes the next wait, and that must not outlast the patience."""
    waits = patient(max_rto=255.0, patience=3.0, adaptive=adaptive)
    assert (waits.max_rto, waits.patience) == (3.0, 3.0)
    assert waits.rto <= 3.0


def test_wait_grows_to_five_seconds_after_ten_seconds_of_silence() -> None:
    """Until then it is at most the longest wait."""
    waits = patient()
    seen = []
    for silence in (0.0, 9.9, 10.0, 12.0, 16.0, 21.0):
        waits.back_off(silence)
        seen.append(waits.rto)
    assert seen == [1.0, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_wait_ends_growing_when_the_silence_ends() -> None:
    """The next wait is at most the longest one; a shorter one does not change."""
    waits = patient()
    for _ in range(4):
        waits.back_off(20.0)
    waits.note_answer()
    assert waits.rto == 1.0
    waits.add_round_trip(0.1)
    measured = waits.rto
    waits.note_answer()
    assert waits.rto == measured < 1.0


@pytest.mark.parametrize(
    "waits",
    [
        patient(max_rto=2.0, negotiated=True),
        patient(max_rto=2.0, adaptive=False),
        Timing(first=1.0, max_rto=2.0, retries=100),
        patient(max_rto=1.0, negotiated=True),
        patient(max_rto=7.0),
    ],
    ids=["negotiated", "fixed", "retries", "negotiated 1 s", "longer than the growth"],
)
def test_wait_does_not_grow(waits: Timing) -> None:
    """A negotiated timeout, a fixed one and one that is counted stay the longest wait."""
    for _ in range(10):
        waits.back_off(50.0)
    assert waits.rto == waits.max_rto


def test_wait_of_a_negotiated_fraction_of_a_second_grows_after_ten_of_them() -> None:
    """RFC 2349 has no timeouts below 1 s: in 60 s they would be very many datagrams."""
    waits = patient(max_rto=0.01, negotiated=True)
    waits.back_off(0.09)
    assert waits.rto == 0.01
    waits.back_off(0.1)
    assert waits.rto == 0.02
    fixed = patient(max_rto=0.01, negotiated=True, adaptive=False)
    assert fixed.patience == pytest.approx(0.1)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 255))
def test_wait_stays_within_its_bounds(samples: list[float], longest: float) -> None:
    """No sequence of round trips and retransmissions moves the wait out of its bounds."""
    waits = timing(max_rto=longest)
    for sample in samples:
        waits.add_round_trip(sample)
        assert min(MIN_RTO, longest) <= waits.rto <= longest
        waits.back_off()
        assert waits.rto <= longest
    assert waits.min_round_trip <= max(samples)
