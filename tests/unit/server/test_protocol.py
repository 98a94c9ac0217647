"""Tests of the request port: which packets are answered, and which start a transfer."""

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
from twisted_tftp.server.flood_defence import FloodDefence
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.request_cache import parse_request
from twisted_tftp.server.session import ServerSession
from twisted_tftp.server.transfers import MAX_DALLYING
from twisted_tftp.testing import MemoryLink, MemoryNetwork

#: The socket address of a client.
PEER = ("192.0.2.1", 4000)

#: The socket address that requests reach.
LOCAL = ("192.0.2.69", 69)


def network(backend: Any = None, **policy: Any) -> MemoryNetwork:
    files = {"f": bytes(2000), "small": b"x"}
    return MemoryNetwork(backend or MemoryBackend(files, "create"), Policy(**policy))


class LimitedNetwork(MemoryNetwork):
    """A network whose server may have `max_sockets` sockets open."""

    def __init__(self, backend: Any, max_sockets: int) -> None:
        super().__init__(backend)
        self.max_sockets = max_sockets

    def open(self, peer: Any, local: Any, is_read: bool) -> MemoryLink:
        if sum(not link.closed for link in self.links) >= self.max_sockets:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().open(peer, local, is_read)


class SlowBackend(MemoryBackend):
    """A backend whose files are opened when the test fires the Deferreds in `opening`."""

    def __init__(self) -> None:
        super().__init__()
        self.opening: list[Deferred[Any]] = []

    def open_reader(self, path: str, context: TransferContext) -> Any:
        self.opening.append(Deferred())
        return self.opening[-1]


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
    """Other packets are counted and dropped, so two servers can't answer each other for ever."""
    net = network()
    net.server.received(datagram, PEER, LOCAL)
    assert net.links == []
    assert net.server.counters.not_client_requests == 1


@pytest.mark.parametrize("datagram", [b"\xff" * 100, b"\0\1\0octet\0"])
def test_bad_packets_are_logged_once_a_minute(datagram: bytes) -> None:
    """The first one is logged at once with its address; the others are counted."""
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
    """The socket is closed after the ERROR, and no transfer starts."""
    net = network()
    net.server.received(datagram, PEER, LOCAL)
    (link,) = net.links
    assert wire.parse_error(link.take()[0])[0] == 4
    assert link.closed
    assert net.server.counters.malformed == 1
    assert len(net.server.transfers) == 0


def test_context_describes_the_request() -> None:
    """A backend gets the peer, the local address, and the file name as octets and as text."""
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
    """Raspberry Pi, EDK2, Cisco and GRUB repeat requests; no second transfer starts."""
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
def test_new_request_ends_the_unanswered_transfer_of_its_port(slow: bool) -> None:
    """A client may use its port again; it must not get packets of the old transfer."""
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
    assert net.server.counters.transfers_replaced == 1


@pytest.mark.parametrize("single_port", [False, True])
@pytest.mark.parametrize("other", [LOCAL, ("192.0.2.70", 69)])
@pytest.mark.parametrize("options", [{}, {"tsize": "0"}])
def test_port_has_at_most_one_unanswered_transfer(
    single_port: bool, other: Any, options: dict[str, str]
) -> None:
    """Of several requests in a row the last one is answered, and no ERROR is sent."""
    net, _ = single_port_network() if single_port else (network(), None)
    requests = [rrq(b"f", **options), wrq(b"new", **options), rrq(b"f", timeout="9")]
    for number, request in enumerate([*requests, rrq(b"small", **options)]):
        net.server.received(request, PEER, other if number % 2 else LOCAL)
        assert net.server.transfers.running == 1
    assert net.recorder.outcomes == [Outcome.REPLACED] * 3
    assert net.server.counters.transfers_replaced == 3
    for link in net.links[:-1]:
        assert len(link.take()) == 1
    net.clock.advance(1.5)
    assert [bool(link.sent) for link in net.links[:-1]] == [False] * len(net.links[:-1])


