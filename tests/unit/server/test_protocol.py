"""The request port: what is answered, what is not, and what starts a transfer."""

from __future__ import annotations

import errno
import ipaddress
from typing import Any

import pytest
from twisted.internet import udp
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from twisted_tftp.backends.memory import MemoryBackend, MemoryReader
from twisted_tftp.context import Direction, Endpoint, Outcome, TransferContext
from twisted_tftp.errors import AccessViolation, TFTPError
from twisted_tftp.net.request_port import MAX_REQUEST, RequestPort
from twisted_tftp.policy import Policy, Retransmit
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import negotiate
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.server.admission import parse_request
from twisted_tftp.server.flood_defence import FloodDefence
from twisted_tftp.server.protocol import Session, TFTPServer
from twisted_tftp.server.transfers import MAX_DALLYING
from twisted_tftp.testing import MemoryLink, MemoryNetwork

PEER = ("192.0.2.1", 4000)
LOCAL = ("192.0.2.69", 69)


def network(backend: Any = None, **policy: Any) -> MemoryNetwork:
    files = {"f": bytes(2000), "small": b"x"}
    return MemoryNetwork(backend or MemoryBackend(files, "create"), Policy(**policy))


def rrq(filename: bytes = b"f", **options: str) -> bytes:
    return wire.encode_request(wire.Request(Opcode.RRQ, filename, "octet", options))


def wrq(filename: bytes = b"new", **options: str) -> bytes:
    return wire.encode_request(wire.Request(Opcode.WRQ, filename, "octet", options))


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        wire.ack(0),
        wire.ack(1),
        b"\x00\x03\x00\x01data",
        b"\x00\x05\x00\x04Illegal\x00",
        b"\x00\x06blksize\x00512\x00",
        b"\x00\x07\x00\x00",
        b"\x01\x00f\x00octet\x00",
        b"\xff" * 600,
    ],
)
def test_only_requests_are_answered(datagram: bytes) -> None:
    """Anything else gets silence and is counted: two servers can't be set to loop."""
    net = network()
    net.server.received(datagram, PEER, LOCAL)
    assert net.links == []
    assert net.server.counters.ignored == 1


@pytest.mark.parametrize("datagram", [b"\xff" * 100, b"\0\1\0octet\0"])
def test_flood_of_bad_packets_is_a_line_a_minute(datagram: bytes) -> None:
    """The first is told at once, with who sent it; the others are counted."""
    net = network()
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        for number in range(1000):
            net.server.received(datagram, ("192.0.2.1", 1024 + number), LOCAL)
            net.clock.advance(0.1)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event["count"] for event in events] == [1, 599]
    assert events[0]["host"] == "192.0.2.1"


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x00\x01",
        b"\x00\x01f",
        b"\x00\x01f\x00",
        b"\x00\x01f\x00octet",
        b"\x00\x01\x00octet\x00",
        b"\x00\x01f\x00mail\x00",
        b"\x00\x02f\x00\xff\xfe\x00",
    ],
)
def test_malformed_request_gets_error_4_from_a_port_of_its_own(datagram: bytes) -> None:
    """What is a request but can't be read is told so, and nothing stays open."""
    net = network()
    net.server.received(datagram, PEER, LOCAL)
    (link,) = net.links
    assert wire.parse_error(link.take()[0])[0] == 4
    assert link.closed
    assert net.server.counters.malformed == 1
    assert len(net.server.transfers) == 0


def test_context_says_what_was_asked() -> None:
    """A backend learns who asks, what was reached, and the name as sent and as text."""
    seen: list[tuple[str, TransferContext]] = []

    class Backend(MemoryBackend):
        def open_reader(self, path: str, context: TransferContext) -> Any:
            seen.append((path, context))
            return super().open_reader("f", context)

        def open_writer(self, path: str, context: TransferContext) -> Any:
            seen.append((path, context))
            return super().open_writer(path, context)

    net = network(Backend({"f": b""}, "create"))
    net.server.received(rrq(b"\xff/\xc3\xa9", blksize="9"), PEER, LOCAL)
    net.server.received(wrq(b"w", tsize="12"), ("192.0.2.1", 4001), None)
    (path, context), (_, written) = seen
    assert path == "\udcff/é"
    assert context.filename == b"\xff/\xc3\xa9"
    assert (context.peer, context.local) == (Endpoint(*PEER), Endpoint(*LOCAL))
    assert (context.direction, context.mode) == (Direction.READ, "octet")
    assert context.options == {"blksize": "9"}
    assert context.announced_size is None
    assert (written.local, written.announced_size) == (None, 12)
    assert written.direction is Direction.WRITE


