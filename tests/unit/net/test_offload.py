"""Tests of both tables of flows, with real sockets."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from twisted_tftp.net import offload
from twisted_tftp.net.offload import (
    MAX_ROUND_TRIPS,
    FlowTable,
    NativeFlowTable,
    PythonFlowTable,
    make_flow_table,
)
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.timing import MEASURE_INTERVAL

needs_module = pytest.mark.skipif(offload._offload is None, reason="the C module is not built")


class Owner:
    """The owner of a flow, with a socket and a peer.

    @ivar ended: the arguments of the calls of `resume`.
    """

    def __init__(self, host: str = "127.0.0.1", connected: bool = False) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.ours = socket.socket(family, socket.SOCK_DGRAM)
        self.theirs = socket.socket(family, socket.SOCK_DGRAM)
        for sock in (self.ours, self.theirs):
            sock.bind((host, 0))
            sock.setblocking(False)
        self.theirs.connect(self.ours.getsockname())
        self.peer = None if connected else self.theirs.getsockname()
        if connected:
            self.ours.connect(self.theirs.getsockname())
        self.ended: list[tuple[bytes | None, Any]] = []

    def resume(self, datagram: bytes | None, stranger: Any) -> None:
        self.ended.append((datagram, stranger))

    def send_flow(self, datagrams: Sequence[Buffer]) -> None:
        for index in range(0, len(datagrams), 2):
            datagram = b"".join(datagrams[index : index + 2])
            self.ours.sendto(datagram, self.theirs.getsockname())

    def received(self) -> list[bytes]:
        """Return the datagrams that the peer has received since the last call."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.theirs.recv(65535))
            except BlockingIOError:
                return datagrams

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Bench:
    """A table of flows with its epoll object.

    @ivar served: how many datagrams the flows have received.
    @ivar events: the sockets that needed their links.
    """

    def __init__(self, native: bool) -> None:
        self.epoll = select.epoll()
        self.table: FlowTable = (
            NativeFlowTable(self.epoll) if native else PythonFlowTable(self.epoll, monotonic)
        )
        self.served = 0
        self.events: list[tuple[int, int]] = []
        self._closing = ExitStack()

    def owner(self, host: str = "127.0.0.1", connected: bool = False) -> Owner:
        """Return a new owner, whose socket is registered."""
        owner = Owner(host, connected)
        self._closing.callback(owner.close)
        self.epoll.register(owner.ours, select.EPOLLIN)
        return owner

    def add(self, owner: Owner, offer: Offer, segments: bool = True) -> bool:
        return self.table.add(owner.ours, owner, owner.peer, offer, segments)

    def poll(self) -> None:
        """Serve all that waits."""
        while True:
            ended, events, served = self.table.poll(32, monotonic() + 1, 0.0)
            self.served += served
            self.events += events
            for owner, datagram, stranger in ended:
                owner.resume(datagram, stranger)
                self.table.take(owner.ours.fileno())  # type: ignore[attr-defined]
            if events or not (ended or served):
                return

    def close(self) -> None:
        self.table.close()
        self._closing.close()
        self.epoll.close()


@pytest.fixture(params=[False, pytest.param(True, marks=needs_module)], ids=["python", "native"])
def bench(request: Any) -> Iterator[Bench]:
    """Return each kind of table."""
    bench = Bench(request.param)
    yield bench
    bench.close()


def offer(octets: Buffer = bytes(range(20)), **changes: Any) -> Offer:
    """Return the offer of a sender that has sent block 0 of eight octets, in lock step."""
    usual = Offer(
        octets=octets,
        position=0,
        is_file_end=True,
        awaited=0,
        blksize=8,
        windowsize=1,
        sent_at=monotonic(),
        measure_at=0.0,
        is_first=False,
    )
    return usual._replace(**changes)


