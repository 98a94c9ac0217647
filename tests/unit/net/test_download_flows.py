"""Tests of downloads whose steady part is left to flows: a whole server and real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.support.downloads import LOCALHOST, DownloadClient, FlowServer
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.backends import FilesystemBackend, MemoryBackend
from twisted_tftp.backends.paced import PacedBackend
from twisted_tftp.context import Outcome
from twisted_tftp.errors import AccessViolation
from twisted_tftp.interfaces import IFileBackend, IFileReader
from twisted_tftp.net import offload
from twisted_tftp.net.descriptors import raise_descriptor_limit
from twisted_tftp.net.download_link import CONNECT_AFTER
from twisted_tftp.net.request_port import listen
from twisted_tftp.policy import Retransmit
from twisted_tftp.protocol import wire
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.session import base
from twisted_tftp.testing import Recorder
from twisted_tftp.transfer.read_ahead import SLOW_READ

__all__ = ["reactor"]

#: Makes the server of a test: the files, and settings of its policy.
MakeServer = Callable[..., FlowServer]

needs_module = pytest.mark.skipif(offload._offload is None, reason="the C module is not built")


@pytest.fixture(params=["0", pytest.param("1", marks=needs_module)], ids=["python", "native"])
def make_server(
    request: Any, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeServer]:
    """Return a function that makes servers; all of them must leave no flow."""
    monkeypatch.setenv("TFTP_OFFLOAD", request.param)
    monkeypatch.setattr(offload.PythonFlowTable, "least_windows", 2)  # so that both do the same
    monkeypatch.setattr(offload.PythonFlowTable, "sends_between_offers", 0)
    with ExitStack() as closing:

        def make(files: Any, **policy: Any) -> FlowServer:
            backend = MemoryBackend(files) if isinstance(files, dict) else files
            server = FlowServer(reactor, backend, monkeypatch, **policy)
            closing.callback(server.stop)
            return server

        yield make


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Close what a test has opened, before its server is stopped."""
    with ExitStack() as stack:
        yield stack


def fetch(server: FlowServer, **options: Any) -> DownloadClient:
    """Read the file "f" and close the client."""
    client = DownloadClient(server, **options)
    try:
        finished = len(server.recorder.outcomes)
        server.spin(lambda: client.is_over and len(server.recorder.outcomes) > finished)
    finally:
        client.close()
    return client


def last(server: FlowServer) -> Any:
    """Return the statistics of the transfer that ended last."""
    event, statistics = server.recorder.events[-1]
    assert event == "finished"
    return statistics


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (0, {"blksize": 512}),
        (1, {"blksize": 8}),
        (8 * 300, {"blksize": 8}),
        (8 * 300 + 3, {"blksize": 8, "windowsize": 7}),
        (4096, {"blksize": 512}),
        (512 * 200, {"blksize": 512}),
        (512 * 200 + 1, {"blksize": 512, "windowsize": 16}),
        (8 * 65_600, {"blksize": 8, "windowsize": 64}),
        (1_000_000, {"blksize": 1428}),
        (1_000_000, {"blksize": 1428, "windowsize": 16}),
        (65464 * 3, {"blksize": 65464}),
        (65464 * 3, {"blksize": 65464, "windowsize": 65535}),
    ],
)
def test_files_arrive_intact(make_server: MakeServer, size: int, options: dict[str, int]) -> None:
    """With all sizes of files, blocks and windows."""
    content = os.urandom(size)
    server = make_server({"f": content})
    client = fetch(server, **options)
    assert client.content == content
    assert last(server).outcome is Outcome.COMPLETED
    assert last(server).octets == size
    assert not server.flows.active


