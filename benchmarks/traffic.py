"""Create the traffic of a soak: honest transfers, which are checked, and misbehaving clients."""

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

#: Sizes of the files that are read: about a block, small enough for the content cache, and larger.
SIZES = (0, 1, 511, 512, 3000, 65_536, 300_000, 1_000_000, 4_000_000)

#: Block sizes and windowsizes of honest clients.
SHAPES = ((512, 1), (1428, 1), (1428, 4), (1428, 16), (8192, 8), (65_464, 64))

#: The name of the file that is read in netascii mode.
TEXT = "text"

#: Timeouts after which an honest client gives up; many, because a soak does not test speed.
RETRIES = 60

#: Seconds from the start of one flood to the start of the next.
FLOOD_INTERVAL = 15

#: Seconds that a flood lasts.
FLOOD_SECONDS = 2

#: Requests a second of a flood.
FLOOD_RATE = 3000

#: The most silent clients with open sockets; then the oldest socket is closed.
MAX_SILENT = 100


class Traffic:
    """All clients of a soak, except the dead ones.

    @ivar counts: name of an action to how often it was done.
    @ivar failures: text of a failure of an honest transfer to how often it occurred.
    @ivar wrong: the wrong answers that honest clients accepted.
    """

    def __init__(self, root: Path, port: int) -> None:
        """Set up the clients of a daemon on a port of loopback, whose files are in `root`."""
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.wrong = WrongAnswers()
        self._root, self._address = root, (HOST, port)
        self._chance = random.Random(1350)
        self._contents = {path.name: path.read_bytes() for path in root.iterdir()}
        # Each worker has its own clients, so that the last transfer of a client can be described.
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
        """Do each action once, and flood once, so that the daemon has filled its pools."""
        for act in self._acts:
            await self._do(act, "first")
        await self.flood(1.0)

    async def work(self, name: str, until: float) -> None:
        """Do random actions one after the other until the time `until`."""
        while time.monotonic() < until:
            await self._do(self._chance.choice(self._acts), name)

    async def floods(self, until: float) -> None:
        """Flood the daemon at intervals until the time `until`."""
        while time.monotonic() + FLOOD_INTERVAL < until:
            await self.flood(FLOOD_SECONDS)
            await deferLater(reactor, FLOOD_INTERVAL - FLOOD_SECONDS)

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
        """Return a client of the worker `name` for a transfer of some kind."""
        blksize, windowsize = self._chance.choice(SHAPES)
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
        """Read a file."""
        file = self._some_file()
        await self._client(name, "read", file).get(file, Comparison(self._contents[file]))

    async def read_text(self, name: str) -> None:
        """Read a text in netascii mode."""
        client = self._client(name, "read text", TEXT, "netascii")
        await client.get(TEXT, Comparison(self._contents[TEXT]))

    async def write(self, name: str) -> None:
        """Write a file, a new one or over another one, and compare the stored file."""
        path = self._root / f"written-{name}-{self._chance.randrange(3)}"
        octets = self._chance.randbytes(self._chance.choice(SIZES))
        client = self._client(name, "write", path.name)
        await client.put(io.BytesIO(octets), path.name)
        if not path.exists() or path.read_bytes() != octets:
            raise WrongOctets(f"{path.name} is not what was stored")
        if self._chance.random() < 0.5:
            path.unlink()

    async def cancelled(self, name: str) -> None:
        """Begin to read a file, and cancel it."""
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
        """Request the size of a file, as firmware does."""
        file = self._some_file()
        size = await self._client(name, "probe", file).size(file)
        # The server does not announce the size of an empty file.
        if (size or 0) != len(self._contents[file]):
            raise WrongOctets(f"{file} was announced with {size} octets")

    async def missing(self, name: str) -> None:
        """Request a missing file."""
        with contextlib.suppress(FileNotFound):
            file = f"missing-{self._chance.random()}"
            await self._client(name, "missing", file).get(file, Comparison(b""))
            raise WrongOctets("a missing file was read")

    # -- others ---------------------------------------------------------------------------

    async def abort_read(self, name: str) -> None:
        """Read some blocks; then send an ERROR, or send nothing more, or close the socket."""
        await deferToThread(self._abort, b"\0\1read-4000000\0octet\0", b"\0\4%b")

    async def abort_write(self, name: str) -> None:
        """Write some blocks, and end in one of the same ways."""
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
            if len(self._silent) <= MAX_SILENT:
                return
            sock = self._silent.popleft()
        sock.close()

    async def nonsense(self, name: str) -> None:
        """Send random datagrams, some of which begin like a request."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                head = self._chance.choice(
                    [b"", b"\0\1", b"\0\2", b"\0\1read-1\0octet\0blksize\0"]
                )
                octets = head + self._chance.randbytes(self._chance.randrange(600))
                sock.sendto(octets, self._address)

    async def stranger(self, name: str) -> None:
        """Send packets to the port of another client's transfer."""
        await deferToThread(self._send_as_stranger)

    def _send_as_stranger(self) -> None:
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
        """Send requests from forged addresses."""
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
        """Close all clients and sockets."""
        for client in self._clients.values():
            await client.close()
        for sock in self._silent:
            sock.close()
