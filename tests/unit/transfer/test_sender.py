"""Tests of the machine that sends DATA, one datagram at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twisted_tftp.errors import TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.sender import Buffer, Sender
from twisted_tftp.transfer.states import SenderState
from twisted_tftp.transfer.timing import Timing

#: A deadline that never comes, in seconds.
NEVER = float("inf")

#: The OACK of blocks of eight octets.
OACK = b"\x00\x06blksize\x008\x00"


class Source:
    """A sender, and the file that it sends."""

    def __init__(
        self,
        data: bytes,
        *,
        blksize: int = 8,
        windowsize: int = 1,
        oack: bool = False,
        known_size: bool = True,
        rollover: Rollover = Rollover.ZERO,
        longest: float = 1.0,
        adaptive: bool = True,
        read_ahead: int = 0,
    ) -> None:
        self.data = data
        self.machine = Sender(
            blksize=blksize,
            windowsize=windowsize,
            size=len(data) if known_size else None,
            oack=OACK if oack else None,
            timing=Timing(first=1.0, max_rto=longest, retries=10, adaptive=adaptive),
            rollover=rollover,
            read_ahead=read_ahead,
        )

    def do(self, step: Step, now: float) -> list[bytes]:
        """Do `step`; return the datagrams that it sends."""
        machine = self.machine
        if step is Step.READ:
            step = machine.supply(self.data[machine.offset :][: machine.length], now)
        return datagrams(machine.datagrams) if step is Step.SEND else []

    def start(self, now: float = 0.0) -> list[bytes]:
        return self.do(self.machine.start(now), now)

    def ack(self, number: int, now: float) -> list[bytes]:
        return self.do(self.machine.receive(wire.ack(number), now), now)

    def expire(self) -> list[bytes]:
        """Handle the deadline; return the datagrams that are sent."""
        now = self.machine.deadline
        return self.do(self.machine.expire(now), now)


def datagrams(burst: Sequence[Buffer]) -> list[bytes]:
    """Return the datagrams of a `Step.SEND`: one, or pairs of a header and octets."""
    if len(burst) == 1:
        return [bytes(burst[0])]
    return [
        bytes(header) + bytes(octets)
        for header, octets in zip(burst[::2], burst[1::2], strict=True)
    ]


def data(number: int, octets: bytes) -> bytes:
    return wire.DATA_HEADERS[number] + octets


def test_lock_step_sends_a_block_for_each_ack() -> None:
    """Without options each ACK causes the next block, and a short block ends the file."""
    source = Source(b"0123456789")
    assert source.start() == [data(1, b"01234567")]
    assert source.ack(1, 0.1) == [data(2, b"89")]
    assert source.ack(2, 0.2) == []
    assert source.machine.state is SenderState.DONE
    assert source.machine.octets == 10
    assert source.machine.deadline == NEVER


@pytest.mark.parametrize("known_size", [True, False])
@pytest.mark.parametrize("windowsize", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 7, 8, 9, 16, 24])
def test_a_full_last_block_is_followed_by_an_empty_one(
    size: int, windowsize: int, known_size: bool
) -> None:
    """The last block is always shorter than blksize (RFC 1350 section 6)."""
    source = Source(bytes(range(size)), windowsize=windowsize, known_size=known_size)
    sent = source.start()
    count, now = 0, 0.0
    seen = []
    while source.machine.state is SenderState.SENDING:
        seen += sent
        count += len(sent)
        now += 0.01
        sent = source.ack(count, now)
    assert b"".join(datagram[4:] for datagram in seen) == source.data
    assert len(seen) == size // 8 + 1
    assert len(seen[-1]) == 4 + size % 8
    assert source.machine.octets == size


def test_first_window_is_sent_after_ack_0() -> None:
    """Only ACK 0 acknowledges the OACK; other ACKs are ignored."""
    source = Source(bytes(20), oack=True, windowsize=2)
    assert source.start() == [OACK]
    assert source.ack(1, 0.1) == []
    assert source.machine.state is SenderState.OFFERING
    assert len(source.ack(0, 0.1)) == 2


def test_duplicate_ack_in_lock_step_never_causes_data() -> None:
    """Duplicates of an ACK cause no DATA at any time (RFC 1123 section 4.2.3.1)."""
    source = Source(bytes(100))
    source.start()
    assert len(source.ack(1, 0.1)) == 1
    assert [source.ack(1, at) for at in (0.1, 0.2, 0.9)] == [[], [], []]
    assert source.machine.retransmissions == 0


@pytest.mark.parametrize("number", [0, 3, 4, 40000, 65535])
@pytest.mark.parametrize("windowsize", [1, 2])
def test_acks_outside_the_window_are_ignored(number: int, windowsize: int) -> None:
    """An ACK of a block that was never sent, or was acknowledged before, changes nothing."""
    source = Source(bytes(100), windowsize=windowsize)
    source.start()
    source.ack(windowsize, 0.1)
    number = number if number > 2 * windowsize or number == 0 else 60000
    before = source.machine.octets, source.machine.deadline
    assert source.ack(number, 0.2) == []
    assert (source.machine.octets, source.machine.deadline) == before


def test_gap_is_answered_at_once_with_one_window_from_the_missing_block() -> None:
    """An ACK inside the window causes one window from the first missing block on (RFC 7440)."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    source.ack(0, 0.1)
    sent = source.ack(2, 0.2)
    assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [3, 4, 5, 6]
    assert source.machine.retransmissions == 2