@pytest.mark.parametrize("windowsize", [1, 4])
def test_netascii_file_arrives_converted(make_server: MakeServer, windowsize: int) -> None:
    """Its octets come from a conversion, and its size is not known before the end."""
    content = b"a line\n" * 5000 + b"\r" * 700
    server = make_server({"f": content})
    client = fetch(server, mode="netascii", blksize=512, windowsize=windowsize)
    assert client.content == content.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    assert last(server).outcome is Outcome.COMPLETED
    assert server.flows.started


def test_paced_file_arrives_intact_and_in_its_time(make_server: MakeServer, reactor: Any) -> None:
    """Flows send what was read; the backend decides when more is read."""
    content, rate = os.urandom(300_000), 1_000_000
    backend = PacedBackend(
        MemoryBackend({"f": content}), max_rate=rate, reactor=reactor, clock=monotonic
    )
    server = make_server(backend)
    client = fetch(server, blksize=1428)
    assert client.content == content
    assert server.flows.started
    # The last read may be sent at once, when its time has come.
    assert last(server).seconds >= (len(content) - SLOW_READ) / rate


def acknowledge_all_at_once(server: FlowServer, late: int) -> None:
    """Read 99 blocks with a client that sends all ACKs at once, and the ACK `late` again."""

    def acknowledge(block: int) -> bool:
        client.is_silent = True
        numbers: tuple[int, ...] = {0: tuple(range(99)), 99: (late, 99)}.get(block, ())
        for number in numbers:
            client.send(wire.ack(number))
        return True

    client = DownloadClient(server, blksize=512, on_block=acknowledge)
    try:
        server.spin(lambda: client.is_done and not server.sessions)
    finally:
        client.close()


def test_late_packets_in_the_first_socket_end_the_flow_of_the_second(
    make_server: MakeServer,
) -> None:
    """Otherwise the machine and the flow would both advance, and miss the last ACK."""
    content = os.urandom(512 * 98 + 100)
    server = make_server({"f": content})
    for late in range(60, 98):  # one of them is the ACK that the flow would wait for
        acknowledge_all_at_once(server, late)
        assert last(server).outcome is Outcome.COMPLETED
        assert last(server).octets == len(content)


#: The content of the file "f" in most tests: 400 blocks, and a short one.
FILE = os.urandom(512 * 400 + 100)


def at_block(number: int, action: Callable[[], object]) -> Callable[[int], bool]:
    """Return what calls `action` once, before block `number` is acknowledged."""
    actions = [action]

    def on_block(block: int) -> bool:
        if block == number and actions:
            return actions.pop()() is not False
        return True

    return on_block


#: The policy of a server that sends nothing again, however slow the client is.
PATIENT: dict[str, Any] = {"retransmit": Retransmit.FIXED, "timeout": 20.0}

#: Blocks in the middle of flows: those of the shared socket, and of the connected one.
IN_FLOWS = pytest.mark.parametrize("block", [10, 30, 50, 100, 300])


@IN_FLOWS
@pytest.mark.parametrize("windowsize", [1, 8])
def test_loss_in_a_flow_is_repaired(make_server: MakeServer, block: int, windowsize: int) -> None:
    """The flow never sends anything again; the machine does."""
    server = make_server({"f": FILE})
    lose = at_block(block, lambda: False)
    client = fetch(server, on_block=lose, blksize=512, windowsize=windowsize)
    assert client.content == FILE
    assert 1 <= last(server).retransmissions <= windowsize
    assert last(server).outcome is Outcome.COMPLETED
    assert server.flows.acks > 300 // windowsize


@IN_FLOWS
def test_repeated_request_during_a_flow_changes_nothing(
    make_server: MakeServer, block: int
) -> None:
    """The client has answered, so that the answer is not repeated."""
    server = make_server({"f": FILE}, **PATIENT)
    client = DownloadClient(server, blksize=512, on_block=at_block(block, lambda: client.ask()))
    server.spin(lambda: server.recorder.outcomes)
    client.close()
    assert client.content == FILE
    assert client.repeated == 0
    assert [event for event, _ in server.recorder.events] == ["started", "finished"]
    assert server.service.servers[0].counters.repeated == 1


