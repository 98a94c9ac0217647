"""Tests of reading the configuration again while the service runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

import twisted_tftp.config.build
import twisted_tftp.config.reload
from tests.support.deferreds import results_of, value
from tests.support.logs import captured_log
from tests.support.reactors import outcome, reactor
from twisted_tftp.backends import FilesystemBackend, MemoryBackend
from twisted_tftp.config.reload import MAX_READING_TIME, MAX_THREADS, Reloader
from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.hooks import HookSettings
from twisted_tftp.server.service import TFTPService

__all__ = ["reactor"]


class Service:
    """A service that records the configurations that it gets.

    @ivar fixed: what it says can't change.
    @ivar running: whether it has not begun to stop.
    """

    running = True
    configuration = Configuration(MemoryBackend())

    def __init__(self) -> None:
        self.given: list[Configuration] = []
        self.fixed: list[str] = []

    def reconfigure(self, configuration: Configuration, *, is_checked: bool) -> list[str]:
        assert is_checked
        self.given.append(configuration)
        return self.fixed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tftp.toml"
    path.write_text(f'[tftp]\nroot = "{tmp_path}"\ntimeout = 2\n')
    return path


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return the lines that are logged."""
    with captured_log() as found:
        yield found


class Waiting:
    """Calls that wait for a thread."""

    def __init__(self) -> None:
        self._calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._calls.append((done, lambda: function(*arguments)))
        return done

    @property
    def count(self) -> int:
        return len(self._calls)

    def run(self) -> None:
        """Make the only call that waits."""
        self.begin()()

    def begin(self) -> Callable[[], None]:
        """Make the only call that waits; return a function that delivers its result."""
        done, call = self.take()
        try:
            result = call()
        except Exception:
            result = Failure()
        return lambda: done.callback(result)

    def take(self) -> tuple[Deferred[Any], Callable[[], Any]]:
        """Return the only call that waits, with the Deferred of its result."""
        assert self.count == 1
        return self._calls.pop()


def reloader(service: Any, path: Path, **options: Any) -> Reloader:
    options.setdefault("in_thread", maybeDeferred)
    return Reloader(service, {"retries": "5"}, str(path), reactor=Clock(), **options)


def test_service_gets_what_the_file_says_now(path: Path) -> None:
    """The options of the command line hold too."""
    service = Service()
    reload = reloader(service, path).reload
    value(reload())
    path.write_text(path.read_text().replace("timeout = 2", "timeout = 3"))
    value(reload())
    assert [each.policy.timeout for each in service.given] == [2, 3]
    assert [each.policy.retries for each in service.given] == [5, 5]


@pytest.mark.parametrize(
    "text", ["[", "[tftp]\nport = 'x'", "[tftp]\nroot = '/missing'", "[tftp]\nbackend = 'x:'"]
)
def test_invalid_file_changes_nothing(path: Path, text: str, lines: list[str]) -> None:
    """The log has the file and the line; the service can be given a correct file later."""
    service = Service()
    reload = reloader(service, path, note="in a chroot").reload
    valid = path.read_text()
    path.write_text(text)
    value(reload())
    assert service.given == []
    mistake, kept = lines
    assert mistake.startswith(f"{path}:")
    assert kept == "SIGHUP: the old configuration stays in use (in a chroot)"
    path.write_text(valid)
    value(reload())
    assert len(service.given) == 1


def test_rate_of_all_transfers_holds_across_reloads(path: Path, reactor: Any) -> None:
    """Old and new transfers share one limit, unless it has another value now."""
    service = TFTPService(MemoryBackend(), port=0, host=["127.0.0.1"], reactor=reactor)
    service.startService()
    reload = Reloader(service, {}, str(path), reactor=reactor, in_thread=maybeDeferred).reload
    text = path.read_text()
    pacers = []
    for rate in ("1M/s", "1M/s", "2M/s", None, "2M/s"):
        path.write_text(text if rate is None else f'{text}max_rate = "{rate}"\n')
        value(reload())
        pacers.append(getattr(service.backend, "_shared", None))
    first, same, faster, none, again = pacers
    assert first is not None
    assert same is first
    assert faster not in (None, first)
    assert none is None
    assert again not in (None, faster)
    outcome(reactor, service.stopService())


