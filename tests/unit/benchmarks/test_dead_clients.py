"""Tests of the soak's dead clients, and of the honest clients that use their ports."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import TimeoutError as NotHeard
from twisted.internet.defer import ensureDeferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from benchmarks.dead_clients import DEAD, Case, DeadClients, requests
from benchmarks.dead_sockets import DeadSocket, TakenPorts
from benchmarks.slow import DELAY, SLOW, SlowBackend, slow_threads
from tests.support.reactors import ClockedReactor, clocked, outcome, reactor, spin
from twisted_tftp.protocol import wire
from twisted_tftp.testing import MemoryNetwork

__all__ = ["clocked", "reactor"]

#: The content of a file.
FILE = b"f" * 3000


class OneAnswer(DatagramProtocol):
    """A server that gives the same answer to all requests, and acknowledges each block."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[tuple[bytes, Any]] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Answer a request or a block."""
        assert self.transport is not None
        opcode = wire.opcode_of(datagram)
        if opcode in (wire.Opcode.RRQ, wire.Opcode.WRQ):
            self.asked.append((datagram, addr))
            self.transport.write(self.answer, addr)
        elif opcode == wire.Opcode.DATA:
            self.transport.write(wire.ack(int.from_bytes(datagram[2:4], "big")), addr)


class Scene:
    """Dead clients and a server with one answer."""

    def __init__(self, reactor: ClockedReactor, folder: Path) -> None:
        self.reactor, self.root = reactor, folder / "served"
        self.root.mkdir()
        (self.root / "read-3000").write_bytes(FILE)
        self.server = OneAnswer(wire.DATA_HEADERS[1] + b"1")
        self._listening = reactor.listenUDP(0, self.server, interface="127.0.0.1")
        port = self._listening.getHost().port
        self.dead = DeadClients(
            *(reactor, port, self.root, folder / "clients"),
            repeat=0.05,
            slow_threads=lambda reactor: maybeDeferred,
        )

    def one(self, **changes: Any) -> None:
        """Let one die, and another one on its port."""
        case = Case("a read", 1, "missing", False, False, False)._replace(**changes)
        running = ensureDeferred(self.dead.one(case))

        def has_ended() -> bool:
            self.reactor.pass_time(0.01)
            return bool(running.called)

        spin(self.reactor, has_ended)
        outcome(self.reactor, running)

    def close(self) -> None:
        """Stop the server."""
        self.dead.close()
        outcome(self.reactor, maybeDeferred(self._listening.stopListening))


@pytest.fixture
def scene(clocked: ClockedReactor, tmp_path: Path) -> Iterator[Scene]:
    """Return a scene in which repeats come soon."""
    scene = Scene(clocked, tmp_path)
    yield scene
    scene.close()


def test_port_of_the_dead_client_is_used_first() -> None:
    """A transfer that repeats its request uses another port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 0))
        address = dead.getsockname()
        with pytest.raises(OSError, match="in use"):
            TakenPorts(address[1]).open(("127.0.0.1", 69))
    ports = TakenPorts(address[1])
    assert not ports.is_fixed
    with ports.open(("127.0.0.1", 69)) as first, ports.open(("127.0.0.1", 69)) as second:
        assert first.getsockname() == address
        assert second.getsockname() != address


@pytest.mark.parametrize("kind", DEAD)
def test_requests_of_dead_clients_are_well_formed(kind: str) -> None:
    """All requests of one dead client are different."""
    asked = requests(kind, 7)
    assert len(set(asked)) == len(asked) == (4 if kind == "several" else 1)
    for request in asked:
        wire.parse_request(request)


def test_dead_socket_counts_datagrams_and_answers_none(reactor: Any) -> None:
    """It reports when enough datagrams have arrived, and closes at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        dead = DeadSocket(reactor, server.getsockname())
        dead.ask([b"one", b"two"])
        for expected in (b"one", b"two"):
            datagram, address = server.recvfrom(100)
            assert (datagram, address) == (expected, ("127.0.0.1", dead.port))
            server.sendto(b"answer", address)
        outcome(reactor, dead.when_heard(2))
        assert dead.asked_at <= dead.heard_at[0] <= dead.heard_at[1]
        outcome(reactor, dead.when_heard(1))  # it has arrived already
        dead.close()
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.recvfrom(100)