def test_repeated_request_after_the_ack_of_the_oack_is_not_answered(
    make_server: MakeServer,
) -> None:
    """Only the flow knows of this ACK, until it is asked."""
    server = make_server({"f": bytes(2000)}, **PATIENT)
    answered: list[bool] = []

    def ask_again() -> None:
        answered.append(server.sessions[0].peer_has_answered)
        client.ask()

    client = DownloadClient(server, blksize=512, on_block=at_block(2, ask_again))
    server.spin(lambda: server.recorder.outcomes)
    client.close()
    assert client.content == bytes(2000)
    assert answered == [True]
    assert client.oacks == 1
    assert client.repeated == 0


@IN_FLOWS
def test_error_of_the_client_ends_the_transfer(make_server: MakeServer, block: int) -> None:
    """The outcome is ABORTED, and all octets count that the client has acknowledged."""
    server = make_server({"f": FILE})

    def give_up() -> bool:
        client.send(b"\0\5\0\3disk full\0")
        return False

    client = DownloadClient(server, blksize=512, on_block=at_block(block, give_up))
    server.spin(lambda: server.recorder.outcomes)
    client.close()
    assert last(server).outcome is Outcome.ABORTED
    assert last(server).octets == 512 * (block - 1)
    assert not server.flows.active


def test_error_as_the_answer_to_the_oack_is_a_size_probe(make_server: MakeServer) -> None:
    """The flow that waits for the ACK of the OACK ends without one."""
    server = make_server({"f": bytes(1000)})

    def refuse() -> bool:
        client.send(b"\0\5\0\x08enough\0")
        return False

    client = DownloadClient(server, blksize=512, tsize=0, on_block=at_block(0, refuse))
    server.spin(lambda: server.recorder.outcomes)
    client.close()
    assert server.flows.started == 1
    assert last(server).outcome is Outcome.SIZE_PROBE
    assert last(server).octets == 0


@IN_FLOWS
@pytest.mark.parametrize("datagram", [wire.ack(0), b"\0\3\0\1data", b"\0", b""])
def test_stranger_does_not_disturb_the_download(
    make_server: MakeServer, closing: ExitStack, block: int, datagram: bytes
) -> None:
    """It gets ERROR 5, even if its packet is the expected ACK; nonsense gets no answer."""
    server = make_server({"f": FILE}, **PATIENT)
    stranger = closing.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    stranger.setblocking(False)

    def disturb() -> None:
        packet = wire.ack(block) if datagram == wire.ack(0) else datagram
        stranger.sendto(packet, client.transfer)

    client = DownloadClient(server, blksize=512, on_block=at_block(block, disturb))
    closing.callback(client.close)
    server.spin(lambda: server.recorder.outcomes)
    assert client.content == FILE
    assert client.repeated == 0
    if len(datagram) > 1:
        assert stranger.recv(100)[:4] == b"\0\5\0\5"
    else:
        with pytest.raises(BlockingIOError):
            stranger.recv(100)


def test_client_whose_port_closes_in_a_flow_is_given_up(make_server: MakeServer) -> None:
    """It has answered before, so that another program may open the port for a while."""
    server = make_server({"f": FILE}, timeout=0.05, patience=20.0)
    client = DownloadClient(
        server, blksize=512, on_block=at_block(20, lambda: client.close() or False)
    )
    server.spin(lambda: server.recorder.outcomes)
    assert last(server).outcome is Outcome.TIMED_OUT
    assert last(server).octets == 512 * 19
    assert not server.flows.active


def test_client_whose_port_is_closed_from_the_start_is_unreachable(
    make_server: MakeServer,
) -> None:
    """Two ICMP errors end the transfer, although a flow waits for the ACK of the OACK."""
    server = make_server({"f": bytes(1000)})
    client = DownloadClient(server, blksize=512)
    client.close()
    server.spin(lambda: server.recorder.outcomes)
    assert server.flows.started == 1
    assert last(server).outcome is Outcome.UNREACHABLE


