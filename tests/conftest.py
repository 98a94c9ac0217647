"""Settings that all tests share."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from tests.support.worker_network import isolate

# No deadline for an example: a busy machine may be slow, and the benchmarks measure speed.
settings.register_profile("any speed", parent=settings.default, deadline=None)
settings.load_profile("any speed")

# A shell without job control starts background commands with SIGINT ignored, and child processes
# inherit that. Some tests send SIGINT to a child process.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of child processes import this package. Container images often forbid byte code, and
# each child would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """Isolate a worker of pytest-xdist."""
    if hasattr(config, "workerinput"):
        isolate()
