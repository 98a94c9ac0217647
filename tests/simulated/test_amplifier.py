"""Test what a server sends to a host whose address was forged in a request, and its effects."""

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


#: The first words of the names of the datagrams that start a transfer.
STARTING = ("read", "write")


def answers(datagram: bytes, times: int = 1, **policy: Any) -> list[bytes]:
    """Return all datagrams that the victim ever gets for `datagram`; it answers none of them."""
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
def test_victim_that_never_answers_gets_four_datagrams(forged: str, times: int) -> None:
    """A victim gets four datagrams, even if the request is repeated in its first second."""
    assert len(answers(FORGED[forged], times, retries=1000)) == 4


@pytest.mark.parametrize("forged", ["read of a file that is missing", "no file name"])
def test_refused_request_gets_one_short_error(forged: str) -> None:
    """A refused request gets one ERROR of at most 40 octets."""
    (sent,) = answers(FORGED[forged])
    assert wire.opcode_of(sent) == Opcode.ERROR
    assert len(sent) <= 40


@pytest.mark.parametrize("forged", [name for name in FORGED if ", options" in name])
def test_no_data_is_sent_before_the_oack_is_acknowledged(forged: str) -> None:
    """After a request with options, no DATA is sent before the ACK of the OACK."""
    sent = answers(FORGED[forged])
    assert len(sent) == 4
    assert {wire.opcode_of(datagram) for datagram in sent} == {Opcode.OACK}


def test_amplification_factor_is_limited(capsys: pytest.CaptureFixture[str]) -> None:
    """At most 4 times the octets of a request with options are sent, else 4 small blocks."""
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
def test_server_does_not_answer_the_packets_of_another_server(forged: str, single: bool) -> None:
    """If the victim is a server like ours, it does not answer what it gets."""
    other = MemoryNetwork(MemoryBackend(FILES, "create"), Policy(single_port=single))
    for datagram in answers(FORGED[forged]):
        other.server.received(datagram, ("192.0.2.68", 69 if single else 30000), LOCAL)
    other.clock.advance(1)
    assert other.links == []
    assert len(other.server.transfers) == 0