def test_dead_client_stops_waiting_after_some_seconds(reactor: Any) -> None:
    """The server may be too busy to answer."""
    dead = DeadSocket(reactor, ("127.0.0.1", 9), longest=0.01)
    with pytest.raises(NotHeard):
        outcome(reactor, dead.when_heard(1))
    dead.close()


@pytest.mark.parametrize("heard", [0, 1])
@pytest.mark.parametrize("slow_disk", [False, True])
@pytest.mark.parametrize("wanted", ["missing", "read-3000"])
def test_wrong_answer_is_counted_and_described(
    scene: Scene, heard: int, slow_disk: bool, wanted: str
) -> None:
    """The honest client uses the dead client's port, and the file that it gets is compared."""
    scene.one(heard=heard, slow_disk=slow_disk, wanted=wanted)
    (_, dead), (request, honest), *_ = scene.server.asked
    assert honest == dead
    assert wire.parse_request(request).filename.startswith(wanted.encode())
    assert (scene.dead.taken, scene.dead.missed) == (1, 0)
    assert scene.dead.wrong.counts == {f"{wanted} after a read": 1}
    assert scene.dead.summary() == (
        "dead clients: 1 ports taken again, 1 wrong answers, 0 failed cleanly"
    )
    described, _ = scene.dead.problems()
    assert f"link 127.0.0.1:{dead[1]} with 127.0.0.1:" in described
    assert "DATA 1, 1 octets: 31" in described


@pytest.mark.parametrize("slow_disk", [False, True])
def test_acknowledged_upload_that_is_not_stored_is_wrong(scene: Scene, slow_disk: bool) -> None:
    """The server may have stored it under the name that the dead client asked for."""
    scene.server.answer = wire.ack(0)
    scene.one(dead="a write", wanted="upload", slow_disk=slow_disk)
    assert scene.dead.wrong.counts == {"upload after a write": 1}
    assert "upload-1 was stored elsewhere" in scene.dead.problems()[0]


def test_few_clean_failures_are_no_complaint(scene: Scene) -> None:
    """Up to one failure in twenty transfers is accepted."""
    scene.server.answer = b"\0\5\0\2no\0"
    scene.one(heard=1)
    assert scene.dead.problems()[0] == "dead clients: 1 failed cleanly"
    scene.dead.taken = 20
    assert scene.dead.problems() == []
    assert "20 ports taken again, 0 wrong answers, 1 failed" in scene.dead.summary()


def test_missing_file_is_the_expected_answer(scene: Scene) -> None:
    """An ERROR for a file that does not exist is not a problem."""
    scene.server.answer = b"\0\5\0\1no such file\0"
    scene.one(is_queued=True)
    assert scene.dead.taken == 1
    assert scene.dead.problems() == []


def test_slow_files_are_opened_late(tmp_path: Path) -> None:
    """Only files whose names begin with `SLOW` are opened after a delay."""
    (tmp_path / "file").write_bytes(b"content")
    clock = Clock()
    backend = SlowBackend(clock, str(tmp_path), "overwrite", in_thread=maybeDeferred)
    network = MemoryNetwork(backend)
    assert network.fetch("file") == b"content"
    for opcode in (wire.Opcode.RRQ, wire.Opcode.WRQ):
        link = network.request(opcode, SLOW + "file")
        clock.advance(DELAY[0] / 2)
        assert not link.sent
        clock.advance(DELAY[1])
        assert link.sent


def test_slow_threads_delay_each_call(reactor: Any) -> None:
    """The call returns its result after the delay."""
    pool = reactor.getThreadPool()
    pool.start()
    began = time.monotonic()
    assert outcome(reactor, slow_threads(reactor)(len, "three")) == 5
    assert time.monotonic() - began >= DELAY[0]
    pool.stop()