def test_duplicate_ack_reports_a_gap_at_the_first_block_of_a_window() -> None:
    """A duplicate ACK that comes a round trip after the window causes the window again."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    source.ack(0, 0.1)
    sent = source.ack(0, 0.2)
    assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [1, 2, 3, 4]


def test_ack_duplicated_by_the_network_is_not_taken_for_a_gap() -> None:
    """A duplicate ACK that comes sooner than a round trip can't answer the last window."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    assert len(source.ack(0, 0.1)) == 4
    assert source.ack(0, 0.101) == []


def test_several_gaps_of_one_window_are_answered_once() -> None:
    """Further ACKs that the window with the gaps has caused do not cause more windows."""
    source = Source(bytes(8 * 40), windowsize=8, oack=True)
    source.start()
    source.ack(0, 0.1)
    assert len(source.ack(2, 0.2)) == 8
    assert source.ack(3, 0.201) == []
    assert source.ack(5, 0.202) == []
    assert len(source.ack(10, 0.3)) == 8


def test_late_ack_of_a_window_is_accepted_after_its_retransmission() -> None:
    """An ACK may answer the first copy of a window after the second copy was sent."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    source.ack(0, 0.1)
    source.expire()
    sent = source.ack(4, 2.0)
    assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [5, 6, 7, 8]


def test_retransmission_timeout_follows_the_round_trip_time() -> None:
    """After a round trip of 0.1 s a lost block is sent again after 0.3 s, and not after 1 s."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    assert source.machine.deadline == pytest.approx(0.1 + 0.3)
    assert source.expire() == [data(2, bytes(8))]
    assert source.machine.deadline == pytest.approx(0.4 + 0.6)


def test_round_trip_of_a_retransmitted_block_is_not_measured() -> None:
    """It is not known which copy of the block the ACK answers (Karn's rule)."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    source.expire()
    source.ack(2, 0.41)
    # If it were measured, the timeout would be about 0.3 s again. It stays doubled.
    assert source.machine.deadline == pytest.approx(0.41 + 0.6)


def test_a_peer_that_never_answers_gets_four_datagrams() -> None:
    """The number is limited because the address of the peer may be forged."""
    source = Source(bytes(100))
    sent = source.start()
    while source.machine.state is SenderState.SENDING:
        sent += source.expire()
    assert len(sent) == 4
    assert isinstance(source.machine.failure, TransferTimedOut)
    assert not source.machine.has_answered


def test_answers_to_repeated_requests_are_among_the_four_datagrams() -> None:
    """Repeating a forged request does not cause more datagrams."""
    source = Source(bytes(100), oack=True)
    sent = source.start()
    for at in range(10):
        sent += source.do(source.machine.repeat(at / 100), at / 100)
    assert sent == [OACK] * 4


def test_repeated_request_after_an_ack_is_ignored() -> None:
    """A late copy of the request is not answered once an ACK has arrived."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    assert source.machine.repeat(0.2) is Step.WAIT


def test_a_silent_peer_is_given_up_after_the_idle_limit() -> None:
    """A peer that has answered is given up after ten timeouts of silence."""
    source = Source(bytes(100), longest=2.0)
    source.start()
    source.ack(1, 0.1)
    count = 0
    while source.machine.state is SenderState.SENDING:
        at = source.machine.deadline
        count += len(source.expire())
    assert at == pytest.approx(20.1)
    assert count > 10


