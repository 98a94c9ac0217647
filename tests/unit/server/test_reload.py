"""Test that a running service takes another configuration, with real sockets on the loopback."""

from __future__ import annotations

import dataclasses
import resource
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tests.support.logs import captured_log
from tests.support.packets import ack, data, rrq, wrq
from tests.support.reactors import outcome, reactor, spin
from tests.support.ruled_network import network_rule
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.context import Outcome, TransferContext
from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.interfaces import IBackendLifecycle
from twisted_tftp.policy import Policy, UploadSettings, WriteMode
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.server.access import Access
from twisted_tftp.server.client_rules import ClientRules
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.transfer_log import TransferLog
from twisted_tftp.testing import MemoryNetwork, Recorder

__all__ = ["reactor"]

HOST = "127.0.0.1"


@implementer(IBackendLifecycle)
class Store(MemoryBackend):
    """A backend of one file of three blocks, which records the calls of its lifecycle.

    @ivar calls: the calls of this store, and of others with the same list.
    @ivar stopped: what `stop` returns.
    """

    def __init__(self, name: str, calls: list[str] | None = None) -> None:
        super().__init__({"f": name.encode() * 1100}, "create")
        self.name = name
        self.calls: list[str] = [] if calls is None else calls
        self.contexts: list[TransferContext] = []
        self.stopped: Deferred[None] | None = None
        self.is_available = True

    def block(self, number: int) -> bytes:
        """Return the DATA packet of a block of the file."""
        return data(number, (self.name.encode() * 1100)[512 * number - 512 : 512 * number])

    def open_writer(self, path: str, context: TransferContext) -> Any:
        self.contexts.append(context)
        return super().open_writer(path, context)

    def check(self) -> None:
        self.calls.append(f"check {self.name}")
        if not self.is_available:
            raise BackendUnavailable(f"{self.name} is away")

    def start(self) -> None:
        self.calls.append(f"start {self.name}")

    def forget(self) -> None:
        self.calls.append(f"forget {self.name}")

    def stop(self) -> Deferred[None] | None:
        self.calls.append(f"stop {self.name}")
        return self.stopped


class Client:
    """A client's socket."""

    def __init__(self, reactor: Any, server: Any) -> None:
        self._reactor = reactor
        self._server = server
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind((HOST, 0))
        self._transfer: Any = None

    def ask(self, datagram: bytes) -> bytes:
        """Send a request; return the first answer."""
        self._sock.sendto(datagram, self._server)
        return self.answer()

    def send(self, datagram: bytes) -> bytes:
        """Send a datagram to the transfer that has answered; return its next answer."""
        self._sock.sendto(datagram, self._transfer)
        return self.answer()

    def answer(self) -> bytes:
        """Return the next datagram of the server."""
        received: list[bytes] = []

        def receive() -> list[bytes]:
            try:
                datagram, self._transfer = self._sock.recvfrom(2000)
                received.append(datagram)
            except BlockingIOError:
                pass
            return received

        spin(self._reactor, receive, 5)
        return received[0]

    def end(self) -> None:
        """Acknowledge the last block of the file."""
        self._sock.sendto(ack(3), self._transfer)

    def request_without_answer(self, datagram: bytes) -> None:
        """Send a request that is dropped."""
        self._sock.sendto(datagram, self._server)

    def close(self) -> None:
        self._sock.close()


class Running:
    """A running service and its clients.

    @ivar old: its first backend.
    """

    def __init__(self, reactor: Any, **policy: Any) -> None:
        self.reactor = reactor
        self.calls: list[str] = []
        self.old = Store("a", self.calls)
        self.recorder = Recorder()
        first = Configuration(
            self.old, Policy(**policy), self.recorder, port=0, host=(HOST,), drain=0
        )
        self.service = TFTPService.from_configuration(first, reactor)
        self.service.startService()
        self.address = (HOST, self.service.ports[0].getHost().port)
        self._clients: list[Client] = []

    def client(self) -> Client:
        """Return a new client."""
        client = Client(self.reactor, self.address)
        self._clients.append(client)
        return client

    def store(self, name: str) -> Store:
        """Return another backend, which records into the same list."""
        return Store(name, self.calls)

    def change(self, backend: Any = None, **values: Any) -> list[str]:
        """Reconfigure the service; what is not given stays."""
        present = self.service.configuration
        backend = present.backend if backend is None else backend
        return self.service.reconfigure(dataclasses.replace(present, backend=backend, **values))

    def spin(self, until: Any) -> None:
        spin(self.reactor, until, 5)

    def counters(self) -> Any:
        return self.service.servers[0].counters

    def close(self) -> None:
        for client in self._clients:
            client.close()
        outcome(self.reactor, self.service.stopService())


