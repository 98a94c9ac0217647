"""The machine that sends DATA, one datagram at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twisted_tftp.errors import TransferTimedOut
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.sender import Buffer, Sender, SenderState
from twisted_tftp.transfer.timing import Timing

NEVER = float("inf")

OACK = b"\x00\x06blksize\x008\x00"


class Source:
    """A sender with its file."""

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
            timing=Timing(first=1.0, longest=longest, retries=10, adaptive=adaptive),
            rollover=rollover,
            read_ahead=read_ahead,
        )

    def do(self, step: Step, now: float) -> list[bytes]:
        """Return the datagrams that the step sends."""
        machine = self.machine
        if step is Step.READ:
            step = machine.supply(self.data[machine.offset :][: machine.length], now)
        return datagrams(machine.datagrams) if step is Step.SEND else []

    def start(self, now: float = 0.0) -> list[bytes]:
        return self.do(self.machine.start(now), now)

    def ack(self, number: int, now: float) -> list[bytes]:
        return self.do(self.machine.receive(wire.ack(number), now), now)

    def expire(self) -> list[bytes]:
        """Let the deadline come."""
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
    """Without options each ACK brings the next block of 8, and a short one ends."""
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
    """The last block is always shorter than the others (RFC 1350 section 6)."""
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


def test_oack_waits_for_ack_0() -> None:
    """The first window follows the ACK of the OACK, and no other ACK."""
    source = Source(bytes(20), oack=True, windowsize=2)
    assert source.start() == [OACK]
    assert source.ack(1, 0.1) == []
    assert source.machine.state is SenderState.OFFERING
    assert len(source.ack(0, 0.1)) == 2


def test_duplicate_ack_in_lock_step_never_causes_data() -> None:
    """Three duplicates, at any time, are three times nothing (RFC 1123 section 4.2.3.1)."""
    source = Source(bytes(100))
    source.start()
    assert len(source.ack(1, 0.1)) == 1
    assert [source.ack(1, at) for at in (0.1, 0.2, 0.9)] == [[], [], []]
    assert source.machine.retransmissions == 0


@pytest.mark.parametrize("number", [0, 3, 4, 40000, 65535])
@pytest.mark.parametrize("windowsize", [1, 2])
def test_stale_and_future_acks_change_nothing(number: int, windowsize: int) -> None:
    """An ACK of a block never sent, or acknowledged before, moves nothing."""
    source = Source(bytes(100), windowsize=windowsize)
    source.start()
    source.ack(windowsize, 0.1)
    number = number if number > 2 * windowsize or number == 0 else 60000
    before = source.machine.octets, source.machine.deadline
    assert source.ack(number, 0.2) == []
    assert (source.machine.octets, source.machine.deadline) == before


def test_gap_is_answered_at_once_with_one_window_from_the_missing_block() -> None:
    """An ACK inside the window brings one window from the first missing block (RFC 7440)."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    source.ack(0, 0.1)
    sent = source.ack(2, 0.2)
    assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [3, 4, 5, 6]
    assert source.machine.retransmissions == 2


def test_gap_at_the_first_block_is_answered_by_its_duplicate_ack() -> None:
    """In a window a duplicate ACK, an answer's time later, means that the first block is lost."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    source.ack(0, 0.1)
    sent = source.ack(0, 0.2)
    assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [1, 2, 3, 4]


def test_ack_repeated_by_the_network_is_not_taken_for_a_gap() -> None:
    """A duplicate sooner than an answer can come answers what was sent before."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    assert len(source.ack(0, 0.1)) == 4
    assert source.ack(0, 0.101) == []


def test_several_gaps_of_one_window_are_answered_once() -> None:
    """ACKs that the window before has provoked do not multiply the answer to the gap."""
    source = Source(bytes(8 * 40), windowsize=8, oack=True)
    source.start()
    source.ack(0, 0.1)
    assert len(source.ack(2, 0.2)) == 8
    assert source.ack(3, 0.201) == []
    assert source.ack(5, 0.202) == []
    assert len(source.ack(10, 0.3)) == 8


def test_ack_of_a_window_sent_before_a_retransmission_counts() -> None:
    """What was sent may be acknowledged late, also after it was sent again."""
    source = Source(bytes(8 * 20), windowsize=4, oack=True)
    source.start()
    source.ack(0, 0.1)
    source.expire()
    sent = source.ack(4, 2.0)
    assert [int.from_bytes(datagram[2:4], "big") for datagram in sent] == [5, 6, 7, 8]


def test_retransmission_is_timed_by_the_round_trip() -> None:
    """A lost block is sent again after some round trips, not after a second."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    assert source.machine.deadline == pytest.approx(0.1 + 0.3)
    assert source.expire() == [data(2, bytes(8))]
    assert source.machine.deadline == pytest.approx(0.4 + 0.6)


def test_round_trip_of_a_retransmitted_block_is_not_measured() -> None:
    """Nobody knows which of the two was answered (Karn)."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    source.expire()
    source.ack(2, 0.41)
    # Measured, the wait would be near 0.3; backed off, it stays doubled.
    assert source.machine.deadline == pytest.approx(0.41 + 0.6)


