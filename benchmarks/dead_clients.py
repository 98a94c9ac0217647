"""Use the ports of clients that died, just when the server repeats its answers to them.

A dead client sends a request, answers nothing and closes its socket. The server repeats its first
answer a few times. Shortly before such a repetition, an honest client opens the same port and
requests something else. It must not accept the repetition as its answer.
"""

from __future__ import annotations

import io
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NotHeard
from twisted.internet.task import deferLater

from benchmarks.dead_sockets import DeadSocket, TakenPorts
from benchmarks.honest import Comparison, WrongOctets
from benchmarks.ring import RingClient, WrongAnswers, is_wrong
from benchmarks.servers import HOST
from benchmarks.slow import DELAY, SLOW, slow_threads
from twisted_tftp.errors import FileNotFound
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.first_answer import KnownServer, XidSupport

#: The block size that honest clients request.
BLKSIZE = 1428

#: The windowsize that honest clients request.
WINDOWSIZE = 4

#: The options that some of the dead clients request.
OPTIONS = {"blksize": str(BLKSIZE), "windowsize": str(WINDOWSIZE), "tsize": "0"}

#: Timeouts after which an honest client gives up.
RETRIES = 5

#: Seconds from a first answer to its repetition, until a time was measured.
REPEAT = 1.0

#: The number of measured times that are kept.
MEASURED = 50

#: When an honest client sends its request, in seconds before the repetition: from and to.
IDLE_LEAD = (-0.001, 0.004)

#: Requests that are sent first in some cases: the honest client's request waits behind them.
BURST_REQUESTS = 60

#: The same as `IDLE_LEAD`, if the request of the honest client waits in a queue.
BURST_LEAD = (0.0, 0.02)

#: Octets of an upload.
UPLOAD_SIZE = 3000

#: The kinds of requests that use another file name each time.
NUMBERED = ("missing", "upload")

#: The share of transfers that may fail cleanly.
MAX_CLEAN_FAILURES = 0.05

#: The number of kinds of clean failures that are printed.
SHOWN_FAILURES = 5


def _request(opcode: wire.Opcode, name: str, options: dict[str, str]) -> bytes:
    return wire.encode_request(wire.Request(opcode, name.encode(), wire.OCTET, options))


def requests(kind: str, number: int) -> list[bytes]:
    """Return the requests of dead client `number`, of a kind in `DEAD`."""
    plain = _request(wire.Opcode.RRQ, "read-1", {})
    read = _request(wire.Opcode.RRQ, "read-1", OPTIONS)
    write = _request(wire.Opcode.WRQ, f"dead-{number}", {})
    announced = {**OPTIONS, "tsize": str(UPLOAD_SIZE)}
    negotiated = _request(wire.Opcode.WRQ, f"dead-{number}", announced)
    return {
        "a read": [plain],
        "a read with options": [read],
        "a write": [write],
        "a write with options": [negotiated],
        "several": [plain, read, negotiated, write],
    }[kind]


#: The kinds of dead clients, by their requests.
DEAD = ("a read", "a read with options", "a write", "a write with options", "several")

#: How many answers dead clients receive before they die, to choose from.
HEARD = (0, 1, 1, 2)


class Case(NamedTuple):
    """A dead client, and the honest client that uses its port.

    @ivar dead: the requests of the dead client, one of `DEAD`.
    @ivar heard: how many answers it receives.
    @ivar wanted: the file of the honest client: "missing", "read-3000" or "upload".
    @ivar slow_server: whether the server opens the file late.
    @ivar slow_disk: whether the honest client opens its own file late, with its socket open.
    @ivar is_queued: whether its request waits at the server behind many other requests.
    """

    dead: str
    heard: int
    wanted: str
    slow_server: bool
    slow_disk: bool
    is_queued: bool

    @property
    def kind(self) -> str:
        """The name under which wrong answers are counted."""
        return f"{self.wanted} after {self.dead}"


def random_case(chance: random.Random) -> Case:
    """Return a random case."""
    return Case(
        chance.choice(DEAD),
        chance.choice(HEARD),
        chance.choice(["missing", "read-3000", "upload"]),
        chance.random() < 0.5,
        chance.random() < 0.25,
        chance.random() < 0.25,
    )


