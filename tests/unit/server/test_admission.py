"""Tests of admission: which check drops a request, and what it does to earlier transfers."""

from __future__ import annotations

import ipaddress
from dataclasses import fields
from typing import Any

import pytest

from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.context import Direction, Outcome
from twisted_tftp.net.request_port import RequestPort
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.server import admission
from twisted_tftp.server.admission import REPEATED_WITHIN, Arrival, Counters, Verdict
from twisted_tftp.server.flood_defence import MIN_SILENT_IN_FLOOD, TIME_TO_ANSWER
from twisted_tftp.testing import MemoryNetwork

#: The socket address of a client.
PEER = ("192.0.2.1", 4000)

#: The socket address that requests reach.
LOCAL = ("192.0.2.69", 69)

#: The files of the backend.
FILES = {"f": bytes(2000), "small": b"x"}


def network(**policy: Any) -> MemoryNetwork:
    return MemoryNetwork(MemoryBackend(FILES, "create"), Policy(**policy))


def rrq(filename: bytes = b"f") -> bytes:
    return wire.encode_request(wire.Request(Opcode.RRQ, filename, "octet", {}))


def rrq_with_options() -> bytes:
    return wire.encode_request(wire.Request(Opcode.RRQ, b"f", "octet", {"tsize": "0"}))


def check(
    net: MemoryNetwork, datagram: bytes = rrq(), peer: Any = PEER, local: Any = LOCAL
) -> Verdict | None:
    """Return the verdict of the checks on a request, without starting a transfer."""
    now = net.clock.seconds()
    return net.server.admission.admit(Arrival(datagram, peer, local, Direction.READ, now))


def ask(net: MemoryNetwork, datagram: bytes = rrq(), peer: Any = PEER) -> None:
    """Send a request to the server, which starts a transfer if it is admitted."""
    net.server.received(datagram, peer, LOCAL)


def send_unanswered_requests(net: MemoryNetwork, count: int) -> None:
    """Send requests of `count` hosts that never answer; wait until the time to answer is over."""
    for number in range(count):
        ask(net, peer=(f"198.51.{number >> 8}.{number & 255}", 4000))
    net.clock.advance(2 * TIME_TO_ANSWER)


def flooded() -> MemoryNetwork:
    """Return a server with so many unanswered transfers that it sees a flood."""
    net = network(max_transfers=10 * MIN_SILENT_IN_FLOOD)
    send_unanswered_requests(net, 2 * MIN_SILENT_IN_FLOOD)
    for number in range(MIN_SILENT_IN_FLOOD):
        check(net, peer=(f"203.0.113.{number}", 4000))
    return net


def test_request_is_admitted() -> None:
    """A request that passes all checks gets no verdict."""
    assert check(network()) is None


@pytest.mark.parametrize("port", [69, 6969])
def test_request_from_a_server_is_dropped_on_a_single_port(port: int) -> None:
    """Requests from port 69 and from the server's own port number are dropped."""
    net = network(single_port=True)
    local = ("192.0.2.69", 6969)
    assert check(net, peer=("192.0.2.2", port), local=local) is admission.FROM_A_SERVER
    assert check(net, peer=("192.0.2.2", 4000), local=local) is None
    assert check(net, peer=("192.0.2.2", port), local=None) is None


def test_request_from_a_server_is_admitted_if_transfers_have_own_ports() -> None:
    """The other server does not accept an answer from a port that it has not contacted."""
    assert check(network(), peer=("192.0.2.2", 69)) is None


def test_request_is_dropped_while_the_server_stops() -> None:
    """It is not counted: the client will ask another server."""
    net = network()
    net.server.is_accepting = False
    assert check(net) is admission.STOPPING
    ask(net)
    assert net.server.counters == Counters()


def test_request_from_a_denied_network_is_dropped() -> None:
    """Requests from other networks are admitted."""
    net = network(deny=(ipaddress.ip_network("192.0.2.0/24"),))
    assert check(net) is admission.DENIED
    assert check(net, peer=("198.51.100.1", 4000)) is None


def test_request_that_a_newer_one_replaced_is_dropped() -> None:
    """This holds for requests from the same port only."""
    net = network()
    ask(net, rrq(b"f"))
    ask(net, rrq(b"small"))
    assert check(net, rrq(b"f")) is admission.OVERTAKEN
    assert check(net, rrq(b"f"), peer=("192.0.2.1", 4001)) is None