def test_new_request_does_not_end_an_answered_transfer() -> None:
    """What that transfer sends again can't be mistaken for an answer to the request."""
    net = network()
    old = net.request(Opcode.RRQ, "f", port=4000)
    old.deliver(wire.ack(1))
    net.request(Opcode.RRQ, "small", port=4000)
    assert not old.closed
    assert net.server.counters.transfers_replaced == 0


@pytest.mark.parametrize("new", ["f", "small"])
@pytest.mark.parametrize(("silence", "is_replaced"), [(9.5, False), (20.0, True)])
def test_new_request_ends_a_transfer_that_is_silent_for_long(
    silence: float, is_replaced: bool, new: str
) -> None:
    """A machine that starts again from the same port gets no block of its old transfer."""
    net = network()
    old = net.request(Opcode.RRQ, "f", port=4000)
    old.deliver(wire.ack(1))
    advance(net, silence)
    old.take()
    link = net.request(Opcode.RRQ, new, port=4000)
    assert link.take()
    assert old.closed == is_replaced
    assert net.server.counters.transfers_replaced == int(is_replaced)
    link.deliver(wire.ack(1))
    advance(net, 60)
    if is_replaced:
        assert old.take() == []
        assert net.recorder.outcomes[0] is Outcome.REPLACED


def test_new_request_does_not_end_an_upload_that_is_being_committed() -> None:
    """The file is complete, however long its commit takes and the client is silent."""
    backend = MemoryBackend({"small": b"x"}, "create")
    committing: list[Deferred[None]] = []
    open_writer = backend.open_writer

    def open_slow_writer(path: str, context: TransferContext) -> Any:
        writer = open_writer(path, context)
        commit = writer.commit
        waiting: Deferred[None] = Deferred()
        waiting.addCallback(lambda _: commit())
        writer.commit = lambda: (committing.append(waiting), waiting)[1]  # type: ignore[method-assign]
        return writer

    backend.open_writer = open_slow_writer  # type: ignore[method-assign]
    net = network(backend)
    old = net.request(Opcode.WRQ, "new", port=4000)
    old.deliver(wire.DATA_HEADERS[1] + b"whole")
    advance(net, 20)
    net.request(Opcode.RRQ, "small", port=4000)
    committing[0].callback(None)
    assert backend.files["new"] == b"whole"
    assert Outcome.REPLACED not in net.recorder.outcomes


def advance(net: MemoryNetwork, seconds: float) -> None:
    """Let time pass in small steps, as the reactor does."""
    for _ in range(int(seconds * 10)):
        net.clock.advance(0.1)


def test_new_request_ends_a_transfer_that_may_repeat_block_1() -> None:
    """Block 1 could be mistaken for the answer to the new request."""
    net = network()
    old = net.request(Opcode.RRQ, "f", {"tsize": "0"}, port=4000)
    old.deliver(wire.ack(0))
    net.request(Opcode.RRQ, "small", port=4000)
    assert old.closed
    assert net.recorder.outcomes == [Outcome.REPLACED]


def test_overtaken_request_is_not_answered() -> None:
    """The client has sent a newer request; after a second the old one counts as new."""
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


