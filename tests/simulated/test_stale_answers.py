"""Our client on the port of clients that have died, and our server that was answering them.

Both real ends, in virtual time. What is checked is that no octet of one transfer ends in another.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure

from tests.support.contents import octets
from tests.support.faults import Faults, Way
from tests.support.logs import no_errors_logged
from tests.support.virtual import (
    CLIENT,
    SERVER,
    Address,
    Network,
    NetworkClient,
    Store,
    StoreReader,
)
from tests.support.virtual import StoreWriter as LocalWriter
from twisted_tftp.errors import FileNotFound, TFTPError
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode

#: The port that all of them have.
PORT = 30000
#: Another address of the server's host.
OTHER: Address = ("192.0.2.70", 69)
#: What is on the server, and what the honest client asks for or stores.
FILES = {"one": b"Z", "some": b"z" * 513, "many": b"y" * 3000}
WANTED = octets(1500, "wanted")
DEAD_BLOCK = b"d" * 512
#: Seconds in which anything old may come again.
REPLAYED_FOR = 60.0

OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"tsize": "0"},
    {"blksize": "1428", "windowsize": "16", "tsize": "0", "xid": "0badf00d"},
)


@dataclass(frozen=True)
class Dead:
    """A client that dies.

    @ivar opcode: what it asks.
    @ivar answers: packets that it answers before it dies.
    @ivar server: the address that it asks.
    @ivar before: seconds before the honest client asks.
    """

    opcode: Opcode
    name: str
    options: dict[str, str]
    answers: int
    server: Address
    before: float


class Graveyard(Network):
    """A network that keeps all that a port has sent and was sent, and loses what it is told to.

    @ivar kept: (from, to, datagram).
    @ivar lose_up: datagrams of the port that are lost from now on; `lose_down`: those to it.
    """

    def __init__(self, policy: Policy, disk: float, delay: float) -> None:
        self.kept: list[tuple[Address, Address, bytes]] = []
        self.lose_up = self.lose_down = 0
        super().__init__(
            *(policy, Faults(), Faults()), seed=0, delay=delay, disk=disk, write="overwrite"
        )
        self._ways[OTHER[0]] = Way(Faults(), "other")
        self.sockets[OTHER] = lambda datagram, source: self.server.received(
            datagram, source, OTHER
        )
        self.served.files.update(FILES)
        self.served.files["wanted"] = WANTED

    def send(self, source: Address, destination: Address, datagram: bytes) -> None:
        port = (CLIENT, PORT)
        if port in (source, destination):
            self.kept.append((source, destination, datagram))
            if source == port and self.lose_up:
                self.lose_up -= 1
                return
            if destination == port and self.lose_down:
                self.lose_down -= 1
                return
        super().send(source, destination, datagram)

    def replay(self, source: Address, destination: Address, datagram: bytes) -> None:
        """Let something old arrive once more."""
        receive = self.sockets.get(destination)
        if receive is not None:
            receive(datagram, source)

    def bury(self, dead: list[Dead]) -> None:
        """Let clients ask from the port, answer some packets, and die; time passes until now."""
        left = [0]

        def answer(datagram: bytes, source: Address) -> None:
            opcode = wire.opcode_of(datagram)
            number = int.from_bytes(datagram[2:4], "big") if opcode != Opcode.OACK else 0
            if not left[0] or opcode == Opcode.ERROR:
                return
            left[0] -= 1
            writes = opcode == Opcode.ACK or (opcode == Opcode.OACK and each.opcode == Opcode.WRQ)
            reply = wire.DATA_HEADERS[number + 1] + DEAD_BLOCK if writes else wire.ack(number)
            self.send((CLIENT, PORT), source, reply)

        self.sockets[CLIENT, PORT] = answer
        last = max((each.before for each in dead), default=0.0)
        for each in sorted(dead, key=lambda each: -each.before):
            self.wait(last - each.before)
            last = each.before
            left[0] = each.answers
            request = wire.Request(each.opcode, each.name.encode(), wire.OCTET, each.options)
            self.send((CLIENT, PORT), each.server, wire.encode_request(request))
        self.wait(last)
        del self.sockets[CLIENT, PORT]

    def wait(self, seconds: float) -> None:
        """Let time pass, one thing after the other."""
        until = self.clock.seconds() + seconds
        while True:
            calls = self.clock.getDelayedCalls()
            if not calls or calls[0].getTime() > until:
                break
            self.step()
        self.clock.advance(max(0.0, until - self.clock.seconds()))


def run(
    dead: list[Dead],
    act: str,
    *,
    replays: list[tuple[int, float]] = (),  # type: ignore[assignment]
    single_port: bool = False,
    knows: bool = True,
    disk: float = 0.0,
    delay: float = 0.0005,
    lose_up: int = 0,
    lose_down: int = 0,
) -> bool:
    """Let an honest client act on the port; return whether it completed (or got its refusal).

    @param act: "read", "missing" or "write".
    @param replays: (which of the old datagrams, seconds after the request).
    @param knows: the client had a transfer with the server before.
    """
    network = Graveyard(Policy(single_port=single_port), disk, delay)
    local = Store(network.clock, 0.0, "overwrite")
    client = NetworkClient(network, blksize=1428, windowsize=4)
    with no_errors_logged():
        if knows:
            network.client_port = PORT + 1
            first: list[Any] = []
            client.get("one", LocalWriter(local, "first")).addBoth(first.append)
            network.run()
            assert local.files.pop("first") == b"Z"
        network.bury(dead)
        old = list(network.kept)
        network.client_port = PORT
        network.lose_up, network.lose_down = lose_up, lose_down
        if not knows and act == "write":
            # A late request takes the place of the new one, whose answer never comes then. A read
            # is asked for a second time from another port.
            old = [each for each in old if wire.opcode_of(each[2]) not in (Opcode.RRQ, Opcode.WRQ)]
        for which, at in replays if old else ():
            network.clock.callLater(at, network.replay, *old[which % len(old)])
        outcomes: list[Any] = []
        if act == "write":
            begun = client.put(StoreReader(local, WANTED), "stored")
        else:
            begun = client.get("wanted" if act == "read" else "gone", LocalWriter(local, "got"))
        begun.addBoth(outcomes.append)
        network.run()
    (outcome,) = outcomes
    failed = isinstance(outcome, Failure)
    assert not failed or outcome.check(TFTPError), outcome.getTraceback()
    if act == "write":
        assert network.served.files.get("stored", WANTED) == WANTED
        assert failed or "stored" in network.served.files
    elif act == "read" and not failed:
        assert local.files == {"got": WANTED}
    else:
        assert failed, "a missing file was there"
        assert local.files == {}
    for name, content in network.served.files.items():
        if name.startswith("dead"):
            assert not content.strip(b"d"), "octets of another upload"
    assert network.sockets.keys() == {SERVER, OTHER}
    assert len(network.server.transfers) == network.server.transfers.running == 0
    return bool(outcome.check(FileNotFound)) if act == "missing" else not failed


#: Moments at which the server repeats its first answers, and about them.
MOMENTS = st.builds(
    lambda repeat, off: repeat + off,
    st.sampled_from([0.0, 1.0, 3.0, 7.0]),
    st.sampled_from([0.0, 0.0002, 0.0005, 0.001, 0.0015, 0.01]) | st.floats(0, 0.1),
)
DEAD = st.builds(
    Dead,
    opcode=st.sampled_from([Opcode.RRQ, Opcode.WRQ]),
    name=st.sampled_from(["one", "some", "many"]),
    options=st.sampled_from(OPTIONS),
    answers=st.integers(0, 3),
    server=st.sampled_from([SERVER, SERVER, OTHER]),
    before=MOMENTS,
)
#: Soon after the request above all: before the true answer, and while it is in doubt.
REPLAYS = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from([0.0001, 0.0003, 0.0007, 0.0011, 0.0015, 0.002])
        | st.floats(0, 0.05)
        | st.floats(0, REPLAYED_FOR),
    ),
    max_size=12,
)


def test_no_octet_of_one_transfer_ends_in_another() -> None:
    """Whatever the port's last owners have asked, and whatever of it comes again."""
    completed = [0]

    @settings(max_examples=500, deadline=None)
    @given(
        dead=st.lists(DEAD, min_size=1, max_size=3),
        act=st.sampled_from(["read", "missing", "write"]),
        replays=REPLAYS,
        single_port=st.booleans(),
        knows=st.booleans(),
        disk=st.sampled_from([0.0, 0.01, 0.3]),
        delay=st.sampled_from([0.0005, 0.005]),
        lose_up=st.integers(0, 1),
        lose_down=st.integers(0, 1),
    )
    def hold(
        dead: list[Dead],
        act: str,
        replays: list[tuple[int, float]],
        single_port: bool,
        knows: bool,
        disk: float,
        lose_up: int,
        lose_down: int,
        **others: Any,
    ) -> None:
        dead = [
            each if each.opcode is Opcode.RRQ else Dead(each.opcode, "dead", *_rest(each))
            for each in dead
        ]
        if single_port:
            replays = []  # between the same addresses nothing tells old from new
        if not knows and act == "write":
            # Then the true answer has to come while an older one is in doubt.
            disk, lose_up, lose_down = min(disk, 0.01), 0, 0
        completed[0] += run(
            dead,
            act,
            replays=replays,
            single_port=single_port,
            knows=knows,
            disk=disk,
            lose_up=lose_up,
            lose_down=lose_down,
            **others,
        )

    hold()
    assert completed[0]


