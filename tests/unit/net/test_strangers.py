"""Packets of strangers: one answer a second, none to an ERROR, none in a flood."""

from __future__ import annotations

import pytest

from twisted_tftp.errors import ErrorCode
from twisted_tftp.net.strangers import MAX_REMEMBERED, Strangers
from twisted_tftp.protocol import wire


class Sent:
    """A socket that notes what is sent."""

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


def tell(strangers: Strangers, sock: Sent, address: object, datagram: bytes, now: float) -> None:
    strangers.received(sock, address, datagram, now)  # type: ignore[arg-type]


def test_stranger_is_told_error_5(sock: Sent) -> None:
    """A packet for a transfer that is not the sender's gets ERROR 5 (RFC 1350 section 4)."""
    tell(Strangers(), sock, ("192.0.2.9", 9), wire.ack(1), 0.0)
    ((datagram, address),) = sock.sent
    assert wire.parse_error(datagram)[0] == ErrorCode.UNKNOWN_TRANSFER_ID
    assert address == ("192.0.2.9", 9)


def test_stranger_is_told_once_a_second(sock: Sent) -> None:
    """More packets draw no more answers; another stranger has its own second."""
    strangers = Strangers()
    for now in (0.0, 0.5, 0.99):
        tell(strangers, sock, "a", wire.ack(1), now)
    assert len(sock.sent) == 1
    tell(strangers, sock, "b", wire.ack(1), 0.99)
    tell(strangers, sock, "a", wire.ack(1), 1.0)
    assert [address for _, address in sock.sent] == ["a", "b", "a"]
    assert strangers.counted == 5


@pytest.mark.parametrize(
    "datagram", [b"", b"\x00", b"\x00\x05\x00\x05x\x00", b"\x00\x09ab", b"\xff" * 8]
)
def test_errors_and_garbage_are_not_answered(sock: Sent, datagram: bytes) -> None:
    """Two servers that answer errors with errors never stop (CVE-2024-2169)."""
    tell(Strangers(), sock, "a", datagram, 0.0)
    assert sock.sent == []


def test_flood_of_forged_addresses_is_bounded(sock: Sent) -> None:
    """Beyond the addresses remembered nobody is answered until the second has passed."""
    strangers = Strangers()
    for number in range(MAX_REMEMBERED + 100):
        tell(strangers, sock, number, wire.ack(1), 0.0)
    assert len(sock.sent) == MAX_REMEMBERED
    tell(strangers, sock, "late", wire.ack(1), 1.0)
    assert len(sock.sent) == MAX_REMEMBERED + 1


def test_answer_that_can_not_be_sent_is_nothing(sock: Sent) -> None:
    """A firewall of our own does not break a transfer."""
    sock.fails = True
    tell(Strangers(), sock, "a", wire.ack(1), 0.0)
    assert sock.sent == []
