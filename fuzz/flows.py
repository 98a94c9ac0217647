"""Compare the table of flows in C with the one in Python: both get the same packets."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from fuzz.inputs import Input
from twisted_tftp.net import offload
from twisted_tftp.net.offload import FlowTable, NativeFlowTable, PythonFlowTable
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import Buffer

#: Flows that a table may have; the first two have connected sockets.
FLOWS = 4

#: Octets of a block, to choose from.
BLKSIZES = (1, 8, 100, 512)

#: Blocks of a window, to choose from: the last two need several calls with segmentation offload.
WINDOWSIZES = (1, 2, 3, 64, 65, 80)

#: Seconds between measured round trips, to choose from: all are measured, or only the first.
INTERVALS = (0.0, math.inf)

#: The most sockets of one round.
MOST = 8

#: Seconds that a datagram on loopback may take.
PATIENCE = 5.0


def bound() -> socket.socket:
    """Return a new socket on loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(PATIENCE)
    return sock


class Owner:
    """The owner of a flow: its socket, its peer and a stranger."""

    def __init__(self, is_connected: bool) -> None:
        self.ours, self.theirs, self.strange = bound(), bound(), bound()
        self.ours.setblocking(False)
        self.address = self.theirs.getsockname()
        self.peer = None if is_connected else self.address
        if is_connected:
            self.ours.connect(self.address)
        self.offer: Offer | None = None
        self.has_flow = False
        self.acks = 0  # how many of the awaited ACKs were sent

    def resume(self, datagram: bytes | None, stranger: Any) -> None:
        raise AssertionError("a table does not call its owners")

    def send_flow(self, datagrams: Sequence[Buffer]) -> None:
        for at in range(0, len(datagrams), 2):
            self.ours.sendto(b"".join(datagrams[at : at + 2]), self.address)

    def awaited_ack(self) -> bytes:
        """Return the ACK that its last flow waits for, unless that has sent the last block."""
        if self.offer is None:
            return wire.ACKS[0]
        return wire.ACKS[(self.offer.awaited + self.acks * self.offer.windowsize) & 0xFFFF]

    def deliver(self, datagram: bytes, is_strange: bool) -> None:
        """Send a packet to the flow, and wait until it has arrived."""
        if is_strange and self.peer is None:
            return  # it would not arrive at a connected socket
        source = self.strange if is_strange else self.theirs
        source.sendto(datagram, self.ours.getsockname())
        assert select.select([self.ours], [], [], PATIENCE)[0], "loopback is slow"

    def close(self) -> None:
        for sock in (self.ours, self.theirs, self.strange):
            sock.close()


class Side:
    """One table, and the owners of its flows.

    @ivar seen: all that the table has done and that must not depend on its kind.
    """

    def __init__(self, make_table: Callable[[select.epoll], FlowTable]) -> None:
        self.epoll = select.epoll()
        self.table = make_table(self.epoll)
        self.owners = [Owner(index < 2) for index in range(FLOWS)]
        for owner in self.owners:
            self.epoll.register(owner.ours, select.EPOLLIN)
        self.seen: list[Any] = []

    def add(self, index: int, offer: Offer, segments: bool) -> None:
        owner = self.owners[index]
        if not owner.has_flow:
            owner.offer, owner.acks, owner.has_flow = offer, 0, True
            assert self.table.add(owner.ours, owner, owner.peer, offer, segments)

    def ask(self, index: int, is_end: bool) -> None:
        """Look at a flow or take it, and receive what it has sent."""
        owner = self.owners[index]
        if owner.has_flow:
            owner.has_flow = not is_end
            ask = self.table.take if is_end else self.table.look
            progress: Progress = ask(owner.ours.fileno())
            sent = [owner.theirs.recv(1000) for _ in range(progress.blocks - progress.unsent)]
            times = len(progress.round_trips)
            self.seen.append((index, progress[:5] if progress.acks else 0, times, sent))

    def packet(self, index: int, datagram: bytes | None, is_strange: bool) -> None:
        """Send a packet to one socket: these octets, or the awaited ACK."""
        owner = self.owners[index]
        if datagram is None:
            datagram = owner.awaited_ack()
            owner.acks += not is_strange
        owner.deliver(datagram, is_strange)

    def poll(self) -> None:
        """Let the table serve one round; take the flows that have ended."""
        ended, events, served = self.table.poll(MOST, 0.0, 0.0)
        numbers = {owner.ours.fileno(): index for index, owner in enumerate(self.owners)}
        found: list[Any] = [served, sorted((numbers[each], event) for each, event in events)]
        for owner, datagram, stranger in ended:
            index = self.owners.index(owner)  # type: ignore[arg-type]
            assert stranger in (None, self.owners[index].strange.getsockname())
            found.append((index, datagram, stranger is None))
        self.seen += found[:2] + sorted(found[2:], key=lambda each: each[0])
        for index, _, _ in sorted(found[2:], key=lambda each: each[0]):
            self.ask(index, is_end=True)
        for descriptor, event in events:
            owner = self.owners[numbers[descriptor]]
            if event & select.EPOLLIN and not owner.has_flow:
                self.seen.append(owner.ours.recv(1000))
            self.epoll.modify(descriptor, select.EPOLLIN)

    def close(self) -> None:
        self.table.close()
        for owner in self.owners:
            owner.close()
        self.epoll.close()


def offered(program: Input) -> Offer:
    """Return an offer that the input describes."""
    blksize, windowsize = program.choice(BLKSIZES), program.choice(WINDOWSIZES)
    flags, length = program.byte(), program.byte() * blksize // 3
    position = min(length, program.byte())
    octets = bytes(index % 251 for index in range(length))
    return Offer(
        *(octets, position, bool(flags & 128), program.number(), blksize, windowsize),
        *(0.0, 0.0, bool(flags & 64)),
    )


def act(program: Input, sides: list[Side]) -> None:
    """Do one operation with each table."""
    operation = program.byte()
    kind, index = operation & 7, operation >> 3 & 3
    indexes = range(FLOWS) if operation & 128 else [index]
    offer = offered(program) if kind == 0 else None
    octets = program.octets(program.byte()) if kind == 2 else None
    for side in sides:
        for each in indexes:
            if offer is not None:
                side.add(each, offer, segments=bool(operation & 32))
            elif kind in (4, 5):
                side.ask(each, is_end=kind == 5)
            elif kind == 6:
                side.epoll.modify(side.owners[each].ours, select.EPOLLIN | select.EPOLLOUT)
            else:
                side.packet(each, octets, is_strange=kind == 3)
        side.poll()


def flows(data: bytes) -> None:
    """Run the operations of an input with both tables, and compare what they do."""
    program = Input(data)
    makers: list[Callable[[select.epoll], FlowTable]] = [
        lambda epoll: PythonFlowTable(epoll, time.monotonic)
    ]
    if offload.is_native():
        makers.append(NativeFlowTable)
    with mock.patch.object(offload, "MEASURE_INTERVAL", program.choice(INTERVALS)):
        sides = [Side(make) for make in makers]
        try:
            while program.left:
                act(program, sides)
                assert all(side.seen == sides[0].seen for side in sides)
        finally:
            for side in sides:
                side.close()
