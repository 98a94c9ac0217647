"""The machine that receives DATA, one datagram at a time."""

from __future__ import annotations

import pytest

from twisted_tftp.errors import ErrorCode, TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
from twisted_tftp.transfer.timing import Timing

OACK = b"\x00\x06windowsize\x004\x00"


class Sink:
    """A receiver with its store."""

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
            first_reply=OACK if windowsize > 1 else wire.ack(0),
            timing=Timing(first=1.0, longest=longest, retries=10, adaptive=True),
            rollover=rollover,
        )
        self.machine.start(0.0)

    def do(self, step: Step, now: float) -> bytes | None:
        """Return the datagram that the step sends."""
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
    """Each block is acknowledged, and a short one ends the file."""
    sink = Sink()
    assert sink.data(1, b"01234567", 0.1) == wire.ack(1)
    assert sink.data(2, b"89", 0.2) == wire.ack(2)
    assert sink.stored == b"0123456789"
    assert sink.machine.state is ReceiverState.DALLYING


def test_a_block_is_acknowledged_only_once_it_is_stored() -> None:
    """While the store works nothing is acknowledged, and a repeated block is not taken twice."""
    sink = Sink()
    datagram = wire.DATA_HEADERS[1] + bytes(8)
    assert sink.machine.receive(datagram, 0.1) is Step.STORE
    assert sink.machine.take() == bytes(8)
    assert sink.machine.receive(datagram, 0.2) is Step.WAIT
    assert sink.machine.expire(1.0) is Step.WAIT
    assert sink.machine.stored(0.3) is Step.SEND
    assert sink.machine.datagrams == (wire.ack(1),)


def test_repeated_block_in_lock_step_is_acknowledged_again_and_not_stored() -> None:
    """The ACK was lost: it is sent again, the octets are not taken twice."""
    sink = Sink()
    sink.data(1, block(1), 0.1)
    assert sink.data(1, block(1), 0.15) == wire.ack(1)
    assert sink.data(1, block(1), 1.2) == wire.ack(1)
    assert sink.stored == block(1)


def test_a_window_is_acknowledged_by_its_last_block() -> None:
    """Four blocks, one ACK (RFC 7440 section 4)."""
    sink = Sink(windowsize=4)
    replies = [sink.data(number, block(number), 0.1) for number in range(1, 9)]
    assert replies == [None, None, None, wire.ack(4), None, None, None, wire.ack(8)]


def test_gap_is_told_once_with_the_last_block_in_order() -> None:
    """The first block after a hole draws an ACK of the block before it; the others nothing."""
    sink = Sink(windowsize=8)
    sink.data(1, block(1), 0.1)
    assert sink.data(3, block(3), 0.1) == wire.ack(1)
    assert [sink.data(number, block(number), 0.1) for number in (4, 5, 6, 7, 8)] == [None] * 5
    replies = [sink.data(number, block(number), 0.2) for number in range(2, 10)]
    assert replies == [None] * 7 + [wire.ack(9)]
    assert sink.stored == b"".join(block(number) for number in range(1, 10))


def test_gap_at_the_first_block_of_a_window_is_told_too() -> None:
    """The ACK of the window before is repeated."""
    sink = Sink(windowsize=4)
    assert sink.data(2, block(2), 0.1) == wire.ack(0)


def test_a_second_gap_of_the_same_window_is_not_told_at_once() -> None:
    """A window with two holes comes again whole: one ACK is enough."""
    sink = Sink(windowsize=8)
    sink.data(1, block(1), 0.1)
    assert sink.data(3, block(3), 0.1) == wire.ack(1)
    assert sink.data(2, block(2), 0.101) is None
    assert sink.data(4, block(4), 0.102) is None


def test_window_that_comes_again_is_acknowledged_once() -> None:
    """The ACK was lost: the whole window comes again and draws one ACK."""
    sink = Sink(windowsize=4)
    for number in range(1, 5):
        sink.data(number, block(number), 0.1)
    replies = [sink.data(number, block(number), 0.5) for number in range(1, 5)]
    assert replies == [None, None, None, wire.ack(4)]
    assert sink.machine.octets == 32