def test_overtaken_request_is_remembered_after_the_newer_transfer() -> None:
    """The transfer of a small file may be over before the old request arrives."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    link = net.request(Opcode.RRQ, "small", port=PEER[1])
    link.deliver(wire.ack(1))
    assert link.closed
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == 2
    assert net.server.counters.repeated == 1


def test_overtaken_request_is_known_at_all_addresses_of_a_server() -> None:
    """The newer request may have been sent to another address."""
    net = network()
    other = TFTPServer(
        net.server.backend,
        reactor=net.clock,
        clock=net.clock.seconds,
        shared=net.server.shared,
    )
    net.server.received(rrq(), PEER, LOCAL)
    other.received(rrq(b"small"), PEER, ("192.0.2.70", 69))
    net.server.received(rrq(), PEER, LOCAL)
    assert [link.closed for link in net.links] == [True, False]
    assert net.server.counters.repeated == 1


def test_dropped_request_still_replaces_the_unanswered_transfer() -> None:
    """The client waits for the answer to its newer request, so the old answer must not come."""
    net = network(rate=1.0)
    while not net.server.counters.over_rate:
        net.server.received(rrq(), ("192.0.2.1", 5000 + len(net.links)), LOCAL)
    *_, last = net.links
    net.server.received(rrq(b"small"), ("192.0.2.1", 5000 + len(net.links) - 1), LOCAL)
    assert net.server.counters.over_rate == 2
    assert last.closed
    assert net.recorder.outcomes == [Outcome.REPLACED]


def test_malformed_request_ends_no_transfer() -> None:
    """It may be a damaged packet of the transfer."""
    net = network()
    link = net.request(Opcode.RRQ, "f", port=4000)
    net.server.received(b"\0\1\0\1", ("192.0.2.1", 4000), LOCAL)
    assert not link.closed


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
@pytest.mark.parametrize("options", [{}, {"blksize": "1000"}])
def test_second_icmp_error_ends_an_unanswered_transfer(
    opcode: Opcode, options: dict[str, str]
) -> None:
    """After the first error the answer is sent once more."""
    net = network()
    link = net.request(opcode, "f" if opcode is Opcode.RRQ else "new", options)
    first = link.take()
    link.report_port_unreachable()
    assert link.take() == first
    assert not link.closed
    link.report_port_unreachable()
    assert link.closed
    assert link.take() == []
    assert net.recorder.outcomes == [Outcome.UNREACHABLE]


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_icmp_errors_do_not_end_an_answered_transfer(opcode: Opcode) -> None:
    """They count as lost datagrams."""
    net = network()
    link = net.request(opcode, "f" if opcode is Opcode.RRQ else "new")
    link.report_port_unreachable()
    link.deliver(wire.ack(1) if opcode is Opcode.RRQ else wire.DATA_HEADERS[1] + bytes(512))
    link.take()
    for _ in range(5):
        link.report_port_unreachable()
    assert not link.closed
    assert link.take() == []


def test_icmp_error_before_the_first_answer_is_ignored() -> None:
    """It can't be about this transfer, which has sent nothing yet."""
    backend = SlowBackend()
    net = network(backend)
    link = net.request(Opcode.RRQ, "f")
    link.report_port_unreachable()
    link.report_port_unreachable()
    assert not link.closed
    backend.opening[0].callback(MemoryReader(b"x"))
    assert link.take() == [wire.DATA_HEADERS[1] + b"x"]


def test_last_ack_is_read_before_a_request_of_the_same_port() -> None:
    """The ACK was sent before the request, so the old transfer is complete."""
    net = network(MemoryBackend({"small": b"x"}))
    link = net.request(wire.Opcode.RRQ, "small", port=4000)
    assert link.take()
    link.waiting.append(wire.ack(1))
    again = net.request(wire.Opcode.RRQ, "small", port=4000)
    assert again is not link
    assert again.take() == [wire.DATA_HEADERS[1] + b"x"]
    assert net.recorder.outcomes == [Outcome.COMPLETED]


def test_answer_is_repeated_at_most_three_times() -> None:
    """A forged request causes four datagrams in all."""
    net = network()
    for _ in range(20):
        net.server.received(rrq(), PEER, LOCAL)
    (link,) = net.links
    assert len(link.sent) == 4


def test_repeated_request_during_a_slow_open_starts_no_transfer() -> None:
    """While the backend opens the file, the same request belongs to the same transfer."""

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


