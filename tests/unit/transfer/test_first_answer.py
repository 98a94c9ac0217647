"""Tests of the decision whether an answer belongs to the client's request."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_tftp.protocol import wire
from twisted_tftp.transfer.first_answer import (
    DOUBT_WITHOUT_ROUND_TRIP,
    MAX_DOUBT,
    MIN_DOUBT,
    FirstAnswer,
    KnownServer,
    Standing,
    XidSupport,
)

#: The xid of the request.
XID = "0123abcd"

#: An OACK with the xid of the request.
OURS = wire.oack([("blksize", "1000"), ("xid", XID)])

#: An OACK with another xid: the answer to another request.
FOREIGN = wire.oack([("blksize", "1000"), ("xid", "ffffffff")])

#: An OACK without an xid.
WITHOUT = wire.oack([("blksize", "1000")])

#: Block 1: the answer to an RRQ if no option is granted.
BLOCK = wire.DATA_HEADERS[1] + b"x"

#: Block 1 with other octets.
OTHER_BLOCK = wire.DATA_HEADERS[1] + b"y"

#: ERROR 1: file not found.
ERROR = b"\0\5\0\1no\0"

#: A server about which nothing is known.
UNKNOWN = KnownServer()

#: A server that ignores the option `xid`.
NOT_SUPPORTED = KnownServer(XidSupport.NOT_SUPPORTED)

#: ERROR 6: file already exists.
EXISTS = b"\0\5\0\6no\0"


def answer(xid: str | None = XID, reading: bool = True, has_options: bool = True) -> FirstAnswer:
    return FirstAnswer(is_read=reading, has_options=has_options, xid=xid)


@pytest.mark.parametrize(
    ("datagram", "known", "unknown"),
    [
        (OURS, False, False),
        (FOREIGN, True, True),
        (WITHOUT, True, False),
        (BLOCK, True, False),
        (ERROR, False, False),
        (b"\0\6broken", True, False),
        (b"", False, False),
    ],
)
def test_answer_with_another_xid_or_none_is_foreign(
    datagram: bytes, known: bool, unknown: bool
) -> None:
    """An answer without an xid is foreign only if the server is known to grant one."""
    assert answer().is_foreign(datagram, knows_xid=True) == known
    assert answer().is_foreign(datagram, knows_xid=False) == unknown
    assert answer().is_foreign(memoryview(datagram), knows_xid=True) == known


def test_answer_with_an_xid_is_foreign_to_a_request_without_one() -> None:
    """If the request has no xid, an answer without an xid is not foreign."""
    plain = answer(xid=None)
    assert plain.is_foreign(FOREIGN, knows_xid=True)
    for datagram in (WITHOUT, BLOCK):
        assert not plain.is_foreign(datagram, knows_xid=True)


@pytest.mark.parametrize(
    ("first", "datagram", "knows_no_xid", "standing"),
    [
        (answer(), OURS, False, Standing.PROVEN),
        (answer(), WITHOUT, False, Standing.XID_MISSING),
        (answer(), WITHOUT, True, Standing.AS_EXPECTED),
        (answer(), BLOCK, True, Standing.OPTIONS_MISSING),
        (answer(xid=None), WITHOUT, False, Standing.AS_EXPECTED),
        (answer(xid=None), BLOCK, False, Standing.OPTIONS_MISSING),
        (answer(xid=None, has_options=False), BLOCK, False, Standing.AS_EXPECTED),
        (answer(reading=False), wire.ack(0), False, Standing.OPTIONS_MISSING),
    ],
)
def test_standing_depends_on_the_request_the_server_and_the_answer(
    first: FirstAnswer, datagram: bytes, knows_no_xid: bool, standing: Standing
) -> None:
    """After `settle` the standing is SETTLED, unless the answer is PROVEN."""
    first.accept(datagram, 1.0, NOT_SUPPORTED if knows_no_xid else UNKNOWN)
    assert first.standing is standing
    first.settle()
    assert first.standing is (Standing.PROVEN if datagram is OURS else Standing.SETTLED)


@pytest.mark.parametrize(
    ("round_trip", "doubt"),
    [(None, DOUBT_WITHOUT_ROUND_TRIP), (0.001, MIN_DOUBT), (0.1, 0.2), (9.0, MAX_DOUBT)],
)
def test_time_in_doubt_is_twice_the_round_trip_time(
    round_trip: float | None, doubt: float
) -> None:
    """The time in doubt has a lower and an upper limit, and a default."""
    first = answer()
    first.accept(BLOCK, 10.0, KnownServer(round_trip=round_trip))
    assert first.settled_at == 10.0 + doubt


def contradicts(first: FirstAnswer, datagram: bytes, now: float = 0.0, **how: Any) -> bool:
    how = {"same_port": False, "asked_twice": False, **how}
    return first.is_contradicted(memoryview(datagram), now, **how)


def test_proven_answer_is_not_contradicted() -> None:
    """There is no contradiction before the first answer, or to an OACK with the request's xid."""
    first = answer()
    assert not contradicts(first, BLOCK)
    first.accept(OURS, 0.0, UNKNOWN)
    for datagram in (FOREIGN, WITHOUT, BLOCK, ERROR):
        assert not contradicts(first, datagram)