class DeadClients:
    """Dead clients of a daemon, and honest clients on their ports.

    @ivar taken: how many ports were used again.
    @ivar missed: how many dead clients got no answer, or lost their port to another process.
    @ivar failures: text of a clean failure of an honest client to how often it occurred.
    @ivar wrong: the wrong answers that honest clients accepted.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        root: Path,
        folder: Path,
        *,
        first_contact: bool = True,
        repeat: float = REPEAT,
        slow_threads: Callable[[Any], Callable[..., Deferred[Any]]] = slow_threads,
    ) -> None:
        """Set up the clients.

        @param port: the request port of the daemon, on loopback.
        @param root: the daemon's folder.
        @param folder: for the files of the clients; it is created.
        @param first_contact: whether each honest client knows nothing about the daemon. Then it
            can recognise old answers mostly by their time. Otherwise it knows that the daemon
            grants xids.
        @param repeat: seconds from a first answer to its repetition, before one was measured.
        @param slow_threads: returns how calls are run that wait for a slow disk.
        """
        self._first_contact = first_contact
        self._slow_threads = slow_threads
        self.taken = self.missed = 0
        self.failures: Counter[str] = Counter()
        self.wrong = WrongAnswers()
        folder.mkdir()
        self._queue_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._queue_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        self._reactor, self._port = reactor, port
        self._root, self._folder = root, folder
        self._chance = random.Random(69)
        self._content = (root / "read-3000").read_bytes()
        self._number = 0
        self._repeats = deque([repeat], maxlen=MEASURED)

    async def work(self, until: float) -> None:
        """Run cases one after the other until the time `until`, after a random delay."""
        await deferLater(self._reactor, self._chance.random())
        while time.monotonic() < until:
            await self.one(random_case(self._chance))

    async def one(self, case: Case) -> None:
        """Run one case."""
        self._number += 1
        number = self._number
        dead = DeadSocket(self._reactor, (HOST, self._port))
        asked = requests(case.dead, number)
        try:
            dead.ask(asked)
            if case.heard:
                await dead.when_heard(case.heard * len(asked))
                if case.heard > 1 and len(asked) == 1:
                    self._repeats.append(dead.heard_at[1] - dead.heard_at[0])
                await self._wait_for_repeat(dead.heard_at[-1], case)
        except NotHeard:
            self.missed += 1
            return
        finally:
            dead.close()
        if not case.heard:
            await self._wait_for_repeat(dead.asked_at, case)
        await self._use_port(dead.port, case, number)

    async def _wait_for_repeat(self, last: float, case: Case) -> None:
        """Wait until shortly before the repetition of the answer that came at `last`."""
        bounds = DELAY if case.slow_disk else BURST_LEAD if case.is_queued else IDLE_LEAD
        before = self._chance.uniform(*bounds)
        due = last + median(self._repeats) - before
        await deferLater(self._reactor, max(0.0, due - time.monotonic()))

    async def _use_port(self, port: int, case: Case, number: int) -> None:
        client = RingClient(
            *(self._reactor, HOST, self._port),
            blksize=BLKSIZE,
            windowsize=WINDOWSIZE,
            retries=RETRIES,
            ports=TakenPorts(port),
            known=KnownServer(XidSupport.UNKNOWN if self._first_contact else XidSupport.SUPPORTED),
            in_thread=self._slow_threads(self._reactor) if case.slow_disk else None,
        )
        name = f"{case.wanted}-{number}" if case.wanted in NUMBERED else case.wanted
        asked = SLOW + name if case.slow_server else name
        client.begin(case.kind, number, asked)
        if case.is_queued:
            for index in range(BURST_REQUESTS):
                request = _request(wire.Opcode.RRQ, f"missing-{number}-{index}", {})
                self._queue_socket.sendto(request, (HOST, self._port))
        try:
            if case.wanted == "upload":
                await self._store(client, case, asked, self._root / name)
            else:
                await self._fetch(client, case, asked, number)
        except OSError:
            self.missed += 1
            return
        except Exception as error:
            if is_wrong(error):
                self.wrong.add(case.kind, error, client)
            else:
                self.failures[f"{case.kind}: {error!r}"] += 1
        finally:
            await client.close()
            (self._root / f"dead-{number}").unlink(missing_ok=True)
        self.taken += 1

    async def _fetch(self, client: RingClient, case: Case, asked: str, number: int) -> None:
        """Read a file that exists, or one that does not.

        @raise WrongOctets: the octets are wrong; or this is the cause of the error.
        """
        original = self._content if case.wanted == "read-3000" else None
        path = self._folder / str(number)
        try:
            if not case.slow_disk:
                await client.get(asked, Comparison(original or b""))
            else:
                await client.get(asked, str(path))
                if original is not None and path.read_bytes() != original:
                    raise WrongOctets(f"{path.stat().st_size} octets of another file")
        except FileNotFound:
            if original is not None:
                raise
        else:
            if original is None:
                raise WrongOctets("a missing file is there")
        finally:
            path.unlink(missing_ok=True)

    async def _store(self, client: RingClient, case: Case, asked: str, stored: Path) -> None:
        """Write a file.

        @raise WrongOctets: the server has stored other octets, or nothing.
        """
        octets = self._chance.randbytes(UPLOAD_SIZE)
        source = self._folder / stored.name
        try:
            if case.slow_disk:
                source.write_bytes(octets)
            await client.put(str(source) if case.slow_disk else io.BytesIO(octets), asked)
            if not stored.exists():
                raise WrongOctets(f"{stored.name} was stored elsewhere")
            if stored.read_bytes() != octets:
                raise WrongOctets(f"{stored.name} is not what was stored")
        finally:
            source.unlink(missing_ok=True)
            stored.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the socket."""
        self._queue_socket.close()

    def summary(self) -> str:
        """Return a line of counts, and lines for the most frequent clean failures."""
        wrong, failed = self.wrong.counts.total(), self.failures.total()
        line = (
            f"dead clients: {self.taken:,} ports taken again, {wrong:,} wrong answers, "
            f"{failed:,} failed cleanly"
        )
        return "\n".join([line, *self._failure_lines()])

    def problems(self) -> list[str]:
        """Return the problems found."""
        failed = self.failures.total()
        if failed <= MAX_CLEAN_FAILURES * self.taken:
            return self.wrong.problems()
        return [*self.wrong.problems(), f"dead clients: {failed} failed cleanly"]

    def _failure_lines(self) -> list[str]:
        common = self.failures.most_common(SHOWN_FAILURES)
        return [f"  {count} x {failure}" for failure, count in common]
