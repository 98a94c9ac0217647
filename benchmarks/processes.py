"""Read the CPU time and the memory of a process and its children, and choose their cores."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: CPU ticks a second.
_TICKS = os.sysconf("SC_CLK_TCK")


class CpuTime(NamedTuple):
    """The CPU time of a process in seconds, in user mode and in the kernel."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """The seconds in user mode and in the kernel."""
        return self.user + self.system

    def since(self, earlier: CpuTime) -> CpuTime:
        """Return the time that was used after `earlier`."""
        return CpuTime(self.user - earlier.user, self.system - earlier.system)


def tree(pid: int) -> list[int]:
    """Return the process, its children and theirs, parents first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    pids = [pid]
    for each in pids:
        pids += children.get(each, [])
    return pids


def cpu_time(pid: int) -> CpuTime:
    """Return the CPU time of a process and all its children, with ended threads.

    A child that has ended counts as a zombie, and then as a child that its parent has waited for.
    It does not count if its parent ignores SIGCHLD; `keep_times.c` prevents that.
    """
    ticks = [list(map(int, _stat(each)[11:15])) for each in tree(pid)]
    known = [each for each in ticks if each]
    # utime, stime, cutime, cstime: those of the process, and of the children it has waited for.
    return CpuTime(
        sum(each[0] + each[2] for each in known) / _TICKS,
        sum(each[1] + each[3] for each in known) / _TICKS,
    )


def memory(pid: int) -> int:
    """Return the octets of memory of a process and its children, which share some of it."""
    pids = tree(pid)
    if len(pids) == 1:
        return resident(pid)
    return sum(_field(f"/proc/{each}/smaps_rollup", "Pss") for each in pids)


def resident(pid: int) -> int:
    """Return the resident octets of a process."""
    return _field(f"/proc/{pid}/status", "VmRSS")


def server_core() -> int:
    """Return the core for a server that is pinned."""
    return min(os.sched_getaffinity(0))


def client_core() -> int:
    """Return the core for the load generator: another one than the server's, if there are two."""
    return max(os.sched_getaffinity(0))


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Keep child processes that start in this context on one core; on any core if it is None.

    A child inherits the affinity of the thread that starts it.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat, from its state on; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _field(path: str, name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
