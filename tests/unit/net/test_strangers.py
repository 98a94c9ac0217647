"""Tests of packets from strangers: one ERROR a second, none for an ERROR, none in a flood."""

from __future__ import annotations

import pytest

from twisted_tftp.errors import ErrorCode
from twisted_tftp.net.strangers import MAX_REMEMBERED, StrangerResponder
from twisted_tftp.protocol import wire


class Sent:
    """A socket that records what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, object]] = []
        self.fails = False

    def sendto(self, datagram: bytes, address: object) -> None:
        if self.fails:
            raise OSError
        self.sent.append((datagram, address))


@pytest.fixture
def sock() -> Sent:
    """Return a socket."""
    return Sent()


def tell(
    responder: StrangerResponder, sock: Sent, address: object, datagram: bytes, now: float
) -> None:
    responder.answer(sock, address, datagram, now)  # type: ignore[arg-type]


def test_stranger_gets_error_5(sock: Sent) -> None:
    """A packet from another address than the peer's gets ERROR 5 (RFC 1350 section 4)."""
    tell(StrangerResponder(), sock, ("192.0.2.9", 9), wire.ack(1), 0.0)
    ((datagram, address),) = sock.sent
    assert wire.parse_error(datagram)[0] == ErrorCode.UNKNOWN_TRANSFER_ID
    assert address == ("192.0.2.9", 9)


def test_stranger_gets_one_answer_a_second(sock: Sent) -> None:
    """Each stranger has its own limit."""
    responder = StrangerResponder()
    for now in (0.0, 0.5, 0.99):
        tell(responder, sock, "a", wire.ack(1), now)
    assert len(sock.sent) == 1
    tell(responder, sock, "b", wire.ack(1), 0.99)
    tell(responder, sock, "a", wire.ack(1), 1.0)
    assert [address for _, address in sock.sent] == ["a", "b", "a"]
    assert responder.packet_count == 5


@pytest.mark.parametrize(
    "datagram", [b"", b"\x00", b"\x00\x05\x00\x05x\x00", b"\x00\x09ab", b"\xff" * 8]
)
def test_errors_and_garbage_are_not_answered(sock: Sent, datagram: bytes) -> None:
    """Two servers that answer errors with errors never stop (CVE-2024-2169)."""
    tell(StrangerResponder(), sock, "a", datagram, 0.0)
    assert sock.sent == []


def test_number_of_strangers_that_are_answered_is_bounded(sock: Sent) -> None:
    """When the table is full, no other stranger is answered for a second."""
    responder = StrangerResponder()
    for number in range(MAX_REMEMBERED + 100):
        tell(responder, sock, number, wire.ack(1), 0.0)
    assert len(sock.sent) == MAX_REMEMBERED
    tell(responder, sock, "late", wire.ack(1), 1.0)
    assert len(sock.sent) == MAX_REMEMBERED + 1


def test_answer_that_can_not_be_sent_is_ignored(sock: Sent) -> None:
    """A local firewall does not make a transfer fail."""
    sock.fails = True
    tell(StrangerResponder(), sock, "a", wire.ack(1), 0.0)
    assert sock.sent == []


def test_further_limit_of_the_answers_is_asked_last(sock: Sent) -> None:
    """It gets the host and the size of the ERROR; a stranger without an answer may ask again."""
    asked: list[tuple[str, int]] = []

    def may_answer(host: str, size: int) -> bool:
        asked.append((host, size))
        return len(asked) > 1

    responder = StrangerResponder(may_answer)
    for now in (0.0, 0.1, 0.2):
        tell(responder, sock, ("192.0.2.9", 9), wire.ack(1), now)
    ((datagram, _),) = sock.sent
    assert asked == [("192.0.2.9", len(datagram))] * 2