def test_late_repeat_of_an_answered_request_is_ignored() -> None:
    """The client already has the answer; only its repeated request was late."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    (link,) = net.links
    link.deliver(wire.ack(1))
    link.take()
    net.server.received(rrq(), PEER, LOCAL)
    assert link.take() == []
    assert len(net.links) == 1


def test_repeated_write_request_after_the_transfer_gets_no_error() -> None:
    """Cisco repeats a write request when the file is already stored."""
    net = network()
    net.server.received(wrq(), PEER, LOCAL)
    (link,) = net.links
    link.deliver(wire.DATA_HEADERS[1] + b"x")
    net.server.received(wrq(), PEER, LOCAL)
    assert len(net.links) == 1
    net.clock.advance(1.5)
    net.server.received(wrq(), PEER, LOCAL)
    assert wire.parse_error(net.links[1].take()[0])[0] == 6


def test_same_request_is_a_new_one_later() -> None:
    """A client that restarts from a fixed port gets a new transfer."""
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
    """Another file or another local address makes another request."""
    net = network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, ("192.0.2.70", 69))
    assert len(net.links) == 3


def test_same_request_after_an_error_is_answered_again() -> None:
    """The first request was refused, so no transfer is running that would be repeated."""
    net = network()
    for number in (1, 2):
        net.server.received(rrq(b"missing"), PEER, LOCAL)
        assert len(net.links) == number
        assert wire.parse_error(net.links[-1].take()[0])[0] == 1


def test_requests_above_max_transfers_are_not_answered() -> None:
    """A repeated request is served when there is room."""
    net = network(max_transfers=2)
    for port in (1, 2, 3):
        net.server.received(rrq(b"small"), ("192.0.2.1", port), LOCAL)
    assert len(net.links) == 2
    assert net.server.counters.no_room == 1
    net.links[0].deliver(wire.ack(1))
    net.server.received(rrq(), ("192.0.2.1", 3), LOCAL)
    assert len(net.links) == 3


def test_unanswered_transfer_is_ended_for_a_new_request() -> None:
    """Forged requests fill the table, but a client that answers finds room and keeps it."""
    net = network(max_transfers=3)
    honest = net.request(Opcode.RRQ, "f", port=1)
    honest.deliver(wire.ack(1))
    for port in (2, 3):
        net.server.received(rrq(), ("192.0.2.66", port), LOCAL)
    net.clock.advance(0.2)
    for port in range(4, 54):
        net.server.received(rrq(), ("192.0.2.66", port), LOCAL)
        net.clock.advance(0.11)
    assert net.server.counters.transfers_ended_for_room == 50
    assert net.server.transfers.running == 3
    honest.take()
    for number in (2, 3, 4):
        honest.deliver(wire.ack(number))
    assert net.recorder.outcomes.count(Outcome.COMPLETED) == 1
    forged = net.links[1:]
    assert [link.closed for link in forged] == [True] * 50 + [False] * 2
    # A peer that has never answered gets no ERROR when its transfer is ended.
    assert {wire.opcode_of(sent) for link in forged for sent in link.sent} == {Opcode.DATA}


def test_transfer_is_not_ended_before_its_peer_had_time_to_answer() -> None:
    """So if too many machines boot at once, the first ones are served."""
    net = network(max_transfers=1)
    net.server.received(rrq(), PEER, LOCAL)
    net.clock.advance(0.05)
    net.server.received(rrq(), ("192.0.2.2", 1), LOCAL)
    assert net.server.counters.no_room == 1
    assert not net.links[0].closed


def test_answer_that_waits_in_the_socket_keeps_its_transfer() -> None:
    """The server reads the socket before it ends a transfer as unanswered."""
    net = network(max_transfers=1)
    link = net.request(Opcode.RRQ, "f", port=1)
    link.waiting.append(wire.ack(1))
    net.clock.advance(0.2)
    net.server.received(rrq(), PEER, LOCAL)
    assert net.server.counters.no_room == 1
    assert not link.closed


def test_last_answer_that_waits_in_the_socket_completes_its_transfer() -> None:
    """Then there is room, and no other transfer is ended."""
    net = network(max_transfers=1)
    link = net.request(Opcode.RRQ, "small", port=1)
    link.waiting.append(wire.ack(1))
    net.clock.advance(0.2)
    net.server.received(rrq(), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert net.server.counters.no_room == net.server.counters.transfers_ended_for_room == 0
    assert len(net.links) == 2


def test_transfer_without_an_open_file_is_not_ended() -> None:
    """The peer has nothing to answer yet; transfers after it are ended instead."""
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
    """Each further transfer gets a smaller window; ended transfers free their memory."""
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
    assert net.server.transfers.window_budget.window_limit == 64 << 20


def test_dallying_write_does_not_count_as_a_transfer() -> None:
    """A complete write leaves room for the next one."""
    net = network(max_transfers=1)
    net.store("a", b"x")
    net.store("b", b"x")
    assert len(net.server.transfers) == 2


def test_without_a_socket_a_request_is_dropped() -> None:
    """Without descriptors or ports, requests are dropped until some are free."""
    net = LimitedNetwork(MemoryBackend({"small": b"x"}), max_sockets=0)
    for _ in range(5):
        net.server.received(rrq(), PEER, LOCAL)
    net.max_sockets = 1
    assert net.server.counters.no_room == 5
    assert net.fetch("small") == b"x"


def test_stopping_server_does_not_answer_requests() -> None:
    """The clients will ask another server."""
    net = network()
    net.server.is_accepting = False
    net.server.received(rrq(), PEER, LOCAL)
    assert net.links == []


def test_subclass_can_build_its_own_sessions() -> None:
    """`build_session` is a factory method, like `buildProtocol`."""
    built: list[ServerSession] = []

    class Server(TFTPServer):
        def build_session(self, context: TransferContext, **parts: Any) -> ServerSession:
            built.append(super().build_session(context, **parts))
            return built[-1]

    net = MemoryNetwork(MemoryBackend({"f": b"x"}), server=Server)
    assert net.fetch("f") == b"x"
    assert [session.context.filename for session in built] == [b"f"]


class SharedPort(RequestPort):
    """A double of the request port that all transfers share."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any, Any]] = []

    def send(self, datagram: bytes, peer: Any, local: Any) -> None:
        self.sent.append((datagram, peer, local))

    def prepare_for_transfers(self) -> None:
        self.shared = True

    def read_one(self) -> bool:
        return False


