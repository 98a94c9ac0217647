"""Tests of the alarm of a session while a flow does the work of its machine, in virtual time.

A flow measures round trips. The alarm must then go off as early as the machine alone would need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from twisted_tftp.backends import MemoryBackend
from twisted_tftp.policy import Policy, Retransmit
from twisted_tftp.protocol import wire
from twisted_tftp.testing import MemoryLink, MemoryNetwork
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import Buffer

#: The content of the file: all of it is read before the first packet is sent.
FILE = bytes(4000)

OPTIONS = {"blksize": "512"}


class FlowLink(MemoryLink):
    """A link in memory with a flow, whose ACKs arrive when a test says so."""

    offerer: Any = None
    offered: Offer | None = None
    sent_at = 0.0  # when the flow has sent its last block
    known_sent_at = 0.0  # when the block was sent that the machine knows as the last
    progress = Progress(0, 0, 0, 0, False, 0.0, 0.0, ())

    def attach(self, receive: Any, receive_train: Any = None, offerer: Any = None) -> None:
        super().attach(receive, receive_train, offerer)
        self.offerer = offerer

    def send(self, datagrams: Sequence[Buffer]) -> None:
        super().send(datagrams)
        if self.offered is None:
            self.offered = self.offerer.offer(2)
            self.known_sent_at = self.offered.sent_at if self.offered else 0.0

    def flow_receives_ack(self) -> None:
        """Let the flow receive an ACK, send the next block, and measure a round trip."""
        assert self.offered is not None
        now, earlier = self._clock(), self.progress
        sent_at, self.sent_at = self.sent_at or self.offered.sent_at, now
        self.progress = Progress(
            *(earlier.acks + 1, earlier.blocks + 1, 1, 0, False),
            *(now, now, (*earlier.round_trips, now - sent_at)),
        )

    def flow_delay(self) -> float | None:
        if self.offered is None:
            return None
        if not self.progress.acks:
            return 0.0
        return self.progress.at - self.known_sent_at

    def follow_flow(self) -> None:
        if self.offered is not None:
            progress, self.progress = self.progress, FlowLink.progress
            self.known_sent_at = progress.at
            assert not self.offerer.take_back(progress)

    def end_flow(self) -> None:
        self.follow_flow()
        self.offered = None

    def receive_waiting(self) -> None:
        self.end_flow()


class FlowNetwork(MemoryNetwork):
    """A server in memory whose links have flows."""

    def open(self, peer: Any, local: Any, is_read: bool) -> MemoryLink:
        self.links.append(FlowLink(self.clock.seconds))
        return self.links[-1]


def ask(**policy: Any) -> tuple[FlowNetwork, FlowLink]:
    """Ask for the file; the flow waits for the ACK of the OACK."""
    net = FlowNetwork(MemoryBackend({"f": FILE}), Policy(**policy))
    link = net.request(wire.Opcode.RRQ, "f", OPTIONS)
    assert isinstance(link, FlowLink)
    assert [wire.opcode_of(datagram) for datagram in link.take()] == [wire.Opcode.OACK]
    assert link.offered is not None
    return net, link


def retransmitted_after(net: MemoryNetwork, link: FlowLink) -> float:
    """Return after how many seconds the server sends something, to a millisecond."""
    start = net.clock.seconds()
    while not link.take():
        net.clock.advance(0.001)
    return net.clock.seconds() - start


@pytest.mark.parametrize("round_trip", [0.001, 0.015, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("acks", [1, 2, 5])
def test_loss_in_a_flow_is_repaired_at_the_measured_timeout(round_trip: float, acks: int) -> None:
    """Nobody looked at the flow before; the first timeout of one second was long."""
    net, link = ask(timeout=1.0)
    for _ in range(acks):
        net.clock.pump([round_trip / 20] * 20)
        link.flow_receives_ack()
    assert retransmitted_after(net, link) < 0.05 + 3.1 * round_trip


def acknowledge(net: FlowNetwork, link: FlowLink, block: int) -> None:
    """Let an ACK arrive after a millisecond: at the flow if there is one."""
    net.clock.advance(0.001)
    if link.offered is not None:
        link.flow_receives_ack()
    else:
        link.deliver(wire.ack(block))
    link.take()


def test_second_loss_is_repaired_as_fast_as_the_first() -> None:
    """The first loss doubles the timeout, and a flow would not tell that it may be short again."""
    net, link = ask(timeout=1.0)
    for block in range(3):
        acknowledge(net, link, block)
    assert retransmitted_after(net, link) < 0.03
    for block in range(3, 6):
        acknowledge(net, link, block)
    assert retransmitted_after(net, link) < 0.03


def test_fixed_timeout_needs_no_early_alarm() -> None:
    """A flow can't make it shorter."""
    net, _ = ask(timeout=1.0, retransmit=Retransmit.FIXED)
    assert [call.getTime() for call in net.clock.getDelayedCalls()] == [1.0]


def test_silent_client_causes_few_early_alarms() -> None:
    """Each time, it waits longer: in a flood, each alarm costs time."""
    net, link = ask(timeout=1.0)
    times = set()
    while not link.take():
        times |= {call.getTime() for call in net.clock.getDelayedCalls()}
        net.clock.advance(0.001)
    assert net.clock.seconds() == pytest.approx(1.0, abs=0.01)
    assert len(times) <= 4


@pytest.mark.parametrize("end", ["end_flow", "follow_flow"])
def test_ended_flow_leaves_the_alarm_at_the_new_deadline(end: str) -> None:
    """It may have ended because of a stranger's packet, so that no packet moves the alarm."""
    net, link = ask(timeout=1.0)
    net.clock.pump([0.01] * 10)
    link.flow_receives_ack()
    getattr(link, end)()
    assert retransmitted_after(net, link) < 0.35
