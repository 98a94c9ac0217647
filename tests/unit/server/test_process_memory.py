"""Tests of what is set for the allocator of glibc and for the garbage collector."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import pytest

from twisted_tftp.server.process_memory import ARENAS, NEW_OBJECTS, collect_garbage_less_often

#: Allocates memory in many threads at once, and prints what glibc reports about its arenas.
PROGRAM = """
import ctypes, threading
from twisted_tftp.server.process_memory import limit_arenas
if {limited}:
    limit_arenas()
together = threading.Barrier(16)
def allocate():
    kept = [bytearray(10_000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fopen(b"/dev/stdout", b"w"))
library.malloc_info(0, stream)
library.fclose(stream)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="it is about glibc")
def test_threads_share_few_arenas() -> None:
    """Each malloc arena keeps the memory that it once used, so there must be few arenas."""
    counts = []
    for limited in (False, True):
        program = PROGRAM.format(limited=limited)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        counts.append(done.stdout.count(b"<heap nr="))
    if counts[0] <= ARENAS:
        pytest.skip("the C library makes few by itself")
    assert counts[1] <= ARENAS


def test_garbage_collector_runs_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the threshold for new objects is changed."""
    thresholds: list[tuple[int, ...]] = []
    monkeypatch.setattr(gc, "set_threshold", lambda *values: thresholds.append(values))
    collect_garbage_less_often()
    assert thresholds == [(NEW_OBJECTS, *gc.get_threshold()[1:])]


@pytest.mark.parametrize(("before", "after"), [(0, []), (50_000, [(50_000, 3, 4)])])
def test_garbage_collector_never_runs_more_often(
    monkeypatch: pytest.MonkeyPatch, before: int, after: list[tuple[int, ...]]
) -> None:
    """A collector that is off stays off, and a higher threshold stays."""
    thresholds: list[tuple[int, ...]] = []
    monkeypatch.setattr(gc, "get_threshold", lambda: (before, 3, 4))
    monkeypatch.setattr(gc, "set_threshold", lambda *values: thresholds.append(values))
    collect_garbage_less_often()
    assert thresholds == after
