"""Tests of the link to a peer that has not answered."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from twisted_tftp.server.unproven_link import UnprovenLink
from twisted_tftp.server.unproven_rate import Allowance, UnprovenRate
from twisted_tftp.testing import MemoryLink
from twisted_tftp.transfer.flow import Progress

#: A burst of the smallest rate, in octets; half of it is for first answers.
BURST = 4 * 516


class Peer:
    """The part of a transfer that the link uses."""

    peer_has_answered = False
    link: UnprovenLink | None = None


def unproven_link() -> tuple[UnprovenLink, MemoryLink, Peer, UnprovenRate]:
    rate = UnprovenRate(1, lambda: 0.0)
    inner, peer = MemoryLink(lambda: 0.0), Peer()
    return UnprovenLink(inner, Allowance(rate, "192.0.2.1", 13), peer), inner, peer, rate


def test_datagrams_above_the_allowance_are_lost() -> None:
    """A datagram that fits is sent."""
    link, inner, _, rate = unproven_link()
    for _ in range(10):
        link.send((bytes(4), bytes(512)))
    assert len(inner.take()) == 2
    assert rate.withheld == 8


def test_everything_is_sent_once_the_peer_has_answered() -> None:
    """The answer proves the address; then the inner link sends without any check."""
    link, inner, peer, rate = unproven_link()
    link.send((bytes(BURST),))
    assert inner.take() == []
    peer.peer_has_answered = True
    link.send((bytes(BURST),))
    assert len(inner.take()) == 1
    assert rate.is_proven("192.0.2.1", 0.0)
    assert link.send == inner.send


def test_everything_but_sending_is_passed_on() -> None:
    """The inner link receives, reports closed ports, and is closed."""
    link, inner, _, _ = unproven_link()
    received: list[Any] = []
    link.attach(lambda datagram, now: received.append(datagram))
    link.watch_port_unreachable(lambda now: received.append("unreachable"))
    inner.deliver(b"one")
    inner.waiting.append(b"two")
    link.receive_waiting()
    inner.report_port_unreachable()
    assert received == [b"one", b"two", "unreachable"]
    assert link.enlarge_buffer(1000) == inner.buffer_size == 1000
    link.close()
    assert inner.closed


def test_closed_link_is_freed_without_the_garbage_collector() -> None:
    """In a flood, cycles of references would keep much memory for a while."""
    link, inner, peer, _ = unproven_link()
    peer.link = link  # a transfer has its link
    freed = weakref.ref(peer), weakref.ref(inner)
    link.close()
    gc.disable()
    try:
        del link, inner, peer
        assert [reference() for reference in freed] == [None, None]
    finally:
        gc.enable()


class FlowLink(MemoryLink):
    """A link in memory that keeps what it may offer to a flow."""

    offerer: Any = None

    def attach(self, receive: Any, receive_train: Any = None, offerer: Any = None) -> None:
        self.offerer = offerer


class Machine:
    """A machine that keeps the progress of its flow."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def offer(self, least: int) -> Any:
        return least

    def take_back(self, progress: Progress) -> Any:
        self.got.append(progress)
        return (b"unsent",)

    def resume(self, progress: Progress, datagram: bytes, now: float) -> None:
        self.got += [progress, datagram, now]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("acks", [0, 1])
def test_answer_to_a_flow_proves_the_address(acks: int, ends: bool) -> None:
    """The link notices it when it is told what the flow has done; then it costs nothing."""
    rate = UnprovenRate(1, lambda: 0.0)
    inner, machine = FlowLink(lambda: 0.0), Machine()
    link = UnprovenLink(inner, Allowance(rate, "192.0.2.1", 13), Peer())
    link.attach(lambda datagram, now: None, None, machine)
    assert inner.offerer.offer(7) == 7
    progress = Progress(acks, acks, 1, 0, False, 0.0, 0.0, ())
    if ends:
        inner.offerer.resume(progress, b"packet", 1.0)
        assert machine.got == [progress, b"packet", 1.0]
    else:
        assert inner.offerer.take_back(progress) == (b"unsent",)
        assert machine.got == [progress]
    assert rate.is_proven("192.0.2.1", 0.0) == bool(acks)
    assert (link.send == inner.send) == bool(acks)


def test_link_without_a_machine_for_flows_offers_nothing() -> None:
    """An upload has no flows."""
    inner = FlowLink(lambda: 0.0)
    link = UnprovenLink(inner, Allowance(UnprovenRate(1, lambda: 0.0), "h", 1), Peer())
    link.attach(lambda datagram, now: None)
    assert inner.offerer is None
