"""Do all that a soak does to a daemon: honest transfers, whose octets are checked, and others."""

from __future__ import annotations

import contextlib
import io
import random
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from benchmarks.honest import Comparison, WrongOctets
from benchmarks.ring import RingClient, WrongAnswers, is_wrong
from benchmarks.servers import HOST, REPOSITORY
from twisted_tftp.errors import FileNotFound

reactor: Any = installed

#: Files that are read, by their sizes: those of a block, those that are kept in memory, others.
SIZES = (0, 1, 511, 512, 3000, 65_536, 300_000, 1_000_000, 4_000_000)
#: Octets of a block and blocks of a window.
WAYS = ((512, 1), (1428, 1), (1428, 4), (1428, 16), (8192, 8), (65_464, 64))
TEXT = "text"
#: Timeouts of silence that an honest client bears: nothing here is about time.
RETRIES = 60
#: Seconds from one flood to the next, and of one; requests a second.
FLOOD_EVERY, FLOOD_FOR, FLOOD_RATE = 15, 2, 3000
#: Peers that are silent with their sockets open; the oldest one leaves.
SILENT = 100


class Traffic:
    """All that is done to the daemon.

    @ivar counts: what was done, name to how often.
    @ivar failures: what went wrong with honest transfers, in words, to how often.
    @ivar wrong: wrong answers to them.
    """

    def __init__(self, root: Path, port: int) -> None:
        """Prepare for a daemon on a port of loopback, whose files are in `root`."""
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.wrong = WrongAnswers()
        self._root, self._address = root, (HOST, port)
        self._chance = random.Random(1350)
        self._contents = {path.name: path.read_bytes() for path in root.iterdir()}
        # Each worker has its own, so that it can be told what was the last to go through one.
        self._clients: dict[tuple[str, int, int, str], RingClient] = {}
        self._asked: dict[str, RingClient] = {}  # worker to the client that it used last
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
            if is_wrong(error):
                self.wrong.add(act.__name__, error, self._asked[name])
            else:
                self.failures[f"{act.__name__}: {error!r} {error.__cause__ or ''}"] += 1

    def _client(self, name: str, kind: str, file: str, mode: str = "octet") -> RingClient:
        """Return a client of a worker for a transfer of some kind."""
        blksize, windowsize = self._chance.choice(WAYS)
        key = (name, blksize, windowsize, mode)
        if key not in self._clients:
            self._clients[key] = RingClient(
                reactor,
                *self._address,
                blksize=blksize,
                windowsize=windowsize,
                mode=mode,
                retries=RETRIES,
            )
        client = self._asked[name] = self._clients[key]
        client.begin(kind, self.counts.total(), file)
        return client

    def _some_file(self) -> str:
        return f"read-{self._chance.choice(SIZES)}"

    # -- honest clients -------------------------------------------------------------------

    async def read(self, name: str) -> None:
        """Fetch a file."""
        file = self._some_file()
        await self._client(name, "read", file).get(file, Comparison(self._contents[file]))

    async def read_text(self, name: str) -> None:
        """Fetch a text, which changes on its way."""
        client = self._client(name, "read text", TEXT, "netascii")
        await client.get(TEXT, Comparison(self._contents[TEXT]))

    async def write(self, name: str) -> None:
        """Store a file, a new one or in the place of another; compare it where it is then."""
        path = self._root / f"written-{name}-{self._chance.randrange(3)}"
        octets = self._chance.randbytes(self._chance.choice(SIZES))
        client = self._client(name, "write", path.name)
        await client.put(io.BytesIO(octets), path.name)
        if not path.exists() or path.read_bytes() != octets:
            raise WrongOctets(f"{path.name} is not what was stored")
        if self._chance.random() < 0.5:
            path.unlink()

    async def cancelled(self, name: str) -> None:
        """Begin to fetch, and think better of it."""
        file = f"read-{SIZES[-1]}"
        client = self._client(name, "cancelled", file)
        fetching = client.get(file, Comparison(self._contents[file], seconds=60))
        await deferLater(reactor, self._chance.random() / 5)
        failures: list[Failure] = []
        fetching.addErrback(failures.append)
        fetching.cancel()
        for failure in failures:
            if is_wrong(failure.value):
                failure.raiseException()

    async def probe(self, name: str) -> None:
        """Ask for a size, as firmware does."""
        file = self._some_file()
        size = await self._client(name, "probe", file).size(file)
        # That of an empty file is not told.
        if (size or 0) != len(self._contents[file]):
            raise WrongOctets(f"{file} is said to have {size} octets")

    async def missing(self, name: str) -> None:
        """Ask for what is not there."""
        with contextlib.suppress(FileNotFound):
            file = f"missing-{self._chance.random()}"
            await self._client(name, "missing", file).get(file, Comparison(b""))
            raise WrongOctets("a missing file is there")

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
