"""Tests of the machine that sends a request until it is answered."""

from __future__ import annotations

import pytest

from twisted_tftp.errors import TransferTimedOut
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.states import AskerState
from twisted_tftp.transfer.timing import Timing

#: An RRQ without options.
REQUEST = b"\0\1file\0octet\0"


def asker(reading: bool = True, retries: int = 3, longest: float = 4.0) -> Asker:
    timing = Timing(first=1.0, max_rto=longest, retries=retries, adaptive=True)
    return Asker(REQUEST, reading, timing)


@pytest.mark.parametrize(
    ("reading", "answer"),
    [
        (True, wire.DATA_HEADERS[1] + b"octets"),
        (True, wire.DATA_HEADERS[1]),
        (True, wire.oack([("blksize", "1428")])),
        (False, wire.ack(0)),
        (False, wire.oack([("blksize", "1428")])),
    ],
)
def test_first_answer_is_kept(reading: bool, answer: bytes) -> None:
    """An OACK, DATA 1 to a read or ACK 0 to a write is kept, and the machine ends."""
    machine = asker(reading)
    assert machine.start(0.0) is Step.SEND
    assert machine.datagrams == (REQUEST,)
    assert machine.receive(memoryview(answer), 0.25) is Step.END
    assert machine.state is AskerState.ANSWERED
    assert machine.answer == answer
    assert machine.round_trip == 0.25
    assert machine.receive(answer, 0.3) is Step.WAIT


@pytest.mark.parametrize(
    ("reading", "datagram"),
    [
        (True, wire.ack(0)),
        (True, wire.DATA_HEADERS[2] + b"octets"),
        (False, wire.DATA_HEADERS[1] + b"octets"),
        (False, wire.ack(1)),
        (True, b""),
        (True, b"\0"),
        (True, REQUEST),
        (True, b"\0\7"),
    ],
)
def test_datagram_that_answers_no_request_is_ignored(reading: bool, datagram: bytes) -> None:
    """The machine keeps waiting for a valid answer."""
    machine = asker(reading)
    machine.start(0.0)
    assert machine.receive(datagram, 0.1) is Step.WAIT
    assert machine.state is AskerState.ASKING


def test_error_ends_the_machine() -> None:
    """An ERROR is kept as `peer_error`, and there is no further deadline."""
    machine = asker()
    machine.start(0.0)
    assert machine.receive(b"\0\5\0\1no such file\0", 0.1) is Step.END
    assert machine.state is AskerState.FAILED
    assert machine.peer_error == (1, "no such file")
    assert machine.deadline == float("inf")


def test_request_is_repeated_until_it_times_out() -> None:
    """The wait doubles up to the longest one; after `retries` times that, the machine gives up."""
    machine = asker()
    machine.start(0.0)
    asked = [0.0]
    while True:
        now = machine.deadline
        assert machine.expire(now - 0.001) is Step.WAIT
        step = machine.expire(now)
        if step is Step.END:
            break
        assert step is Step.SEND
        asked.append(now)
    assert asked == [0.0, 1.0, 3.0, 7.0, 11.0]
    assert now == 12.0
    assert isinstance(machine.failure, TransferTimedOut)
    assert machine.retransmissions == 4


def test_round_trip_of_a_repeated_request_is_not_measured() -> None:
    """The answer may belong to either copy of the request (Karn's rule)."""
    machine = asker()
    machine.start(0.0)
    machine.expire(1.0)
    machine.receive(wire.ack(0), 1.1)
    machine.receive(wire.DATA_HEADERS[1], 1.2)
    assert machine.state is AskerState.ANSWERED
    assert machine.round_trip is None


def test_refused_request_fails_after_the_given_number_of_tries() -> None:
    """Each request that ICMP reports as refused counts; the last one ends the wait at once."""
    machine = asker(longest=1.0, retries=50)
    now = 0.0
    machine.start(now)
    for _ in range(2):
        machine.note_unreachable(now, more_tries=2)
        assert machine.deadline > now
        now = machine.deadline
        assert machine.expire(now) is Step.SEND
    machine.note_unreachable(now, more_tries=2)
    assert machine.deadline == now
    assert machine.expire(now) is Step.END
    assert isinstance(machine.failure, TransferTimedOut)


def test_patience_replaces_the_idle_limit() -> None:
    """With a patience, the request fails after that time, whatever the timeouts are."""
    timing = Timing(first=1.0, max_rto=1.0, retries=50, adaptive=True)
    machine = Asker(REQUEST, True, timing, patience=2.5)
    machine.start(0.0)
    assert [machine.expire(now) for now in (1.0, 2.0, 2.4)] == [Step.SEND, Step.SEND, Step.WAIT]
    assert machine.expire(2.5) is Step.END
