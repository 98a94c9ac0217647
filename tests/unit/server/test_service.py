"""Tests of the service: it binds its ports, serves, drains and stops."""

from __future__ import annotations

import errno
import resource
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from tests.support.daemon import free_port
from tests.support.logs import captured_log
from tests.support.reactors import reactor, spin
from tests.support.sockets import SocketWithoutIPv6
from twisted_tftp.backends import FilesystemBackend, MemoryBackend, ReadOnlyBackend
from twisted_tftp.config.service import make_service
from twisted_tftp.config.settings import parse_settings
from twisted_tftp.context import Outcome
from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.interfaces import IBackendLifecycle, IContentCheck, NoLifecycle
from twisted_tftp.net.offload import description
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.server.backend_check import NamedBackend
from twisted_tftp.server.configuration import DEFAULT_GRACE
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.start_error import StartError
from twisted_tftp.testing import Recorder

__all__ = ["reactor"]


def rrq(filename: bytes = b"f") -> bytes:
    return wire.encode_request(wire.Request(Opcode.RRQ, filename, "octet", {}))


def logged_at_start(reactor: Any) -> list[Any]:
    """Return the log events of a service that binds its port."""
    events: list[Any] = []
    service = TFTPService(MemoryBackend({}), port=0, host=["127.0.0.1"], reactor=reactor)
    globalLogPublisher.addObserver(events.append)
    try:
        service.privilegedStartService()
    finally:
        globalLogPublisher.removeObserver(events.append)
    stopped: list[Any] = []
    service.stopService().addBoth(stopped.append)
    spin(reactor, lambda: stopped)
    return events


@pytest.mark.parametrize("refused", [False, True])
def test_limit_of_descriptors_is_raised_if_possible(
    reactor: Any, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system refuses, the service logs a warning and runs with the present limit."""
    asked: list[int] = []

    def setrlimit(kind: int, limits: tuple[int, int]) -> None:
        if refused:
            raise ValueError("not allowed to raise maximum limit")  # Python raises this for EPERM
        asked.append(limits[0])

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1_000_000))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    events = logged_at_start(reactor)
    assert asked == ([] if refused else [30_200])
    assert [event["limit"] for event in events] == ([1024] if refused else [])


@pytest.mark.parametrize(("limit", "level"), [(1024, LogLevel.warn), (4096, LogLevel.info)])
def test_few_descriptors_are_a_warning_below_a_thousand_transfers(
    reactor: Any, limit: int, level: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line contains the possible number of transfers, and what to do."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    events = logged_at_start(reactor)
    (event,) = events
    assert event["log_level"] is level
    assert event["possible"] == (limit - 200) // 3
    text = formatEvent(event)
    assert text is not None
    assert "ulimit -n" in text


def test_each_address_is_announced_once(reactor: Any) -> None:
    """One log line for each address contains its port."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    service = TFTPService(
        MemoryBackend({}), port=0, host=["127.0.0.1", "127.0.0.2"], reactor=reactor
    )
    try:
        service.startService()
        ports = [port.getHost().port for port in service.ports]
    finally:
        globalLogPublisher.removeObserver(events.append)
    lines = [formatEvent(event) or "" for event in events]
    for port in ports:
        assert sum(str(port) in line for line in lines) == 1
    stopped: list[Any] = []
    service.stopService().addBoth(stopped.append)
    spin(reactor, lambda: stopped)


def test_start_says_once_whether_the_c_module_is_used(reactor: Any) -> None:
    """The line comes before the addresses, also if there are two of them."""
    service = TFTPService(
        MemoryBackend({}), port=0, host=["127.0.0.1", "127.0.0.2"], reactor=reactor
    )
    with captured_log() as lines:
        service.startService()
    described = [line for line in lines if line.startswith(("downloads", "serving"))]
    assert described[0] == description()
    assert [line.partition(" ")[0] for line in described] == ["downloads", "serving", "serving"]
    stopped: list[Any] = []
    service.stopService().addBoth(stopped.append)
    spin(reactor, lambda: stopped)