def single_port_network() -> tuple[MemoryNetwork, SharedPort]:
    net = network(single_port=True)
    port = SharedPort()
    net.server.makeConnection(port)
    return net, port


def test_single_port_answers_from_the_request_port() -> None:
    """Packets are assigned by their peer; answers are sent from the address that was asked."""
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
    assert net.server.counters.not_client_requests == 1


def crowd(net: MemoryNetwork, count: int, network: int = 51) -> list[MemoryLink]:
    """Send one request from each of `count` hosts; wait until the time to answer is over."""
    before = len(net.links)
    for number in range(count):
        net.server.received(rrq(), (f"198.{network}.{number >> 8}.{number & 255}", 4000), LOCAL)
    net.clock.advance(0.2)
    return net.links[before:]


def test_host_that_asks_again_in_a_flood_is_served() -> None:
    """Forged addresses seldom ask twice; after the flood, first requests are served again."""
    net = network(max_transfers=2000)
    assert len(crowd(net, 300)) == 300
    assert len(crowd(net, 300, network=18)) == 100  # the server has checked 200 transfers by then
    served = len(net.links)
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == served
    assert net.server.counters.first_in_flood > 0
    net.clock.advance(1)
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == served + 1
    net.links[-1].deliver(wire.ack(1))
    net.clock.advance(70)
    assert net.server.transfers.running == 0
    unanswered = net.server.transfers.unanswered
    assert not unanswered.new
    assert not unanswered.silent
    net.server.received(rrq(), ("192.0.2.9", 4000), LOCAL)
    assert len(net.links) == served + 2