def test_what_needs_a_restart_is_named(path: Path, lines: list[str]) -> None:
    """The names are those of the command line."""
    service = Service()
    service.fixed = ["port", "single_port"]
    value(reloader(service, path).reload())
    assert lines == [
        "SIGHUP: the configuration was read again; new requests use it",
        "SIGHUP: a restart is needed for the new values of port, single-port",
    ]


def test_backend_that_becomes_unavailable_changes_nothing(path: Path, lines: list[str]) -> None:
    """Whatever the service raises is logged, and the next reload is made."""
    service = Service()
    service.reconfigure = lambda *_, **__: fail()  # type: ignore[method-assign,assignment]
    reload = reloader(service, path).reload
    value(reload())
    value(reload())
    assert lines == ["SIGHUP: the old configuration stays in use"] * 2


def fail() -> list[str]:
    raise BackendUnavailable("gone")


def test_signals_during_a_reload_cause_one_more(path: Path, lines: list[str]) -> None:
    """The file may have changed after it was read; the log says that a reload is under way."""
    service, waiting = Service(), Waiting()
    reload = reloader(service, path, in_thread=waiting).reload
    for _ in range(3):
        reload()
    notice = "a reload is still running (0 s); it will be repeated when it ends"
    assert lines == [f"SIGHUP: {notice}"] * 2
    waiting.run()
    path.write_text(path.read_text().replace("timeout = 2", "timeout = 3"))
    reload()  # while the backends are being checked
    for expected in ([2], [2, 3]):
        waiting.run()
        assert [each.policy.timeout for each in service.given] == expected
        if waiting.count:
            waiting.run()
    assert waiting.count == 0
    reload()
    assert waiting.count == 1


@pytest.mark.parametrize("calls", [0, 1])
def test_thread_that_hangs_does_not_block_later_reloads(
    path: Path, lines: list[str], calls: int
) -> None:
    """It reads the files or checks a backend; what it finds at last is ignored."""
    service, waiting, clock = Service(), Waiting(), Clock()
    reloader = Reloader(service, {}, str(path), reactor=clock, in_thread=waiting)  # type: ignore[arg-type]
    reloaded = results_of(reloader.reload())
    for _ in range(calls):
        waiting.run()
    hanging = waiting.begin()
    clock.advance(MAX_READING_TIME - 1)
    reloader.reload()
    assert (waiting.count, lines[-1][-12:]) == (0, "when it ends")
    clock.advance(1)
    path.write_text(path.read_text().replace("timeout = 2", "timeout = 3"))
    reloader.reload()
    assert lines[-1] == (
        "SIGHUP: a reload is still running (30 s), and is abandoned; the files are read again now"
    )
    waiting.run()
    hanging()
    reloader.reload()
    assert lines[-1].startswith("SIGHUP: a reload is still running (0 s); ")
    for _ in range(3):
        waiting.run()
    assert [each.policy.timeout for each in service.given] == [3, 3]
    assert reloaded == [None]


def test_call_that_has_not_begun_can_be_abandoned(path: Path, lines: list[str]) -> None:
    """It waits for a free thread, and does not read the files when it gets one."""
    service, waiting, clock = Service(), Waiting(), Clock()
    reloader = Reloader(service, {}, str(path), reactor=clock, in_thread=waiting)  # type: ignore[arg-type]
    reloader.reload()
    _, call = waiting.take()
    clock.advance(MAX_READING_TIME)
    reloader.reload()
    assert lines[-1].endswith("the files are read again now")
    with pytest.raises(CancelledError):
        call()