@pytest.mark.parametrize("request_", [rrq(), rrq(tsize="0"), wrq(), wrq(blksize="100")])
def test_repeated_request_repeats_the_first_answer(request_: bytes) -> None:
    """Raspberry Pi, EDK2, Cisco and GRUB ask again: no second transfer, one answer more."""
    net = network()
    net.server.received(request_, PEER, LOCAL)
    net.clock.advance(0.5)
    net.server.received(request_, PEER, LOCAL)
    (link,) = net.links
    first, second = link.take()
    assert first == second
    assert net.server.transfers.running == 1
    assert net.server.counters.repeated == 1


@pytest.mark.parametrize("slow", [False, True])
def test_new_request_ends_what_its_port_has_not_answered(slow: bool) -> None:
    """A port is used again sooner than we give up: nothing old is sent to its new transfer."""
    net = network()
    if slow:
        opener = net.server.backend.open_reader
        net.server.backend.open_reader = lambda path, context: (
            Deferred() if path == "f" else opener(path, context)
        )
    old = net.request(Opcode.RRQ, "f", {"tsize": "0"}, port=4000)
    old.take()
    net.clock.advance(0.1)
    new = net.request(Opcode.RRQ, "small", {"tsize": "0"}, port=4000)
    net.clock.advance(20)
    assert old.closed
    assert old.take() == []
    assert set(new.take()) == {wire.oack([("tsize", "1")])}
    assert Outcome.REPLACED in net.recorder.outcomes
    assert net.server.counters.replaced == 1


@pytest.mark.parametrize("single_port", [False, True])
@pytest.mark.parametrize("other", [LOCAL, ("192.0.2.70", 69)])
@pytest.mark.parametrize("options", [{}, {"tsize": "0"}])
def test_port_has_one_unanswered_transfer_whatever_it_asks(
    single_port: bool, other: Any, options: dict[str, str]
) -> None:
    """A client that pipelines requests gets the last one; nobody is told of the others."""
    net, _ = single_port_network() if single_port else (network(), None)
    requests = [rrq(b"f", **options), wrq(b"new", **options), rrq(b"f", timeout="9")]
    for number, request in enumerate([*requests, rrq(b"small", **options)]):
        net.server.received(request, PEER, other if number % 2 else LOCAL)
        assert net.server.transfers.running == 1
    assert net.recorder.outcomes == [Outcome.REPLACED] * 3
    assert net.server.counters.replaced == 3
    for link in net.links[:-1]:
        assert len(link.take()) == 1
    net.clock.advance(1.5)
    assert [bool(link.sent) for link in net.links[:-1]] == [False] * len(net.links[:-1])


def test_new_request_leaves_a_transfer_that_goes_on() -> None:
    """What it sends again is no first block, and can't pass for the answer to the request."""
    net = network()
    old = net.request(Opcode.RRQ, "f", port=4000)
    old.deliver(wire.ack(1))
    net.request(Opcode.RRQ, "small", port=4000)
    assert not old.closed
    assert net.server.counters.replaced == 0


def test_new_request_ends_a_transfer_whose_first_block_is_awaited() -> None:
    """Its OACK was acknowledged, but the block 1 that it repeats may pass for an answer."""
    net = network()
    old = net.request(Opcode.RRQ, "f", {"tsize": "0"}, port=4000)
    old.deliver(wire.ack(0))
    net.request(Opcode.RRQ, "small", port=4000)
    assert old.closed
    assert net.recorder.outcomes == [Outcome.REPLACED]


def test_request_that_was_overtaken_is_not_answered() -> None:
    """The client has asked for something else since; a second later it may ask for it again."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    for _ in range(3):
        net.server.received(rrq(), PEER, LOCAL)
    assert [link.closed for link in net.links] == [True, False]
    assert net.server.counters.repeated == 3
    net.clock.advance(1.1)
    net.server.received(rrq(), PEER, LOCAL)
    assert [link.closed for link in net.links] == [True, True, False]


def test_overtaken_request_is_known_when_its_successor_is_over() -> None:
    """A small file is served within a round trip."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    link = net.request(Opcode.RRQ, "small", port=PEER[1])
    link.deliver(wire.ack(1))
    assert link.closed
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == 2
    assert net.server.counters.repeated == 1


