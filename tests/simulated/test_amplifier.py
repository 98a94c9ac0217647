"""Requests with forged addresses: what is sent to who never asked, and what that could cause."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.forged_requests import FORGED
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.testing import MemoryNetwork

FILES = {"file": bytes(100_000), "small": b"x", "empty": b""}

VICTIM = ("192.0.2.1", 4000)
LOCAL = ("192.0.2.69", 69)


#: Those of which a transfer comes, by the first word of their row.
STARTING = ("read", "write")


def answers(datagram: bytes, times: int = 1, **policy: Any) -> list[bytes]:
    """Return all that is ever sent to an address from which `datagram` comes, and nothing else."""
    net = MemoryNetwork(MemoryBackend(FILES, "create"), Policy(**policy))
    for _ in range(times):
        net.server.received(datagram, VICTIM, LOCAL)
        net.clock.advance(0.01)
    for _ in range(3000):
        net.clock.advance(0.1)
    assert len(net.server.transfers) == 0
    return [sent for link in net.links for sent in link.sent]


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize("forged", [name for name in FORGED if name.split(",")[0] in STARTING])
def test_address_that_never_answers_gets_four_datagrams(forged: str, times: int) -> None:
    """A victim gets no more of one request, however often it is repeated in its first second."""
    assert len(answers(FORGED[forged], times, retries=1000)) == 4


@pytest.mark.parametrize("forged", ["read of a file that is missing", "no file name"])
def test_address_whose_request_is_refused_gets_one_datagram(forged: str) -> None:
    """An ERROR is sent once for each request, and is short."""
    (sent,) = answers(FORGED[forged])
    assert wire.opcode_of(sent) == Opcode.ERROR
    assert len(sent) <= 40


@pytest.mark.parametrize("forged", [name for name in FORGED if ", options" in name])
def test_nothing_larger_than_the_oack_is_sent_before_its_ack(forged: str) -> None:
    """Where options were asked no block of the file goes to who has not answered."""
    sent = answers(FORGED[forged])
    assert len(sent) == 4
    assert {wire.opcode_of(datagram) for datagram in sent} == {Opcode.OACK}


def test_amplification_is_what_the_docs_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Octets sent over octets received: at most 4 with options, four small blocks without."""
    rows = []
    for name, datagram in FORGED.items():
        sent = answers(datagram)
        octets = sum(map(len, sent))
        rows.append((name, len(datagram), len(sent), octets, octets / len(datagram)))
    with capsys.disabled():
        print("\n\nforged request                      octets   sent  octets   ratio")
        for name, received, count, octets, ratio in rows:
            print(f"{name:<35} {received:6} {count:6} {octets:7} {ratio:7.1f}")
    for name, received, _, octets, _ in rows:
        if ", options" in name or "largest" in name:
            assert octets <= 4 * received
        else:
            assert octets <= 4 * 516


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("forged", FORGED)
def test_reply_to_another_server_is_not_answered_by_it(forged: str, single: bool) -> None:
    """What we send to a server whose address was forged, a server like us takes in silence."""
    other = MemoryNetwork(MemoryBackend(FILES, "create"), Policy(single_port=single))
    for datagram in answers(FORGED[forged]):
        other.server.received(datagram, ("192.0.2.68", 69 if single else 30000), LOCAL)
    other.clock.advance(1)
    assert other.links == []
    assert len(other.server.transfers) == 0