def data(number: int, octets: bytes) -> bytes:
    return wire.DATA_HEADERS[number] + octets


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_ack_causes_the_next_block(bench: Bench, host: str, connected: bool) -> None:
    """The flow sends all blocks, and the last ACK is returned."""
    owner = bench.owner(host, connected)
    assert bench.add(owner, offer())
    for number, octets in enumerate([range(8), range(8, 16), range(16, 20)]):
        owner.theirs.send(wire.ack(number))
        bench.poll()
        assert owner.received() == [data(number + 1, bytes(octets))]
    owner.theirs.send(wire.ack(3))
    bench.poll()
    assert owner.ended == [(wire.ack(3), None)]
    assert bench.served == 4


def test_progress_tells_what_was_done_since_the_last_look(bench: Bench) -> None:
    """`look` and `take` count the ACKs and the blocks, and tell the times."""
    owner = bench.owner()
    before = monotonic()
    bench.add(owner, offer(bytes(100), windowsize=3, sent_at=before))
    for number in (0, 3):
        owner.theirs.send(wire.ack(number))
        bench.poll()
    progress = bench.table.look(owner.ours.fileno())
    assert progress[:5] == (2, 6, 3, 0, False)
    assert before < progress.at < monotonic()
    assert progress.measure_at == pytest.approx(before + MEASURE_INTERVAL, abs=0.1)
    assert 0 < progress.round_trips[0] < monotonic() - before
    assert bench.table.look(owner.ours.fileno()).acks == 0
    owner.theirs.send(wire.ack(6))
    bench.poll()
    assert bench.table.take(owner.ours.fileno())[:3] == (1, 3, 3)


@pytest.mark.parametrize(
    "packet",
    [wire.ack(1), wire.ack(65535), b"", b"\0\4", b"\0\4\0\0\0", b"\0\5\0\0no\0", b"\4\0\0\0"],
)
def test_unexpected_packet_ends_the_flow(bench: Bench, packet: bytes) -> None:
    """It is returned, and nothing is sent."""
    owner = bench.owner()
    bench.add(owner, offer())
    owner.theirs.send(packet)
    bench.poll()
    assert owner.ended == [(packet, None)]
    assert owner.received() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_packet_of_a_stranger_is_returned_with_its_address(bench: Bench, host: str) -> None:
    """Even if it is the expected ACK."""
    owner, other = bench.owner(host), bench.owner(host)
    bench.add(owner, offer())
    other.theirs.connect(owner.ours.getsockname())
    other.theirs.send(wire.ack(0))
    bench.poll()
    assert owner.ended == [(wire.ack(0), other.theirs.getsockname())]
    assert owner.received() == []


def test_flow_ends_where_the_buffer_ends(bench: Bench) -> None:
    """In the middle of a file, the machine sends the window that is not whole."""
    owner = bench.owner()
    bench.add(owner, offer(bytes(20), is_file_end=False))
    for number in range(3):
        owner.theirs.send(wire.ack(number))
        bench.poll()
    assert len(owner.received()) == 2
    assert owner.ended == [(wire.ack(2), None)]


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("count", [2, 63, 64, 65, 200])
def test_windows_are_sent_whole(bench: Bench, count: int, segments: bool) -> None:
    """With and without segmentation offload."""
    owner = bench.owner()
    octets = os.urandom(count * 8 + 3)
    bench.add(owner, offer(octets, windowsize=count), segments)
    for number in (0, count):
        owner.theirs.send(wire.ack(number))
        bench.poll()
    blocks = [octets[start : start + 8] for start in range(0, len(octets), 8)]
    assert owner.received() == [data(number, block) for number, block in enumerate(blocks, 1)]


def test_window_of_large_blocks_is_sent_whole(bench: Bench) -> None:
    """Segmentation offload sends less than 64 KiB with one call."""
    owner = bench.owner()
    octets = os.urandom(3 * 30_000 + 5)
    bench.add(owner, offer(octets, blksize=30_000, windowsize=3))
    for number in (0, 3):
        owner.theirs.send(wire.ack(number))
        bench.poll()
    blocks = [octets[start : start + 30_000] for start in range(0, len(octets), 30_000)]
    assert owner.received() == [data(number, block) for number, block in enumerate(blocks, 1)]


