"""Test our client on the ports of earlier clients, to which our server still sends answers.

Both ends are real, the time is virtual. No octet of one transfer may end in another one.
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
from tests.support.faults import Faults, OneWayPath
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

#: The port that all clients use, one after the other.
PORT = 30000
#: Another address of the server's host.
OTHER: Address = ("192.0.2.70", 69)
#: The files on the server.
FILES = {"one": b"Z", "some": b"z" * 513, "many": b"y" * 3000}
WANTED = octets(1500, "wanted")
DEAD_BLOCK = b"d" * 512
#: Seconds after the request in which recorded datagrams may be replayed.
REPLAYED_FOR = 60.0

OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"tsize": "0"},
    {"blksize": "1428", "windowsize": "16", "tsize": "0", "xid": "0badf00d"},
)


@dataclass(frozen=True)
class Dead:
    """A client that sends a request, answers some packets, and then dies.

    @ivar opcode: the opcode of its request.
    @ivar answers: how many packets it answers before it dies.
    @ivar server: the address that it sends its request to.
    @ivar before: seconds from its request to the one of the honest client.
    """

    opcode: Opcode
    name: str
    options: dict[str, str]
    answers: int
    server: Address
    before: float


class RecordingNetwork(Network):
    """A network that records the datagrams of one port, and loses as many as the test says.

    @ivar kept: (from, to, datagram).
    @ivar lose_up: how many of the next datagrams from the port are lost.
    @ivar lose_down: how many of the next datagrams to the port are lost.
    """

    def __init__(self, policy: Policy, disk: float, delay: float) -> None:
        self.kept: list[tuple[Address, Address, bytes]] = []
        self.lose_up = self.lose_down = 0
        super().__init__(
            *(policy, Faults(), Faults()), seed=0, delay=delay, disk=disk, write="overwrite"
        )
        self._paths[OTHER[0]] = OneWayPath(Faults(), "other")
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
        """Deliver a recorded datagram again."""
        receive = self.sockets.get(destination)
        if receive is not None:
            receive(datagram, source)

    def run_dead_clients(self, dead: list[Dead]) -> None:
        """Let clients on the port send requests, answer some packets and die, as `dead` says."""
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
        """Let virtual time pass, event by event."""
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
    """Run a transfer of an honest client on the port; return whether it had the right outcome.

    @param act: "read", "missing" or "write".
    @param replays: (which of the recorded datagrams, seconds after the request).
    @param knows: whether the client had a transfer with the server before.
    """
    network = RecordingNetwork(Policy(single_port=single_port), disk, delay)
    local = Store(network.clock, 0.0, "overwrite")
    client = NetworkClient(network, blksize=1428, windowsize=4)
    with no_errors_logged():
        if knows:
            network.client_port = PORT + 1
            first: list[Any] = []
            client.get("one", LocalWriter(local, "first")).addBoth(first.append)
            network.run()
            assert local.files.pop("first") == b"Z"
        network.run_dead_clients(dead)
        old = list(network.kept)
        network.client_port = PORT
        network.lose_up, network.lose_down = lose_up, lose_down
        if not knows and act == "write":
            # A late request replaces the new one, which is then never answered. For a read, the
            # client sends a second request from another port.
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


#: Seconds from a dead client's request to the honest one's, near those at which the server repeats
#: its first answer.
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
#: (Which recorded datagram, seconds after the request): mostly before the true answer arrives, and
#: while it is in doubt.
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
    """With any dead clients and replayed datagrams, a transfer gets only its own octets."""
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
            replays = []  # old and new datagrams between the same addresses look the same
        if not knows and act == "write":
            # The true answer must arrive while an older one is in doubt.
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
    """Return the fields of `dead` after the name."""
    return dead.options, dead.answers, dead.server, dead.before


@pytest.mark.parametrize("single_port", [False, True], ids=["ports", "single-port"])
@pytest.mark.parametrize("server", [SERVER, OTHER], ids=["same address", "another address"])
@pytest.mark.parametrize("act", ["read", "missing", "write"])
@pytest.mark.parametrize("knows", [False, True], ids=["first contact", "known server"])
def test_transfer_after_a_dead_client_completes(
    single_port: bool, server: Address, act: str, knows: bool
) -> None:
    """A transfer completes while an old answer has arrived, is on its way, or is repeated."""
    opcode, name = (Opcode.WRQ, "dead") if act == "write" else (Opcode.RRQ, "one")
    for options, before in itertools.product(
        OPTIONS, (0.5, 0.0012, 0.0008, 0.0003, 0.0, 0.9995, 1.0, 1.0003)
    ):
        dead = Dead(opcode, name, options, 0, server, before)
        assert run([dead], act, single_port=single_port, knows=knows, disk=0.002)


@pytest.mark.parametrize("act", ["read", "missing", "write"])
def test_transfer_completes_after_a_repeated_request_and_an_old_answer(act: str) -> None:
    """A transfer completes if its first request is lost and an old answer is repeated."""
    dead = Dead(Opcode.RRQ, "one", {}, 0, SERVER, 0.9)
    for replays in ([(1, 0.0001)], [(1, 0.0007), (0, 0.0008)], [(0, 5.0), (1, 5.001)]):
        assert run([dead], act, replays=replays, lose_up=1)
