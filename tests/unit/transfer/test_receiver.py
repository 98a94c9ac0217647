"""Tests of the machine that receives DATA, one datagram at a time."""

from __future__ import annotations

import pytest

from twisted_tftp.errors import ErrorCode, TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.states import ReceiverState
from twisted_tftp.transfer.timing import Timing

#: The OACK of a window of four blocks.
OACK = b"\x00\x06windowsize\x004\x00"


class Sink:
    """A receiver, and the octets that it has stored."""

    def __init__(
        self,
        *,
        blksize: int = 8,
        windowsize: int = 1,
        rollover: Rollover = Rollover.ZERO,
        longest: float = 1.0,
    ) -> None:
        self.stored = b""
        self.machine = Receiver(
            blksize=blksize,
            windowsize=windowsize,
            first_answer=OACK if windowsize > 1 else wire.ack(0),
            timing=Timing(first=1.0, max_rto=longest, retries=10, adaptive=True),
            rollover=rollover,
        )
        self.machine.start(0.0)

    def do(self, step: Step, now: float) -> bytes | None:
        """Do `step`; return the datagram that it sends, or None."""
        if step is Step.STORE:
            self.stored += self.machine.take()
            step = self.machine.stored(now)
        return bytes(self.machine.datagrams[0]) if step is Step.SEND else None

    def data(self, number: int, octets: bytes, now: float) -> bytes | None:
        datagram = wire.DATA_HEADERS[number] + octets
        return self.do(self.machine.receive(memoryview(bytearray(datagram)), now), now)

    def expire(self) -> bytes | None:
        now = self.machine.deadline
        return self.do(self.machine.expire(now), now)


def block(number: int) -> bytes:
    return bytes([number]) * 8


def test_lock_step_acknowledges_each_block() -> None:
    """Each block is acknowledged, and a block shorter than blksize ends the file."""
    sink = Sink()
    assert sink.data(1, b"01234567", 0.1) == wire.ack(1)
    assert sink.data(2, b"89", 0.2) == wire.ack(2)
    assert sink.stored == b"0123456789"
    assert sink.machine.state is ReceiverState.DALLYING


def test_a_block_is_acknowledged_only_after_it_is_stored() -> None:
    """While a block is being stored, a copy of it and the deadline cause no ACK."""
    sink = Sink()
    datagram = wire.DATA_HEADERS[1] + bytes(8)
    assert sink.machine.receive(datagram, 0.1) is Step.STORE
    assert sink.machine.take() == bytes(8)
    assert sink.machine.receive(datagram, 0.2) is Step.WAIT
    assert sink.machine.expire(1.0) is Step.WAIT
    assert sink.machine.stored(0.3) is Step.SEND
    assert sink.machine.datagrams == (wire.ack(1),)


def test_repeated_block_in_lock_step_is_acknowledged_again_and_not_stored() -> None:
    """If an ACK is lost, the block comes again: its ACK is repeated, and nothing is stored."""
    sink = Sink()
    sink.data(1, block(1), 0.1)
    assert sink.data(1, block(1), 0.15) == wire.ack(1)
    assert sink.data(1, block(1), 1.2) == wire.ack(1)
    assert sink.stored == block(1)


def test_a_window_is_acknowledged_after_its_last_block() -> None:
    """With windowsize 4, there is one ACK for every four blocks (RFC 7440 section 4)."""
    sink = Sink(windowsize=4)
    replies = [sink.data(number, block(number), 0.1) for number in range(1, 9)]
    assert replies == [None, None, None, wire.ack(4), None, None, None, wire.ack(8)]


def test_gap_is_reported_once() -> None:
    """The first block after a gap causes an ACK of the last block in order; others cause none."""
    sink = Sink(windowsize=8)
    sink.data(1, block(1), 0.1)
    assert sink.data(3, block(3), 0.1) == wire.ack(1)
    assert [sink.data(number, block(number), 0.1) for number in (4, 5, 6, 7, 8)] == [None] * 5
    replies = [sink.data(number, block(number), 0.2) for number in range(2, 10)]
    assert replies == [None] * 7 + [wire.ack(9)]
    assert sink.stored == b"".join(block(number) for number in range(1, 10))


def test_gap_at_the_first_block_of_a_window_is_reported() -> None:
    """If the first block of a window is missing, the ACK of the window before is repeated."""
    sink = Sink(windowsize=4)
    assert sink.data(2, block(2), 0.1) == wire.ack(0)


def test_a_second_gap_of_the_same_window_is_not_reported_at_once() -> None:
    """After the first report the sender repeats the rest of the window, so one ACK is enough."""
    sink = Sink(windowsize=8)
    sink.data(1, block(1), 0.1)
    assert sink.data(3, block(3), 0.1) == wire.ack(1)
    assert sink.data(2, block(2), 0.101) is None
    assert sink.data(4, block(4), 0.102) is None