@pytest.mark.parametrize("late", [False, True])
def test_many_clients_that_answer_are_no_flood(late: bool) -> None:
    """This holds even if the server checked them before they answered."""
    net = network(max_transfers=2000)
    links = crowd(net, 250)
    if late:
        unanswered = net.server.transfers.unanswered
        defence = FloodDefence(net.server.policy, unanswered, ServerSession.receive_waiting)
        for _ in range(250):
            defence.review(net.clock.seconds())
        assert len(unanswered.silent) == 250
    for link in links:
        link.deliver(wire.ack(1))
    # Only a few requests are dropped before the server notices the answers.
    for number in range(4):
        net.server.received(rrq(), (f"203.0.113.{number}", 4000), LOCAL)
    before = len(net.links)
    assert before >= 250
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == before + 1
    assert net.server.counters.first_in_flood <= 4


def test_many_requests_at_a_slow_disk_are_no_flood() -> None:
    """Clients whose file is not open yet have nothing to answer."""
    net = network(max_transfers=2000)
    net.server.backend = SlowBackend()
    assert len(crowd(net, 300)) == len(crowd(net, 300, network=18)) == 300
    assert net.server.counters.first_in_flood == 0


def test_time_to_answer_starts_with_the_first_answer() -> None:
    """A slow open does not reduce the time that the peer has."""
    net = network(max_transfers=200)
    fast, slow = net.server.backend, SlowBackend()
    net.server.backend = slow
    links = []
    for second in range(20):  # the requests are repeated, so the server keeps waiting
        for number in range(200):
            net.server.received(rrq(), (f"198.51.100.{number}", 4000), LOCAL)
        links = net.links[:200]
        net.clock.advance(1 if second < 19 else 0)
    net.server.backend = fast
    context = TransferContext(Endpoint(*PEER), None, Direction.READ, b"f", "octet", {})
    for opening in slow.opening[:200]:
        opening.callback(fast.open_reader("f", context))
    for number in range(100):
        net.server.received(rrq(), (f"203.0.113.{number}", 4000), LOCAL)
    assert [link.closed for link in links] == [False] * 200
    assert net.server.counters.transfers_ended_for_room == 0


def test_unserved_packets_are_logged_when_the_port_closes() -> None:
    """This holds for a program without our service too; no timer is left."""
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


def test_long_negotiated_timeout_does_not_prolong_a_flood() -> None:
    """A few requests with a timeout of minutes do not count as silent for minutes."""
    net = network(max_transfers=2000, retransmit=Retransmit.FIXED, retries=100)
    for number in range(150):
        host = f"198.51.100.{number}"
        net.server.received(rrq(timeout="255"), (host, 4000), LOCAL)
    net.clock.advance(17)
    for number in range(100):
        net.server.received(rrq(b"missing"), (f"203.0.113.{number}", 4000), LOCAL)
    assert net.server.transfers.running == 100  # fewer are never a flood


def test_request_dropped_in_a_flood_does_not_use_the_rate() -> None:
    """The second request of the host is not above its rate."""
    net = network(max_transfers=2000, rate=0.1)
    crowd(net, 300)
    crowd(net, 300, network=18)
    before = net.server.counters.first_in_flood
    net.server.received(rrq(), PEER, LOCAL)
    assert net.server.counters.first_in_flood == before + 1
    net.clock.advance(1)
    served = len(net.links)
    net.server.received(rrq(), PEER, LOCAL)
    assert len(net.links) == served + 1


@pytest.mark.parametrize("port", [69, 6969])
def test_single_port_ignores_requests_from_other_servers(port: int) -> None:
    """Such a request is forged, and the other server could answer what we send."""
    net, shared = single_port_network()
    for request in (rrq(), wrq()):
        net.server.received(request, ("192.0.2.2", port), ("192.0.2.69", 6969))
    assert shared.sent == []
    assert net.server.counters.not_client_requests == 2