class Running:
    """A service on loopback, and a client's socket."""

    def __init__(self, reactor: Any, **options: Any) -> None:
        self.reactor = reactor
        self.recorder = Recorder()
        self.service = TFTPService(
            options.pop("backend", None) or MemoryBackend({"f": bytes(700)}),
            port=0,
            host=options.pop("host", ["127.0.0.1"]),
            reactor=reactor,
            observer=self.recorder,
            **options,
        )
        self.service.startService()
        self.address = ("127.0.0.1", self.service.ports[0].getHost().port)
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.bind(("127.0.0.1", 0))
        self.client.setblocking(False)

    def ask(self, datagram: bytes, address: Any = None) -> tuple[bytes, Any]:
        """Send a datagram and return the answer and where it came from."""
        self.client.sendto(datagram, address or self.address)
        return self.answer()

    def answer(self) -> tuple[bytes, Any]:
        got: list[tuple[bytes, Any]] = []

        def receive() -> bool:
            try:
                got.append(self.client.recvfrom(70000))
            except BlockingIOError:
                return False
            return True

        spin(self.reactor, receive)
        return got[0]

    def stop(self) -> list[Any]:
        """Stop the service; return a list that gets an item when it has stopped."""
        stopped: list[Any] = []
        self.service.stopService().addCallback(stopped.append)
        return stopped

    def end(self) -> None:
        stopped = self.stop()
        spin(self.reactor, lambda: stopped)
        self.client.close()


@pytest.mark.parametrize("single_port", [True, False])
def test_service_serves_a_file(reactor: Any, single_port: bool) -> None:
    """A file is fetched over sockets, with own ports of transfers and with a single port."""
    running = Running(reactor, policy=Policy(single_port=single_port))
    datagram, source = running.ask(rrq())
    assert len(datagram) == 516
    assert (source == running.address) is single_port
    datagram, source = running.ask(wire.ack(1), source)
    assert datagram == wire.DATA_HEADERS[2] + bytes(188)
    running.client.sendto(wire.ack(2), source)
    spin(reactor, lambda: running.recorder.outcomes == [Outcome.COMPLETED])
    running.end()


@pytest.mark.parametrize("single_port", [True, False])
def test_stop_waits_for_running_transfers(reactor: Any, single_port: bool) -> None:
    """Running transfers finish, new requests are dropped, and then the service has stopped."""
    running = Running(reactor, policy=Policy(single_port=single_port), drain=30)
    _, source = running.ask(rrq())
    stopped = running.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(rrq(), running.address)
    running.ask(wire.ack(1), source)
    assert not stopped
    running.client.sendto(wire.ack(2), source)
    spin(reactor, lambda: stopped)
    assert running.recorder.outcomes == [Outcome.COMPLETED]
    running.client.close()


@pytest.mark.parametrize("single_port", [True, False])
def test_stop_ends_transfers_after_the_drain_time(reactor: Any, single_port: bool) -> None:
    """The client gets an ERROR."""
    running = Running(reactor, policy=Policy(single_port=single_port), drain=0.05)
    running.ask(rrq())
    stopped = running.stop()
    datagram = running.answer()[0]
    assert wire.parse_error(datagram) == (0, "the server is being stopped")
    spin(reactor, lambda: stopped)
    assert running.recorder.outcomes == [Outcome.CANCELLED]
    running.client.close()


def test_second_signal_may_come_before_the_stop(reactor: Any) -> None:
    """The drain ends at once, and the next start has its usual drain again."""
    running = Running(reactor, drain=3600)
    running.ask(rrq())
    running.service.stop_now()
    stopped = running.stop()
    assert wire.parse_error(running.answer()[0]) == (0, "the server is being stopped")
    spin(reactor, lambda: stopped)
    assert running.recorder.outcomes == [Outcome.CANCELLED]
    running.service.startService()
    address = ("127.0.0.1", running.service.ports[0].getHost().port)
    running.ask(rrq(), address)
    stopped = running.stop()
    for _ in range(5):
        reactor.iterate(0.01)
    assert not stopped
    running.service.stop_now()
    spin(reactor, lambda: stopped)
    running.client.close()


def test_service_may_start_again(reactor: Any) -> None:
    """A service that has stopped can be started again."""
    running = Running(reactor)
    stopped = running.stop()
    spin(reactor, lambda: stopped)
    assert running.service.ports == []
    running.service.startService()
    address = ("127.0.0.1", running.service.ports[0].getHost().port)
    assert len(running.ask(rrq(), address)[0]) == 516
    running.service.transfers.cancel_all("")
    running.end()


def test_every_address_is_bound_by_default(reactor: Any) -> None:
    """Without `host`, there is a socket for IPv4 and one for IPv6."""
    running = Running(reactor, host=())
    assert [port.getHost().host for port in running.service.ports] == ["0.0.0.0", "::"]
    running.end()


