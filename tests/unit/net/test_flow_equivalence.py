"""A sender with a flow does the same as a sender alone, with both tables of flows.

Each test sends the same packets to two senders. One gets all of them itself. The other one offers
itself to a table of flows after each window, as `DownloadLink` does, and has a real socket.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_tftp.net import offload
from twisted_tftp.net.offload import FlowTable, NativeFlowTable, PythonFlowTable
from twisted_tftp.protocol import wire
from twisted_tftp.transfer import sender
from twisted_tftp.transfer.flow import Progress
from twisted_tftp.transfer.machine import Buffer, Step
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.states import SenderState
from twisted_tftp.transfer.timing import Timing

#: Octets of a block.
BLKSIZE = 8

#: The OACK of such blocks.
OACK = b"\x00\x06blksize\x008\x00"

needs_module = pytest.mark.skipif(offload._offload is None, reason="the C module is not built")


@dataclass(frozen=True)
class File:
    """A file, and how it is sent."""

    size: int
    windowsize: int
    oack: bool
    known_size: bool
    read_ahead: int
    #: Octets that can still be read when the file is read: it may have been truncated.
    readable: int

    def sender(self) -> Sender:
        """Return a new sender."""
        return Sender(
            blksize=BLKSIZE,
            windowsize=self.windowsize,
            size=self.size if self.known_size else None,
            oack=OACK if self.oack else None,
            timing=Timing(first=1.0, max_rto=5.0),
            read_ahead=self.read_ahead,
        )

    @property
    def octets(self) -> bytes:
        """The octets that can be read."""
        return bytes(index // BLKSIZE % 251 for index in range(min(self.size, self.readable)))


class Transfer:
    """A sender that gets all packets itself.

    @ivar sent: the datagrams that it has sent.
    @ivar last_at: when it has done its last step.
    @ivar failed: whether the file was too short.
    """

    def __init__(self, file: File) -> None:
        self.machine = file.sender()
        self.sent: list[bytes] = []
        self.last_at = 0.0
        self.failed = False
        self._octets = file.octets
        self._size = file.size if file.known_size else None

    def start(self, now: float) -> None:
        """Send the first answer."""
        length = self.machine.early_read
        if length:
            self.machine.preload(self._octets[:length])
        self.do(self.machine.start(now), now)

    def do(self, step: Step, now: float) -> None:
        """Do what the machine asks for, as a session does."""
        machine = self.machine
        self.last_at = now
        if step is Step.READ:
            data = self._octets[machine.offset :][: machine.length]
            if len(data) != machine.length and self._size is not None:
                self.failed = True
                return
            step = machine.supply(data, now)
        if step is Step.SEND:
            self.send(machine.datagrams)

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send header, octets, header, ..."""
        self.sent += [
            b"".join(bytes(part) for part in datagrams[index : index + 2])
            for index in range(0, len(datagrams), 2)
        ]

    def receive(self, datagram: bytes, now: float) -> None:
        """Receive a datagram of the peer."""
        self.do(self.machine.receive(datagram, now), now)

    @property
    def is_over(self) -> bool:
        """Whether the session would have ended."""
        return self.failed or self.machine.state in (SenderState.DONE, SenderState.FAILED)

    @property
    def seen(self) -> tuple[Any, ...]:
        """All that the rest of the program can see of it, except times."""
        machine = self.machine
        return (
            *(machine.state, machine.octets, machine.has_answered, machine.repeats_first_answer),
            *(machine.retransmissions, machine.peer_error, repr(machine.failure), self.failed),
        )