def test_overtaken_request_is_known_to_all_ports_of_a_server() -> None:
    """Its successor may have been sent to another address of the server."""
    net = network()
    other = TFTPServer(
        net.server.backend,
        reactor=net.clock,
        clock=net.clock.seconds,
        opener=net,
        transfers=net.server.transfers,
    )
    net.server.received(rrq(), PEER, LOCAL)
    other.received(rrq(b"small"), PEER, ("192.0.2.70", 69))
    net.server.received(rrq(), PEER, LOCAL)
    assert [link.closed for link in net.links] == [True, False]
    assert net.server.counters.repeated == 1


def test_transfer_is_replaced_by_a_request_that_is_not_admitted() -> None:
    """The port has a new owner, which must not be sent the answer to the old one."""
    net = network(rate=1.0)
    while not net.server.counters.limited:
        net.server.received(rrq(), ("192.0.2.1", 5000 + len(net.links)), LOCAL)
    *_, last = net.links
    net.server.received(rrq(b"small"), ("192.0.2.1", 5000 + len(net.links) - 1), LOCAL)
    assert net.server.counters.limited == 2
    assert last.closed
    assert net.recorder.outcomes == [Outcome.REPLACED]


def test_malformed_request_ends_nothing() -> None:
    """It may be a damaged packet of the transfer."""
    net = network()
    link = net.request(Opcode.RRQ, "f", port=4000)
    net.server.received(b"\0\1\0\1", ("192.0.2.1", 4000), LOCAL)
    assert not link.closed


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
@pytest.mark.parametrize("options", [{}, {"blksize": "1000"}])
def test_closed_port_ends_a_transfer_at_the_second_refusal(
    opcode: Opcode, options: dict[str, str]
) -> None:
    """At the first one the answer is sent once more, in case that it was a mistake."""
    net = network()
    link = net.request(opcode, "f" if opcode is Opcode.RRQ else "new", options)
    first = link.take()
    link.refuse()
    assert link.take() == first
    assert not link.closed
    link.refuse()
    assert link.closed
    assert link.take() == []
    assert net.recorder.outcomes == [Outcome.UNREACHABLE]


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_refusals_end_no_transfer_that_was_answered(opcode: Opcode) -> None:
    """They are lost datagrams then: somebody was there, and may be again."""
    net = network()
    link = net.request(opcode, "f" if opcode is Opcode.RRQ else "new")
    link.refuse()
    link.deliver(wire.ack(1) if opcode is Opcode.RRQ else wire.DATA_HEADERS[1] + bytes(512))
    link.take()
    for _ in range(5):
        link.refuse()
    assert not link.closed
    assert link.take() == []


def test_refusal_before_there_is_an_answer_is_passed_over() -> None:
    """The backend takes its time, so it can't be about this transfer."""
    waiting: Deferred[Any] = Deferred()
    backend = MemoryBackend({})
    backend.open_reader = lambda path, context: waiting  # type: ignore[method-assign]
    net = network(backend)
    link = net.request(Opcode.RRQ, "f")
    link.refuse()
    link.refuse()
    assert not link.closed
    waiting.callback(MemoryReader(b"x"))
    assert link.take() == [wire.DATA_HEADERS[1] + b"x"]


def test_request_that_overtakes_the_last_ack_is_a_new_one() -> None:
    """A client that asks again from the same port has its ACK read first: it was sent first."""
    net = network(MemoryBackend({"small": b"x"}))
    link = net.request(wire.Opcode.RRQ, "small", port=4000)
    assert link.take()
    link.waiting.append(wire.ack(1))
    again = net.request(wire.Opcode.RRQ, "small", port=4000)
    assert again is not link
    assert again.take() == [wire.DATA_HEADERS[1] + b"x"]
    assert net.recorder.outcomes == [Outcome.COMPLETED]


def test_repeated_request_is_not_answered_more_than_three_times() -> None:
    """A forged request that is repeated draws four datagrams in all."""
    net = network()
    for _ in range(20):
        net.server.received(rrq(), PEER, LOCAL)
    (link,) = net.links
    assert len(link.sent) == 4


def test_repeated_request_during_a_slow_open_starts_nothing() -> None:
    """While the backend looks for the file, the same request is the same transfer."""

    class Slow(MemoryBackend):
        opened = 0

        def open_reader(self, path: str, context: TransferContext) -> Any:
            self.opened += 1
            return Deferred()

    backend = Slow()
    net = network(backend)
    for _ in range(3):
        net.server.received(rrq(), PEER, LOCAL)
    assert backend.opened == 1