def test_system_without_ipv6_serves_ipv4(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing address family is an error only if an address of it was given."""
    monkeypatch.setattr(socket, "socket", SocketWithoutIPv6)
    running = Running(reactor, host=())
    assert [port.getHost().host for port in running.service.ports] == ["0.0.0.0"]
    running.end()
    with pytest.raises(StartError, match="can't listen on ::1 port 0"):
        Running(reactor, host=["::1"])


def test_port_in_use_is_reported_in_one_line(reactor: Any) -> None:
    """Ports that were bound before are closed again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        number = free_port(["127.0.0.1", "127.0.0.2"])
        taken.bind(("127.0.0.2", number))
        service = TFTPService(
            MemoryBackend(), port=number, host=["127.0.0.1", "127.0.0.2"], reactor=reactor
        )
        with pytest.raises(StartError) as caught:
            service.startService()
    assert str(caught.value) == (
        f"tftp: can't listen on 127.0.0.2 port {number}: Address already in use"
    )
    spin(reactor, lambda: not service.ports)
    reactor.iterate(0)


def test_missing_privilege_is_explained(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the ways to bind a port below 1024."""

    class SocketWithoutPrivilege(socket.socket):
        def bind(self, address: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", SocketWithoutPrivilege)
    with pytest.raises(StartError, match="need root or CAP_NET_BIND_SERVICE, or use --port"):
        TFTPService(MemoryBackend(), port=69, reactor=reactor).startService()


def test_missing_root_is_reported_before_a_port_is_bound(reactor: Any, tmp_path: Path) -> None:
    """The error is raised with and without a wrapper around the backend."""
    backend = FilesystemBackend(str(tmp_path / "no"))
    for each in (backend, ReadOnlyBackend(backend)):
        service = TFTPService(each, port=0, reactor=reactor)
        with pytest.raises(StartError, match="is not a directory"):
            service.startService()


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), SystemExit("two\nlines")])
def test_check_that_fails_is_reported_in_one_line(reactor: Any, error: BaseException) -> None:
    """The line names the backend, whatever its check raises; no port is bound."""

    @implementer(IBackendLifecycle)
    class Odd(NoLifecycle, MemoryBackend):
        def check(self) -> None:
            raise error

    backend = Odd()
    for named, name in (((), "Odd"), ((NamedBackend("odd:x", backend),), "odd:x")):
        service = TFTPService(backend, port=0, named_backends=named, reactor=reactor)
        with pytest.raises(StartError) as caught:
            service.startService()
        kind = type(error).__name__
        assert caught.value.text == f"tftp: {name}: its check fails: {kind}: two\\nlines"
        assert service.ports == []


@pytest.mark.parametrize("error", [BackendUnavailable("x.j2: bad"), RuntimeError("x.j2: bad")])
def test_content_is_checked_once_by_the_user_that_serves(reactor: Any, error: Exception) -> None:
    """Not before the privileges of root are given up; if it fails, the ports are closed."""
    calls: list[str] = []
    errors: list[Exception] = [error]

    @implementer(IBackendLifecycle, IContentCheck)
    class Checked(NoLifecycle, MemoryBackend):
        def check(self) -> None:
            calls.append("check")

        def check_content(self) -> None:
            calls.append("check_content")
            if errors:
                raise errors.pop()

        def start(self) -> None:
            calls.append("start")

    service = TFTPService(Checked(), port=0, host=["127.0.0.1"], reactor=reactor)
    service.privilegedStartService()
    assert calls == ["check"]
    with pytest.raises(StartError, match=r"x\.j2: bad"):
        service.startService()
    assert calls == ["check", "check_content"]
    assert service.ports == service.servers == []
    assert not service.running
    service = TFTPService(Checked(), port=0, host=["127.0.0.1"], reactor=reactor)
    service.startService()
    assert calls[2:] == ["check", "check_content", "start"]
    stopped: list[Any] = []
    service.stopService().addBoth(stopped.append)
    spin(reactor, lambda: stopped)


@implementer(IBackendLifecycle)
class RecordingBackend(MemoryBackend):
    """A backend that records the calls of its lifecycle; its start fails."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.stopping: Deferred[None] = Deferred()

    def check(self) -> None:
        self.calls.append("check")

    def start(self) -> None:
        self.calls.append("start")
        raise OSError("a mistake")

    def forget(self) -> None:
        self.calls.append("forget")

    def stop(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopping


@pytest.mark.parametrize("is_hurried", [False, True])
def test_stop_waits_for_the_backend_for_a_limited_time(reactor: Any, is_hurried: bool) -> None:
    """It waits for some seconds, and not at all after a second SIGTERM."""
    backend = RecordingBackend()
    grace = DEFAULT_GRACE if is_hurried else 0.05
    service = TFTPService(backend, port=0, host=["127.0.0.1"], reactor=reactor, grace=grace)
    service.startService()
    stopped: list[Any] = []
    service.stopService().addBoth(stopped.append)
    spin(reactor, lambda: "stop" in backend.calls)
    if is_hurried:
        service.stop_now()
    spin(reactor, lambda: stopped, 5)
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_service_calls_the_lifecycle_of_its_backend(reactor: Any, is_wrapped: bool) -> None:
    """The stop waits for the backend; a failed start of it is logged, and the service goes on."""
    backend = RecordingBackend()
    wrapped = ReadOnlyBackend(backend) if is_wrapped else backend
    service = TFTPService(wrapped, port=0, host=["127.0.0.1"], reactor=reactor)
    service.startService()
    service.reload()
    stopped: list[Any] = []
    service.stopService().addBoth(stopped.append)
    spin(reactor, lambda: "stop" in backend.calls)
    assert backend.calls == ["check", "start", "forget", "stop"]
    assert not stopped
    backend.stopping.callback(None)
    spin(reactor, lambda: stopped)


def test_service_is_made_from_settings(tmp_path: Path) -> None:
    """The settings of the command line reach the service and its backend."""
    service = make_service(
        parse_settings(
            {
                "root": str(tmp_path),
                "port": "6969",
                "cache": "5",
                "drain": "1.5",
                "retries": "3",
            }
        ),
        Clock(),
    )
    assert service.backend.content_cache.capacity == 5
    assert isinstance(service, TFTPService)
    assert service.name == "tftp"


class SlowCommit(MemoryBackend):
    """A store whose commits wait until the test lets them finish."""

    def __init__(self) -> None:
        super().__init__(write="create")
        self.committing: list[Deferred[None]] = []

    def open_writer(self, path: str, context: Any) -> Any:
        writer: Any = super().open_writer(path, context)
        commit = writer.commit

        def later() -> Deferred[None]:
            done: Deferred[None] = Deferred()
            self.committing.append(done)
            return done.addCallback(lambda _: commit())

        writer.commit = later
        return writer


@pytest.mark.parametrize("single_port", [True, False])
def test_commit_may_finish_after_the_stop(reactor: Any, single_port: bool) -> None:
    """The stop does not wait for ever; the file still appears, and the transfer is logged."""
    backend = SlowCommit()
    policy = Policy(single_port=single_port)
    running = Running(reactor, backend=backend, policy=policy, drain=0.05, grace=0.05)
    request = wire.encode_request(wire.Request(Opcode.WRQ, b"new", "octet", {}))
    _, source = running.ask(request)
    running.client.sendto(wire.DATA_HEADERS[1] + b"content", source)
    spin(reactor, lambda: backend.committing)
    transfers = running.service.transfers
    stopped = running.stop()
    spin(reactor, lambda: stopped)
    failures: list[Any] = []
    globalLogPublisher.addObserver(failures.append)
    try:
        backend.committing[0].callback(None)
    finally:
        globalLogPublisher.removeObserver(failures.append)
    assert [event for event in failures if "log_failure" in event] == []
    assert backend.files == {"new": b"content"}
    assert running.recorder.outcomes == [Outcome.COMPLETED]
    assert len(transfers) == 0
    running.client.close()


@pytest.mark.parametrize("single_port", [True, False])
def test_window_of_an_upload_fits_the_socket(reactor: Any, single_port: bool) -> None:
    """The granted window is received completely, whatever window the client requested."""
    backend = MemoryBackend(write="create")
    running = Running(reactor, backend=backend, policy=Policy(single_port=single_port))
    options = {"blksize": "65464", "windowsize": "64"}
    request = wire.encode_request(wire.Request(Opcode.WRQ, b"new", "octet", options))
    datagram, source = running.ask(request)
    windowsize = int(datagram.split(b"\x00")[4])
    assert 1 <= windowsize <= 64
    for number in range(1, windowsize + 1):
        running.client.sendto(wire.DATA_HEADERS[number] + bytes(65464), source)
    assert running.answer()[0] == wire.ack(windowsize)
    running.service.transfers.cancel_all("")
    running.end()


def test_stop_logs_the_count_of_dropped_requests(reactor: Any) -> None:
    """The count of the last minute is not lost."""
    running = Running(reactor, policy=Policy(deny=(ip_network("127.0.0.0/8"),)))
    for _ in range(3):
        running.client.sendto(rrq(), running.address)
    spin(reactor, lambda: running.service.servers[0].counters.denied == 3)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        stopped = running.stop()
        spin(reactor, lambda: stopped)
    finally:
        globalLogPublisher.removeObserver(events.append)
    running.client.close()
    reason = "in --deny"
    counts = [event["count"] for event in events if event.get("reason") == reason]
    assert counts == [2]