class OffloadedTransfer(Transfer):
    """A sender that offers itself to a table of flows, and has a real socket."""

    def __init__(
        self, file: File, table: FlowTable, connected: bool, now: Callable[[], float]
    ) -> None:
        super().__init__(file)
        self.ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for sock in (self.ours, self.theirs):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        self.theirs.connect(self.ours.getsockname())
        self.peer = None if connected else self.theirs.getsockname()
        if connected:
            self.ours.connect(self.theirs.getsockname())
        self.table = table
        self.has_flow = False
        self.now = now
        self.strange: list[bytes] = []

    def close(self) -> None:
        """Close the sockets."""
        self.end_flow()
        self.ours.close()
        self.theirs.close()

    def send(self, datagrams: Sequence[Buffer]) -> None:
        self.send_flow(datagrams)
        offer = None if self.has_flow else self.machine.offer(least=1)
        if offer is not None:
            self.has_flow = self.table.add(self.ours, self, self.peer, offer, True)

    def send_flow(self, datagrams: Sequence[Buffer]) -> None:
        for index in range(0, len(datagrams), 2):
            datagram = b"".join(datagrams[index : index + 2])
            self.ours.sendto(datagram, self.theirs.getsockname())

    def look(self) -> None:
        """Take over what the flow has done."""
        if self.has_flow:
            self._take_back(self.look_up())

    def end_flow(self) -> None:
        """End the flow."""
        if self.has_flow:
            self._take_back(self.take())

    def look_up(self) -> Progress:
        """Return what the flow has done."""
        return self.table.look(self.ours.fileno())

    def take(self) -> Progress:
        """End the flow; return what it has done."""
        self.has_flow = False
        return self.table.take(self.ours.fileno())

    def _take_back(self, progress: Progress) -> None:
        assert not self.machine.take_back(progress)

    def resume(self, datagram: bytes | None, stranger: Any) -> None:
        """Process what the flow does not expect, as `DownloadLink` and the session do."""
        assert datagram is not None
        if stranger is not None:
            self.end_flow()
            self.strange.append(datagram)
            return
        progress = self.take()
        now = self.now()
        self.do(self.machine.resume(progress, datagram, now), now)

    def arrive(self, datagram: bytes) -> None:
        """Let a datagram arrive at the socket, and process it."""
        self.theirs.send(datagram)
        self.poll()

    def arrive_from_stranger(self, datagram: bytes) -> None:
        """Let a datagram of another port arrive; it must be recognised as that of a stranger."""
        self.strange.clear()
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
            other.sendto(datagram, self.ours.getsockname())
        self.poll()
        assert self.strange == ([] if self.peer is None else [datagram])

    def poll(self) -> None:
        """Process the datagrams that wait in the socket, as the hub does."""
        while True:
            ended, events, served = self.table.poll(32, 0.0, 0.0)
            for owner, datagram, stranger in ended:
                owner.resume(datagram, stranger)
            for _ in events:
                datagram, source = self.ours.recvfrom(448)
                if source == self.theirs.getsockname():
                    self.receive(datagram, self.now())
                else:
                    self.strange.append(datagram)
            if not (ended or events or served):
                return

    def collect(self) -> list[bytes]:
        """Return all datagrams that the peer has received."""
        while True:
            try:
                self.sent.append(self.theirs.recv(65535))
            except BlockingIOError:
                return self.sent


class Time:
    """The time that tests set, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


#: What a peer or the program does next. Most often, the expected ACK arrives.
ACTIONS = st.one_of(
    *[st.just(("ack", 0))] * 8,
    st.tuples(st.just("ack"), st.integers(-3, 3)),
    st.tuples(st.just("packet"), st.sampled_from([b"", b"\0", b"\0\5\0\0no\0", b"\0\4\0\0\0"])),
    st.tuples(st.just("packet"), st.binary(max_size=6)),
    st.just(("stranger", 0)),
    st.just(("expire", 0)),
    st.just(("repeat", 0)),
    st.just(("look", 0)),
    st.just(("end", 0)),
)

#: Seconds between two actions: a fast network, or one with round trips above the shortest timeout.
PAUSES = st.one_of(st.floats(0.0, 0.03), st.floats(0.0, 0.5))

FILES = st.builds(
    File,
    size=st.one_of(st.integers(0, 40 * BLKSIZE), st.integers(0, 40).map(BLKSIZE.__mul__)),
    windowsize=st.integers(1, 4),
    oack=st.booleans(),
    known_size=st.sampled_from([True, True, False]),
    read_ahead=st.sampled_from([0, 5 * BLKSIZE, 12 * BLKSIZE, 64 * BLKSIZE, 1 << 20, 1 << 20]),
    readable=st.one_of(*[st.just(1 << 20)] * 6, st.integers(0, 40 * BLKSIZE)),
)

SCRIPTS = st.lists(st.tuples(ACTIONS, PAUSES), min_size=10, max_size=60)


def next_ack(transfer: Transfer) -> int:
    """Return the number of the last block that was sent."""
    last = transfer.sent[-1] if transfer.sent else OACK
    return int.from_bytes(last[2:4], "big") if last[1] == wire.Opcode.DATA else 0


@settings(max_examples=600, deadline=None)
@given(file=FILES, script=SCRIPTS, connected=st.booleans(), looks=st.booleans())
def test_sender_with_python_table_does_the_same(
    file: File, script: list[tuple[tuple[str, Any], float]], connected: bool, looks: bool
) -> None:
    """At the same times, it sends the same datagrams and has the same deadlines."""
    time = Time()
    with closing(select.epoll()) as epoll:
        table = PythonFlowTable(epoll, time)
        alone = Transfer(file)
        other = OffloadedTransfer(file, table, connected, time)
        epoll.register(other.ours, select.EPOLLIN)
        with closing(other):
            alone.start(time.now)
            other.start(time.now)
            for (action, argument), pause in script:
                if alone.is_over:
                    break
                time.now += pause
                act(action, argument, alone, other, time)
                if looks:
                    act("look", 0, alone, other, time)
                assert other.collect() == alone.sent
            other.look()
            assert other.seen == alone.seen
            assert other.machine.deadline == alone.machine.deadline


def act(action: str, argument: Any, alone: Transfer, other: OffloadedTransfer, time: Time) -> None:
    """Let the same happen to both transfers."""
    if action in ("ack", "packet"):
        number = next_ack(alone) + argument & 0xFFFF if action == "ack" else 0
        datagram = wire.ACKS[number] if action == "ack" else argument
        alone.receive(datagram, time.now)
        other.arrive(datagram)
    elif action == "stranger":
        other.arrive_from_stranger(wire.ACKS[next_ack(alone)])
    elif action == "expire":
        other.look()
        assert other.machine.deadline == alone.machine.deadline
        if alone.machine.deadline < time.now + 20:
            time.now = max(time.now, alone.machine.deadline)
        other.end_flow()
        for transfer in (alone, other):
            transfer.do(transfer.machine.expire(time.now), time.now)
    elif action == "repeat":
        other.end_flow()
        for transfer in (alone, other):
            transfer.do(transfer.machine.repeat(time.now), time.now)
    elif action == "look":
        other.look()
        assert other.seen == alone.seen
        assert other.machine.deadline == alone.machine.deadline
        assert overdue_at(other.machine, time.now) == overdue_at(alone.machine, time.now)
    else:
        other.end_flow()


def overdue_at(machine: Sender, now: float) -> float:
    """Return when the peer's silence is too long, to a millionth of a second."""
    first, last = now - 100.0, now + 100.0
    while last - first > 1e-6:
        middle = (first + last) / 2
        first, last = (first, middle) if machine.is_overdue(middle) else (middle, last)
    return last