def test_repeated_request_starts_no_transfer_and_its_answer_is_repeated() -> None:
    """The answer is repeated until it is acknowledged."""
    net = network()
    ask(net)
    (link,) = net.links
    first = link.take()
    net.clock.advance(0.5)
    assert check(net) is admission.REPEATED
    assert link.take() == first


def test_repeat_of_an_answered_request_is_dropped_for_a_second() -> None:
    """After `REPEATED_WITHIN` seconds it is a new request."""
    net = network()
    ask(net)
    (link,) = net.links
    link.deliver(wire.ack(1))
    net.clock.advance(REPEATED_WITHIN / 2)
    link.take()
    assert check(net) is admission.REPEATED
    assert link.take() == []
    net.clock.advance(REPEATED_WITHIN)
    assert check(net) is None


@pytest.mark.parametrize("acknowledged", [0, 1])
def test_repeat_that_is_read_after_a_late_answer_is_dropped(acknowledged: int) -> None:
    """The client sent it before its answer to the server's repeated OACK, to another socket."""
    net = network()
    ask(net, rrq_with_options())
    (link,) = net.links
    net.clock.advance(2 * REPEATED_WITHIN)
    link.deliver(wire.ack(0))
    net.clock.advance(REPEATED_WITHIN / 2)
    link.waiting += [wire.ack(block) for block in range(1, acknowledged + 1)]
    assert check(net, rrq_with_options()) is admission.REPEATED
    assert not link.closed
    net.clock.advance(REPEATED_WITHIN)
    link.deliver(wire.ack(0))  # a repeated answer: only the first one counts
    assert check(net, rrq_with_options()) is None


def test_answer_that_waits_in_the_socket_makes_the_request_a_repeated_one() -> None:
    """The server has not read the answer yet, because it reads the request port first."""
    net = network()
    ask(net, rrq_with_options())
    (link,) = net.links
    net.clock.advance(2 * REPEATED_WITHIN)
    link.take()
    link.waiting.append(wire.ack(0))
    assert check(net, rrq_with_options()) is admission.REPEATED
    assert [wire.opcode_of(datagram) for datagram in link.take()] == [Opcode.DATA]


def test_same_request_to_another_local_address_is_a_new_request() -> None:
    """Each local address answers for itself."""
    net = network()
    ask(net)
    assert check(net, local=("192.0.2.70", 69)) is None


def test_waiting_answer_is_read_before_the_request_is_checked() -> None:
    """The peer sent the answer in the socket before the request."""
    net = network()
    ask(net, rrq(b"small"))
    net.links[0].waiting.append(wire.ack(1))
    assert check(net, rrq(b"small")) is None
    assert net.recorder.outcomes == [Outcome.COMPLETED]


def test_new_request_ends_the_unanswered_transfers_of_its_port() -> None:
    """They end even if a later check drops the request; a malformed request ends none."""
    net = network(max_per_client=1)
    ask(net, rrq(b"f"))
    ask(net, rrq(b"f"), peer=("192.0.2.1", 4001))
    assert net.server.counters.over_max_per_client == 1
    assert check(net, b"\0\1\0\1") is admission.OVER_MAX_PER_CLIENT
    assert net.server.counters.transfers_replaced == 0
    assert check(net, rrq(b"small")) is None
    assert net.server.counters.transfers_replaced == 1
    assert net.recorder.outcomes == [Outcome.REPLACED]


def test_first_request_of_a_host_in_a_flood_is_dropped() -> None:
    """The second request of the host is admitted."""
    net = flooded()
    assert check(net) is admission.FIRST_IN_FLOOD
    net.clock.advance(1)
    assert check(net) is None


def test_few_silent_peers_are_not_a_flood() -> None:
    """With a small `max_transfers`, a few unanswered transfers are not a flood."""
    net = network(max_transfers=2 * MIN_SILENT_IN_FLOOD)
    send_unanswered_requests(net, MIN_SILENT_IN_FLOOD)
    for number in range(MIN_SILENT_IN_FLOOD):
        assert check(net, peer=(f"203.0.113.{number}", 4000)) is None


def test_request_above_the_rate_is_dropped() -> None:
    """Admitted requests count for their own host only."""
    net = network(rate=2.0)
    verdicts = [check(net, peer=("192.0.2.1", 4000 + number)) for number in range(3)]
    assert verdicts == [None, None, admission.OVER_RATE]
    assert check(net, peer=("192.0.2.2", 4000)) is None