def test_window_that_comes_again_in_part_is_acknowledged_at_its_end() -> None:
    """The ACK of a gap was lost: the sender's window ends before ours, and is not waited past."""
    sink = Sink(windowsize=4)
    sink.data(1, block(1), 0.1)
    sink.data(2, block(2), 0.1)
    assert sink.data(4, block(4), 0.1) == wire.ack(2)
    replies = [sink.data(number, block(number), 0.5) for number in range(1, 5)]
    assert replies == [None, None, None, wire.ack(4)]


def test_block_repeated_by_the_network_draws_nothing_in_a_window() -> None:
    """A copy that comes at once shortens no window."""
    sink = Sink(windowsize=4)
    replies = []
    for number in range(1, 9):
        replies += [sink.data(number, block(number), 0.1), sink.data(number, block(number), 0.1)]
    assert [reply for reply in replies if reply] == [wire.ack(4), wire.ack(8)]


@pytest.mark.parametrize("number", [0, 9, 100, 40000, 65535])
def test_blocks_from_elsewhere_change_nothing(number: int) -> None:
    """A block that no sender can have sent by now is ignored."""
    sink = Sink(windowsize=4)
    for sent in range(1, 5):
        sink.data(sent, block(sent), 0.1)
    deadline = sink.machine.deadline
    assert sink.data(number, block(1), 0.2) is None
    assert sink.machine.deadline == deadline
    assert sink.machine.octets == 32


def test_block_0_before_block_1_is_nothing() -> None:
    """There is no block 0 to repeat before the first one."""
    assert Sink().data(0, block(0), 0.1) is None


def test_last_block_again_is_answered_while_dallying() -> None:
    """The final ACK was lost: it is sent again, until nobody can ask any more."""
    sink = Sink()
    assert sink.data(1, b"all", 0.1) == wire.ack(1)
    assert sink.data(1, b"all", 5.0) == wire.ack(1)
    assert sink.data(2, b"all", 5.0) is None
    assert sink.machine.expire(sink.machine.deadline) is Step.END
    assert sink.machine.state is ReceiverState.DONE


def test_dallying_lasts_as_long_as_the_negotiated_timeout_may_take() -> None:
    """A client that negotiated 20 s asks again after 20 s."""
    sink = Sink(longest=20.0)
    sink.data(1, b"", 0.1)
    assert sink.machine.deadline == pytest.approx(40.1)


def test_error_while_dallying_is_the_end_and_no_failure() -> None:
    """The file is complete; what the client thinks of it changes nothing."""
    sink = Sink()
    sink.data(1, b"", 0.1)
    assert sink.machine.receive(b"\x00\x05\x00\x00\x00", 0.2) is Step.END
    assert sink.machine.state is ReceiverState.DONE


def test_error_of_the_peer_ends_it() -> None:
    """An ERROR is kept, and what was not stored yet is dropped."""
    sink = Sink(windowsize=4)
    sink.data(1, block(1), 0.1)
    assert sink.machine.receive(b"\x00\x05\x00\x00gone\x00", 0.2) is Step.END
    assert sink.machine.peer_error == (0, "gone")
    assert sink.machine.take() == b""


def test_error_after_the_last_block_comes_too_late() -> None:
    """While the whole file is being put in its place an ERROR does not stop that."""
    sink = Sink()
    assert sink.machine.receive(wire.DATA_HEADERS[1] + b"x", 0.1) is Step.STORE
    assert sink.machine.receive(b"\x00\x05\x00\x00\x00", 0.2) is Step.WAIT
    assert sink.machine.deadline == float("inf")


def test_block_larger_than_agreed_is_an_error() -> None:
    """A block above blksize breaks the protocol (code 4)."""
    sink = Sink()
    assert sink.data(1, bytes(9), 0.1) is None
    assert sink.machine.failure is not None
    assert sink.machine.failure.code is ErrorCode.ILLEGAL_OPERATION


@pytest.mark.parametrize("datagram", [b"", b"\x00\x03\x00", b"\x01\x03\x00\x01", wire.ack(1)])
def test_other_packets_change_nothing(datagram: bytes) -> None:
    """Short, unknown and misplaced packets are ignored."""
    sink = Sink()
    assert sink.machine.receive(datagram, 0.1) is Step.WAIT
    assert sink.machine.deadline == 1.0