def test_repeated_window_is_acknowledged_once() -> None:
    """If the ACK of a window is lost, the whole window comes again and causes one ACK."""
    sink = Sink(windowsize=4)
    for number in range(1, 5):
        sink.data(number, block(number), 0.1)
    replies = [sink.data(number, block(number), 0.5) for number in range(1, 5)]
    assert replies == [None, None, None, wire.ack(4)]
    assert sink.machine.octets == 32


def test_repeated_window_is_acknowledged_at_its_own_end() -> None:
    """If the ACK of a gap is lost, the sender's window ends before that of the receiver."""
    sink = Sink(windowsize=4)
    sink.data(1, block(1), 0.1)
    sink.data(2, block(2), 0.1)
    assert sink.data(4, block(4), 0.1) == wire.ack(2)
    replies = [sink.data(number, block(number), 0.5) for number in range(1, 5)]
    assert replies == [None, None, None, wire.ack(4)]


def test_blocks_duplicated_by_the_network_cause_no_ack() -> None:
    """If every block arrives twice, there is still one ACK for each whole window."""
    sink = Sink(windowsize=4)
    replies = []
    for number in range(1, 9):
        replies += [sink.data(number, block(number), 0.1), sink.data(number, block(number), 0.1)]
    assert [reply for reply in replies if reply] == [wire.ack(4), wire.ack(8)]


@pytest.mark.parametrize("number", [0, 9, 100, 40000, 65535])
def test_blocks_that_can_not_have_been_sent_are_ignored(number: int) -> None:
    """A block that is neither expected nor a repeat does not move the deadline."""
    sink = Sink(windowsize=4)
    for sent in range(1, 5):
        sink.data(sent, block(sent), 0.1)
    deadline = sink.machine.deadline
    assert sink.data(number, block(1), 0.2) is None
    assert sink.machine.deadline == deadline
    assert sink.machine.octets == 32


def test_block_0_before_block_1_is_ignored() -> None:
    """Before the first block has arrived there is no block that could be repeated."""
    assert Sink().data(0, block(0), 0.1) is None


def test_repeated_last_block_is_acknowledged_while_dallying() -> None:
    """If the last ACK is lost, it is sent again; at the deadline the receiver is done."""
    sink = Sink()
    assert sink.data(1, b"all", 0.1) == wire.ack(1)
    assert sink.data(1, b"all", 5.0) == wire.ack(1)
    assert sink.data(2, b"all", 5.0) is None
    assert sink.machine.expire(sink.machine.deadline) is Step.END
    assert sink.machine.state is ReceiverState.DONE


def test_dallying_lasts_twice_the_negotiated_timeout() -> None:
    """A client that has negotiated 20 s repeats its last block only after 20 s."""
    sink = Sink(longest=20.0)
    sink.data(1, b"", 0.1)
    assert sink.machine.deadline == pytest.approx(40.1)


def test_error_while_dallying_is_no_failure() -> None:
    """The file is already complete, so an ERROR only ends the dallying."""
    sink = Sink()
    sink.data(1, b"", 0.1)
    assert sink.machine.receive(b"\x00\x05\x00\x00\x00", 0.2) is Step.END
    assert sink.machine.state is ReceiverState.DONE


def test_error_of_the_peer_ends_the_transfer() -> None:
    """The ERROR is kept as `peer_error`, and blocks that are not stored yet are dropped."""
    sink = Sink(windowsize=4)
    sink.data(1, block(1), 0.1)
    assert sink.machine.receive(b"\x00\x05\x00\x00gone\x00", 0.2) is Step.END
    assert sink.machine.peer_error == (0, "gone")
    assert sink.machine.take() == b""


def test_error_after_the_last_block_is_ignored() -> None:
    """While the complete file is being stored, an ERROR does not stop that."""
    sink = Sink()
    assert sink.machine.receive(wire.DATA_HEADERS[1] + b"x", 0.1) is Step.STORE
    assert sink.machine.receive(b"\x00\x05\x00\x00\x00", 0.2) is Step.WAIT
    assert sink.machine.deadline == float("inf")


def test_block_larger_than_blksize_fails_the_transfer() -> None:
    """More octets than blksize are an illegal operation (error code 4)."""
    sink = Sink()
    assert sink.data(1, bytes(9), 0.1) is None
    assert sink.machine.failure is not None
    assert sink.machine.failure.code is ErrorCode.ILLEGAL_OPERATION


@pytest.mark.parametrize("datagram", [b"", b"\x00\x03\x00", b"\x01\x03\x00\x01", wire.ack(1)])
def test_other_packets_are_ignored(datagram: bytes) -> None:
    """A packet that is too short or is not DATA does not move the deadline."""
    sink = Sink()
    assert sink.machine.receive(datagram, 0.1) is Step.WAIT
    assert sink.machine.deadline == 1.0