def _rest(dead: Dead) -> tuple[dict[str, str], int, Address, float]:
    return dead.options, dead.answers, dead.server, dead.before


@pytest.mark.parametrize("single_port", [False, True], ids=["ports", "single-port"])
@pytest.mark.parametrize("server", [SERVER, OTHER], ids=["same address", "another address"])
@pytest.mark.parametrize("act", ["read", "missing", "write"])
@pytest.mark.parametrize("knows", [False, True], ids=["first contact", "known server"])
def test_transfer_after_a_dead_client_completes(
    single_port: bool, server: Address, act: str, knows: bool
) -> None:
    """The old answer was delivered, is in flight, or is repeated just after the request."""
    opcode, name = (Opcode.WRQ, "dead") if act == "write" else (Opcode.RRQ, "one")
    for options, before in itertools.product(
        OPTIONS, (0.5, 0.0012, 0.0008, 0.0003, 0.0, 0.9995, 1.0, 1.0003)
    ):
        dead = Dead(opcode, name, options, 0, server, before)
        assert run([dead], act, single_port=single_port, knows=knows, disk=0.002)


@pytest.mark.parametrize("act", ["read", "missing", "write"])
def test_transfer_completes_though_its_request_comes_twice(act: str) -> None:
    """The old answer was lost, and is repeated after the second copy of the request."""
    dead = Dead(Opcode.RRQ, "one", {}, 0, SERVER, 0.9)
    for replays in ([(1, 0.0001)], [(1, 0.0007), (0, 0.0008)], [(0, 5.0), (1, 5.001)]):
        assert run([dead], act, replays=replays, lose_up=1)