def test_a_peer_that_never_answered_gets_four_datagrams() -> None:
    """A forged address is not flooded: four in all, and then silence."""
    source = Source(bytes(100))
    sent = source.start()
    while source.machine.state is SenderState.SENDING:
        sent += source.expire()
    assert len(sent) == 4
    assert isinstance(source.machine.failure, TransferTimedOut)
    assert not source.machine.answered


def test_repeated_requests_count_into_the_four_datagrams() -> None:
    """Repeating a forged request does not draw more."""
    source = Source(bytes(100), oack=True)
    sent = source.start()
    for at in range(10):
        sent += source.do(source.machine.repeat(at / 100), at / 100)
    assert sent == [OACK] * 4


def test_repeated_request_after_an_answer_changes_nothing() -> None:
    """A late repeat of the request does not disturb the transfer."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    assert source.machine.repeat(0.2) is Step.WAIT


def test_a_silent_peer_is_given_up_after_the_patience() -> None:
    """Ten timeouts of silence end it, however many retransmissions that was."""
    source = Source(bytes(100), longest=2.0)
    source.start()
    source.ack(1, 0.1)
    count = 0
    while source.machine.state is SenderState.SENDING:
        at = source.machine.deadline
        count += len(source.expire())
    assert at == pytest.approx(20.1)
    assert count > 10


def test_any_ack_of_the_peer_renews_the_patience() -> None:
    """A client that is busy but repeats its ACK is alive."""
    source = Source(bytes(100))
    source.start()
    source.ack(1, 0.1)
    for second in range(1, 50):
        while source.machine.deadline < second:
            source.expire()
        source.ack(1, second)
    assert source.machine.state is SenderState.SENDING


def test_fixed_waits_keep_to_the_timeout() -> None:
    """With fixed retransmission each wait is the negotiated one."""
    source = Source(bytes(100), adaptive=False, longest=3.0)
    source.start()
    source.ack(1, 0.1)
    deadlines = []
    for _ in range(3):
        deadlines.append(source.machine.deadline)
        source.expire()
    assert deadlines == pytest.approx([3.1, 6.1, 9.1])


def test_deadline_that_has_not_come_does_nothing() -> None:
    """A timer that fires early, because packets moved the deadline, costs nothing."""
    source = Source(bytes(100))
    source.start()
    assert source.machine.expire(0.5) is Step.WAIT


def test_slow_source_is_not_retransmitted_into() -> None:
    """While octets are awaited from the source there is nothing to send again."""
    source = Source(bytes(100))
    source.start()
    assert source.machine.receive(wire.ack(1), 0.1) is Step.READ
    assert source.machine.deadline == pytest.approx(10.1)
    assert source.machine.receive(wire.ack(1), 5.0) is Step.WAIT
    assert source.machine.expire(10.1) is Step.WAIT
    assert source.machine.deadline == pytest.approx(15.0)
    assert source.machine.repeat(6.0) is Step.WAIT


def test_error_of_the_peer_ends_it() -> None:
    """An ERROR is kept, and nothing is to be sent to it."""
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
def test_other_packets_change_nothing(datagram: bytes) -> None:
    """Short, unknown and misplaced packets are ignored."""
    source = Source(bytes(100))
    source.start()
    assert source.machine.receive(datagram, 0.1) is Step.WAIT
    assert source.machine.deadline == 1.0


@pytest.mark.parametrize(("rollover", "after"), [(Rollover.ZERO, 0), (Rollover.ONE, 1)])
def test_block_65535_is_followed_by_the_rollover(rollover: Rollover, after: int) -> None:
    """Past 65,535 blocks the numbers go on from 0 or 1."""
    source = Source(bytes(8 * 65_540), rollover=rollover, windowsize=1)
    source.start()
    for number in range(1, 65_535):
        source.ack(number, number / 1000)
    assert source.ack(65_535, 70.0)[0][2:4] == after.to_bytes(2, "big")
    assert source.ack(65_535, 70.1) == []
    assert source.ack(after, 70.2)[0][2:4] == (after + 1).to_bytes(2, "big")


def test_without_rollover_a_file_too_long_is_refused_at_once() -> None:
    """A known size that needs more than 65,535 blocks fails before anything is sent."""
    source = Source(bytes(8 * 65_535), rollover=Rollover.NONE)
    assert source.machine.start(0.0) is Step.END
    assert source.machine.failure is not None
    assert Source(bytes(8 * 65_535 - 1), rollover=Rollover.NONE).start()


def test_without_rollover_an_unknown_size_fails_at_block_65536() -> None:
    """A source that turns out too long fails cleanly, inside a window too."""
    source = Source(bytes(8 * 65_600), rollover=Rollover.NONE, known_size=False, windowsize=64)
    count = len(source.start())
    now = 0.0
    while source.machine.state is SenderState.SENDING:
        now += 0.001
        count += len(source.ack(count, now))
    assert count == 65_535
    assert source.machine.failure is not None


def test_window_that_only_its_first_block_is_left_of_is_one_block() -> None:
    """Where the last number is the first of a window, no more than its block goes with it."""
    source = Source(bytes(8 * 65_600), rollover=Rollover.NONE, known_size=False, windowsize=2)
    sent = source.start()
    for block in range(2, 65_535, 2):
        sent = source.ack(block, float(block))
    assert sent == [b"\0\3\xff\xff" + bytes(8)]


def test_echoes_are_forgotten_once_a_window_went_well() -> None:
    """A copy sent long ago does not make a true gap look like its echo."""
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