def test_different_answer_contradicts_one_without_an_xid() -> None:
    """A repeated or foreign answer does not; after `settle` only an OACK with the xid does."""
    first = answer()
    first.accept(BLOCK, 0.0, UNKNOWN)
    for datagram in (OURS, WITHOUT, OTHER_BLOCK, ERROR):
        assert contradicts(first, datagram)
    for datagram in (BLOCK, FOREIGN, wire.ack(1), wire.DATA_HEADERS[2] + b"x", b""):
        assert not contradicts(first, datagram)
    first.settle()
    for datagram in (WITHOUT, OTHER_BLOCK, ERROR):
        assert not contradicts(first, datagram)
    assert contradicts(first, OURS), "a proof is never late"


def test_only_an_oack_with_the_xid_is_proof() -> None:
    """If the request has no xid, no answer is a proof."""
    assert answer().has_request_xid(OURS)
    for datagram in (FOREIGN, WITHOUT, BLOCK, ERROR, b"\0\6broken"):
        assert not answer().has_request_xid(datagram)
    assert not answer(xid=None).has_request_xid(OURS)


def test_late_error_of_a_second_transfer_is_no_contradiction() -> None:
    """If the request was sent twice, the server may start two transfers, and one fails later."""
    first = answer()
    first.accept(BLOCK, 0.0, UNKNOWN)
    assert contradicts(first, ERROR, now=100.0)
    assert contradicts(first, ERROR, asked_twice=True)
    assert not contradicts(first, ERROR, now=first.settled_at, asked_twice=True)


def test_packets_of_the_transfer_are_no_contradiction() -> None:
    """After an OACK without an xid, a block or an ERROR from its port belongs to its transfer."""
    first = answer()
    first.accept(WITHOUT, 0.0, UNKNOWN)
    assert not contradicts(first, BLOCK, same_port=True)
    assert not contradicts(first, ERROR, same_port=True)
    assert contradicts(first, OURS, same_port=True)
    blocks = answer()
    blocks.accept(BLOCK, 0.0, UNKNOWN)
    assert contradicts(blocks, OTHER_BLOCK, same_port=True)


def test_second_copy_of_a_wrq_may_find_that_the_file_exists() -> None:
    """If the WRQ was sent twice, ERROR 6 is no contradiction: the first copy created the file."""
    first = answer(reading=False)
    first.accept(wire.ack(0), 0.0, UNKNOWN)
    assert contradicts(first, EXISTS)
    assert not contradicts(first, EXISTS, asked_twice=True)
    assert contradicts(first, ERROR, asked_twice=True)
    assert not contradicts(first, wire.ack(0))
    other = answer(reading=False)
    other.accept(WITHOUT, 0.0, UNKNOWN)
    assert contradicts(other, wire.ack(0))
    assert not contradicts(other, wire.ack(0), same_port=True)
