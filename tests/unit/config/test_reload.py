"""Tests of reading the configuration again while the service runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from tests.support.deferreds import value
from tests.support.logs import captured_log
from twisted_tftp.config.reload import Reloader
from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.server.configuration import Configuration


class Service:
    """A service that records the configurations that it gets.

    @ivar fixed: what it says can't change.
    @ivar running: whether it has not begun to stop.
    """

    running = True

    def __init__(self) -> None:
        self.given: list[Configuration] = []
        self.fixed: list[str] = []

    def reconfigure(self, configuration: Configuration) -> list[str]:
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
    service.reconfigure = lambda _: fail()  # type: ignore[method-assign,assignment]
    reload = reloader(service, path).reload
    value(reload())
    value(reload())
    assert lines == ["SIGHUP: the old configuration stays in use"] * 2


def fail() -> list[str]:
    raise BackendUnavailable("gone")


def test_signals_during_a_reload_cause_one_more(path: Path) -> None:
    """The file may have changed after it was read."""
    service = Service()
    waiting: list[tuple[Deferred[Any], Any]] = []

    def in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        waiting.append((done, lambda: function(*arguments)))
        return done

    reload = reloader(service, path, in_thread=in_thread).reload
    for _ in range(5):
        reload()
    for expected in (1, 2):
        assert len(waiting) == 1
        done, read = waiting.pop()
        done.callback(read())
        assert len(service.given) == expected
    assert waiting == []
    reload()
    assert len(waiting) == 1


def test_service_that_stops_is_left_alone(path: Path, lines: list[str]) -> None:
    """The log does not say that new requests use the configuration: there are none."""
    service = Service()
    service.running = False
    value(reloader(service, path).reload())
    assert service.given == []
    assert lines == ["SIGHUP: the service is stopping; its configuration stays as it is"]