@pytest.fixture
def running(reactor: Any) -> Iterator[Running]:
    """Return a running service."""
    running = Running(reactor)
    yield running
    running.close()


def test_new_requests_get_the_new_configuration(running: Running) -> None:
    """Running transfers end as they began: with their backend, policy and observer."""
    first, second = running.client(), running.client()
    new, recorder = running.store("b"), Recorder()
    assert first.ask(rrq(b"f")) == running.old.block(1)
    running.change(new, policy=Policy(max_blksize=100), observer=recorder)
    assert second.ask(rrq(b"f", blksize="900")) == b"\0\6blksize\x00100\0"
    assert second.send(ack(0)) == data(1, b"b" * 100)
    assert first.send(ack(1)) == running.old.block(2)
    assert first.send(ack(2)) == running.old.block(3)
    first.end()
    running.spin(lambda: running.recorder.outcomes)
    assert running.recorder.outcomes == [Outcome.COMPLETED]
    assert [event for event, _ in recorder.events] == ["started"]


def test_backend_stops_after_its_last_transfer(running: Running) -> None:
    """The new backend is checked and started first; the old one is stopped once."""
    clients = [running.client(), running.client()]
    for client in clients:
        client.ask(rrq(b"f"))
    del running.calls[:]
    running.change(running.store("b"))
    assert running.calls == ["check b", "start b"]
    for number, client in enumerate(clients, 1):
        client.send(ack(1))
        client.send(ack(2))
        client.end()
        running.spin(lambda number=number: len(running.recorder.outcomes) == number)
        assert running.calls == ["check b", "start b"] + ["stop a"] * (number == 2)


def test_unused_backend_stops_at_once(running: Running) -> None:
    """Without a transfer, nothing is waited for."""
    del running.calls[:]
    running.change(running.store("b"))
    assert running.calls == ["check b", "start b", "stop a"]


def test_upload_keeps_its_backend_until_it_is_released(running: Running) -> None:
    """A complete upload dallies: its backend is stopped after that."""
    client = running.client()
    assert client.ask(wrq(b"new")) == ack(0)
    running.change(running.store("b"))
    assert client.send(data(1, b"octets")) == ack(1)
    assert running.recorder.outcomes == [Outcome.COMPLETED]
    assert "stop a" not in running.calls
    assert running.old.files["new"] == b"octets"


def test_same_backend_goes_on(running: Running) -> None:
    """It is neither checked nor started nor stopped, also if it was replaced meanwhile."""
    client = running.client()
    client.ask(rrq(b"f"))
    del running.calls[:]
    running.change(policy=Policy(max_windowsize=1))
    running.change(policy=Policy(max_windowsize=2))
    assert running.calls == []
    new = running.store("b")
    running.change(new)
    running.change(running.old)
    assert running.calls == ["check b", "start b", "check a", "stop b"]
    client.send(ack(1))
    client.send(ack(2))
    client.end()
    running.spin(lambda: running.recorder.outcomes)
    assert "stop a" not in running.calls


def test_unavailable_backend_changes_nothing(running: Running) -> None:
    """The old configuration stays, and its backend serves."""
    new = running.store("b")
    new.is_available = False
    before = running.service.configuration
    with pytest.raises(BackendUnavailable, match="b is away"):
        running.change(new, policy=Policy(max_blksize=100))
    assert running.service.configuration is before
    assert running.client().ask(rrq(b"f")) == running.old.block(1)
    assert running.calls == ["check a", "start a", "check b"]


def test_what_sockets_have_does_not_change(running: Running) -> None:
    """The names are returned for a warning; all other values change."""
    policy = Policy(
        single_port=True, interface="lo", freebind=True, broadcast=True, max_blksize=100
    )
    assert running.change(port=70, host=("::1",), policy=policy) == [
        *("host", "port", "interface", "freebind", "broadcast", "single_port"),
    ]
    assert running.change(policy=Policy(port_range=(5000, 5010))) == ["port_range"]
    assert running.change(policy=Policy(max_blksize=100)) == []
    assert running.client().ask(rrq(b"f", blksize="900")) == b"\0\6blksize\x00100\0"


def test_observer_stays_by_default(running: Running) -> None:
    """A configuration without an observer keeps the present one."""
    running.change(observer=None)
    running.client().ask(rrq(b"f"))
    assert len(running.recorder.events) == 1