def test_single_port_ignores_packets_of_a_transfer_that_is_still_opening() -> None:
    """Before the first answer is sent, no packet can be a reply to it."""
    net, port = single_port_network()
    net.server.backend = type("Never", (), {"open_reader": lambda *_: Deferred()})()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(wire.ack(0), PEER, LOCAL)
    assert port.sent == []


def test_single_port_has_one_transfer_for_each_peer() -> None:
    """A new request ends the old transfer, and the peer gets no ERROR."""
    net, port = single_port_network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.REPLACED, Outcome.COMPLETED]
    assert len(port.sent) == 2


def test_single_port_ends_an_answered_transfer_for_a_new_request() -> None:
    """The packets of the two transfers could not be told apart."""
    net, _ = single_port_network()
    net.server.received(rrq(), PEER, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    net.server.received(rrq(b"small"), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.CANCELLED]


def test_single_port_handles_icmp_errors() -> None:
    """An error is assigned by the peer and by the local address of the answer."""
    net, port = single_port_network()
    net.server.received(rrq(), PEER, LOCAL)
    for peer, local in ((PEER, ("192.0.2.70", 69)), (("192.0.2.1", 4001), LOCAL)) * 2:
        net.server.port_unreachable(peer, local)
    assert len(port.sent) == 1
    net.server.port_unreachable(PEER, LOCAL)
    assert len(port.sent) == 2
    net.server.port_unreachable(PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.UNREACHABLE]


def test_single_port_does_not_end_a_transfer_for_a_damaged_packet() -> None:
    """An ACK of the peer whose opcode became that of a request is ignored."""
    net, port = single_port_network()
    net.server.received(rrq(b"small"), PEER, LOCAL)
    net.server.received(b"\0\1\0\1", PEER, LOCAL)
    net.server.received(wire.ack(1), PEER, LOCAL)
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert [sent[0][1] for sent in port.sent] == [wire.Opcode.DATA]
    net.server.received(b"\0\1\0\1", ("192.0.2.3", 1), LOCAL)
    assert port.sent[-1][0][1] == wire.Opcode.ERROR


def test_single_port_needs_a_request_port() -> None:
    """A plain Twisted port is rejected: it truncates datagrams to 8192 octets."""
    net = network(single_port=True)
    with pytest.raises(TypeError):
        net.server.makeConnection(udp.Port(0, net.server))


def test_plain_twisted_port_works_with_own_ports_of_transfers() -> None:
    """`reactor.listenUDP(69, TFTPServer(backend))` is possible."""
    net = network()
    net.server.datagramReceived(rrq(b"small"), PEER)
    (link,) = net.links
    assert link.take() == [wire.DATA_HEADERS[1] + b"x"]


def test_dallying_writes_are_ended_if_there_is_no_socket() -> None:
    """Complete writes keep their sockets for a while; the oldest ones are ended first."""
    net = LimitedNetwork(MemoryBackend({"small": b"x"}, "overwrite"), max_sockets=3)
    for number in range(3):
        net.store(f"f{number}", b"x")
    assert net.fetch("small") == b"x"
    assert net.server.counters.no_room == 0


def test_number_of_dallying_writes_is_bounded() -> None:
    """So many small uploads can't use up the sockets."""
    net = network(MemoryBackend({}, "overwrite"))
    for number in range(MAX_DALLYING + 3):
        net.store(f"f{number}", b"x")
    assert [link.closed for link in net.links] == [True] * 3 + [False] * MAX_DALLYING


def test_session_that_can_not_be_built_leaves_no_socket() -> None:
    """An exception in `build_session` is raised to the caller, and the socket is closed."""

    class Server(TFTPServer):
        def build_session(self, context: TransferContext, **parts: Any) -> ServerSession:
            raise ZeroDivisionError

    net = MemoryNetwork(MemoryBackend({"f": b"x"}), server=Server)
    with pytest.raises(ZeroDivisionError):
        net.server.received(rrq(), PEER, LOCAL)
    assert net.links[0].closed
    assert len(net.server.transfers) == 0


def test_long_requests_are_not_cached() -> None:
    """Only short requests and few options are cached, so that a flood can't fill the memory."""
    short = rrq(blksize="1000")
    assert parse_request(short) is parse_request(short)
    assert negotiate({"blksize": "1000"}, Policy()) is negotiate({"blksize": "1000"}, Policy())
    packed = b"".join(b"%d\0%d\0" % (number, number) for number in range(100, 1000))
    request = parse_request(rrq() + packed)
    assert request is not parse_request(rrq() + packed)
    assert negotiate(request.options, Policy()) is not negotiate(request.options, Policy())


def test_requests_are_truncated_in_single_port_mode_too() -> None:
    """The shared port reads longer datagrams, but a request has at most `MAX_REQUEST` octets."""
    net, _ = single_port_network()
    net.server.received(rrq() + b"x\0y\0" * 16000, PEER, LOCAL)
    running = net.server.transfers.find((PEER, LOCAL))
    assert running is not None
    assert len(running.request) == MAX_REQUEST


def test_idle_ports_are_closed_if_there_is_no_descriptor() -> None:
    """The server closes them when a file can't be opened for lack of descriptors."""

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


def test_denied_address_is_not_answered() -> None:
    """Its requests are counted and dropped; other addresses are served."""
    net = network(deny=(ipaddress.ip_network("192.0.2.128/25"),))
    for number in range(3):
        net.server.received(rrq(b"small"), ("192.0.2.200", 1000 + number), LOCAL)
    assert net.links == []
    assert net.server.counters.denied == 3
    assert net.fetch("small") == b"x"


def test_requests_above_the_rate_are_not_answered() -> None:
    """Each source has its own rate; a repeated request does not count."""
    net = network(rate=2.0)
    for number in range(4):
        net.server.received(rrq(b"small"), ("192.0.2.1", 1000 + number), LOCAL)
    net.server.received(rrq(b"small"), ("192.0.2.1", 1000), LOCAL)
    assert (len(net.links), net.server.counters.over_rate) == (2, 2)
    net.server.received(rrq(b"small"), ("192.0.2.2", 1000), LOCAL)
    net.clock.advance(0.5)
    net.server.received(rrq(b"small"), ("192.0.2.1", 1002), LOCAL)
    assert (len(net.links), net.server.counters.over_rate) == (4, 2)


def test_requests_above_max_per_client_are_not_answered() -> None:
    """The limit is for an address, not for a port; the end of a transfer makes room."""
    net = network(max_per_client=2)
    for number in range(3):
        net.server.received(rrq(b"small"), ("192.0.2.1", 1000 + number), LOCAL)
    net.server.received(rrq(b"small"), ("192.0.2.2", 1000), LOCAL)
    assert (len(net.links), net.server.counters.over_max_per_client) == (3, 1)
    net.links[0].deliver(wire.ack(1))
    net.server.received(rrq(b"small"), ("192.0.2.1", 1002), LOCAL)
    assert len(net.links) == 4
    assert net.server.transfers.running_of_host("192.0.2.1") == 2
    for link in net.links[1:]:
        link.deliver(wire.ack(1))
    assert net.server.transfers.running_hosts == 0


def test_writes_are_allowed_from_some_networks_only() -> None:
    """Clients elsewhere may read, and get ERROR 2 for a write."""
    net = network(allow_write=(ipaddress.ip_network("192.0.2.128/25"),))
    with pytest.raises(AccessViolation, match="your address may not write here"):
        net.store("new", b"x")
    assert net.fetch("small") == b"x"
    net.server.received(wrq(b"new"), ("192.0.2.200", 1000), LOCAL)
    assert net.links[-1].take() == [wire.ack(0)]
