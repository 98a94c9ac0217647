"""Test a sender and a receiver together, over simulated paths."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.simulation import Path, Simulation
from twisted_tftp.policy import Rollover
from twisted_tftp.transfer.states import SenderState


def octets(size: int, seed: int = 1) -> bytes:
    """Return `size` octets that depend on `seed`."""
    return random.Random(seed).randbytes(size)


@settings(max_examples=300, deadline=None)
@given(
    size=st.integers(0, 3000),
    blksize=st.integers(8, 300),
    windowsize=st.integers(1, 40),
    loss=st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7]),
    repeat=st.sampled_from([0.0, 0.1, 0.5]),
    jitter=st.sampled_from([0.0, 0.0005, 0.01, 0.3]),
    delay=st.sampled_from([0.0001, 0.005, 0.2]),
    rollover=st.sampled_from([Rollover.ZERO, Rollover.ONE]),
    known_size=st.booleans(),
    adaptive=st.booleans(),
    read_ahead=st.sampled_from([0, 1, 500, 4096]),
    read_time=st.sampled_from([0.0, 0.0, 0.002, 0.05, 3.0]),
    longest=st.sampled_from([1.0, 0.01, 5.0]),
    seed=st.integers(0, 2**32),
)
def test_file_arrives_complete_or_not_at_all(
    size: int,
    blksize: int,
    windowsize: int,
    loss: float,
    repeat: float,
    jitter: float,
    delay: float,
    rollover: Rollover,
    known_size: bool,
    adaptive: bool,
    read_ahead: int,
    read_time: float,
    longest: float,
    seed: int,
) -> None:
    """On any path the file arrives complete or both fail, and no ACK causes more than a window."""
    run = Simulation(
        octets(size, seed),
        blksize,
        windowsize,
        Path(loss, repeat, jitter, delay),
        seed,
        rollover,
        known_size,
        adaptive,
        read_ahead,
        read_time,
        longest,
    ).run()
    assert run.largest_burst <= windowsize
    assert run.data.startswith(bytes(run.stored))
    if run.complete:
        assert bytes(run.stored) == run.data
    if run.sender.state is SenderState.DONE:
        assert bytes(run.stored) == run.data
        assert run.sender.octets == size
    if not loss and delay + jitter + read_time < longest:
        assert run.complete


@pytest.mark.parametrize("read_ahead", [0, 65536])
@pytest.mark.parametrize("windowsize", [1, 8, 16, 64])
@pytest.mark.parametrize("loss", [0.005, 0.02, 0.05])
def test_two_mebibytes_arrive_over_a_lossy_path(
    windowsize: int, loss: float, read_ahead: int
) -> None:
    """At a loss of up to 5 % every transfer completes, without waiting a second for each loss."""
    run = Simulation(
        octets(2 << 20), 1428, windowsize, Path(loss, delay=0.0001), read_ahead=read_ahead
    ).run()
    assert run.complete
    assert bytes(run.stored) == run.data
    # 10 s are dallying. With a fixed timeout of one second it would take hundreds.
    assert run.now - 10 < 10


@pytest.mark.parametrize("delay", [0.0001, 0.01])
@pytest.mark.parametrize("seed", range(4))
def test_timeouts_stay_short_if_each_window_has_a_gap(seed: int, delay: float) -> None:
    """After a timeout was doubled it gets short again, even if each window has a gap."""
    run = Simulation(
        octets(1 << 20), 1428, 64, Path(0.1, delay=delay), seed, read_ahead=65536
    ).run()
    assert run.complete
    assert bytes(run.stored) == run.data
    assert run.now - 10 < 6


@pytest.mark.parametrize("windowsize", [1, 8, 16])
def test_losses_cost_few_datagrams(windowsize: int) -> None:
    """At a loss of 2 %, at most 1.3 datagrams are sent for each one that is needed."""
    run = Simulation(octets(2 << 20), 1428, windowsize, Path(0.02, delay=0.0001)).run()
    assert run.sent_data <= 1.3 * (len(run.data) // 1428 + 1)


@pytest.mark.parametrize("rollover", [Rollover.ZERO, Rollover.ONE])
@pytest.mark.parametrize("windowsize", [1, 7, 64])
def test_block_numbers_roll_over_under_loss(windowsize: int, rollover: Rollover) -> None:
    """Lost and repeated datagrams are recognised when the 16-bit block number rolls over."""
    near = range(65536 - 70, 65536)

    def lose(to_receiver: bool, datagram: bytes, count: int) -> bool:
        number = int.from_bytes(datagram[2:4], "big")
        return (number in near or number < 70) and count % 5 == 0

    data = octets(8 * 66_000 + 3)
    run = Simulation(data, 8, windowsize, Path(), 3, rollover, lose=lose, read_ahead=4096).run()
    assert run.complete
    assert bytes(run.stored) == data
    assert run.sender.retransmissions > 0


def test_two_rollovers_in_one_transfer() -> None:
    """A file of more than twice 65,536 blocks arrives."""
    data = octets(8 * 140_000)
    run = Simulation(data, 8, 32, read_ahead=65536).run()
    assert bytes(run.stored) == data


def test_path_without_faults_needs_one_ack_for_each_window() -> None:
    """If nothing is lost, nothing is sent twice, and each window gets one ACK."""
    run = Simulation(octets(64 * 512 * 4), 512, 16).run()
    assert run.sender.retransmissions == run.receiver.retransmissions == 0
    assert run.sent_data == 64 * 4 + 1
    assert run.sent_acks == 1 + 64 * 4 // 16 + 1


@pytest.mark.parametrize("lost", range(1, 17))
def test_lost_block_of_a_window_is_resent_without_a_timeout(lost: int) -> None:
    """A lost block is sent again without a timeout, except the last one of a window."""
    seen: list[int] = []

    def lose(to_receiver: bool, datagram: bytes, count: int) -> bool:
        number = int.from_bytes(datagram[2:4], "big")
        if to_receiver and datagram[1] == 3 and number == 16 + lost and not seen:
            seen.append(number)
            return True
        return False

    run = Simulation(octets(512 * 64), 512, 16, Path(delay=0.001), lose=lose).run()
    assert bytes(run.stored) == run.data
    windows = 5 + 2
    limit = (windows + 1) * 0.002 + (0.05 if lost == 16 else 0)
    assert run.now - 10 <= limit


def test_duplicate_acks_do_not_double_the_data() -> None:
    """In lock step a duplicate ACK never causes DATA (RFC 1123 section 4.2.3.1)."""
    run = Simulation(octets(512 * 100), 512, 1, Path(repeat=1.0)).run()
    assert run.complete
    assert run.sent_data == 101


def test_duplicate_acks_do_not_repeat_windows() -> None:
    """A duplicate ACK of a window is not taken for a gap."""
    run = Simulation(octets(512 * 160), 512, 16, Path(repeat=1.0)).run()
    assert run.complete
    assert run.sent_data == 161


def test_sender_gives_up_after_four_datagrams_without_an_answer() -> None:
    """On a path that loses everything, the sender fails after four OACKs."""
    lost: list[bytes] = []

    def lose(to_receiver: bool, datagram: bytes, count: int) -> bool:
        lost.append(datagram)
        return True

    run = Simulation(octets(100), lose=lose).run()
    assert run.sender.state is SenderState.FAILED
    assert len(lost) == 5  # four OACKs and the ERROR that a session would not send


@pytest.mark.parametrize(
    ("rate", "blksize", "windowsize"),
    [
        (125e6, 65464, 64),
        (12.5e6, 65464, 64),
        (12.5e6, 8192, 64),
        (1.25e6, 1468, 64),
        (1.25e6, 65464, 4),
        (0.125e6, 1468, 16),
        (0.0125e6, 512, 1),
    ],
)
def test_slow_link_without_loss_causes_few_retransmissions(
    rate: float, blksize: int, windowsize: int
) -> None:
    """A window that takes long on the wire is not taken for lost, and its ACKs not for gaps."""
    size = int(min(20e6, rate * 4))
    run = Simulation(octets(size), blksize, windowsize, Path(rate=rate)).run()
    assert run.complete
    needed = size // blksize + 1
    assert run.sent_data <= 1.1 * needed + 2 * windowsize


def test_short_queue_before_a_slow_link_is_not_flooded() -> None:
    """If a window exceeds the queue of the path, at most three times the blocks are sent."""
    size = 5_000_000
    run = Simulation(octets(size), 1468, 64, Path(rate=1.25e6, queue=40)).run()
    assert run.complete
    assert run.sent_data <= 3 * (size // 1468 + 1)


def test_gap_causes_one_ack_while_the_rest_of_the_window_arrives() -> None:
    """On a slow link a lost block causes one ACK, and no timeout of the receiver."""

    def lose(to_receiver: bool, datagram: bytes, count: int) -> bool:
        lost = to_receiver and datagram[1] == 3 and datagram[3] == 67 and not told
        if lost:
            told.append(True)
        return lost

    told: list[bool] = []
    run = Simulation(octets(1468 * 200), 1468, 64, Path(rate=1.25e6), lose=lose).run()
    assert run.complete
    assert run.receiver.retransmissions == 0
