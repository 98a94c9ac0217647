"""Test that forged requests can't make the server send much to the network of a victim.

Forged requests arrive for a minute, at 1,000 per second. Honest machines of the same network start
meanwhile, all at once, and all of them must finish. The figures are printed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.forged_requests import FORGED, request
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.errors import TFTPError
from twisted_tftp.net.request_port import RequestPort
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.testing import MemoryLink, MemoryNetwork

#: When the honest machines start, in seconds: the attack has used up its burst by then.
START = 20.0

#: The time between two steps of an attack, in seconds.
STEP = 0.01

#: After how many seconds without an answer a machine asks again.
ASKS_AGAIN_AFTER = 2.0

#: After how many seconds a machine gives up.
GIVES_UP_AFTER = 25.0

#: The largest allowed ratio of the octets that are sent to those of the forged requests.
MAX_RATIO = 3

#: The content of the file: ten blocks.
CONTENT = bytes(range(256)) * 20

#: A host and a port.
Address = tuple[str, int]


def host(number: int, family: str) -> str:
    """Return an address of the attacked network, a /24 or a /56."""
    return f"192.0.2.{number}" if family == "IPv4" else f"2001:db8:0:1{number:02x}::9"


#: Returns the number of a host, and a port, from a generator of random numbers.
Pattern = Callable[[random.Random], tuple[int, int]]

#: The patterns of forged sources. The hosts from 201 on are not those of honest machines.
PATTERNS: dict[str, Pattern] = {
    "50 hosts, any port": lambda chance: (chance.randint(201, 250), chance.randint(1024, 65535)),
    "50 hosts, one port each": lambda chance: (chance.randint(201, 250), 4000),
    "50 hosts, 100 ports": lambda chance: (chance.randint(201, 250), chance.randint(4000, 4099)),
    "one host, any port": lambda chance: (201, chance.randint(1024, 65535)),
}

#: The same, with the addresses of the honest machines among them.
PATTERNS_WITH_MACHINES: dict[str, Pattern] = {
    "all hosts, any port": lambda chance: (chance.randint(1, 250), chance.randint(1024, 65535)),
    "all hosts, one port each": lambda chance: (chance.randint(1, 250), 4000),
}

#: A read without options.
READ = FORGED["read"]

#: A read of a machine that asks for the size first.
READ_SIZE = request(Opcode.RRQ, b"file", tsize="0")

#: The forged requests, apart from reads without options.
OTHER_REQUESTS = [name for name in FORGED if name.split(",")[0] in ("read", "write")][1:]
OTHER_REQUESTS += ["read of a file that is missing", "no file name"]


class SharedPort(RequestPort):
    """A request port in memory, which all transfers share."""

    def __init__(self, send: Callable[[Any, bytes], None]) -> None:
        self._send_to = send

    def prepare_for_transfers(self) -> None:
        pass

    def send(self, datagram: Any, peer: Any, local: Any) -> None:
        self._send_to(peer, bytes(datagram))


class Machine:
    """An honest machine that reads the file in lock step."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.content = b""
        self.asks_at = START
        self.is_done = False


class AttackedNetwork(MemoryNetwork):
    """A server, forged requests, and honest machines of one network.

    @ivar reflected: the octets that were sent to forged addresses.
    """

    def __init__(self, machines: dict[Address, Machine], **policy: Any) -> None:
        self.reflected = 0
        self._machines = machines
        self._waiting: list[tuple[Address, bytes]] = []
        self._links: dict[Address, MemoryLink] = {}
        super().__init__(MemoryBackend({"file": CONTENT}, "create"), Policy(**policy))
        if self.server.policy.single_port:
            self.server.makeConnection(SharedPort(self.note_sent))

    def open(self, peer: Any, local: Any, is_read: bool) -> MemoryLink:
        """Open a link that passes on what it sends."""
        network = self

        class Link(MemoryLink):
            def send(self, datagrams: Any) -> None:
                super().send(datagrams)
                for datagram in self.take():
                    network.note_sent(peer[:2], datagram)

        link = Link(self.clock.seconds)
        self._links[peer[:2]] = link
        return link

    def note_sent(self, peer: Address, datagram: bytes) -> None:
        """Count a datagram to a forged address; keep one for an honest machine."""
        if peer[:2] in self._machines:
            self._waiting.append((peer[:2], datagram))
        else:
            self.reflected += len(datagram)

    def send_request(self, peer: Address, datagram: bytes) -> None:
        """Let a request arrive."""
        local = ("192.0.2.254", 69) if "." in peer[0] else ("2001:db8::69", 69, 0, 0)
        source: Any = peer if "." in peer[0] else (*peer, 0, 0)
        self.server.received(datagram, source, local)

    def _answer_of_machine(self, peer: Address, datagram: bytes) -> None:
        if self.server.policy.single_port:
            self.send_request(peer, datagram)
        else:
            self._links[peer].deliver(datagram)

    def run_machines(self) -> None:
        """Let each machine answer what it got, and ask again if it got nothing."""
        now = self.clock.seconds()
        for peer, machine in self._machines.items():
            started = bool(machine.content) or machine.is_done
            if not started and machine.asks_at <= now < START + GIVES_UP_AFTER:
                machine.asks_at += ASKS_AGAIN_AFTER
                self.send_request(peer, machine.request)
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for peer, datagram in waiting:
                self._let_machine_receive(peer, self._machines[peer], datagram)

    def _let_machine_receive(self, peer: Address, machine: Machine, datagram: bytes) -> None:
        if wire.opcode_of(datagram) == wire.Opcode.OACK:
            self._answer_of_machine(peer, wire.ack(0))
            return
        block = len(machine.content) // 512 + 1
        if datagram[:4] == wire.DATA_HEADERS[block] and not machine.is_done:
            machine.content += datagram[4:]
            machine.is_done = len(datagram) < 516
            self._answer_of_machine(peer, wire.ack(block))