def test_request_above_max_per_client_is_dropped() -> None:
    """The next one is admitted when a transfer of the host is over."""
    net = network(max_per_client=1)
    ask(net, rrq(b"small"))
    other_port = ("192.0.2.1", 4001)
    assert check(net, peer=other_port) is admission.OVER_MAX_PER_CLIENT
    assert check(net, peer=("192.0.2.2", 4000)) is None
    net.links[0].deliver(wire.ack(1))
    assert check(net, peer=other_port) is None


def test_read_above_the_unproven_rate_is_dropped() -> None:
    """Requests whose answers are short are admitted, and so are hosts that have answered."""
    net = network(unproven_rate=1)
    for number in range(2):
        ask(net, peer=("192.0.2.1", 5000 + number))
    other = ("192.0.2.2", 4000)
    assert check(net, peer=other) is admission.OVER_UNPROVEN_RATE
    assert check(net, rrq_with_options(), peer=other) is None
    net.links[0].deliver(wire.ack(1))
    assert check(net) is None
    assert check(net, peer=("192.0.2.3", 4000)) is admission.OVER_UNPROVEN_RATE


def test_request_above_max_transfers_is_dropped() -> None:
    """A transfer that is unanswered for long enough is ended to make room."""
    net = network(max_transfers=1)
    ask(net)
    other = ("192.0.2.2", 4000)
    assert check(net, peer=other) is admission.NO_ROOM
    net.clock.advance(2 * TIME_TO_ANSWER)
    assert check(net, peer=other) is None
    assert net.server.counters.transfers_ended_for_room == 1
    assert net.links[0].closed


def test_first_check_that_drops_a_request_decides() -> None:
    """The checks are in the order of their cost, and the later ones are not called."""
    net = network(
        single_port=True,
        deny=(ipaddress.ip_network("192.0.2.0/24"),),
        rate=1.0,
        max_transfers=1,
    )
    net.server.is_accepting = False
    assert check(net, peer=("192.0.2.2", 69)) is admission.FROM_A_SERVER
    assert check(net) is admission.STOPPING
    net.server.is_accepting = True
    assert check(net) is admission.DENIED
    net.server.makeConnection(SharedPort())
    allowed = ("198.51.100.1", 4000)
    ask(net, peer=allowed)
    assert check(net, peer=allowed) is admission.REPEATED  # and not OVER_RATE
    assert check(net, peer=("198.51.100.1", 4001)) is admission.OVER_RATE
    assert check(net, peer=("198.51.100.2", 4000)) is admission.NO_ROOM


class SharedPort(RequestPort):
    """A double of the request port that all transfers share; it sends nothing."""

    def __init__(self) -> None:
        pass

    def prepare_for_transfers(self) -> None:
        pass

    def send(self, datagram: Any, peer: Any, local: Any) -> None:
        pass


def test_counter_of_each_verdict_exists() -> None:
    """The counter of a verdict is a field of `Counters`."""
    counters = {field.name for field in fields(Counters)}
    verdicts = [each for each in vars(admission).values() if isinstance(each, Verdict)]
    verdicts.append(admission.no_socket(OSError(24, "Too many open files")))
    assert len(verdicts) == 14
    for verdict in verdicts:
        assert verdict.counter is None or verdict.counter in counters
        assert verdict.reason or verdict in (
            admission.STOPPING,
            admission.OVERTAKEN,
            admission.REPEATED,
        )


@pytest.mark.parametrize(
    ("datagram", "verdict"),
    [
        (wire.ack(1), admission.NOT_A_REQUEST),
        (b"\0\1f", admission.MALFORMED),
    ],
)
def test_unserved_packets_are_counted_by_their_verdicts(datagram: bytes, verdict: Verdict) -> None:
    """Packets that are not requests, and malformed requests, are counted too."""
    net = network()
    ask(net, datagram)
    assert verdict.counter is not None
    assert net.server.counters == Counters(**{verdict.counter: 1})


def test_malformed_request_without_a_socket_is_counted_once() -> None:
    """Without a socket it gets no ERROR, and is counted under `no_room`."""

    class NoSocket(MemoryNetwork):
        def open(self, peer: Any, local: Any, is_read: bool) -> Any:
            raise OSError(24, "Too many open files")

    net = NoSocket(MemoryBackend(FILES))
    ask(net, b"\0\1f")
    assert net.server.counters == Counters(no_room=1)
