"""Keep a daemon busy for long, and see that nothing in it grows: `python -m benchmarks.soak`.

Reads, writes, aborts, strangers, nonsense and floods from forged addresses, at once. Every octet
that honest clients fetch or store is checked. The exit status is 1 where an honest transfer
failed, or where what the daemon holds is not flat.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from benchmarks.flat import Sample, Watch, judge, rows
from benchmarks.honest import Comparison
from benchmarks.loads import fill
from benchmarks.report import table
from benchmarks.servers import HOST, REPOSITORY, free_port, probe, resident
from twisted_tftp.backends.filesystem import READ_THREADS, WRITE_THREADS
from twisted_tftp.backends.naming import is_temporary
from twisted_tftp.client import TFTPClient
from twisted_tftp.errors import FileNotFound

reactor: Any = installed

#: Files that are read, by their sizes: those of a block, those that are kept in memory, others.
SIZES = (0, 1, 511, 512, 3000, 65_536, 300_000, 1_000_000, 4_000_000)
#: Octets of a block and blocks of a window.
WAYS = ((512, 1), (1428, 1), (1428, 4), (1428, 16), (8192, 8), (65_464, 64))
TEXT = "text"
#: Those that do one thing after the other.
WORKERS = 12
#: Timeouts of silence that an honest client bears: nothing here is about time.
RETRIES = 60
#: Seconds from one flood to the next, and of one; requests a second.
FLOOD_EVERY, FLOOD_FOR, FLOOD_RATE = 15, 2, 3000
#: Peers that are silent with their sockets open; the oldest one leaves.
SILENT = 100
#: Samples of a run, and seconds between two at most.
SAMPLES, LONGEST = 60, 5.0
#: Seconds in which a daemon that is idle has let go of everything.
SETTLE = 60.0
#: Samples of a daemon, a second apart, that must be alike before it counts as idle.
STEADY = 4

MB = 1 << 20
WATCHES = (
    Watch("memory, MB", returns=False, factor=1.1, slack=8 * MB, unit=MB),
    # Those of the two pools, of the reactor's own, and the main one.
    Watch("threads", returns=False, slack=float("inf"), most=READ_THREADS + WRITE_THREADS + 11),
    Watch("descriptors", returns=True),
    Watch("temporary files", returns=True),
    Watch("transfers", returns=True),
    Watch("sessions", returns=True),
    # Two may be there to sum up the minute's failures and drops.
    Watch("timers", returns=True, slack=2),
    Watch("objects", returns=True, factor=1.05, slack=5000),
)


class Daemon:
    """The daemon that is watched, and its files."""

    def __init__(self, folder: Path) -> None:
        """Fill a folder and start to serve it.

        @raise RuntimeError: it does not start.
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
        give_up = time.monotonic() + SETTLE
        while not (probe(self.port) and self._state.exists()):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise RuntimeError(self.log.read_text(errors="replace"))
            time.sleep(0.1)

    def sample(self) -> Sample:
        """Return what it holds now; what only it knows is up to a second old."""
        pid = self._process.pid
        return {
            "memory, MB": resident(pid),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "temporary files": sum(is_temporary(name) for name in os.listdir(self.root)),
            **json.loads(self._state.read_text()),
        }

    async def settled(self) -> Sample:
        """Return what it holds when no transfer is left and its descriptors stay as they are."""
        give_up = time.monotonic() + SETTLE
        counts = [-1.0] * STEADY
        while True:
            # The state of now, and not that of a second ago.
            self._state.unlink(missing_ok=True)
            while not self._state.exists():
                await deferLater(reactor, 0.1)
                if self._process.poll() is not None or time.monotonic() > give_up + SETTLE:
                    raise RuntimeError("the daemon has ended, or stands still")
            sample = self.sample()
            counts = [*counts[1:], sample["descriptors"]]
            idle = not sample["sessions"] and len(set(counts)) == 1
            if idle or time.monotonic() > give_up:
                return sample

    def stop(self) -> int:
        """Stop it; return its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(SETTLE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Traffic:
    """All that is done to the daemon.

    @ivar counts: what was done, name to how often.
    @ivar failures: what went wrong with honest transfers, in words, to how often.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._root, self._address = daemon.root, (HOST, daemon.port)
        self._chance = random.Random(1350)
        self._contents = {path.name: path.read_bytes() for path in daemon.root.iterdir()}
        self._clients: dict[tuple[int, int, str], TFTPClient] = {}
        self._silent: deque[socket.socket] = deque()
        self._flood: subprocess.Popen[bytes] | None = None
        self._acts: list[Callable[[str], Awaitable[None]]] = [
            *(self.read, self.read, self.read, self.read_text),
            *(self.write, self.write, self.cancelled, self.probe),
            *(self.missing, self.abort_read, self.abort_write),
            *(self.nonsense, self.stranger),
        ]

    async def all_once(self) -> None:
        """Do each thing once, and flood once, so that what is kept for later is there."""
        for act in self._acts:
            await self._do(act, "first")
        await self.flood(1.0)

    async def work(self, name: str, until: float) -> None:
        """Do one thing after the other until that time."""
        while time.monotonic() < until:
            await self._do(self._chance.choice(self._acts), name)

    async def floods(self, until: float) -> None:
        """Flood for a while, again and again."""
        while time.monotonic() + FLOOD_EVERY < until:
            await self.flood(FLOOD_FOR)
            await deferLater(reactor, FLOOD_EVERY - FLOOD_FOR)

    async def _do(self, act: Callable[[str], Awaitable[None]], name: str) -> None:
        self.counts[act.__name__.replace("_", " ")] += 1
        try:
            await act(name)
        except Exception as error:
            self.failures[f"{act.__name__}: {error!r} {error.__cause__ or ''}"] += 1

    def _client(self, mode: str = "octet") -> TFTPClient:
        blksize, windowsize = self._chance.choice(WAYS)
        key = (blksize, windowsize, mode)
        if key not in self._clients:
            self._clients[key] = TFTPClient(
                reactor,
                *self._address,
                blksize=blksize,
                windowsize=windowsize,
                mode=mode,
                retries=RETRIES,
            )
        return self._clients[key]

    def _some_file(self) -> str:
        return f"read-{self._chance.choice(SIZES)}"

    # -- honest clients -------------------------------------------------------------------

    async def read(self, name: str) -> None:
        """Fetch a file."""
        file = self._some_file()
        await self._client().get(file, Comparison(self._contents[file]))

    async def read_text(self, name: str) -> None:
        """Fetch a text, which changes on its way."""
        await self._client("netascii").get(TEXT, Comparison(self._contents[TEXT]))

    async def write(self, name: str) -> None:
        """Store a file, a new one or in the place of another; compare it where it is then."""
        path = self._root / f"written-{name}-{self._chance.randrange(3)}"
        octets = self._chance.randbytes(self._chance.choice(SIZES))
        await self._client().put(io.BytesIO(octets), path.name)
        if path.read_bytes() != octets:
            raise AssertionError(f"{path.name} is not what was stored")
        if self._chance.random() < 0.5:
            path.unlink()

    async def cancelled(self, name: str) -> None:
        """Begin to fetch, and think better of it."""
        file = f"read-{SIZES[-1]}"
        fetching = self._client().get(file, Comparison(self._contents[file], seconds=60))
        await deferLater(reactor, self._chance.random() / 5)
        fetching.addErrback(lambda _: None)
        fetching.cancel()

    async def probe(self, name: str) -> None:
        """Ask for a size, as firmware does."""
        file = self._some_file()
        size = await self._client().size(file)
        # That of an empty file is not told.
        if (size or 0) != len(self._contents[file]):
            raise AssertionError(f"{file} is said to have {size} octets")

    async def missing(self, name: str) -> None:
        """Ask for what is not there."""
        with contextlib.suppress(FileNotFound):
            await self._client().get(f"missing-{self._chance.random()}", Comparison(b""))
            raise AssertionError("a missing file was there")

    # -- others ---------------------------------------------------------------------------

    async def abort_read(self, name: str) -> None:
        """Fetch some blocks; then send an ERROR, or fall silent, or close the socket."""
        await deferToThread(self._abort, b"\0\1read-4000000\0octet\0", b"\0\4%b")

    async def abort_write(self, name: str) -> None:
        """Send some blocks, and leave in one of these ways."""
        request = b"\0\2aborted-%b\0octet\0" % name.encode()
        await deferToThread(self._abort, request, b"\0\3%b" + bytes(512))

    def _abort(self, request: bytes, answer: bytes) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(1)
        sock.sendto(request, self._address)
        way = random.randrange(3)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(random.randrange(20)):
                packet, transfer = sock.recvfrom(2048)
                number = int.from_bytes(packet[2:4], "big") + (packet[1] == 4)
                sock.sendto(answer % number.to_bytes(2, "big"), transfer)
            if way == 0:
                _, transfer = sock.recvfrom(2048)
                sock.sendto(b"\0\5\0\0enough\0", transfer)
        if way == 1:
            self._silent.append(sock)
            if len(self._silent) <= SILENT:
                return
            sock = self._silent.popleft()
        sock.close()

    async def nonsense(self, name: str) -> None:
        """Send what no request is, or what only begins like one."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                head = self._chance.choice(
                    [b"", b"\0\1", b"\0\2", b"\0\1read-1\0octet\0blksize\0"]
                )
                octets = head + self._chance.randbytes(self._chance.randrange(600))
                sock.sendto(octets, self._address)

    async def stranger(self, name: str) -> None:
        """Send to the port of somebody else's transfer."""
        await deferToThread(self._meddle)

    def _meddle(self) -> None:
        with contextlib.ExitStack() as stack:
            client, stranger = (
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(2)
            )
            client.settimeout(1)
            client.sendto(b"\0\1read-3000\0octet\0", self._address)
            with contextlib.suppress(TimeoutError):
                for _ in range(6):
                    block, transfer = client.recvfrom(2048)
                    for packet in (b"\0\4" + block[2:4], b"\0\3\0\1x", b"\0\5\0\0no\0"):
                        stranger.sendto(packet, transfer)
                    client.sendto(b"\0\4" + block[2:4], transfer)

    async def flood(self, seconds: float) -> None:
        """Ask from forged addresses."""
        self.counts["flood"] += 1
        host, port = self._address
        command = [sys.executable, "-m", "benchmarks.flood", host, str(port), "--file", "read-1"]
        command += ["--rate", str(FLOOD_RATE), "--seconds", str(seconds)]
        done = await deferToThread(
            subprocess.run, command, cwd=REPOSITORY, capture_output=True, text=True
        )
        if done.returncode:
            self.failures[f"flood: {done.stderr}"] += 1

    async def close(self) -> None:
        """Let go of everything."""
        for client in self._clients.values():
            await client.close()
        for sock in self._silent:
            sock.close()