def test_late_repeat_of_an_answered_request_is_silence() -> None:
    """A repeat that was overtaken by its own answer changes nothing while it is young."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    (link,) = net.links
    link.deliver(wire.ack(1))
    link.take()
    net.server.received(rrq(), PEER, LOCAL)
    assert link.take() == []
    assert len(net.links) == 1


def test_repeated_write_after_its_end_is_not_told_that_the_file_exists() -> None:
    """Cisco's repeated write request comes when the file is already there."""
    net = network()
    net.server.received(wrq(), PEER, LOCAL)
    (link,) = net.links
    link.deliver(wire.DATA_HEADERS[1] + b"x")
    net.server.received(wrq(), PEER, LOCAL)
    assert len(net.links) == 1
    net.clock.advance(1.5)
    net.server.received(wrq(), PEER, LOCAL)
    assert wire.parse_error(net.links[1].take()[0])[0] == 6


def test_same_port_may_ask_anew_later() -> None:
    """A client that restarts from a fixed port gets a new transfer; the old one dies alone."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    net.links[0].deliver(wire.ack(1))
    net.clock.advance(1.5)
    net.server.received(rrq(), PEER, LOCAL)
    assert net.links[1].take()[0][:4] == wire.DATA_HEADERS[1]
    assert net.server.transfers.running == 2
    net.clock.advance(30)
    net.clock.advance(30)
    assert len(net.server.transfers) == 0


def test_other_request_from_the_same_port_is_a_new_transfer() -> None:
    """Another file, or another address of ours, is no repeat."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, ("192.0.2.70", 69))
    assert len(net.links) == 3


def test_same_request_after_an_error_is_answered_again() -> None:
    """A refusal is no transfer: asking again gets the answer again."""
    net = network()
    for number in (1, 2):
        net.server.received(rrq(b"missing"), PEER, LOCAL)
        assert len(net.links) == number
        assert wire.parse_error(net.links[-1].take()[0])[0] == 1


def test_requests_above_max_transfers_are_dropped_in_silence() -> None:
    """The client asks again; when there is room it is served."""
    net = network(max_transfers=2)
    for port in (1, 2, 3):
        net.server.received(rrq(b"small"), ("192.0.2.1", port), LOCAL)
    assert len(net.links) == 2
    assert net.server.counters.shed == 1
    net.links[0].deliver(wire.ack(1))
    net.server.received(rrq(), ("192.0.2.1", 3), LOCAL)
    assert len(net.links) == 3


def test_transfer_that_nobody_answered_gives_way_to_a_new_request() -> None:
    """Forged requests fill the table; who answers finds room, and keeps it."""
    net = network(max_transfers=3)
    honest = net.request(Opcode.RRQ, "f", port=1)
    honest.deliver(wire.ack(1))
    for port in (2, 3):
        net.server.received(rrq(), ("192.0.2.66", port), LOCAL)
    net.clock.advance(0.2)
    for port in range(4, 54):
        net.server.received(rrq(), ("192.0.2.66", port), LOCAL)
        net.clock.advance(0.11)
    assert net.server.counters.displaced == 50
    assert net.server.transfers.running == 3
    honest.take()
    for number in (2, 3, 4):
        honest.deliver(wire.ack(number))
    assert net.recorder.outcomes.count(Outcome.COMPLETED) == 1
    forged = net.links[1:]
    assert [link.closed for link in forged] == [True] * 50 + [False] * 2
    # Given way is given up in silence: nobody is told who has never answered.
    assert {wire.opcode_of(sent) for link in forged for sent in link.sent} == {Opcode.DATA}


def test_transfer_gives_way_after_its_peer_had_time_to_answer() -> None:
    """A boot storm above the bound keeps those who came first, as long as they may answer."""
    net = network(max_transfers=1)
    net.server.received(rrq(), PEER, LOCAL)
    net.clock.advance(0.05)
    net.server.received(rrq(), ("192.0.2.2", 1), LOCAL)
    assert net.server.counters.shed == 1
    assert not net.links[0].closed


def test_answer_that_waits_in_the_socket_keeps_its_transfer() -> None:
    """A busy server looks for an answer before it says that there was none."""
    net = network(max_transfers=1)
    link = net.request(Opcode.RRQ, "f", port=1)
    link.waiting.append(wire.ack(1))
    net.clock.advance(0.2)
    net.server.received(rrq(), PEER, LOCAL)
    assert net.server.counters.shed == 1
    assert not link.closed


