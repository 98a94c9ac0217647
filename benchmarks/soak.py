"""Keep a daemon busy for a long time, and check for leaks: `python -m benchmarks.soak`.

Reads, writes, aborts, datagrams from strangers, malformed packets, clients that die, others that
use their ports, and floods from forged addresses happen at the same time. Every octet that honest
clients read or write is checked; for a wrong one, the last datagrams of its transfer are printed.
The exit status is 1 if an honest transfer failed, or if a resource of the daemon grows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from benchmarks.dead_clients import DeadClients
from benchmarks.growth import Sample, Watch, judge, rows
from benchmarks.loads import fill
from benchmarks.processes import resident
from benchmarks.servers import REPOSITORY, free_port, probe
from benchmarks.tables import table
from benchmarks.traffic import SIZES, TEXT, Traffic
from twisted_tftp.backends.filesystem.threads import READ_THREADS, WRITE_THREADS
from twisted_tftp.backends.naming import is_temporary

reactor: Any = installed

#: Workers, each of which does one thing after the other.
WORKERS = 12

#: Dead clients at the same time.
DEAD_CLIENTS = 40

#: Samples of a run.
SAMPLES = 60

#: The longest time between two samples, in seconds.
MAX_INTERVAL = 5.0

#: Seconds in which an idle daemon must release everything.
SETTLE_SECONDS = 60.0

#: Equal samples, a second apart, after which a daemon counts as idle.
EQUAL_SAMPLES = 4

MB = 1 << 20

#: The resources of the daemon that must not grow.
WATCHES = (
    Watch("memory, MB", returns=False, factor=1.1, slack=8 * MB, unit=MB),
    # The threads of the two pools, of the reactor's pool, and the main thread.
    Watch("threads", returns=False, slack=float("inf"), most=READ_THREADS + WRITE_THREADS + 11),
    Watch("descriptors", returns=True),
    Watch("temporary files", returns=True),
    Watch("transfers", returns=True),
    Watch("sessions", returns=True),
    # Two timers may wait to log the failures and drops of the minute.
    Watch("timers", returns=True, slack=2),
    Watch("objects", returns=True, factor=1.05, slack=5000),
)


class Daemon:
    """The daemon under test, and its files."""

    def __init__(self, folder: Path) -> None:
        """Fill a folder, and start a daemon that serves it.

        @raise RuntimeError: the daemon does not start.
        """
        self.root, self.log = folder / "served", folder / "log"
        self.root.mkdir()
        (self.root / "probe").write_bytes(b"probe")
        for size in SIZES:
            fill(self.root / f"read-{size}", size)
        (self.root / TEXT).write_text("".join(f"line {number}\n" for number in range(5000)))
        self._state = folder / "state"
        self.port = free_port()
        environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), SOAK_ROOT=str(self.root))
        environment.update(SOAK_PORT=str(self.port), SOAK_STATE=str(self._state))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile="),
                    *("-oy", str(REPOSITORY / "benchmarks" / "watched.tac")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
            )
        give_up = time.monotonic() + SETTLE_SECONDS
        while not (probe(self.port) and self._state.exists()):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise RuntimeError(self.log.read_text(errors="replace"))
            time.sleep(0.1)

    def sample(self) -> Sample:
        """Return its resources now; those that it reports itself are up to a second old."""
        pid = self._process.pid
        return {
            "memory, MB": resident(pid),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "temporary files": sum(is_temporary(name) for name in os.listdir(self.root)),
            **json.loads(self._state.read_text()),
        }

    async def settled(self) -> Sample:
        """Return its resources when no transfer is left and its descriptors do not change."""
        give_up = time.monotonic() + SETTLE_SECONDS
        counts = [-1.0] * EQUAL_SAMPLES
        while True:
            # Wait for a new state, not one that is a second old.
            self._state.unlink(missing_ok=True)
            while not self._state.exists():
                await deferLater(reactor, 0.1)
                if self._process.poll() is not None or time.monotonic() > give_up + SETTLE_SECONDS:
                    raise RuntimeError("the daemon has ended, or does not respond")
            sample = self.sample()
            counts = [*counts[1:], sample["descriptors"]]
            idle = not sample["sessions"] and len(set(counts)) == 1
            if idle or time.monotonic() > give_up:
                return sample

    def stop(self) -> int:
        """Stop the daemon; return its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(SETTLE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


async def soak(
    daemon: Daemon, traffic: Traffic, dead: DeadClients, count: int, seconds: float
) -> list[list[str]]:
    """Keep the daemon busy for `seconds`; return the table of its resources, the head first.

    @param count: dead clients at the same time.
    """
    await traffic.all_once()
    await gatherResults([ensureDeferred(dead.work(time.monotonic() + 1)) for _ in range(count)])
    start = await daemon.settled()
    until = time.monotonic() + seconds
    samples: list[Sample] = []
    sampling = LoopingCall(lambda: samples.append(daemon.sample()))
    sampled = sampling.start(min(MAX_INTERVAL, seconds / SAMPLES))
    works = [traffic.work(str(number), until) for number in range(WORKERS)]
    works += [dead.work(until) for _ in range(count)]
    await gatherResults([ensureDeferred(work) for work in [*works, traffic.floods(until)]])
    sampling.stop()
    await sampled
    await traffic.close()
    dead.close()
    end = await daemon.settled()
    return rows([judge(watch, start, samples, end) for watch in WATCHES])


def problems_of_daemon(status: int, log: str) -> list[str]:
    """Return the problems that the exit status and the log of the daemon show."""
    problems = re.findall(r"^.*(?:Traceback|#critical|#error).*(?:\n.*){,20}", log, re.M)[:3]
    if status not in (0, -signal.SIGTERM):
        problems.append(f"the daemon ended with status {status}")
    return problems


def run(folder: Path, minutes: float, count: int, first_contact: bool) -> list[str]:
    """Run a soak, print its results, and return the problems."""
    daemon = Daemon(folder)
    try:
        traffic = Traffic(daemon.root, daemon.port)
        dead = DeadClients(
            *(reactor, daemon.port, daemon.root, folder / "clients"), first_contact=first_contact
        )
        outcome: list[Any] = []

        def begin() -> None:
            soaking = soak(daemon, traffic, dead, count, minutes * 60)
            running: Deferred[Any] = ensureDeferred(soaking)
            running.addBoth(outcome.append).addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(begin)
        reactor.run()
    finally:
        status = daemon.stop()
    log = daemon.log.read_text(errors="replace")
    if not outcome or not isinstance(outcome[0], list):
        return [outcome[0].getTraceback() if outcome else "interrupted"]
    found = outcome[0]
    print(table(found[0], found[1:]))
    print(", ".join(f"{count:,} x {name}" for name, count in sorted(traffic.counts.items())))
    print(dead.summary())
    print(f"{len(log) / 1e6:.1f} MB of log in {minutes:g} minutes")
    problems = [f"{row[0]}: {row[-1]}" for row in found[1:] if row[-1] != "flat"]
    problems += [f"{count} x {failure}" for failure, count in traffic.failures.items()]
    problems += [*traffic.wrong.problems(), *dead.problems()]
    return problems + problems_of_daemon(status, log)


def main() -> int:
    """Run a soak, and print the problems; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="how long the soak lasts [20]")
    parser.add_argument(
        "--dead-clients",
        type=int,
        default=DEAD_CLIENTS,
        metavar="N",
        help=f"clients that die, at the same time; 0 for none [{DEAD_CLIENTS}]",
    )
    parser.add_argument(
        "--first-contact",
        action="store_true",
        help="clients on the port of a dead one know nothing about the daemon yet",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tftp-soak-") as folder:
        problems = run(
            Path(folder), arguments.minutes, arguments.dead_clients, arguments.first_contact
        )
    for problem in problems:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
