"""Run one load against one server, check every octet, and return the measured values."""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.servers import HOST, PROBE, Running, Server

SOURCES = Path(__file__).resolve().parent

#: A file system in memory.
_MEMORY = Path("/dev/shm")

#: Octets of a file that are written at once.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Load:
    """What the clients of a run do, and the unit of the result."""

    name: str
    title: str
    #: Names and sizes of the files that are read in turn; for uploads, the one source file.
    files: tuple[tuple[str, int], ...]
    unit: str = "MB/s"
    clients: int = 1
    transfers: int = 1
    blksize: int = 1428
    windowsize: int = 1
    upload: bool = False
    offload: bool = False
    #: Whether all transfers are opened first and then advanced in turn.
    hold: bool = False
    #: At most so many requests wait for an answer at a time; 0: as many as there are clients.
    asking: int = 0
    #: Whether the CPU time of the server is the result; each end is then pinned to one core.
    pinned: bool = False
    #: The names of the only servers that run it; empty for all.
    only: tuple[str, ...] = ()

    @property
    def counts_files(self) -> bool:
        """Whether the result is about files; otherwise it is about octets or packets."""
        return "file" in self.unit

    @property
    def lower_is_better(self) -> bool:
        """Whether the result is a cost; otherwise it is a rate."""
        return self.hold or self.pinned

    @property
    def open_at_once(self) -> int:
        """The number of transfers that are open at the same time."""
        return self.transfers if self.hold else self.clients

    def skip_reason(self, server: Server) -> str:
        """Return why a server can't run this load; an empty text if it can."""
        if self.only and server.name not in self.only:
            return "not selected"
        if server.name == "quiet" and "quiet" not in self.only:
            return "not selected"
        if self.upload and not server.writes:
            return "no uploads"
        if self.windowsize > 1 and not server.grants_windows:
            return "no windowsize"
        if self.open_at_once > server.max_transfers:
            return "too many"
        return ""


@dataclass(frozen=True)
class FaultyNetwork:
    """A simulated network with faults, over which 2 MiB are read."""

    windowsize: int
    loss: float
    round_trip_ms: float
    seed: int = 1
    #: The probability that a datagram is repeated; also that the next ones overtake it.
    disorder: float = 0.0


@dataclass
class Sample:
    """One run of one load against one server."""

    #: The result in the load's unit; None if the run failed, and `note` says why.
    value: float | None = None
    note: str = ""
    wrong: bool = False
    cpu_per_gb: float | None = None
    #: The CPU time in user mode and in the kernel, in the unit of a load that is pinned. A server
    #: that starts a process for each transfer has neither: the system counts all time of a process
    #: without a clock tick as time in user mode.
    user: float | None = None
    system: float | None = None
    memory_per_transfer: float | None = None
    #: Transfers that were held open and did not complete.
    lost: int | None = None
    #: Datagrams that the server sent, divided by those needed.
    sent_over_needed: float | None = None


@dataclass(frozen=True)
class Tools:
    """The paths of the compiled C programs."""

    load: Path
    yardstick: Path
    relay: Path
    #: A library that lets the CPU time of ended children count.
    keep_times: Path


class BuildError(Exception):
    """There is no C compiler, or it failed."""


def build(folder: Path) -> Tools:
    """Compile the C programs into `folder`.

    @raise BuildError: there is no compiler, or it failed.
    """
    compiler = shutil.which("cc")
    if not compiler:
        raise BuildError("needs a C compiler: there is no cc")
    made = {}
    for name in ("load", "yardstick", "relay", "keep_times"):
        made[name] = folder / name
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(made[name])]
        command += ["-shared", "-fPIC"] * (name == "keep_times")
        done = subprocess.run([*command, str(SOURCES / f"{name}.c")], capture_output=True)
        if done.returncode:
            raise BuildError(done.stderr.decode())
    return Tools(**made)


@dataclass
class Store:
    """Folders with random files: one that is served, and for uploads one that is not."""

    load: Load
    _folders: list[str] = field(default_factory=list)

    def __enter__(self) -> Store:
        # Uploads go to memory, because servers are compared and not disks.
        fast = str(_MEMORY) if self.load.upload and os.access(_MEMORY, os.W_OK) else None
        self.root = self._folder(fast)
        self.originals = self._folder(None) if self.load.upload else self.root
        (self.root / PROBE[0]).write_bytes(PROBE[1])
        for name, size in self.load.files:
            fill(self.originals / name, size)
        return self

    def _folder(self, parent: str | None) -> Path:
        self._folders.append(tempfile.mkdtemp(prefix="tftp-bench-", dir=parent))
        # Servers that drop their privileges must be able to read and write here.
        os.chmod(self._folders[-1], 0o755)
        folder = Path(self._folders[-1], "files")
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    def __exit__(self, *exception: object) -> None:
        for folder in self._folders:
            shutil.rmtree(folder)


def fill(path: Path, size: int) -> None:
    """Write a random file; its content depends only on its name."""
    chance = random.Random(path.name)
    with path.open("wb") as file:
        while size:
            file.write(chance.randbytes(min(size, _PIECE)))
            size -= min(size, _PIECE)


def _options(load: Load, limit: int) -> list[str]:
    """Return the options of the load generator for a load."""
    options = ["-c", str(load.clients), "-n", str(load.transfers), "-b", str(load.blksize)]
    options += ["-w", str(load.windowsize), "-l", str(limit)]
    options += ["-g"] * load.offload + ["-u"] * load.upload + ["-o"] * load.hold
    options += ["-a", str(load.asking)] if load.asking else []
    return options


