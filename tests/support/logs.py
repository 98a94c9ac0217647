"""Check what a test logs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from twisted.logger import LogLevel, globalLogPublisher


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
