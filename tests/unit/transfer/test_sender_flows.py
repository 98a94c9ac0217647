"""Tests of a sender that continues from where its flow is."""

from __future__ import annotations

import pytest

from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.file_blocks import MIN_EARLY_READ_AHEAD
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.read_ahead import SMALL_FILE
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.states import SenderState
from twisted_tftp.transfer.timing import Timing

#: Octets of a block.
BLKSIZE = 8

OACK = b"\0\6blksize\x008\0"


def sender(file: bytes, windowsize: int = 4, rollover: Rollover = Rollover.ZERO) -> Sender:
    """Return a sender that has read the whole file, and has sent the OACK."""
    machine = Sender(
        blksize=BLKSIZE,
        windowsize=windowsize,
        size=len(file),
        oack=OACK,
        timing=Timing(first=1.0, max_rto=5.0),
        rollover=rollover,
        read_ahead=1 << 20,
    )
    if machine.early_read:
        machine.preload(file)
    assert machine.start(0.0) is Step.SEND
    return machine


def progress(acks: int, blocks: int, window: int, unsent: int, has_last: bool) -> Progress:
    """Return what a flow has done until the time 0.1."""
    return Progress(acks, blocks, window, unsent, has_last, 0.1, 0.0, (0.1,))


def blocks_of(datagrams: object) -> list[bytes]:
    """Return the datagrams of header, octets, header, ..."""
    parts = [bytes(part) for part in datagrams]  # type: ignore[attr-defined]
    return [parts[index] + parts[index + 1] for index in range(0, len(parts), 2)]


@pytest.mark.parametrize("unsent", [0, 1, 3, 4])
def test_blocks_that_the_flow_could_not_send_are_sent_in_order(unsent: int) -> None:
    """They are the last ones of its last window."""
    file = bytes(range(160))
    machine = sender(file)
    assert isinstance(machine.offer(2), Offer)
    datagrams = machine.take_back(progress(2, 8, 4, unsent, has_last=False))
    numbers = range(9 - unsent, 9)
    assert blocks_of(datagrams) == [
        wire.DATA_HEADERS[number] + file[(number - 1) * 8 : number * 8] for number in numbers
    ]
    assert machine.octets == 32
    assert machine.receive(wire.ack(8), 0.2) is Step.SEND
    assert blocks_of(machine.datagrams)[0][:4] == wire.DATA_HEADERS[9]


@pytest.mark.parametrize("size", [40, 43])
def test_short_or_empty_last_block_that_the_flow_could_not_send_is_sent(size: int) -> None:
    """The window at the end of the file has fewer blocks."""
    file = bytes(range(size))
    machine = sender(file)
    datagrams = machine.take_back(progress(2, 6, 2, 2, has_last=True))
    assert blocks_of(datagrams) == [
        wire.DATA_HEADERS[5] + file[32:40],
        wire.DATA_HEADERS[6] + file[40:],
    ]
    assert machine.receive(wire.ack(6), 0.2) is Step.END
    assert machine.state is SenderState.DONE
    assert machine.octets == size


def test_flow_that_has_received_nothing_changes_nothing() -> None:
    """The OACK is still not acknowledged."""
    machine = sender(bytes(160))
    deadline = machine.deadline
    assert machine.take_back(Progress(0, 0, 0, 0, False, 0.5, 0.5, ())) == ()
    assert (machine.state, machine.deadline) == (SenderState.OFFERING, deadline)
    assert not machine.has_answered


def test_time_of_the_first_answer_is_known_after_a_flow() -> None:
    """It is the first round trip after the OACK, however late the flow is looked at."""
    machine = sender(bytes(160))
    machine.take_back(Progress(2, 8, 4, 0, False, 3.0, 0.0, (0.1, 0.2)))
    assert machine.answered_at == 0.1
    assert machine.receive(wire.ack(8), 3.1) is Step.SEND
    assert machine.answered_at == 0.1


def test_last_ack_ends_the_transfer_after_a_flow() -> None:
    """Also if the machine was asked for its octets after the last window was sent."""
    for was_asked in (False, True):
        machine = sender(bytes(43))
        done = progress(2, 6, 2, 0, has_last=True)
        if was_asked:
            machine.take_back(done)
            done = Progress(0, 0, 2, 0, True, 0.1, 0.0, ())
        assert machine.resume(done, wire.ack(6), 0.2) is Step.END
        assert machine.state is SenderState.DONE
        assert machine.octets == 43
        assert machine.has_answered


@pytest.mark.parametrize("rollover", [Rollover.ONE, Rollover.NONE])
def test_no_flow_has_another_rollover(rollover: Rollover) -> None:
    """Flows know that 0 follows 65535."""
    assert sender(bytes(160), rollover=rollover).offer(2) is None


def test_flow_after_a_retransmission_waits_for_a_measured_round_trip() -> None:
    """A retransmission doubles the timeout, and the machine must learn first that it is short."""
    machine = sender(bytes(1600), windowsize=1)
    machine.take_back(Progress(1, 1, 1, 0, False, 0.01, 0.02, (0.01,)))
    assert machine.offer(2) is not None
    assert machine.expire(machine.deadline) is Step.SEND
    now = machine.deadline - 0.01
    assert machine.receive(wire.ack(1), now) is Step.SEND
    assert (
        machine.offer(2) is None
    )  # the round trip of block 1, which was sent twice, is not known
    assert machine.receive(wire.ack(2), now + 0.01) is Step.SEND
    assert machine.offer(2) is not None


def test_oack_that_was_sent_twice_is_left_to_no_flow() -> None:
    """Its round trip can't be measured."""
    machine = sender(bytes(160))
    assert machine.offer(2) is not None
    assert machine.expire(machine.deadline) is Step.SEND
    assert machine.offer(2) is None


@pytest.mark.parametrize(
    ("size", "oack", "read_ahead", "early"),
    [
        (SMALL_FILE, OACK, MIN_EARLY_READ_AHEAD, SMALL_FILE),
        (SMALL_FILE + 1, OACK, MIN_EARLY_READ_AHEAD, 0),
        (None, OACK, MIN_EARLY_READ_AHEAD, 0),
        (SMALL_FILE, None, MIN_EARLY_READ_AHEAD, 0),
        (SMALL_FILE, OACK, MIN_EARLY_READ_AHEAD - 1, 0),
    ],
)
def test_small_file_is_read_before_the_oack_unless_there_are_many_transfers(
    size: int | None, oack: bytes | None, read_ahead: int, early: int
) -> None:
    """With little read-ahead there are many; they hold no octets for forged addresses."""
    machine = Sender(
        blksize=512,
        windowsize=1,
        size=size,
        oack=oack,
        timing=Timing(first=1.0, max_rto=5.0),
        read_ahead=read_ahead,
    )
    assert machine.early_read == early