def test_incomplete_window_is_acknowledged_after_a_timeout() -> None:
    """If the end of a window is lost, the blocks before it are stored and acknowledged."""
    sink = Sink(windowsize=4)
    sink.data(1, block(1), 0.1)
    sink.data(2, block(2), 0.1)
    assert sink.machine.deadline == pytest.approx(0.1 + 0.3)
    assert sink.expire() == wire.ack(2)
    assert sink.stored == block(1) + block(2)
    assert sink.expire() == wire.ack(2)


def test_a_peer_that_never_answers_gets_four_datagrams() -> None:
    """The number is limited because the address of the peer may be forged."""
    sink = Sink()
    count = 1
    while sink.machine.state is ReceiverState.RECEIVING:
        count += sink.expire() is not None
    assert count == 4
    assert isinstance(sink.machine.failure, TransferTimedOut)


def test_answers_to_repeated_requests_are_among_the_four_datagrams() -> None:
    """Repeating a forged request does not cause more datagrams."""
    sink = Sink()
    steps = [sink.machine.repeat(0.1) for _ in range(6)]
    assert steps.count(Step.SEND) == 3


def test_repeated_request_after_data_is_ignored() -> None:
    """A late copy of the request is not answered once DATA has arrived."""
    sink = Sink()
    sink.data(1, block(1), 0.1)
    assert sink.machine.repeat(0.2) is Step.WAIT


def test_a_silent_peer_is_given_up_after_the_idle_limit() -> None:
    """A peer that has answered is given up after ten timeouts of silence."""
    sink = Sink(longest=2.0)
    sink.data(1, block(1), 0.1)
    while sink.machine.state is ReceiverState.RECEIVING:
        at = sink.machine.deadline
        sink.expire()
    assert at == pytest.approx(20.1)
    assert sink.machine.has_answered


def test_silent_peer_is_given_up_while_a_block_is_being_stored() -> None:
    """The idle limit counts from the last packet of the peer, not from the end of the write."""
    sink = Sink()
    sink.machine.receive(wire.DATA_HEADERS[1] + bytes(8), 0.1)
    sink.machine.receive(wire.DATA_HEADERS[1] + bytes(8), 5.0)
    assert sink.machine.expire(10.1) is Step.WAIT
    assert sink.machine.expire(15.0) is Step.END


def test_expire_before_the_deadline_does_nothing() -> None:
    """A timer may fire too early, because packets move the deadline."""
    assert Sink().machine.expire(0.5) is Step.WAIT


@pytest.mark.parametrize(("rollover", "after"), [(Rollover.ZERO, 0), (Rollover.ONE, 1)])
def test_rollover_decides_which_block_follows_65535(rollover: Rollover, after: int) -> None:
    """The numbers continue at 0 or 1, and a repeated block 65535 is still recognized."""
    sink = Sink(rollover=rollover)
    for number in range(1, 65_536):
        assert sink.data(number, bytes(8), number / 1000) == wire.ack(number)
    wrong = 1 - after
    assert sink.data(wrong, bytes(8), 70.0) is None
    assert sink.data(65_535, bytes(8), 70.1) == wire.ack(65_535)
    assert sink.data(after, bytes(8), 70.2) == wire.ack(after)
    assert sink.data(after + 1, b"end", 70.3) == wire.ack(after + 1)
    assert len(sink.stored) == 8 * 65_536 + 3


def test_without_rollover_block_65535_must_be_the_last_one() -> None:
    """A full block 65,535 fails the transfer, because another block would have to follow."""
    sink = Sink(rollover=Rollover.NONE)
    for number in range(1, 65_535):
        sink.data(number, bytes(8), number / 1000)
    assert sink.data(65_535, bytes(8), 70.0) is None
    assert sink.machine.failure is not None
    fits = Sink(rollover=Rollover.NONE)
    for number in range(1, 65_535):
        fits.data(number, bytes(8), number / 1000)
    assert fits.data(65_535, b"", 70.0) == wire.ack(65_535)


def test_ack_after_block_65535_in_a_train_is_not_taken_for_data() -> None:
    """As a 32-bit integer, the header of ACK 0 is the one that follows DATA 65535."""
    sink = Sink(windowsize=10)
    machine = sink.machine
    for number in range(1, 65_535):
        if machine.receive(wire.DATA_HEADERS[number] + bytes(8), 0.0) is Step.STORE:
            machine.take()
            machine.stored(0.0)
    ack = b"\x00\x04\x00\x00" + bytes(8)
    train = wire.DATA_HEADERS[65_535] + bytes(8) + ack
    assert machine.receive_train(memoryview(train), 12, 0.0) == 1