async def soak(daemon: Daemon, traffic: Traffic, seconds: float) -> list[list[str]]:
    """Keep the daemon busy for so long, and return the table of what it held, its head first."""
    await traffic.all_once()
    start = await daemon.settled()
    until = time.monotonic() + seconds
    samples: list[Sample] = []
    sampling = LoopingCall(lambda: samples.append(daemon.sample()))
    sampled = sampling.start(min(LONGEST, seconds / SAMPLES))
    workers = [ensureDeferred(traffic.work(str(number), until)) for number in range(WORKERS)]
    await gatherResults([*workers, ensureDeferred(traffic.floods(until))])
    sampling.stop()
    await sampled
    await traffic.close()
    end = await daemon.settled()
    return rows([judge(watch, start, samples, end) for watch in WATCHES])


def main() -> int:
    """Soak, and print what was done and what was held; return 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="for how long [20]")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="tftp-soak-") as folder:
        daemon = Daemon(Path(folder))
        try:
            traffic = Traffic(daemon)
            outcome: list[Any] = []

            def run() -> None:
                running: Deferred[Any] = ensureDeferred(soak(daemon, traffic, minutes * 60))
                running.addBoth(outcome.append).addBoth(lambda _: reactor.stop())

            reactor.callWhenRunning(run)
            reactor.run()
        finally:
            status = daemon.stop()
        log = daemon.log.read_text(errors="replace")
    if not outcome or not isinstance(outcome[0], list):
        print(outcome[0].getTraceback() if outcome else "interrupted", file=sys.stderr)
        return 1
    found = outcome[0]
    print(table(found[0], found[1:]))
    print(", ".join(f"{count:,} x {name}" for name, count in sorted(traffic.counts.items())))
    print(f"{len(log) / 1e6:.1f} MB of log in {minutes:g} minutes")
    complaints = [f"{row[0]}: {row[-1]}" for row in found[1:] if row[-1] != "flat"]
    complaints += [f"{count} x {failure}" for failure, count in traffic.failures.items()]
    if status not in (0, -signal.SIGTERM):
        complaints.append(f"the daemon ended with status {status}")
    complaints += re.findall(r"^.*(?:Traceback|#critical|#error).*(?:\n.*){,20}", log, re.M)[:3]
    for complaint in complaints:
        print(f"NOT WELL: {complaint}", file=sys.stderr)
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
