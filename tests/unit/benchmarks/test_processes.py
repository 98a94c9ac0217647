"""Tests of how the benchmarks count CPU time, and keep processes on one core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.loads import build
from benchmarks.processes import client_core, cpu_time, on_core, server_core

#: CPU seconds that the child of a test uses.
USED = 0.2

#: The least CPU seconds of it that must be counted: the system counts in ticks.
COUNTED = 0.15

#: A process whose child uses CPU time and ends. It prints a line then, and ends after its input.
PARENT = f"""
import os, signal, sys, time
if "ignore" in sys.argv:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if not os.fork():
    while time.process_time() < {USED}:
        pass
    os._exit(0)
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    pass
print("ended", flush=True)
sys.stdin.read()
"""


def _counted(*words: str, preload: Path | None = None) -> float:
    """Return the CPU seconds of a process whose child has ended, with those of the child."""
    environment = dict(os.environ, **({"LD_PRELOAD": str(preload)} if preload else {}))
    with subprocess.Popen(
        [sys.executable, "-S", "-c", PARENT, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ended\n"
        return cpu_time(parent.pid).total


def test_ended_child_counts() -> None:
    """The CPU time of a child that has ended counts as that of its parent."""
    assert _counted() >= COUNTED


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_ended_child_counts_though_its_parent_ignores_it(tmp_path: Path) -> None:
    """The library keeps the CPU time of children that the system would discard."""
    keep_times = build(tmp_path).keep_times
    assert _counted("ignore") < COUNTED
    assert _counted("ignore", preload=keep_times) >= COUNTED


def test_child_stays_on_its_core() -> None:
    """A child that was started on a core may use no other one, and its parent any as before."""
    before = os.sched_getaffinity(0)
    show = "import os; print(os.sched_getaffinity(0))"
    for core in (server_core(), client_core()):
        with on_core(core):
            shown = subprocess.check_output([sys.executable, "-S", "-c", show], text=True)
        assert shown == f"{{{core}}}\n"
        assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_each_end_has_its_own_core() -> None:
    """The server and the load generator do not share a core."""
    assert server_core() != client_core()
