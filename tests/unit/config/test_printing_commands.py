"""Tests of `--explain` as a command: what it prints, its exit status, and what it stops."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.support.deferreds import results_of
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.config import printing_commands
from twisted_tftp.config.build import Built
from twisted_tftp.config.settings import parse_settings
from twisted_tftp.interfaces import IBackendLifecycle, NoLifecycle
from twisted_tftp.server.configuration import DEFAULT_GRACE, Configuration


@implementer(IBackendLifecycle)
class Store(NoLifecycle, MemoryBackend):
    """A backend of one file that takes time to stop.

    @ivar stops: how often it was stopped.
    @ivar stopped: what `stop` returns.
    """

    def __init__(self) -> None:
        super().__init__({"file": b"octets"})
        self.stops = 0
        self.stopped: Deferred[None] = Deferred()

    def stop(self) -> Any:
        self.stops += 1
        return self.stopped


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return the backend that is built from all settings."""
    store = Store()
    built = Built(Configuration(store), ())
    monkeypatch.setattr(printing_commands, "build", lambda *_, **__: built)
    return store


def explain(clock: Clock, host: str = "192.0.2.1", name: str = "file") -> list[Any]:
    """Return a list that gets the result of the command."""
    explained: Any = printing_commands._explain(clock, parse_settings({}), host, name)
    return results_of(explained)


@pytest.mark.parametrize(
    ("host", "name", "code"),
    [("192.0.2.1", "missing", 1), ("nonsense", "file", "tftp: explain must")],
)
def test_backend_is_stopped_before_the_end(store: Store, host: str, name: str, code: Any) -> None:
    """Also if the client would get no file, or the arguments are not valid."""
    ended = explain(Clock(), host, name)
    assert (store.stops, ended) == (1, [])
    store.stopped.callback(None)
    (failure,) = ended
    assert failure.check(SystemExit)
    assert str(failure.value).startswith(str(code))


def test_backend_that_never_stops_is_reported(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is printed nevertheless, after some seconds."""
    clock = Clock()
    ended = explain(clock)
    assert ended == []
    clock.advance(DEFAULT_GRACE)
    assert ended == [None]
    printed = capsys.readouterr()
    assert "found: 6 octets" in printed.out
    assert printed.err.startswith("warning: the backend failed to stop: ")


def test_stop_that_fails_is_reported(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line on standard error; the exit status is that of the answer."""
    ended = explain(Clock())
    store.stopped.errback(OSError("two\nlines"))
    assert ended == [None]
    assert capsys.readouterr().err == "warning: the backend failed to stop: two\\nlines\n"
