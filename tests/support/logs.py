"""Check what a test logs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher


@contextlib.contextmanager
def no_errors_logged() -> Iterator[None]:
    """Check that the block logs no error."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event for event in events if event["log_level"] >= LogLevel.error] == []


@contextlib.contextmanager
def captured_log() -> Iterator[list[str]]:
    """Provide the list of the texts that the block logs."""
    lines: list[str] = []

    def add(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(add)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(add)
