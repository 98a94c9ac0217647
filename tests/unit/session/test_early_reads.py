"""Tests of the read of a small file before the client has answered the OACK."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from twisted_tftp.context import Outcome
from twisted_tftp.errors import FileNotFound
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.session import base
from twisted_tftp.session.state import SessionState
from twisted_tftp.testing import MemoryLink, MemoryNetwork

#: The content of the file: three blocks.
FILE = bytes(range(256)) * 4 + b"end"

OPTIONS = {"blksize": "512"}


class Scripted:
    """A backend and its only reader, which returns the results that a test has chosen.

    @ivar results: the results of the next reads; an exception is raised.
    @ivar reads: the arguments of the reads: offset, length.
    @ivar closed: how many times the reader was closed.
    """

    size = len(FILE)

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.reads: list[tuple[int, int]] = []
        self.closed = 0

    def open_reader(self, path: str, context: Any) -> Any:
        return self

    def read(self, offset: int, length: int) -> Any:
        self.reads.append((offset, length))
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        self.closed += 1


def ask(backend: Scripted) -> tuple[MemoryNetwork, MemoryLink]:
    """Ask for the file with options."""
    net = MemoryNetwork(backend, Policy())
    return net, net.request(wire.Opcode.RRQ, "f", OPTIONS)


def opcodes(link: MemoryLink) -> list[int]:
    """Return the opcodes of the datagrams that were sent since the last call."""
    return [wire.opcode_of(datagram) for datagram in link.take()]


def finish(net: MemoryNetwork, link: MemoryLink) -> None:
    """Acknowledge all blocks, and check that nothing is left."""
    for number in (1, 2, 3):
        (block,) = link.take()
        assert block == wire.DATA_HEADERS[number] + FILE[512 * (number - 1) : 512 * number]
        link.deliver(wire.ack(number))
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert_is_over(net, link)


def assert_is_over(net: MemoryNetwork, link: MemoryLink) -> None:
    """Check that nothing is left of the transfer."""
    assert link.closed
    assert len(net.server.transfers) == 0
    assert net.clock.getDelayedCalls() == []
    net.clock.advance(60)
    assert link.take() == []


@pytest.mark.parametrize("result", [FILE, succeed(FILE)])
def test_small_file_is_read_once_and_before_the_oack(result: Any) -> None:
    """The first ACK then finds all blocks in memory."""
    backend = Scripted(result)
    net, link = ask(backend)
    assert opcodes(link) == [wire.Opcode.OACK]
    assert backend.reads == [(0, len(FILE))]
    link.deliver(wire.ack(0))
    finish(net, link)
    assert backend.reads == [(0, len(FILE))]
    assert backend.closed == 1


@pytest.mark.parametrize("is_before_ack", [True, False])
def test_slow_early_read_delays_nothing_but_the_first_block(is_before_ack: bool) -> None:
    """The OACK is sent at once, and the file is read once."""
    backend = Scripted(reading := Deferred())
    net, link = ask(backend)
    assert opcodes(link) == [wire.Opcode.OACK]
    if is_before_ack:
        reading.callback(FILE)
    link.deliver(wire.ack(0))
    if not is_before_ack:
        assert opcodes(link) == []
        reading.callback(FILE)
    finish(net, link)
    assert backend.reads == [(0, len(FILE))]


@pytest.mark.parametrize("makes_failure", [FileNotFound, lambda: fail(FileNotFound())])
def test_early_read_that_fails_at_once_is_answered_with_an_error(
    makes_failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No OACK is sent, and nothing is left; `python -O` does not check the transitions."""
    monkeypatch.setattr(base, "TRANSITIONS", dict.fromkeys(SessionState, SessionState))
    backend = Scripted(makes_failure())
    net, link = ask(backend)
    assert opcodes(link) == [wire.Opcode.ERROR]
    assert net.recorder.outcomes == [Outcome.FAILED]
    assert backend.closed == 1
    assert_is_over(net, link)


def test_early_read_that_fails_later_ends_the_transfer() -> None:
    """The client gets an ERROR instead of the first block."""
    backend = Scripted(reading := Deferred())
    net, link = ask(backend)
    reading.errback(FileNotFound())
    assert opcodes(link) == [wire.Opcode.OACK, wire.Opcode.ERROR]
    assert net.recorder.outcomes == [Outcome.FAILED]
    assert_is_over(net, link)


def test_early_read_that_ends_after_the_transfer_is_ignored() -> None:
    """A client that only wants the size refuses the OACK with an ERROR."""
    backend = Scripted(reading := Deferred())
    net, link = ask(backend)
    link.deliver(b"\0\5\0\0enough\0")
    assert net.recorder.outcomes == [Outcome.SIZE_PROBE]
    reading.callback(FILE)
    assert opcodes(link) == [wire.Opcode.OACK]
    assert_is_over(net, link)


@pytest.mark.parametrize("octets", [b"", FILE[:-1], FILE + b"more"])
def test_early_read_of_a_wrong_size_is_ignored(octets: bytes) -> None:
    """The file is read again when the client has acknowledged the OACK."""
    backend = Scripted(octets, FILE)
    net, link = ask(backend)
    assert opcodes(link) == [wire.Opcode.OACK]
    link.deliver(wire.ack(0))
    finish(net, link)
    assert backend.reads == [(0, len(FILE))] * 2