@dataclass
class Attack:
    """An attack beside honest machines of the same network.

    @ivar pattern: the name of a pattern of forged sources.
    @ivar forged: the forged request.
    @ivar honest: the request of the machines.
    @ivar policy: the policy of the server.
    @ivar family: the address family.
    @ivar seconds: how long it lasts.
    @ivar rate: forged requests per second.
    @ivar machines: how many machines start at once.
    @ivar ratio: the octets that forged addresses got, divided by those of the forged requests.
    @ivar finished: how many machines have read the file.
    """

    pattern: str
    forged: bytes
    honest: bytes
    policy: dict[str, Any]
    family: str = "IPv4"
    seconds: int = 60
    rate: int = 1000
    machines: int = 200
    ratio: float = 0.0
    finished: int = 0

    def run(self) -> Attack:
        """Run it, and return it with its results."""
        hosts = [host(number, self.family) for number in range(1, self.machines + 1)]
        machines = {(each, 2000): Machine(self.honest) for each in hosts}
        net = AttackedNetwork(machines, **self.policy)
        sources = self._sources()
        for _ in range(int(self.seconds / STEP)):
            for _ in range(int(self.rate * STEP)):
                net.send_request(next(sources), self.forged)
            net.run_machines()
            net.clock.advance(STEP)
        self.ratio = net.reflected / (self.seconds * self.rate * len(self.forged))
        self.finished = sum(machine.content == CONTENT for machine in machines.values())
        return self

    def _sources(self) -> Iterator[Address]:
        """Return the forged sources."""
        chance = random.Random(1)
        pattern = {**PATTERNS, **PATTERNS_WITH_MACHINES}[self.pattern]
        while True:
            number, port = pattern(chance)
            yield host(number, self.family), port


@pytest.mark.parametrize(
    ("pattern", "family", "single_port"),
    [
        *((pattern, "IPv4", False) for pattern in PATTERNS),
        ("50 hosts, any port", "IPv4", True),
        ("50 hosts, any port", "IPv6", False),
        ("50 hosts, one port each", "IPv6", True),
    ],
)
def test_forged_reads_are_hardly_amplified(
    pattern: str, family: str, single_port: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Less than 3 octets are sent for each forged one, and 200 honest machines finish."""
    attack = Attack(pattern, READ, READ, {"single_port": single_port}, family=family).run()
    with capsys.disabled():
        mode = "a single port" if single_port else "own ports"
        print(f"\n{pattern}, {family}, {mode}: {attack.ratio:.2f} times the octets", end="")
    assert attack.ratio < MAX_RATIO
    assert attack.finished == attack.machines


@pytest.mark.parametrize("single_port", [False, True], ids=["own ports", "single port"])
@pytest.mark.parametrize("forged", OTHER_REQUESTS)
def test_other_forged_requests_are_hardly_amplified(forged: str, single_port: bool) -> None:
    """This holds for reads with options, for writes, and for requests that are refused."""
    policy = {"single_port": single_port, "unproven_rate": 4096}
    attack = Attack("50 hosts, any port", FORGED[forged], READ_SIZE, policy, rate=200)
    attack.seconds, attack.machines = 40, 40
    attack.run()
    assert attack.ratio < MAX_RATIO
    assert attack.finished == attack.machines


@pytest.mark.parametrize("pattern", PATTERNS_WITH_MACHINES)
def test_machines_whose_addresses_are_forged_finish(pattern: str) -> None:
    """A machine asks again from the port of its first request, and is served then."""
    # Until the machines give up: a few of them have to ask more than twice. The server takes some
    # forged requests for repeated ones (a table of hashes remembers the first requests), and then
    # the next repeat from that host has to wait for 5 s.
    seconds = int(START + GIVES_UP_AFTER)
    attack = Attack(pattern, READ, READ, {}, seconds=seconds).run()
    assert attack.finished == attack.machines


def short_of_tokens() -> MemoryNetwork:
    """Return a server that drops first reads without options from the network of its clients."""
    net = MemoryNetwork(MemoryBackend({"file": CONTENT}, "create"), Policy(unproven_rate=1))
    for port in range(1, 10):
        net.server.received(READ, ("192.0.2.201", port), ("192.0.2.254", 69))
    assert net.server.counters.over_unproven_rate > 0
    return net


def test_writes_and_reads_with_options_are_served_at_their_first_request() -> None:
    """Their first answers are no longer than their requests."""
    net = short_of_tokens()
    net.store("new", CONTENT)
    net = short_of_tokens()
    link = net.request(Opcode.RRQ, "file", {"tsize": "0"})
    (oack,) = link.take()
    assert wire.opcode_of(oack) == Opcode.OACK


@pytest.mark.parametrize("answer", [wire.ack(0), wire.error(TFTPError("only the size"))])
def test_any_answer_proves_the_address(answer: bytes) -> None:
    """Then its reads without options are served too, and those of its neighbours are not."""
    net = short_of_tokens()
    net.request(Opcode.RRQ, "file", {"tsize": "0"}).deliver(answer)
    net.clock.advance(590)
    for _ in range(9):
        assert net.fetch("file") == CONTENT
    dropped = net.server.counters.over_unproven_rate
    for port in range(1, 10):
        net.server.received(READ, ("192.0.2.202", port), ("192.0.2.254", 69))
    assert net.server.counters.over_unproven_rate > dropped


def test_without_a_limit_a_forged_read_is_amplified() -> None:
    """With `--unproven-rate 0`, four blocks are sent for each forged request."""
    attack = Attack("50 hosts, any port", READ, READ, {"unproven_rate": 0}, rate=100).run()
    assert attack.ratio > 100
