"""Take the ports of clients that died, just when the server repeats what it told them.

A dead client asks for something, answers nothing and closes its socket. The server repeats its
first answer some times. Shortly before a repeat is due an honest client takes the port, and asks
for something else: it must not take the repeat for its answer.
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

#: What the honest clients ask for, and so do some of the dead ones.
BLKSIZE, WINDOWSIZE = 1428, 4
OPTIONS = {"blksize": str(BLKSIZE), "windowsize": str(WINDOWSIZE), "tsize": "0"}
#: Timeouts of silence that an honest client bears.
RETRIES = 5
#: Seconds from a first answer to its repeat before one was measured; how many are remembered.
REPEAT, MEASURED = 1.0, 50
#: Seconds by which a prompt client asks before the repeat is due: the way to the server is short.
PROMPT = (-0.001, 0.004)
#: Requests of a crowd, and seconds that the server needs at least to read them.
CROWD, CROWDED = 60, (0.0, 0.02)
#: Octets of an upload.
UPLOADED = 3000
#: What is wanted under a name of its own each time.
NUMBERED = ("missing", "upload")
#: The share of clean failures that is no complaint.
CLEAN = 0.05
#: Kinds of clean failures that are shown.
COMMONEST = 5


def _request(opcode: wire.Opcode, name: str, options: dict[str, str]) -> bytes:
    return wire.encode_request(wire.Request(opcode, name.encode(), wire.OCTET, options))


def requests(kind: str, number: int) -> list[bytes]:
    """Return what the dead client `number` of a kind in `DEAD` asks for."""
    plain = _request(wire.Opcode.RRQ, "read-1", {})
    read = _request(wire.Opcode.RRQ, "read-1", OPTIONS)
    write = _request(wire.Opcode.WRQ, f"dead-{number}", {})
    announced = {**OPTIONS, "tsize": str(UPLOADED)}
    negotiated = _request(wire.Opcode.WRQ, f"dead-{number}", announced)
    return {
        "a read": [plain],
        "a read with options": [read],
        "a write": [write],
        "a write with options": [negotiated],
        "several": [plain, read, negotiated, write],
    }[kind]


#: What dead clients have asked for.
DEAD = ("a read", "a read with options", "a write", "a write with options", "several")
#: How many answers they hear before they die.
HEARD = (0, 1, 1, 2)


class Case(NamedTuple):
    """What a dead client does, and the one who takes its port.

    @ivar dead: what the dead one asks for, one of `DEAD`.
    @ivar heard: answers that it hears.
    @ivar wanted: what the other one wants: a file that is missing, one that is there, or to store.
    @ivar slow_server: the server opens the file late.
    @ivar slow_disk: the client opens its own file late, with its socket open.
    @ivar crowd: others ask before it, so that its request waits at the server.
    """

    dead: str
    heard: int
    wanted: str
    slow_server: bool
    slow_disk: bool
    crowd: bool

    @property
    def kind(self) -> str:
        """Its name for the count of wrong answers."""
        return f"{self.wanted} after {self.dead}"


def some_case(chance: random.Random) -> Case:
    """Return a case by chance."""
    return Case(
        chance.choice(DEAD),
        chance.choice(HEARD),
        chance.choice(["missing", "read-3000", "upload"]),
        chance.random() < 0.5,
        chance.random() < 0.25,
        chance.random() < 0.25,
    )


class DeadClients:
    """Dead clients of a daemon, and honest ones on their ports.

    @ivar taken: ports that were taken again.
    @ivar missed: dead clients that were not answered, or whose port somebody else has taken.
    @ivar failures: clean failures of the honest ones, in words, to how often.
    @ivar wrong: wrong answers to them.
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
        """Prepare.

        @param port: of the daemon on loopback.
        @param root: the daemon's folder.
        @param folder: for the files of the clients; it is made.
        @param first_contact: each honest client knows nothing of the daemon yet; then there is
            little but time that tells answers apart. Otherwise it knows that xids are granted.
        @param repeat: seconds from a first answer to its repeat, before one was measured.
        @param slow_threads: returns how calls are run that wait for a slow disk.
        """
        self._first_contact = first_contact
        self._slow_threads = slow_threads
        self.taken = self.missed = 0
        self.failures: Counter[str] = Counter()
        self.wrong = WrongAnswers()
        folder.mkdir()
        self._crowd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._crowd.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        self._reactor, self._port = reactor, port
        self._root, self._folder = root, folder
        self._chance = random.Random(69)
        self._content = (root / "read-3000").read_bytes()
        self._number = 0
        self._repeats = deque([repeat], maxlen=MEASURED)

    async def work(self, until: float) -> None:
        """Let one die after the other until that time; begin by chance, as others do."""
        await deferLater(self._reactor, self._chance.random())
        while time.monotonic() < until:
            await self.one(some_case(self._chance))

    async def one(self, case: Case) -> None:
        """Let a client die, and take its port."""
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
                await self._repeat_is_near(dead.heard_at[-1], case)
        except NotHeard:
            self.missed += 1
            return
        finally:
            dead.close()
        if not case.heard:
            await self._repeat_is_near(dead.asked_at, case)
        await self._take(dead.port, case, number)

    async def _repeat_is_near(self, last: float, case: Case) -> None:
        """Wait until the repeat of what was sent at `last` finds the port taken again."""
        bounds = DELAY if case.slow_disk else CROWDED if case.crowd else PROMPT
        before = self._chance.uniform(*bounds)
        due = last + median(self._repeats) - before
        await deferLater(self._reactor, max(0.0, due - time.monotonic()))

    async def _take(self, port: int, case: Case, number: int) -> None:
        client = RingClient(
            *(self._reactor, HOST, self._port),
            blksize=BLKSIZE,
            windowsize=WINDOWSIZE,
            retries=RETRIES,
            ports=TakenPorts(port),
            known=KnownServer(XidSupport.UNKNOWN if self._first_contact else XidSupport.GRANTED),
            in_thread=self._slow_threads(self._reactor) if case.slow_disk else None,
        )
        name = f"{case.wanted}-{number}" if case.wanted in NUMBERED else case.wanted
        asked = SLOW + name if case.slow_server else name
        client.begin(case.kind, number, asked)
        if case.crowd:
            for index in range(CROWD):
                request = _request(wire.Opcode.RRQ, f"missing-{number}-{index}", {})
                self._crowd.sendto(request, (HOST, self._port))
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
        """Fetch a file that is there, or one that is not.

        @raise WrongOctets: it is another one; or this is the cause of the error.
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
        """Store a file.

        @raise WrongOctets: what is stored is something else, or nothing.
        """
        octets = self._chance.randbytes(UPLOADED)
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
        """Let go of everything."""
        self._crowd.close()

    def summary(self) -> str:
        """Return what happened, in a line, and the commonest clean failures."""
        wrong, failed = self.wrong.counts.total(), self.failures.total()
        line = (
            f"dead clients: {self.taken:,} ports taken again, {wrong:,} wrong answers, "
            f"{failed:,} failed cleanly"
        )
        return "\n".join([line, *self._commonest()])

    def complaints(self) -> list[str]:
        """Return what is not well."""
        failed = self.failures.total()
        if failed <= CLEAN * self.taken:
            return self.wrong.complaints()
        return [*self.wrong.complaints(), f"dead clients: {failed} failed cleanly"]

    def _commonest(self) -> list[str]:
        common = self.failures.most_common(COMMONEST)
        return [f"  {count} x {failure}" for failure, count in common]