def run_load(load: Load, running: Running, store: Store, tools: Tools, limit: int) -> Sample:
    """Run the load once, for at most `limit` seconds.

    A rate is also computed if the run was cut off then. Transfers that are held open must all
    complete.
    """
    before = running.idle_cpu() if load.pinned else running.cpu()
    local = store.originals / load.files[0][0] if load.upload else store.originals
    names = ["put%"] if load.upload else [name for name, _ in load.files]
    command = [*running.prefix, str(tools.load), *_options(load, limit), "-f", str(local)]
    command += [HOST, str(running.port), *names]
    idle = running.memory()
    with (
        processes.on_core(processes.client_core() if load.pinned else None),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        memory = None
        result = json.loads(client.stdout.readline())
        if "held" in result:
            memory = (running.memory() - idle) / load.transfers
            client.stdin.write("\n")
            client.stdin.flush()
            result = json.loads(client.stdout.readline())
    sample = _sample_of(load, result)
    if memory and result["failures"] <= load.transfers / 100:
        sample.memory_per_transfer = memory
    sample.lost = result["failures"] if load.hold else None
    if load.pinned:
        _add_cost(load, running, running.idle_cpu().since(before), result, sample)
    elif result["octets"] and not running.server.discards_cpu:
        sample.cpu_per_gb = running.cpu().since(before).total / result["octets"] * 1e9
    if load.upload:
        _check_uploads(load, running, store, tools, result, sample)
    return sample


def _sample_of(load: Load, result: dict[str, Any]) -> Sample:
    if result["wrong"]:
        return Sample(note="wrong octets", wrong=True)
    late = result["error"] == "out of time"
    if (result["failures"] and not late) or (late and load.hold):
        return Sample(note=f"failed: {result['error']} ({result['failures']} transfers)")
    if result["windowsize"] < load.windowsize:
        return Sample(note="no windowsize")
    if result["blksize"] != (load.blksize or 512):
        return Sample(note=f"granted blksize {result['blksize']}")
    if load.hold:
        return Sample(result["step_seconds"] / result["steps"] * 1e6)
    if not result["octets"]:
        return Sample(note=f"failed: {result['error']}")
    if load.counts_files:
        return Sample(result["transfers"] / result["seconds"])
    return Sample(result["octets"] / result["seconds"] / 1e6)


def _add_cost(
    load: Load, running: Running, used: processes.CpuTime, result: dict[str, Any], sample: Sample
) -> None:
    """Make the CPU time of a file or of a packet the result."""
    if sample.value is None:
        return
    units = result["transfers"] if load.counts_files else result["octets"] / load.blksize
    sample.value = used.total / units * 1e6
    if not running.server.forks:
        sample.user, sample.system = used.user / units * 1e6, used.system / units * 1e6


def _check_uploads(
    load: Load,
    running: Running,
    store: Store,
    tools: Tools,
    result: dict[str, Any],
    sample: Sample,
) -> None:
    """Compare the files that a server has stored with the original, and remove them."""
    original = store.originals / load.files[0][0]
    whole = not result["failures"]
    if running.server.name == "yardstick":
        # It keeps uploads in memory, so they are read from it.
        names = [f"put{number}" for number in range(load.transfers)] if whole else []
        for name in names:
            command = [str(tools.load), "-b", "1428", "-f", str(original)]
            command += [HOST, str(running.port), name]
            sample.wrong |= bool(subprocess.run(command, stdout=subprocess.DEVNULL).returncode)
    else:
        for number in range(load.transfers):
            path = store.root / f"put{number}"
            if whole and not (path.exists() and filecmp.cmp(original, path, shallow=False)):
                sample.wrong = True
            path.unlink(missing_ok=True)
    if sample.wrong:
        sample.value, sample.note = None, "wrong octets"


def run_over(
    network: FaultyNetwork, running: Running, store: Store, tools: Tools, limit: int
) -> Sample:
    """Read 2 MiB through a relay that simulates `network`."""
    chances = ["-l", str(network.loss), "-s", str(network.seed)]
    chances += ["-r", str(network.disorder), "-o", str(network.disorder)]
    delay = ["-d", str(round(network.round_trip_ms * 500))]
    relay_command = [*running.prefix, str(tools.relay), *chances, *delay]
    # The datagrams of all blocks, and the OACK.
    name, size = store.load.files[0]
    needed = size // 1428 + 2
    with subprocess.Popen(
        [*relay_command, HOST, str(running.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        port = relay.stdout.readline().strip()
        command = [*running.prefix, str(tools.load), "-b", "1428", "-w", str(network.windowsize)]
        command += ["-l", str(limit), "-f", str(store.root / name), HOST, port, name]
        done = subprocess.run(command, stdout=subprocess.PIPE)
        relay.stdin.close()
        passed = json.loads(relay.stdout.read())
    result = json.loads(done.stdout)
    if result["wrong"]:
        return Sample(note="wrong octets", wrong=True)
    if result["error"] == "out of time":
        return Sample(note=f">{limit}")
    if result["failures"]:
        return Sample(note=f"failed: {result['error']}")
    if result["windowsize"] < network.windowsize:
        return Sample(note="no windowsize")
    return Sample(result["seconds"], sent_over_needed=passed["down"] / needed)