def test_long_download_continues_in_a_flow_of_a_connected_socket(make_server: MakeServer) -> None:
    """After `CONNECT_AFTER` packets, the first socket is left to strangers."""
    server = make_server({"f": FILE})
    descriptors: list[set[int]] = []

    def note(block: int) -> bool:
        if server.flows.active:
            descriptors.append(set(server.flows.active))
        return True

    client = fetch(server, blksize=512, on_block=note)
    assert client.content == FILE
    assert all(len(flows) == 1 for flows in descriptors)
    assert descriptors[0] != descriptors[-1]
    assert descriptors.index(descriptors[-1]) >= CONNECT_AFTER // 2


def test_statistics_and_octets_are_current_during_a_flow(make_server: MakeServer) -> None:
    """Who asks gets the octets that are acknowledged now."""
    server = make_server({"f": FILE})
    octets: list[int] = []

    def look(block: int) -> bool:
        if block:
            [session] = server.sessions
            assert session.peer_has_answered
            assert not session.repeats_first_answer or block == 1
            session._session.update_statistics()
            octets.append(session.statistics.octets)
        return True

    client = fetch(server, blksize=512, on_block=look)
    assert client.content == FILE
    assert octets == [512 * block for block in range(401)]
    assert server.flows.acks > 300


def test_progress_is_reported_although_flows_send_the_file(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a flow nearly always when the alarm goes off."""
    monkeypatch.setattr(base, "PROGRESS_SIZE", 64 * 1024)
    server = make_server({"f": bytes(8_000_000)})
    fetch(server, blksize=512)
    progress = [
        statistics for event, statistics in server.recorder.events if event == "progressed"
    ]
    assert len(progress) >= 5


@pytest.mark.parametrize("end", ["completed", "probe"])
def test_unproven_limit_learns_of_the_answer_to_a_flow(make_server: MakeServer, end: str) -> None:
    """The address is not forged, so that its next transfers are not limited."""
    server = make_server({"f": bytes(1000)}, unproven_rate=1000)
    is_proven = server.service._shared.unproven_rate.is_proven
    refuse = at_block(0, lambda: client.send(b"\0\5\0\0enough\0"))
    client = DownloadClient(server, blksize=512)
    if end == "probe":
        client.on_block = refuse
    assert not is_proven(LOCALHOST, monotonic())
    server.spin(lambda: server.recorder.outcomes)
    client.close()
    assert is_proven(LOCALHOST, monotonic())


@IN_FLOWS
@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_end_by_the_server_during_a_flow_leaves_nothing(
    make_server: MakeServer, block: int, how: str
) -> None:
    """No flow, no descriptor, and no delayed call (as the fixture `reactor` checks)."""
    before = set(os.listdir("/proc/self/fd"))
    server = make_server({"f": FILE})
    stopped: list[Any] = []

    def end() -> None:
        assert server.sessions
        if how == "cancel":
            server.sessions[0].cancel("no more")
        else:
            server.service.stopService().addBoth(stopped.append)

    client = DownloadClient(server, blksize=512, on_block=at_block(block, end))
    server.spin(lambda: client.error)
    client.close()
    assert last(server).outcome is Outcome.CANCELLED
    assert last(server).octets == 512 * (block - 1)
    assert not server.flows.active
    assert not server.sessions
    server.stop()
    assert set(os.listdir("/proc/self/fd")) - before == set()


def test_thousand_downloads_at_once_arrive_intact(make_server: MakeServer) -> None:
    """With 2,000 sockets, more than one round serves."""
    raise_descriptor_limit(8000)
    content = os.urandom(6000)
    server = make_server({"f": content})
    clients = [DownloadClient(server, blksize=512) for _ in range(1000)]
    server.spin(lambda: len(server.recorder.outcomes) == 1000)
    for client in clients:
        client.close()
    assert {bytes(client.content) for client in clients} == {content}
    assert set(server.recorder.outcomes) == {Outcome.COMPLETED}
    assert not server.flows.active


@pytest.fixture
def failures() -> Iterator[list[Any]]:
    """Return the exceptions that were logged."""
    events: list[Any] = []

    def note(event: Any) -> None:
        if event["log_level"] in (LogLevel.critical, LogLevel.error):
            events.append(event)

    globalLogPublisher.addObserver(note)
    yield events
    globalLogPublisher.removeObserver(note)


@pytest.mark.parametrize("how", ["cancel", "stop"])
@pytest.mark.parametrize("packet", [b"\0\5\0\0no more\0", wire.ack(0)])
def test_link_may_close_while_another_one_is_served_in_the_same_round(
    make_server: MakeServer,
    closing: ExitStack,
    failures: list[Any],
    how: str,
    packet: bytes,
) -> None:
    """What the hub has received for the closed link is lost, without an exception."""
    server = make_server({"f": FILE})
    clients: list[DownloadClient] = []
    for _ in range(5):
        client = DownloadClient(server, blksize=512)
        closing.callback(client.close)
        clients.append(client)

    def pause(block: int) -> bool:
        return block < 10

    for client in clients:
        client.on_block = pause
    server.spin(lambda: all(client.block == 9 for client in clients))
    assert len(server.flows.active) == 5
    stops: list[Any] = []
    stopped: list[Any] = []

    def end_all(statistics: Any) -> None:
        Recorder.finished(server.recorder, statistics)
        if how == "cancel":
            for session in server.sessions:
                session.cancel("no more")
        elif not stops:
            stops.append(server.service.stopService().addBoth(stopped.append))

    server.recorder.finished = end_all  # type: ignore[method-assign]
    clients[2].send(b"\0\5\0\0no more\0")
    for client in clients:
        if client is not clients[2]:
            client.send(packet)
    server.spin(lambda: len(server.recorder.outcomes) == 5)
    if how == "cancel":
        assert server.recorder.outcomes.count(Outcome.CANCELLED) == 4
    server.spin(lambda: len(stopped) == len(stops))
    assert not server.flows.active
    assert failures == []


@implementer(IFileReader)
class BusyReader:
    """A reader that uses one buffer for all reads, and overwrites it when it is asked again.

    It returns a Deferred every second time, which fires in a later turn of the reactor.
    """

    def __init__(self, reactor: Any, content: bytes, size: int | None) -> None:
        self.size = size
        self._reactor = reactor
        self._content = content
        self._buffer = bytearray(len(content))
        self._count = 0
        self.is_closed = False

    def read(self, offset: int, length: int) -> Any:
        self._buffer[:] = bytes(len(self._buffer))
        part = self._content[offset : offset + length]
        self._count += 1
        if self._count % 2:
            return self._fill(part)
        return deferLater(self._reactor, 0, self._fill, part)

    def _fill(self, part: bytes) -> memoryview:
        self._buffer[: len(part)] = part
        return memoryview(self._buffer)[: len(part)]

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True
        self._buffer[:] = bytes(len(self._buffer))


@implementer(IFileBackend)
class BusyBackend:
    """A backend of one file, with a L{BusyReader} for each download."""

    def __init__(self, reactor: Any, content: bytes, knows_size: bool) -> None:
        self.readers: list[BusyReader] = []
        self._reactor = reactor
        self._content = content
        self._size = len(content) if knows_size else None

    def open_reader(self, path: str, context: Any) -> BusyReader:
        self.readers.append(BusyReader(self._reactor, self._content, self._size))
        return self.readers[-1]

    def open_writer(self, path: str, context: Any) -> Any:
        raise AccessViolation


@pytest.mark.parametrize("knows_size", [True, False])
@pytest.mark.parametrize("windowsize", [1, 5])
@pytest.mark.parametrize("size", [0, 511, 512, 2000, 4096, 512 * 300, 512 * 300 + 1])
def test_flows_send_from_no_buffer_that_a_reader_overwrites(
    make_server: MakeServer, reactor: Any, size: int, windowsize: int, knows_size: bool
) -> None:
    """A reader may use its buffer again when it is asked for more octets."""
    content = os.urandom(size)
    backend = BusyBackend(reactor, content, knows_size)
    server = make_server(backend)
    client = fetch(server, blksize=512, windowsize=windowsize)
    assert client.content == content
    assert last(server).outcome is Outcome.COMPLETED
    assert last(server).octets == size
    assert [reader.is_closed for reader in backend.readers] == [True]


def test_several_downloads_of_one_file_of_the_filesystem_arrive_intact(
    make_server: MakeServer, reactor: Any, tmp_path: Any, closing: ExitStack
) -> None:
    """They share the open file, and each of them has a buffer of its own."""
    content = os.urandom(1_000_003)
    (tmp_path / "f").write_bytes(content)
    server = make_server(FilesystemBackend(str(tmp_path), reactor=reactor))
    clients = []
    for windowsize in (1, 4, 16, 64):
        client = DownloadClient(server, blksize=1428, windowsize=windowsize)
        closing.callback(client.close)
        clients.append(client)
    server.spin(lambda: len(server.recorder.outcomes) == len(clients))
    assert all(client.content == content for client in clients)
    assert server.flows.acks > 500


def test_downloads_over_ipv6_use_flows(make_server: MakeServer) -> None:
    """The address of a packet tells that it comes from the client."""
    server = make_server({"f": FILE}, host="::1")
    client = fetch(server, blksize=512)
    assert client.content == FILE
    assert server.flows.acks > 300


@pytest.mark.parametrize("rollover", [0, 1])
def test_numbers_follow_the_negotiated_rollover(make_server: MakeServer, rollover: int) -> None:
    """Flows know one rollover only: the machine sends the blocks of another one."""
    content = os.urandom(8 * 65_540)
    server = make_server({"f": content})
    client = DownloadClient(server, blksize=8, windowsize=64, rollover=rollover)
    client.after_65535 = rollover
    server.spin(lambda: server.recorder.outcomes)
    client.close()
    assert client.content == content
    assert server.flows.started == (0 if rollover else server.flows.started)


def test_single_port_mode_has_no_flows(make_server: MakeServer) -> None:
    """All transfers share the request port, which the hub does not serve."""
    server = make_server({"f": FILE}, single_port=True)
    client = fetch(server, blksize=512)
    assert client.content == FILE
    assert client.transfer == server.address
    assert not server.tables or not server.flows.started


@pytest.mark.parametrize("ahead", [-1000.0, 1000.0])
def test_flows_use_the_clock_of_the_server(
    make_server: MakeServer, reactor: Any, ahead: float
) -> None:
    """A server may have another monotonic clock: the module in C has none but that of the system.

    With two clocks, the machine would give the client up at once, or never send again.
    """
    recorder = Recorder()
    protocol = TFTPServer(
        MemoryBackend({"f": FILE}),
        observer=recorder,
        reactor=reactor,
        clock=lambda: monotonic() + ahead,
    )
    port = listen(reactor, 0, protocol, LOCALHOST)
    lose = at_block(100, lambda: False)
    server: Any = SimpleNamespace(reactor=reactor, address=(LOCALHOST, port.getHost().port))
    client = DownloadClient(server, on_block=lose, blksize=512)
    try:
        spin(reactor, lambda: recorder.outcomes)
    finally:
        client.close()
        outcome(reactor, protocol.transfers.cancel_all(""))
        protocol.opener.close()
        outcome(reactor, port.stopListening())
    assert client.content == FILE
    assert recorder.outcomes == [Outcome.COMPLETED]