class MirroredTransfer(OffloadedTransfer):
    """A transfer whose packets are also given to a transfer without flows, at the same times.

    The table has a clock of its own. If it measures each round trip, they tell the times.
    """

    alone: Transfer

    def receive(self, datagram: bytes, now: float) -> None:
        self.alone.receive(datagram, now)
        super().receive(datagram, now)

    def resume(self, datagram: bytes | None, stranger: Any) -> None:
        super().resume(datagram, stranger)
        if datagram is not None and stranger is None:
            self.alone.receive(datagram, self.last_at)

    def take(self) -> Progress:
        return self._mirrored(super().take())

    def look_up(self) -> Progress:
        return self._mirrored(super().look_up())

    def _mirrored(self, progress: Progress) -> Progress:
        """Let the other transfer receive what a flow has received."""
        assert len(progress.round_trips) == progress.acks
        for number, round_trip in enumerate(progress.round_trips, 1):
            now = self.alone.last_at + round_trip if number < progress.acks else progress.at
            self.alone.receive(wire.ACKS[next_ack(self.alone)], now)
        return progress


@needs_module
@settings(max_examples=600, deadline=None)
@given(file=FILES, script=SCRIPTS, connected=st.booleans())
def test_sender_with_native_table_does_the_same(
    file: File, script: list[tuple[tuple[str, Any], float]], connected: bool
) -> None:
    """At the same times, it sends the same datagrams and has nearly the same deadlines."""
    with pytest.MonkeyPatch.context() as patch, closing(select.epoll()) as epoll:
        patch.setattr(sender, "MEASURE_INTERVAL", 0.0)
        patch.setattr(offload, "MEASURE_INTERVAL", 0.0)
        table = NativeFlowTable(epoll)
        other = MirroredTransfer(file, table, connected, monotonic)
        other.alone = alone = Transfer(file)
        epoll.register(other.ours, select.EPOLLIN)
        with closing(other):
            now = monotonic()
            alone.start(now)
            other.start(now)
            for (action, argument), _ in script:
                if other.is_over:
                    break
                if action == "ack":
                    other.collect()
                    other.arrive(wire.ACKS[next_ack(other) + argument & 0xFFFF])
                elif action == "packet":
                    other.arrive(argument)
                elif action == "stranger":
                    other.collect()
                    other.arrive_from_stranger(wire.ACKS[next_ack(other)])
                elif action == "repeat":
                    other.end_flow()
                    now = monotonic()
                    for transfer in (alone, other):
                        transfer.do(transfer.machine.repeat(now), now)
                elif action == "look":
                    other.look()
                else:
                    other.end_flow()
                if not other.has_flow or action == "look":
                    assert other.collect() == alone.sent
                    assert other.seen == alone.seen
                    assert other.machine.deadline == pytest.approx(alone.machine.deadline)
