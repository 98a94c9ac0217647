"""Test what SIGHUP calls; `tests/process/test_signals.py` sends signals to a daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.logs import captured_log
from tests.support.reactors import reactor, spin
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.server.service import TFTPService
from twisted_tftp.server.signals import Signals

__all__ = ["reactor"]


@pytest.fixture(autouse=True)
def restored_handlers() -> Iterator[None]:
    """Restore the handlers of the process that runs the tests."""
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have no terminal, as a daemon."""
    monkeypatch.setattr("twisted_tftp.server.signals._has_terminal", lambda: False)


def test_sighup_calls_the_function_of_the_caller(reactor: Any) -> None:
    """It is called in the reactor's thread; the caches are its own concern."""
    calls: list[str] = []
    service = TFTPService(MemoryBackend(), port=0, reactor=reactor)
    Signals().install(reactor, service, lambda: calls.append("reload"))
    with captured_log() as lines:
        os.kill(os.getpid(), signal.SIGHUP)
        assert calls == []
        spin(reactor, lambda: calls)
    assert calls == ["reload"]
    assert lines == []


def test_sighup_clears_the_caches_by_default(reactor: Any) -> None:
    """The log says so."""
    service = TFTPService(MemoryBackend(), port=0, reactor=reactor)
    Signals().install(reactor, service)
    with captured_log() as lines:
        os.kill(os.getpid(), signal.SIGHUP)
        spin(reactor, lambda: lines)
    assert lines == ["SIGHUP: the file caches were cleared"]
