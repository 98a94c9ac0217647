"""Run worker processes in a reactor that belongs to one test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.process import reapAllProcesses
from twisted.python.failure import Failure

from twisted_tftp.backends.filesystem.content_cache import MIN_UNCHANGED


def run_until(reactor: Any, until: Callable[[], object], seconds: float = 30.0) -> None:
    """Run `reactor` until `until()` is true; reap processes, as a running reactor does."""
    limit = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < limit, "the awaited event has not happened"
        reactor.iterate(0.01)
        reapAllProcesses()


def result_of(reactor: Any, result: Any, seconds: float = 30.0) -> Any:
    """Return `result`; if it is a Deferred, run `reactor` until it fires."""
    if not isinstance(result, Deferred):
        return result
    results: list[Any] = []
    result.addBoth(results.append)
    run_until(reactor, lambda: results, seconds)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def write_template(folder: Path, name: str, text: str, *, is_new: bool = False) -> None:
    """Write a template.

    @param is_new: whether it has just changed; otherwise it looks as if it is old enough to be
        cached.
    """
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if not is_new:
        wait_until_settled(path)


def wait_until_settled(path: Path) -> None:
    """Wait until a file has not changed for so long that it may be cached."""
    while time.time() - os.stat(path).st_ctime <= MIN_UNCHANGED:
        time.sleep(0.05)


def is_running(process_id: int) -> bool:
    """Return whether a process exists, also as a zombie."""
    return Path(f"/proc/{process_id}").exists()