def test_number_0_follows_65535(bench: Bench) -> None:
    """Block numbers on the wire have 16 bits."""
    owner = bench.owner()
    bench.add(owner, offer(bytes(80), windowsize=4, awaited=65533))
    for number in (65533, 1):
        owner.theirs.send(wire.ack(number))
        bench.poll()
    numbers = [struct.unpack_from(">H", datagram, 2)[0] for datagram in owner.received()]
    assert numbers == [65534, 65535, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_module)])
def test_flow_ends_when_it_has_measured_enough(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine then learns the round trips, although nobody looked."""
    monkeypatch.setattr(offload, "MEASURE_INTERVAL", 0.0)
    bench = Bench(native)
    owner = bench.owner()
    bench.add(owner, offer(bytes(800)))
    acks = 0
    while not owner.ended and acks < 90:
        owner.theirs.send(wire.ack(acks))
        bench.poll()
        acks += 1
    assert acks == MAX_ROUND_TRIPS + 1
    bench.close()


def test_other_sockets_are_found(bench: Bench) -> None:
    """A socket without a flow is returned with its event, and not read."""
    owner, other = bench.owner(), bench.owner()
    bench.add(owner, offer())
    other.theirs.send(b"hello")
    bench.poll()
    assert bench.events == [(other.ours.fileno(), select.EPOLLIN)]
    assert other.ours.recv(10) == b"hello"


def test_writable_socket_ends_its_flow(bench: Bench) -> None:
    """Only the link can send what waits for the socket."""
    owner = bench.owner()
    bench.add(owner, offer())
    bench.epoll.modify(owner.ours, select.EPOLLIN | select.EPOLLOUT)
    owner.theirs.send(wire.ack(0))
    bench.poll()
    assert owner.ended == [(None, None)]
    assert bench.events == [(owner.ours.fileno(), select.EPOLLIN | select.EPOLLOUT)]


@needs_module
def test_window_that_cannot_be_sent_is_returned() -> None:
    """The flow ends, and the progress tells how many blocks are missing."""
    bench = Bench(native=True)
    try:
        owner = bench.owner(connected=True)
        bench.add(owner, offer(bytes(100), windowsize=4), segments=False)
        owner.theirs.send(wire.ack(0))
        owner.ours.shutdown(socket.SHUT_WR)
        ended, _, _ = bench.table.poll(32, 0.0, 0.0)
        assert [parts[1:] for parts in ended] == [(None, None)]
        assert bench.table.take(owner.ours.fileno())[:4] == (1, 4, 4, 4)
    finally:
        bench.close()


@needs_module
def test_native_table_refuses_what_it_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors above its size, a second flow of a descriptor, and offers out of range."""
    bench = Bench(native=True)
    owner = bench.owner()
    for wrong in (
        offer(position=-1),
        offer(position=21),
        offer(blksize=0),
        offer(windowsize=0),
    ):
        assert not bench.add(owner, wrong)
    assert bench.add(owner, offer())
    assert not bench.add(owner, offer())
    monkeypatch.setattr(offload, "MAX_DESCRIPTORS", owner.ours.fileno())
    table = NativeFlowTable(bench.epoll)
    assert not table.add(owner.ours, owner, owner.peer, offer(), True)
    table.close()
    bench.close()


@needs_module
def test_native_table_holds_the_buffer_until_the_flow_ends() -> None:
    """A buffer that is in use can't be resized, so that it stays where it is."""
    bench = Bench(native=True)
    owner = bench.owner()
    for end in (lambda: bench.table.take(owner.ours.fileno()), bench.table.close):
        octets = bytearray(20)
        bench.add(owner, offer(octets))
        with pytest.raises(BufferError):
            octets.clear()
        end()
        octets.clear()
    bench.close()


@needs_module
def test_native_table_does_not_change_while_another_thread_polls() -> None:
    """Another thread gets an exception."""
    bench = Bench(native=True)
    owner = bench.owner()
    bench.add(owner, offer())
    started = threading.Event()

    def poll() -> None:
        started.set()
        bench.table.poll(32, monotonic() + 10, monotonic() + 10)

    thread = threading.Thread(target=poll)
    thread.start()
    started.wait()

    def look_until_the_end() -> None:
        while thread.is_alive():
            bench.table.look(owner.ours.fileno())

    with pytest.raises(RuntimeError):
        look_until_the_end()
    other = bench.owner()
    other.theirs.send(b"")  # ends the poll
    thread.join()
    bench.table.look(owner.ours.fileno())
    bench.close()


def test_flow_that_was_taken_is_unknown(bench: Bench) -> None:
    """A descriptor has no flow before `add` and after `take`."""
    owner = bench.owner()
    descriptor = owner.ours.fileno()
    bench.add(owner, offer())
    bench.table.take(descriptor)
    for ask in (bench.table.look, bench.table.take):
        with pytest.raises(KeyError):
            ask(descriptor)


def test_python_table_is_used_if_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """TFTP_OFFLOAD=0 selects it even if the C module is there."""
    monkeypatch.setenv("TFTP_OFFLOAD", "0")
    with select.epoll() as epoll:
        assert isinstance(make_flow_table(epoll, monotonic), PythonFlowTable)


def test_python_table_is_used_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a complete replacement."""
    monkeypatch.setattr(offload, "_offload", None)
    with select.epoll() as epoll:
        assert isinstance(make_flow_table(epoll, monotonic), PythonFlowTable)


@needs_module
def test_native_table_is_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the C module is there."""
    monkeypatch.delenv("TFTP_OFFLOAD", raising=False)
    with select.epoll() as epoll:
        assert isinstance(make_flow_table(epoll, monotonic), NativeFlowTable)


class Finalized:
    """Garbage whose finalizer ends the flow of a descriptor, if `is_armed` then."""

    is_armed = False

    def __init__(self, table: FlowTable, descriptor: int, results: list[Any]) -> None:
        self.table = table
        self.descriptor = descriptor
        self.results = results
        self.cycle = self

    def __del__(self) -> None:
        if not Finalized.is_armed:
            return
        try:
            self.results.append(self.table.take(self.descriptor))
        except Exception as error:
            self.results.append(error)


@needs_module
@pytest.mark.parametrize("action", ["poll", "look", "take"])
def test_finalizers_that_run_meanwhile_may_end_flows(action: str) -> None:
    """Up to Python 3.11, the garbage collector runs when the module makes an object.

    With its errors, the module used freed memory, or could not end the flow.
    """
    bench = Bench(native=True)
    owner = bench.owner()
    descriptor = owner.ours.fileno()
    table: Any = bench.table._table  # type: ignore[attr-defined]
    act = table.poll if action == "poll" else table.report
    arguments = {"poll": (32, 0.0, 0.0), "look": (descriptor, False), "take": (descriptor, True)}
    results: list[Any] = []
    thresholds = gc.get_threshold()
    try:
        for _ in range(50):
            bench.add(owner, offer(bytes(10_000)))
            owner.theirs.send(b"not an ACK")
            gc.set_threshold(1)
            gc.collect()  # empties the lists of free objects
            garbage = Finalized(bench.table, descriptor, results)
            Finalized.is_armed = True
            del garbage
            try:  # `suppress` would make an object, and start the garbage collector
                act(*arguments[action])
            except KeyError:
                pass
            Finalized.is_armed = False
            gc.set_threshold(*thresholds)
            gc.collect()
            with contextlib.suppress(KeyError):
                bench.table.take(descriptor)
            with contextlib.suppress(BlockingIOError):
                owner.ours.recv(100)
    finally:
        gc.set_threshold(*thresholds)
        bench.close()
    assert all(isinstance(result, (Progress, KeyError)) for result in results)