def test_last_answer_that_waits_in_the_socket_completes_its_transfer() -> None:
    """Nobody gives way then, and there is room."""
    net = network(max_transfers=1)
    link = net.request(Opcode.RRQ, "small", port=1)
    link.waiting.append(wire.ack(1))
    net.clock.advance(0.2)
    net.server.received(rrq(), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert net.server.counters.shed == net.server.counters.displaced == 0
    assert len(net.links) == 2


def test_transfer_whose_file_is_not_open_yet_does_not_give_way() -> None:
    """Who waits for a slow store can't have answered; those behind it can."""
    net = network(max_transfers=2)
    opening = Deferred[Any]()
    opener = net.server.backend.open_reader
    net.server.backend.open_reader = lambda path, context: (
        opening if path == "slow" else opener(path, context)
    )
    net.request(Opcode.RRQ, "slow", port=1)
    net.request(Opcode.RRQ, "f", port=2)
    net.clock.advance(0.2)
    net.request(Opcode.RRQ, "f", port=3)
    assert [link.closed for link in net.links] == [False, True, False]


def test_windows_of_many_transfers_share_their_memory() -> None:
    """Who asks for the most gets less and less, and all again when the others have gone."""
    net = network(MemoryBackend({"f": bytes(10)}, "create"))
    asked = {"blksize": "65464", "windowsize": "64"}
    granted: list[int] = []
    for number in range(300):
        opcode = Opcode.WRQ if number % 2 else Opcode.RRQ
        link = net.request(opcode, f"{number}" if number % 2 else "f", asked)
        options = wire.parse_oack(link.take()[0])
        granted.append(int(options["windowsize"]) * int(options["blksize"]))
    assert granted[:30] == [64 * 65464] * 30
    assert granted == sorted(granted, reverse=True)
    assert granted[-1] == 65464
    assert sum(granted) < (256 << 20) + 300 * (64 << 10)
    for link in net.links:
        link.deliver(wire.error(TFTPError()))
    assert net.server.transfers.running == 0
    assert net.server.transfers.windows.room == 64 << 20


def test_dallying_does_not_count_as_a_transfer() -> None:
    """A write that is complete leaves its place to the next one."""
    net = network(max_transfers=1)
    net.store("a", b"x")
    net.store("b", b"x")
    assert len(net.server.transfers) == 2


def test_without_a_socket_a_request_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """When descriptors or ports run out the server lives, and serves when there are some."""
    net = network()

    def none_left(peer: Any, local: Any, reading: bool) -> MemoryLink:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(net, "open", none_left)
        for _ in range(5):
            net.server.received(rrq(), PEER, LOCAL)
    assert net.server.counters.shed == 5
    assert net.fetch("small") == b"x"


def test_server_that_stops_takes_no_request() -> None:
    """New requests get silence, so that they are asked of the next server."""
    net = network()
    net.server.accepting = False
    net.server.received(rrq(), PEER, LOCAL)
    assert net.links == []


def test_build_session_is_where_a_subclass_steps_in() -> None:
    """As buildProtocol elsewhere: the factory method makes each session."""
    built: list[Session] = []

    class Server(TFTPServer):
        def build_session(self, context: TransferContext, **wiring: Any) -> Session:
            built.append(super().build_session(context, **wiring))
            return built[-1]

    net = MemoryNetwork(MemoryBackend({"f": b"x"}), server=Server)
    assert net.fetch("f") == b"x"
    assert [session.context.filename for session in built] == [b"f"]


class SharedPort(RequestPort):
    """Stands in for a request port from which all answers are sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any, Any]] = []

    def send(self, datagram: bytes, peer: Any, local: Any) -> None:
        self.sent.append((datagram, peer, local))

    def share(self) -> None:
        self.shared = True

    def read_one(self) -> bool:
        return False


def single_port_network() -> tuple[MemoryNetwork, SharedPort]:
    net = network(single_port=True)
    port = SharedPort()
    net.server.makeConnection(port)
    return net, port


def test_single_port_answers_from_the_request_port() -> None:
    """Packets are told apart by their peer, and each answer leaves from where it was asked."""
    net, port = single_port_network()
    other = ("192.0.2.2", 4000)
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(rrq(), other, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    assert [(sent[0][:4], *sent[1:]) for sent in port.sent] == [
        (wire.DATA_HEADERS[1], PEER, LOCAL),
        (wire.DATA_HEADERS[1], other, LOCAL),
        (wire.DATA_HEADERS[2], PEER, LOCAL),
    ]
    net.server.received(wire.ack(1), ("192.0.2.3", 1), LOCAL)
    assert net.server.counters.ignored == 1


def crowd(net: MemoryNetwork, count: int, network: int = 51) -> list[MemoryLink]:
    """Let so many hosts ask once each, and wait until they had time to answer."""
    before = len(net.links)
    for number in range(count):
        net.server.received(rrq(), (f"198.{network}.{number >> 8}.{number & 255}", 4000), LOCAL)
    net.clock.advance(0.2)
    return net.links[before:]


def test_in_a_flood_who_asks_again_is_served() -> None:
    """Forged addresses seldom come twice; clients do. When it is over all are served at once."""
    net = network(max_transfers=2000)
    assert len(crowd(net, 300)) == 300
    assert len(crowd(net, 300, network=18)) == 100  # by then 200 were looked at
    served = len(net.links)
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == served
    assert net.server.counters.unproven > 0
    net.clock.advance(1)
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == served + 1
    net.links[-1].deliver(wire.ack(1))
    net.clock.advance(30)
    assert net.server.transfers.running == 0
    unanswered = net.server.transfers.unanswered
    assert not unanswered.new
    assert not unanswered.silent
    net.server.received(rrq(), ("192.0.2.9", 4000), LOCAL)
    assert len(net.links) == served + 2


@pytest.mark.parametrize("late", [False, True])
def test_storm_of_those_who_answer_is_no_flood(late: bool) -> None:
    """However many they are, and where they were looked at before they answered, too."""
    net = network(max_transfers=2000)
    links = crowd(net, 250)
    if late:
        unanswered = net.server.transfers.unanswered
        defence = FloodDefence(net.server.policy, unanswered, Session.catch_up)
        for _ in range(250):
            defence.review(net.clock.seconds())
        assert len(unanswered.silent) == 250
    for link in links:
        link.deliver(wire.ack(1))
    # No more than a few are dropped before it is seen that they have answered.
    for number in range(4):
        net.server.received(rrq(), (f"203.0.113.{number}", 4000), LOCAL)
    before = len(net.links)
    assert before >= 250
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == before + 1
    assert net.server.counters.unproven <= 4


def test_storm_at_a_slow_disk_is_no_flood() -> None:
    """Machines whose file is not open yet were sent nothing that they could have answered."""
    net = network(max_transfers=2000)
    net.server.backend = type("Slow", (), {"open_reader": lambda *_: Deferred()})()
    assert len(crowd(net, 300)) == len(crowd(net, 300, network=18)) == 300
    assert net.server.counters.unproven == 0


def test_peer_has_its_time_from_the_first_answer_on() -> None:
    """However long its file was in opening, it is not given up before it could answer."""
    net = network(max_transfers=200)
    waiting: list[Deferred[Any]] = []

    def open_reader(path: str, context: TransferContext) -> Deferred[Any]:
        waiting.append(Deferred())
        return waiting[-1]

    opener = net.server.backend.open_reader
    net.server.backend.open_reader = open_reader
    links = []
    for second in range(20):  # they ask again, so that they are waited for
        for number in range(200):
            net.server.received(rrq(), (f"198.51.100.{number}", 4000), LOCAL)
        links = net.links[:200]
        net.clock.advance(1 if second < 19 else 0)
    net.server.backend.open_reader = opener
    context = TransferContext(Endpoint(*PEER), None, Direction.READ, b"f", "octet", {})
    for each in waiting[:200]:
        each.callback(opener("f", context))
    for number in range(100):
        net.server.received(rrq(), (f"203.0.113.{number}", 4000), LOCAL)
    assert [link.closed for link in links] == [False] * 200
    assert net.server.counters.displaced == 0


def test_drops_are_told_when_a_port_closes() -> None:
    """Who embeds one port has no service that does, and no timer is left."""
    net = network()
    for _ in range(3):
        net.server.received(b"\xff", PEER, LOCAL)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        net.server.stopProtocol()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event["count"] for event in events] == [2]
    assert net.clock.getDelayedCalls() == []


def test_peer_that_negotiated_a_long_timeout_is_not_counted_for_long() -> None:
    """Few requests with a timeout of minutes must not look like a flood of many."""
    net = network(max_transfers=2000, retransmit=Retransmit.FIXED, retries=100)
    for number in range(150):
        host = f"198.51.100.{number}"
        net.server.received(rrq(timeout="255"), (host, 4000), LOCAL)
    net.clock.advance(17)
    for number in range(100):
        net.server.received(rrq(b"missing"), (f"203.0.113.{number}", 4000), LOCAL)
    assert net.server.transfers.running == 100  # below that nobody counts


def test_who_asks_again_in_a_flood_still_has_its_rate() -> None:
    """A request that a flood drops does not count."""
    net = network(max_transfers=2000, rate=0.1)
    crowd(net, 300)
    crowd(net, 300, network=18)
    before = net.server.counters.unproven
    net.server.received(rrq(), PEER, LOCAL)
    assert net.server.counters.unproven == before + 1
    net.clock.advance(1)
    served = len(net.links)
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == served + 1


@pytest.mark.parametrize("port", [69, 6969])
def test_single_port_serves_no_other_server(port: int) -> None:
    """A request from a server's port is forged; what we answer, that server could answer."""
    net, shared = single_port_network()
    for request in (rrq(), wrq()):
        net.server.received(request, ("192.0.2.2", port), ("192.0.2.69", 6969))
    assert shared.sent == []
    assert net.server.counters.ignored == 2


def test_single_port_ignores_packets_of_a_transfer_that_is_still_opening() -> None:
    """Before the first answer nothing can be an answer to it."""
    net, port = single_port_network()
    net.server.backend = type("Never", (), {"open_reader": lambda *_: Deferred()})()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(wire.ack(0), PEER, LOCAL)
    assert port.sent == []


def test_single_port_gives_a_peer_one_transfer() -> None:
    """A new request of the same peer ends its old transfer, quietly."""
    net, port = single_port_network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.REPLACED, Outcome.COMPLETED]
    assert len(port.sent) == 2