def test_rules_for_uploads_and_clients_change(running: Running) -> None:
    """They are those of the new configuration, also for a host that asked before."""
    client = running.client()
    assert client.ask(wrq(b"one")) == ack(0)
    running.change(uploads=UploadSettings(WriteMode.CREATE, keep=2))
    assert running.client().ask(wrq(b"two")) == ack(0)
    running.change(client_rules=(network_rule("127.0.0.0/8", write=WriteMode.OVERWRITE),))
    assert running.client().ask(wrq(b"three")) == ack(0)
    running.change(client_rules=(network_rule("127.0.0.0/8", write=WriteMode.NEVER),))
    assert running.client().ask(wrq(b"four"))[:4] == b"\0\5\0\2"
    running.change(client_rules=())
    assert running.client().ask(wrq(b"five")) == ack(0)
    assert [context.uploads for context in running.old.contexts] == [
        None,
        UploadSettings(WriteMode.CREATE, keep=2),
        UploadSettings(WriteMode.OVERWRITE, keep=2),
        UploadSettings(WriteMode.CREATE, keep=2),
    ]


def test_lower_limits_of_a_client_hold_for_its_next_transfers(running: Running) -> None:
    """Its running transfer keeps the size of its blocks, although the host is known already."""
    content = running.old.name.encode() * 1100
    running.change(client_rules=(network_rule("127.0.0.0/8", max_blksize=800),))
    first, second = running.client(), running.client()
    assert first.ask(rrq(b"f", blksize="900")) == b"\0\6blksize\x00800\0"
    running.change(client_rules=(network_rule("127.0.0.0/8", max_blksize=100),))
    assert second.ask(rrq(b"f", blksize="900")) == b"\0\6blksize\x00100\0"
    assert first.send(ack(0)) == data(1, content[:800])
    assert first.send(ack(1)) == data(2, content[800:])
    first.request_without_answer(b"\0\4\0\2")
    running.change(client_rules=())
    assert running.client().ask(rrq(b"f", blksize="900")) == b"\0\6blksize\x00900\0"


@pytest.mark.parametrize("rules", [2, 1])
def test_configuration_that_is_not_valid_is_not_made(running: Running, rules: int) -> None:
    """Two rules for one network, or a root that no function can make a backend for."""
    rule = network_rule("127.0.0.0/8", root="/lab")
    with pytest.raises(ValueError, match="client rule"):
        Configuration(running.old, client_rules=(rule,) * rules)


def test_networks_change(running: Running) -> None:
    """A host that was allowed before is denied now."""
    assert running.client().ask(rrq(b"f")) == running.old.block(1)
    running.change(policy=Policy(deny=(ip_network("127.0.0.0/8"),)))
    running.client().request_without_answer(rrq(b"f"))
    running.spin(lambda: running.counters().denied == 1)
    running.change(policy=Policy())
    assert running.client().ask(rrq(b"f")) == running.old.block(1)
    assert running.counters().denied == 1


def test_repeated_request_is_recognised_after_a_reload(running: Running) -> None:
    """It gets the answer of its transfer again, and no transfer with the new backend."""
    client = running.client()
    assert client.ask(rrq(b"f")) == running.old.block(1)
    running.change(running.store("b"))
    assert client.ask(rrq(b"f")) == running.old.block(1)
    assert running.counters().repeated == 1
    assert len(running.recorder.events) == 1


def test_overtaken_request_is_recognised_after_a_reload(running: Running) -> None:
    """A request that a newer one has replaced is still dropped."""
    client = running.client()
    client.ask(rrq(b"f"))
    assert client.ask(rrq(b"f", b"netascii"))[:4] == b"\0\3\0\1"
    running.change(running.store("b"))
    client.request_without_answer(rrq(b"f"))
    running.spin(lambda: running.counters().repeated == 1)
    assert len([event for event, _ in running.recorder.events if event == "started"]) == 2


def test_transfers_of_a_client_stay_counted(reactor: Any) -> None:
    """The limit for each client includes the transfers of the old configuration."""
    running = Running(reactor, max_per_client=2)
    running.client().ask(rrq(b"f"))
    running.change(running.store("b"), policy=Policy(max_per_client=1))
    running.client().request_without_answer(rrq(b"f"))
    running.spin(lambda: running.counters().over_max_per_client == 1)
    running.close()


def test_rate_that_stays_goes_on_counting(reactor: Any) -> None:
    """Reloads give nobody more requests; another rate starts with full buckets."""
    running = Running(reactor, rate=0.01)
    assert running.client().ask(rrq(b"f"))
    running.change(policy=Policy(rate=0.01, max_windowsize=3))
    running.client().request_without_answer(rrq(b"f"))
    running.spin(lambda: running.counters().over_rate == 1)
    running.change(policy=Policy(rate=0.02))
    assert running.client().ask(rrq(b"f"))
    running.close()


