"""Tests of a sender's last window, its read-ahead buffer, and the watch of its peer."""

from __future__ import annotations

import pytest

from twisted_tftp.transfer.flight import Flight
from twisted_tftp.transfer.peer_watch import MAX_UNANSWERED_DATAGRAMS, PeerWatch
from twisted_tftp.transfer.read_ahead import (
    MAX_READ_AHEAD,
    SMALL_FILE,
    ReadAhead,
    read_ahead_of,
)
from twisted_tftp.transfer.timing import Timing


def timing() -> Timing:
    return Timing(first=1.0, max_rto=1.0, retries=10, adaptive=True)


def test_only_the_first_copy_of_a_window_is_measured() -> None:
    """It is not known which copy of a repeated window an ACK answers (Karn's rule)."""
    flight = Flight()
    assert flight.note_sent(1, 4) == 0
    assert (flight.may_measure, flight.copies) == (True, 1)
    assert flight.note_sent(1, 4) == 4
    assert (flight.may_measure, flight.copies) == (False, 2)


def test_blocks_that_were_sent_before_are_counted() -> None:
    """`send` returns how many blocks of a window were sent before, also if windows overlap."""
    flight = Flight()
    flight.note_sent(1, 4)
    assert flight.note_sent(3, 6) == 2
    assert (flight.start, flight.end, flight.highest_sent) == (3, 6, 6)
    assert flight.note_sent(3, 4) == 2
    assert flight.highest_sent == 6


def test_only_the_first_ack_of_a_window_is_measured() -> None:
    """After one round-trip time was measured, the window gives no other."""
    flight, times = Flight(), timing()
    flight.note_sent(1, 1)
    flight.measure(times, 0.5, answers_window=True)
    assert (times.min_round_trip, flight.may_measure) == (0.5, False)


def test_two_acks_after_a_retransmission_are_not_measured() -> None:
    """They may belong to any copy of the window; the third ACK is measured."""
    flight, times = Flight(), timing()
    flight.note_sent(1, 1)
    flight.measure(times, 0.5, answers_window=True)
    flight.note_retransmission()
    for _ in range(2):
        flight.measure(times, 0.01, answers_window=True)
    assert times.min_round_trip == 0.5
    flight.measure(times, 0.01, answers_window=True)
    assert times.min_round_trip < 0.5


@pytest.mark.parametrize(
    ("size", "reads"),
    [(0, [0, 0]), (99, [0, 0]), (100, [100, 100]), (250, [100, 200, 200]), (999, [100, 900, 900])],
)
def test_reads_grow_from_one_window_to_whole_windows_in_the_buffer(
    size: int, reads: list[int]
) -> None:
    """The first read is of one window, the next ones of more, up to the size of the buffer."""
    ahead = ReadAhead(size, 100)
    for expected in reads:
        assert ahead.size == expected
        ahead.fill(bytes(expected), 0)


@pytest.mark.parametrize(
    ("file_size", "first"), [(3000, 900), (SMALL_FILE, 900), (SMALL_FILE + 1, 100), (None, 100)]
)
def test_small_file_is_read_at_once(file_size: int | None, first: int) -> None:
    """A second read would cost more than the memory is worth; the size must be known."""
    assert ReadAhead(999, 100, file_size).size == first


def test_buffer_returns_octets_only_if_it_has_them_all() -> None:
    """If some of the octets are not in the buffer, `get` returns None."""
    ahead = ReadAhead(100, 10)
    assert ahead.get(0, 1) is None
    ahead.fill(b"0123456789", 50)
    assert ahead.get(52, 3) == b"234"
    assert ahead.get(50, 10) == b"0123456789"
    assert ahead.get(60, 0) == b""
    assert ahead.get(55, 6) is None


def test_peer_that_never_answers_gets_four_datagrams() -> None:
    """After that it must be given up, because its address may be forged."""
    watch = PeerWatch(timing())
    for number in range(MAX_UNANSWERED_DATAGRAMS):
        assert not watch.is_at_datagram_limit
        watch.note_sent(float(number))
    assert watch.is_at_datagram_limit
    assert watch.must_give_up(4.0)


def test_peer_that_has_answered_is_given_up_after_ten_seconds_of_silence() -> None:
    """The idle limit is ten retries of 1 s each; the number of datagrams does not matter."""
    watch = PeerWatch(timing())
    watch.note_heard(5.0)
    for number in range(10):
        watch.note_sent(5.0 + number)
    assert not watch.is_at_datagram_limit
    assert not watch.must_give_up(14.9)
    assert watch.must_give_up(15.0)


def test_silence_that_makes_waits_longer_begins_with_an_answer() -> None:
    """The waits for a peer that has never answered do not grow, because it may be forged."""
    waits = Timing(first=1.0, max_rto=1.0)
    watch = PeerWatch(waits)
    watch.back_off(20.0)
    assert waits.rto == 1.0
    watch.note_heard(20.0)
    watch.back_off(29.9)
    assert waits.rto == 1.0
    watch.back_off(30.0)
    assert waits.rto == 2.0
    watch.note_heard(31.0)
    assert waits.rto == 1.0


def test_first_answer_makes_the_watch_patient() -> None:
    """A peer that has never answered is given up after 10 s, one that has answered after 60 s."""
    watch = PeerWatch(Timing(first=1.0, max_rto=1.0))
    assert watch.give_up_at == 10.0
    watch.note_heard(5.0)
    assert watch.give_up_at == 65.0
    assert PeerWatch(Timing(first=1.0, max_rto=1.0), has_answered=True).give_up_at == 60.0


def test_answer_is_due_before_the_peer_is_given_up() -> None:
    """The deadline of an answer is not later than the time at which the peer is given up."""
    watch = PeerWatch(timing())
    watch.note_heard(0.0)
    assert watch.note_sent(3.0) == 4.0
    assert watch.note_sent(9.5) == 10.0
    assert watch.answer_deadline(9.5) == 10.0


def test_source_that_does_not_answer_at_once_is_asked_for_less() -> None:
    """While it reads, the peer gets nothing."""
    ahead = ReadAhead(1 << 20, 1000)
    sizes = []
    for is_quick in (True, True, True, False, False, True):
        ahead.fill(b"", 0, is_quick)
        sizes.append(ahead.size)
    assert sizes == [16_000, 65_000, 1_040_000, 65_000, 65_000, 1_040_000]


@pytest.mark.parametrize(
    ("transfers", "read_ahead"),
    [
        (1, MAX_READ_AHEAD),
        (32, MAX_READ_AHEAD),
        (33, 1 << 19),
        (129, 131072),
        (257, 65536),
        (1000, 32768),
    ],
)
def test_read_ahead_is_shorter_with_many_transfers(transfers: int, read_ahead: int) -> None:
    """It is a power of two, so that downloads of one file ask for the same pieces."""
    assert read_ahead_of(transfers) == read_ahead


def test_memory_of_many_read_aheads_is_limited() -> None:
    """A thousand transfers read at most 112 MiB ahead, and ten thousand at most 164 MiB."""
    totals = [sum(map(read_ahead_of, range(1, count + 1))) for count in (1000, 10_000)]
    assert [total / 2**20 for total in totals] == [111.25, 163.53125]
