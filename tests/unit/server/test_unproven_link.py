"""Tests of the link to a peer that has not answered."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted_tftp.server.unproven_link import UnprovenLink
from twisted_tftp.server.unproven_rate import Allowance, UnprovenRate
from twisted_tftp.testing import MemoryLink

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