def test_limit_for_silent_hosts_goes_on_counting(reactor: Any) -> None:
    """Neither the octets sent to silent hosts nor the hosts that have answered are forgotten."""
    running = Running(reactor, unproven_rate=100)
    for _ in range(2):
        assert running.client().ask(rrq(b"f"))
    running.change(running.store("b"), policy=Policy(unproven_rate=100))
    running.client().request_without_answer(rrq(b"f"))
    running.spin(lambda: running.counters().over_unproven_rate == 1)
    running.change(policy=Policy(unproven_rate=0))
    client = running.client()
    assert client.ask(rrq(b"f"))
    running.change(policy=Policy(unproven_rate=101))
    assert running.client().ask(rrq(b"f"))
    running.close()


def test_stop_ends_the_backends_that_are_left(reactor: Any) -> None:
    """Each is stopped once; the stop of the service waits for all of them."""
    running = Running(reactor)
    stopped: list[Any] = []
    stores = [running.old, running.store("b"), running.store("c")]
    clients = []
    for store in stores:
        if store is not running.old:
            running.change(store)
        store.stopped = Deferred()
        clients.append(running.client())
        clients[-1].ask(rrq(b"f"))
    running.service.stopService().addBoth(stopped.append)
    calls = running.calls
    running.spin(lambda: len([call for call in calls if call.startswith("stop")]) == 3)
    assert sorted(calls[-3:]) == ["stop a", "stop b", "stop c"]
    for store in stores:
        assert not stopped
        assert store.stopped is not None
        store.stopped.callback(None)
    running.spin(lambda: stopped)
    for client in clients:
        client.close()
    reactor.iterate(0)


def test_stop_of_an_old_backend_has_limited_time(reactor: Any) -> None:
    """A backend that never stops is reported, and delays nothing."""
    running = Running(reactor)
    running.change(grace=0.05)
    running.old.stopped = Deferred()
    with captured_log() as lines:
        running.change(running.store("b"))
        running.spin(lambda: any("took too long" in str(line) for line in lines))
    assert running.client().ask(rrq(b"f"))[4:5] == b"b"
    running.close()


def test_lines_of_an_earlier_log_are_written(reactor: Any) -> None:
    """A log that was replaced writes the lines that it has collected."""
    running = Running(reactor)
    running.change(observer=TransferLog(reactor=reactor))
    with captured_log() as lines:
        client = running.client()
        for _ in range(2):
            client.ask(rrq(b"f"))
            client.send(ack(1))
            client.send(ack(2))
            client.end()
            running.spin(lambda: not running.service.transfers.running)
        assert sum("completed" in str(line) for line in lines) == 1
        running.change(observer=running.recorder)
    assert sum(str(line).count("completed") for line in lines) == 2
    running.close()


def test_limit_of_descriptors_is_raised_for_more_transfers(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is too low for the new `max_transfers` is logged."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (4096, 4096))
    with captured_log() as lines:
        running.change(policy=Policy(max_transfers=9000))
        assert lines == []
        running.change(policy=Policy(max_transfers=20_000))
    assert len(lines) == 1
    assert "lower `--max-transfers`" in lines[0]


def test_server_that_stops_still_drops_requests() -> None:
    """A server that is reconfigured while it stops does not start again."""
    net = MemoryNetwork(MemoryBackend({"f": b"old"}))
    server = net.server
    new = Configuration(MemoryBackend({"f": b"new"}), observer=net.recorder)
    server.reconfigure(new, server.shared)
    assert net.fetch("f") == b"new"
    server.is_accepting = False
    server.reconfigure(new, server.shared)
    net.request(Opcode.RRQ, "f")
    assert len(net.links) == 1


def test_hosts_of_a_flood_stay_known() -> None:
    """In a flood, a host that has asked before a reload is served when it asks again."""
    rules = ClientRules()
    earlier = Access(Policy(), rules)
    assert not earlier.recent_hosts.add(HOST, 1.0)
    assert Access(Policy(rate=1.0), rules, earlier).recent_hosts.add(HOST, 2.0)


def test_service_that_stops_takes_no_configuration(reactor: Any) -> None:
    """A new backend would be started, and never used."""
    running = Running(reactor)
    stopped: list[Any] = []
    running.client().ask(rrq(b"f"))
    running.service.stopService().addBoth(stopped.append)
    assert running.change(running.store("b"), port=70) == []
    running.spin(lambda: stopped)
    assert running.calls == ["check a", "start a", "stop a"]
    running.close()


def test_reload_clears_the_caches_of_the_present_backend(running: Running) -> None:
    """The earlier one only ends its transfers."""
    running.change(running.store("b"))
    del running.calls[:]
    running.service.reload()
    assert running.calls == ["forget b"]