def test_any_ack_of_the_peer_restarts_the_idle_limit() -> None:
    """A peer that is busy and only repeats its last ACK is not given up."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    for second in range(1, 50):
        while source.machine.deadline < second:
            source.expire()
        source.ack(1, second)
    assert source.machine.state is SenderState.SENDING


def test_fixed_retransmission_waits_the_negotiated_timeout() -> None:
    """If the timeouts are not adaptive, each of them is the negotiated one."""
    source = Source(bytes(100), adaptive=False, longest=3.0)
    source.start()
    source.ack(1, 0.1)
    deadlines = []
    for _ in range(3):
        deadlines.append(source.machine.deadline)
        source.expire()
    assert deadlines == pytest.approx([3.1, 6.1, 9.1])


def test_expire_before_the_deadline_does_nothing() -> None:
    """A timer may fire too early, because packets move the deadline."""
    source = Source(bytes(100))
    source.start()
    assert source.machine.expire(0.5) is Step.WAIT


def test_nothing_is_sent_again_while_the_file_is_read() -> None:
    """Until the octets are there, the only deadline is that of giving up the peer."""
    source = Source(bytes(100))
    source.start()
    assert source.machine.receive(wire.ack(1), 0.1) is Step.READ
    assert source.machine.deadline == pytest.approx(10.1)
    assert source.machine.receive(wire.ack(1), 5.0) is Step.WAIT
    assert source.machine.expire(10.1) is Step.WAIT
    assert source.machine.deadline == pytest.approx(15.0)
    assert source.machine.repeat(6.0) is Step.WAIT


def test_error_of_the_peer_ends_the_transfer() -> None:
    """The ERROR is kept as `peer_error`, and there is no failure to send to the peer."""
    source = Source(bytes(100), oack=True)
    source.start()
    assert source.machine.receive(b"\x00\x05\x00\x08no\x00", 0.1) is Step.END
    assert source.machine.peer_error == (8, "no")
    assert source.machine.failure is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x00",
        b"\x00\x04",
        b"\x00\x04\x00",
        b"\x01\x04\x00\x01",
        b"\x00\x03\x00\x01x",
        b"\x00\x06a\x001\x00",
        b"\x00\x09\x00\x00",
    ],
)
def test_other_packets_are_ignored(datagram: bytes) -> None:
    """A packet that is too short or is neither ACK nor ERROR does not move the deadline."""
    source = Source(bytes(100))
    source.start()
    assert source.machine.receive(datagram, 0.1) is Step.WAIT
    assert source.machine.deadline == 1.0


@pytest.mark.parametrize(("rollover", "after"), [(Rollover.ZERO, 0), (Rollover.ONE, 1)])
def test_rollover_decides_which_block_follows_65535(rollover: Rollover, after: int) -> None:
    """The numbers continue at 0 or 1, and a duplicate ACK of block 65535 is ignored."""
    source = Source(bytes(8 * 65_540), rollover=rollover, windowsize=1)
    source.start()
    for number in range(1, 65_535):
        source.ack(number, number / 1000)
    assert source.ack(65_535, 70.0)[0][2:4] == after.to_bytes(2, "big")
    assert source.ack(65_535, 70.1) == []
    assert source.ack(after, 70.2)[0][2:4] == (after + 1).to_bytes(2, "big")


def test_without_rollover_a_file_too_long_is_refused_at_once() -> None:
    """A known size of more than 65,535 blocks fails before anything is sent."""
    source = Source(bytes(8 * 65_535), rollover=Rollover.NONE)
    assert source.machine.start(0.0) is Step.END
    assert source.machine.failure is not None
    assert Source(bytes(8 * 65_535 - 1), rollover=Rollover.NONE).start()


def test_without_rollover_an_unknown_size_fails_at_block_65536() -> None:
    """A file that turns out to be too long fails after block 65,535, even inside a window."""
    source = Source(bytes(8 * 65_600), rollover=Rollover.NONE, known_size=False, windowsize=64)
    count = len(source.start())
    now = 0.0
    while source.machine.state is SenderState.SENDING:
        now += 0.001
        count += len(source.ack(count, now))
    assert count == 65_535
    assert source.machine.failure is not None


def test_last_window_without_rollover_ends_at_block_65535() -> None:
    """If block 65,535 is the first one of a window, the window has only that block."""
    source = Source(bytes(8 * 65_600), rollover=Rollover.NONE, known_size=False, windowsize=2)
    sent = source.start()
    for block in range(2, 65_535, 2):
        sent = source.ack(block, float(block))
    assert sent == [b"\0\3\xff\xff" + bytes(8)]


def test_duplicate_ack_long_after_a_retransmission_reports_a_gap() -> None:
    """After later windows were acknowledged, a duplicate ACK can't come from the old copy."""
    for read_ahead in (0, 8 * 4 * 100):
        source = Source(bytes(8 * 400), windowsize=4, oack=True, read_ahead=read_ahead)
        source.start()
        source.ack(0, 0.1)
        source.expire()
        now = 1.0
        for number in range(4, 20, 4):
            now += 0.1
            assert len(source.ack(number, now)) == 4
        sent = source.ack(16, now + 0.1)
        assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [17, 18, 19, 20]


def test_only_the_first_window_is_read_before_the_peer_has_acknowledged_it() -> None:
    """Thousands of clients may wait or be forged; each would hold a full buffer."""
    source = Source(bytes(8 * 600), oack=True, read_ahead=8 * 100)
    source.start()
    source.ack(0, 0.1)
    assert source.machine.length == 8
    lengths = []
    for number in range(1, 200):
        source.ack(number, 0.1 + number / 100)
        lengths.append(source.machine.length)
    assert sorted(set(lengths)) == [128, 800]