def test_lost_last_block_of_a_window_is_asked_for() -> None:
    """When the window stops short, what came is stored and acknowledged after a wait."""
    sink = Sink(windowsize=4)
    sink.data(1, block(1), 0.1)
    sink.data(2, block(2), 0.1)
    assert sink.machine.deadline == pytest.approx(0.1 + 0.3)
    assert sink.expire() == wire.ack(2)
    assert sink.stored == block(1) + block(2)
    assert sink.expire() == wire.ack(2)


def test_a_peer_that_never_answered_gets_four_datagrams() -> None:
    """A forged address is not flooded."""
    sink = Sink()
    count = 1
    while sink.machine.state is ReceiverState.RECEIVING:
        count += sink.expire() is not None
    assert count == 4
    assert isinstance(sink.machine.failure, TransferTimedOut)


def test_repeated_requests_count_into_the_four_datagrams() -> None:
    """Repeating a forged request does not draw more."""
    sink = Sink()
    steps = [sink.machine.repeat(0.1) for _ in range(6)]
    assert steps.count(Step.SEND) == 3


def test_repeated_request_after_data_changes_nothing() -> None:
    """A late repeat of the request does not disturb the transfer."""
    sink = Sink()
    sink.data(1, block(1), 0.1)
    assert sink.machine.repeat(0.2) is Step.WAIT


def test_a_silent_peer_is_given_up_after_the_patience() -> None:
    """Ten timeouts of silence end it."""
    sink = Sink(longest=2.0)
    sink.data(1, block(1), 0.1)
    while sink.machine.state is ReceiverState.RECEIVING:
        at = sink.machine.deadline
        sink.expire()
    assert at == pytest.approx(20.1)
    assert sink.machine.answered


def test_peer_silent_during_a_slow_store_is_given_up() -> None:
    """A store that hangs does not keep a session whose peer is gone."""
    sink = Sink()
    sink.machine.receive(wire.DATA_HEADERS[1] + bytes(8), 0.1)
    sink.machine.receive(wire.DATA_HEADERS[1] + bytes(8), 5.0)
    assert sink.machine.expire(10.1) is Step.WAIT
    assert sink.machine.expire(15.0) is Step.END


def test_deadline_that_has_not_come_does_nothing() -> None:
    """A timer that fires early costs nothing."""
    assert Sink().machine.expire(0.5) is Step.WAIT


@pytest.mark.parametrize(("rollover", "after"), [(Rollover.ZERO, 0), (Rollover.ONE, 1)])
def test_block_65535_is_followed_by_the_rollover(rollover: Rollover, after: int) -> None:
    """Past 65,535 blocks the numbers go on from 0 or 1, and repeats are still told apart."""
    sink = Sink(rollover=rollover)
    for number in range(1, 65_536):
        assert sink.data(number, bytes(8), number / 1000) == wire.ack(number)
    wrong = 1 - after
    assert sink.data(wrong, bytes(8), 70.0) is None
    assert sink.data(65_535, bytes(8), 70.1) == wire.ack(65_535)
    assert sink.data(after, bytes(8), 70.2) == wire.ack(after)
    assert sink.data(after + 1, b"end", 70.3) == wire.ack(after + 1)
    assert len(sink.stored) == 8 * 65_536 + 3


def test_without_rollover_block_65535_must_be_the_last() -> None:
    """A file that would need block 65,536 fails cleanly."""
    sink = Sink(rollover=Rollover.NONE)
    for number in range(1, 65_535):
        sink.data(number, bytes(8), number / 1000)
    assert sink.data(65_535, bytes(8), 70.0) is None
    assert sink.machine.failure is not None
    fits = Sink(rollover=Rollover.NONE)
    for number in range(1, 65_535):
        fits.data(number, bytes(8), number / 1000)
    assert fits.data(65_535, b"", 70.0) == wire.ack(65_535)


def test_what_follows_block_65535_in_a_train_must_be_data() -> None:
    """At the rollover an ACK of a block's length, whose header counts on, is not taken for one."""
    sink = Sink(windowsize=10)
    machine = sink.machine
    for number in range(1, 65_535):
        if machine.receive(wire.DATA_HEADERS[number] + bytes(8), 0.0) is Step.STORE:
            machine.take()
            machine.stored(0.0)
    ack = b"\x00\x04\x00\x00" + bytes(8)
    train = wire.DATA_HEADERS[65_535] + bytes(8) + ack
    assert machine.receive_train(memoryview(train), 12, 0.0) == 1