def test_signals_while_all_threads_hang_start_no_call(path: Path, lines: list[str]) -> None:
    """One reload is made when a call returns, with the files as they are then."""
    service, waiting, clock = Service(), Waiting(), Clock()
    reloader = Reloader(service, {}, str(path), reactor=clock, in_thread=waiting)  # type: ignore[arg-type]
    hanging = []
    for _ in range(MAX_THREADS):
        reloader.reload()
        hanging.append(waiting.begin())
        clock.advance(MAX_READING_TIME)
    assert lines[-1].endswith("the files are read again now")
    for seconds in (30, 60):
        reloader.reload()
        assert waiting.count == 0
        assert lines[-1] == (
            f"SIGHUP: a reload is still running ({seconds} s), and no thread is left: 4 calls "
            "have not ended; it will be repeated when it ends"
        )
        clock.advance(MAX_READING_TIME)
    hanging.pop(0)()
    assert (waiting.count, service.given) == (0, [])  # its reload was abandoned
    reloader.reload()
    assert lines[-1].endswith("the files are read again now")
    path.write_text(path.read_text().replace("timeout = 2", "timeout = 3"))
    for _ in range(2):
        waiting.run()
    for call in hanging:
        call()
    assert waiting.count == 0
    assert [each.policy.timeout for each in service.given] == [3]


def test_reload_is_repeated_when_the_last_thread_returns(path: Path) -> None:
    """The signals that came while no thread was left are not forgotten."""
    service, waiting, clock = Service(), Waiting(), Clock()
    reloader = Reloader(service, {}, str(path), reactor=clock, in_thread=waiting)  # type: ignore[arg-type]
    for _ in range(MAX_THREADS):
        reloader.reload()
        returned = waiting.begin()
        clock.advance(MAX_READING_TIME)
    reloader.reload()
    path.write_text(path.read_text().replace("timeout = 2", "timeout = 3"))
    returned()
    for _ in range(3):
        waiting.run()
    assert waiting.count == 0
    assert [each.policy.timeout for each in service.given] == [2, 3]


@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("is_valid", [True, False])
def test_stop_ends_a_reload(path: Path, lines: list[str], calls: int, is_valid: bool) -> None:
    """Whatever the thread is doing then; a configuration that nobody needs has no mistakes."""
    service, waiting = Service(), Waiting()
    reloaded = results_of(reloader(service, path, in_thread=waiting).reload())
    for number in range(calls):
        if number == calls - 1:
            service.running = False
            if not is_valid:
                path.write_text("[")
        waiting.run()
    if not calls:
        service.running = False
        waiting.run()
    assert reloaded == [None]
    assert waiting.count == 0
    assert service.given == []
    assert lines == ["SIGHUP: the service is stopping; its configuration stays as it is"]


def test_what_may_block_is_done_in_a_thread(
    path: Path, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read and backends are checked there; backends are made in the reactor's thread."""
    service = TFTPService(MemoryBackend(), port=0, host=["127.0.0.1"], reactor=reactor)
    service.startService()
    threads: dict[str, threading.Thread] = {}

    def note(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            assert name not in threads, f"{name} is called twice"
            threads[name] = threading.current_thread()
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, call)

    note(FilesystemBackend, "__init__")
    note(FilesystemBackend, "check")
    note(twisted_tftp.config.reload, "load_settings")
    note(twisted_tftp.config.build, "name_steps")
    note(HookSettings, "problems")
    reload = Reloader(service, {}, str(path), reactor=reactor).reload
    outcome(reactor, reload())
    assert service.configuration.policy.timeout == 2
    assert threads.pop("__init__") is threading.current_thread()
    assert len(threads) == 4
    assert threading.current_thread() not in threads.values()
    assert all(thread.daemon for thread in threads.values())
    outcome(reactor, service.stopService())
    reactor.fireSystemEvent("shutdown")


def test_service_that_stops_is_left_alone(path: Path, lines: list[str]) -> None:
    """The log does not say that new requests use the configuration: there are none."""
    service = Service()
    service.running = False
    value(reloader(service, path).reload())
    assert service.given == []
    assert lines == ["SIGHUP: the service is stopping; its configuration stays as it is"]
