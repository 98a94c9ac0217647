"""The memory that the C library holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twisted_tftp.server.process_memory import ARENAS

#: Allocates in many threads at once, and prints how many arenas there are then. Those of threads
#: begin at multiples of 64 MiB.
PROGRAM = """
import re, threading
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
starts = [int(line.split("-")[0], 16) for line in open("/proc/self/maps")]
print(1 + sum(start % (64 << 20) == 0 for start in starts))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_threads_share_few_arenas() -> None:
    """Each arena keeps for good what it had in use once."""
    counts = []
    for limited in (False, True):
        program = PROGRAM.format(limited=limited)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        counts.append(int(done.stdout))
    if counts[0] <= ARENAS:
        pytest.skip("the C library makes few by itself")
    assert counts[1] <= ARENAS