def test_single_port_ends_an_answered_transfer_for_a_new_request() -> None:
    """The packets of the two could not be told apart."""
    net, _ = single_port_network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.CANCELLED]


def test_single_port_hears_of_closed_ports() -> None:
    """A refusal is that of the peer and of the address that it was answered from."""
    net, port = single_port_network()
    net.server.received(rrq(), PEER, LOCAL)
    for peer, local in ((PEER, ("192.0.2.70", 69)), (("192.0.2.1", 4001), LOCAL)) * 2:
        net.server.refused(peer, local)
    assert len(port.sent) == 1
    net.server.refused(PEER, LOCAL)
    assert len(port.sent) == 2
    net.server.refused(PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.UNREACHABLE]


def test_single_port_does_not_end_a_transfer_for_a_damaged_packet() -> None:
    """An ACK whose opcode became that of a request is no request; a stranger's is answered."""
    net, port = single_port_network()
    net.server.received(rrq(b"small"), PEER, LOCAL)
    net.server.received(b"\0\1\0\1", PEER, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert [sent[0][1] for sent in port.sent] == [wire.Opcode.DATA]
    net.server.received(b"\0\1\0\1", ("192.0.2.3", 1), LOCAL)
    assert port.sent[-1][0][1] == wire.Opcode.ERROR


def test_single_port_needs_a_port_that_can_do_it() -> None:
    """A plain Twisted port can't, and cuts what is longer than 8192 octets."""
    net = network(single_port=True)
    with pytest.raises(TypeError):
        net.server.makeConnection(udp.Port(0, net.server))


def test_plain_twisted_port_serves_too() -> None:
    """`reactor.listenUDP(69, TFTPServer(backend))` works; transfers have ports of their own."""
    net = network()
    net.server.datagramReceived(rrq(b"small"), PEER)
    (link,) = net.links
    assert link.take() == [wire.DATA_HEADERS[1] + b"x"]


class ThreeSockets(MemoryNetwork):
    """A network whose server may have three sockets open."""

    def open(self, peer: Any, local: Any, reading: bool) -> MemoryLink:
        if sum(not link.closed for link in self.links) >= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().open(peer, local, reading)


def test_writes_that_dally_give_their_sockets_to_new_requests() -> None:
    """Complete uploads hold sockets for a while; when there are none left, the oldest go."""
    net = ThreeSockets(MemoryBackend({"small": b"x"}, "overwrite"))
    for number in range(3):
        net.store(f"f{number}", b"x")
    assert net.fetch("small") == b"x"
    assert net.server.counters.shed == 0


def test_writes_that_dally_are_bounded() -> None:
    """A flood of tiny uploads does not hold a socket each for many seconds."""
    net = network(MemoryBackend({}, "overwrite"))
    for number in range(MAX_DALLYING + 3):
        net.store(f"f{number}", b"x")
    assert [link.closed for link in net.links] == [True] * 3 + [False] * MAX_DALLYING


def test_session_that_can_not_be_built_leaves_no_socket() -> None:
    """A mistake in a subclass is told to its author, and leaks nothing."""

    class Server(TFTPServer):
        def build_session(self, context: TransferContext, **wiring: Any) -> Session:
            raise ZeroDivisionError

    net = MemoryNetwork(MemoryBackend({"f": b"x"}), server=Server)
    with pytest.raises(ZeroDivisionError):
        net.server.received(rrq(), PEER, LOCAL)
    assert net.links[0].closed
    assert len(net.server.transfers) == 0


def test_long_requests_are_not_remembered() -> None:
    """What the network sends must not fill the memory: requests of firmware are short."""
    short = rrq(blksize="1000")
    assert parse_request(short) is parse_request(short)
    assert negotiate({"blksize": "1000"}, Policy()) is negotiate({"blksize": "1000"}, Policy())
    packed = b"".join(b"%d\0%d\0" % (number, number) for number in range(100, 1000))
    request = parse_request(rrq() + packed)
    assert request is not parse_request(rrq() + packed)
    assert negotiate(request.options, Policy()) is not negotiate(request.options, Policy())


def test_requests_are_cut_at_the_same_length_in_each_mode() -> None:
    """The shared port reads datagrams of any length, but no request has so many options."""
    net, _ = single_port_network()
    net.server.received(rrq() + b"x\0y\0" * 16000, PEER, LOCAL)
    running = net.server.transfers.find((PEER, LOCAL))
    assert running is not None
    assert len(running.request) == MAX_REQUEST


def test_idle_ports_are_given_up_when_descriptors_are_short() -> None:
    """A file that can't be opened for want of one asks for them."""

    class NoneLeft:
        def open_reader(self, path: str, context: TransferContext) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

    asked: list[None] = []

    class Network(MemoryNetwork):
        def close_idle(self) -> None:
            asked.append(None)

    net = Network(NoneLeft())
    net.server.received(rrq(), PEER, LOCAL)
    assert asked == [None]
    assert net.links[0].sent == []


def test_denied_address_gets_silence_and_is_counted() -> None:
    """For whatever it asks, and also while others are served."""
    net = network(deny=(ipaddress.ip_network("192.0.2.128/25"),))
    for number in range(3):
        net.server.received(rrq(b"small"), ("192.0.2.200", 1000 + number), LOCAL)
    assert net.links == []
    assert net.server.counters.denied == 3
    assert net.fetch("small") == b"x"


def test_requests_above_the_rate_get_silence_until_there_is_room() -> None:
    """For each source by itself; a repeated request is no new one."""
    net = network(rate=2.0)
    for number in range(4):
        net.server.received(rrq(b"small"), ("192.0.2.1", 1000 + number), LOCAL)
    net.server.received(rrq(b"small"), ("192.0.2.1", 1000), LOCAL)
    assert (len(net.links), net.server.counters.limited) == (2, 2)
    net.server.received(rrq(b"small"), ("192.0.2.2", 1000), LOCAL)
    net.clock.advance(0.5)
    net.server.received(rrq(b"small"), ("192.0.2.1", 1002), LOCAL)
    assert (len(net.links), net.server.counters.limited) == (4, 2)


def test_requests_above_max_per_client_get_silence_until_one_is_over() -> None:
    """Addresses are counted, not ports; another address has its own."""
    net = network(max_per_client=2)
    for number in range(3):
        net.server.received(rrq(b"small"), ("192.0.2.1", 1000 + number), LOCAL)
    net.server.received(rrq(b"small"), ("192.0.2.2", 1000), LOCAL)
    assert (len(net.links), net.server.counters.crowded) == (3, 1)
    net.links[0].deliver(wire.ack(1))
    net.server.received(rrq(b"small"), ("192.0.2.1", 1002), LOCAL)
    assert len(net.links) == 4
    assert net.server.transfers.of("192.0.2.1") == 2
    for link in net.links[1:]:
        link.deliver(wire.ack(1))
    assert net.server.transfers.hosts == 0


def test_writes_are_taken_from_some_networks_only() -> None:
    """Who may read and not write is told so."""
    net = network(allow_write=(ipaddress.ip_network("192.0.2.128/25"),))
    with pytest.raises(AccessViolation, match="your address may not write here"):
        net.store("new", b"x")
    assert net.fetch("small") == b"x"
    net.server.received(wrq(b"new"), ("192.0.2.200", 1000), LOCAL)
    assert net.links[-1].take() == [wire.ack(0)]
