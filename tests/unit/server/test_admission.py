"""Admission: which check refuses a request, and what the checks do to earlier transfers."""

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

PEER = ("192.0.2.1", 4000)
LOCAL = ("192.0.2.69", 69)
FILES = {"f": bytes(2000), "small": b"x"}


def network(**policy: Any) -> MemoryNetwork:
    return MemoryNetwork(MemoryBackend(FILES, "create"), Policy(**policy))


def rrq(filename: bytes = b"f") -> bytes:
    return wire.encode_request(wire.Request(Opcode.RRQ, filename, "octet", {}))


def check(
    net: MemoryNetwork, datagram: bytes = rrq(), peer: Any = PEER, local: Any = LOCAL
) -> Verdict | None:
    """Return what the server's checks say of a request; an admitted one starts no transfer."""
    now = net.clock.seconds()
    return net.server.admission.admit(Arrival(datagram, peer, local, Direction.READ, now))


def ask(net: MemoryNetwork, datagram: bytes = rrq(), peer: Any = PEER) -> None:
    """Let a request reach the server, which starts a transfer if it is admitted."""
    net.server.received(datagram, peer, LOCAL)


def silent_crowd(net: MemoryNetwork, count: int) -> None:
    """Let so many hosts ask, and be silent for longer than an answer takes."""
    for number in range(count):
        ask(net, peer=(f"198.51.{number >> 8}.{number & 255}", 4000))
    net.clock.advance(2 * TIME_TO_ANSWER)


def flooded() -> MemoryNetwork:
    """Return a server that has looked at enough silent transfers to see a flood."""
    net = network(max_transfers=10 * MIN_SILENT_IN_FLOOD)
    silent_crowd(net, 2 * MIN_SILENT_IN_FLOOD)
    for number in range(MIN_SILENT_IN_FLOOD):
        check(net, peer=(f"203.0.113.{number}", 4000))
    return net


def test_request_is_admitted() -> None:
    """Where nothing speaks against it."""
    assert check(network()) is None


@pytest.mark.parametrize("port", [69, 6969])
def test_request_from_a_server_is_refused_on_a_single_port(port: int) -> None:
    """Whether the server waits on the usual port or on the number of ours."""
    net = network(single_port=True)
    local = ("192.0.2.69", 6969)
    assert check(net, peer=("192.0.2.2", port), local=local) is admission.FROM_A_SERVER
    assert check(net, peer=("192.0.2.2", 4000), local=local) is None
    assert check(net, peer=("192.0.2.2", port), local=None) is None


def test_request_from_a_server_is_admitted_where_transfers_have_ports() -> None:
    """It can't answer what comes from a port that it has not asked."""
    assert check(network(), peer=("192.0.2.2", 69)) is None


def test_request_is_refused_while_the_server_stops() -> None:
    """It is not counted either: the next server is asked."""
    net = network()
    net.server.accepting = False
    assert check(net) is admission.STOPPING
    ask(net)
    assert net.server.counters == Counters()


def test_request_from_a_denied_network_is_refused() -> None:
    """Those from others are not."""
    net = network(deny=(ipaddress.ip_network("192.0.2.0/24"),))
    assert check(net) is admission.DENIED
    assert check(net, peer=("198.51.100.1", 4000)) is None


def test_request_that_a_newer_one_replaced_is_refused() -> None:
    """From the same port only."""
    net = network()
    ask(net, rrq(b"f"))
    ask(net, rrq(b"small"))
    assert check(net, rrq(b"f")) is admission.OVERTAKEN
    assert check(net, rrq(b"f"), peer=("192.0.2.1", 4001)) is None


def test_repeated_request_is_refused_and_its_answer_repeated() -> None:
    """As long as the first answer was not acknowledged."""
    net = network()
    ask(net)
    (link,) = net.links
    first = link.take()
    net.clock.advance(0.5)
    assert check(net) is admission.REPEATED
    assert link.take() == first


def test_repeat_of_an_answered_request_is_refused_while_it_is_young() -> None:
    """It draws nothing, and a while later it is a new request."""
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


def test_same_request_at_another_address_of_ours_is_no_repeat() -> None:
    """Each address that was asked answers."""
    net = network()
    ask(net)
    assert check(net, local=("192.0.2.70", 69)) is None


def test_answer_that_waits_is_read_before_a_repeat_is_looked_for() -> None:
    """The peer sent it before the request."""
    net = network()
    ask(net, rrq(b"small"))
    net.links[0].waiting.append(wire.ack(1))
    assert check(net, rrq(b"small")) is None
    assert net.recorder.outcomes == [Outcome.COMPLETED]


def test_new_request_ends_the_unanswered_transfers_of_its_port() -> None:
    """Also where a later check refuses it; a malformed one ends nothing."""
    net = network(max_per_client=1)
    ask(net, rrq(b"f"))
    ask(net, rrq(b"f"), peer=("192.0.2.1", 4001))
    assert net.server.counters.crowded == 1
    assert check(net, b"\0\1\0\1") is admission.OVER_CLIENT_LIMIT
    assert net.server.counters.replaced == 0
    assert check(net, rrq(b"small")) is None
    assert net.server.counters.replaced == 1
    assert net.recorder.outcomes == [Outcome.REPLACED]


def test_host_that_asks_for_the_first_time_in_a_flood_is_refused() -> None:
    """When it asks again it is admitted."""
    net = flooded()
    assert check(net) is admission.UNPROVEN
    net.clock.advance(1)
    assert check(net) is None


def test_few_silent_peers_are_no_flood() -> None:
    """However few transfers are allowed."""
    net = network(max_transfers=2 * MIN_SILENT_IN_FLOOD)
    silent_crowd(net, MIN_SILENT_IN_FLOOD)
    for number in range(MIN_SILENT_IN_FLOOD):
        assert check(net, peer=(f"203.0.113.{number}", 4000)) is None


def test_request_above_the_rate_is_refused() -> None:
    """Each that is admitted counts, and those of other hosts do not."""
    net = network(rate=2.0)
    verdicts = [check(net, peer=("192.0.2.1", 4000 + number)) for number in range(3)]
    assert verdicts == [None, None, admission.OVER_RATE]
    assert check(net, peer=("192.0.2.2", 4000)) is None


def test_request_above_the_limit_of_its_host_is_refused() -> None:
    """Until one of the host's transfers is over."""
    net = network(max_per_client=1)
    ask(net, rrq(b"small"))
    other_port = ("192.0.2.1", 4001)
    assert check(net, peer=other_port) is admission.OVER_CLIENT_LIMIT
    assert check(net, peer=("192.0.2.2", 4000)) is None
    net.links[0].deliver(wire.ack(1))
    assert check(net, peer=other_port) is None


def test_request_above_max_transfers_is_refused_unless_one_gives_way() -> None:
    """A transfer gives way when its peer had time to answer and has not."""
    net = network(max_transfers=1)
    ask(net)
    other = ("192.0.2.2", 4000)
    assert check(net, peer=other) is admission.NO_ROOM
    net.clock.advance(2 * TIME_TO_ANSWER)
    assert check(net, peer=other) is None
    assert net.server.counters.displaced == 1
    assert net.links[0].closed


def test_first_check_that_refuses_decides() -> None:
    """The order of the checks is that of what they cost; later ones are not reached."""
    net = network(
        single_port=True,
        deny=(ipaddress.ip_network("192.0.2.0/24"),),
        rate=1.0,
        max_transfers=1,
    )
    net.server.accepting = False
    assert check(net, peer=("192.0.2.2", 69)) is admission.FROM_A_SERVER
    assert check(net) is admission.STOPPING
    net.server.accepting = True
    assert check(net) is admission.DENIED
    net.server.makeConnection(SharedPort())
    allowed = ("198.51.100.1", 4000)
    ask(net, peer=allowed)
    assert check(net, peer=allowed) is admission.REPEATED  # and not OVER_RATE
    assert check(net, peer=("198.51.100.1", 4001)) is admission.OVER_RATE
    assert check(net, peer=("198.51.100.2", 4000)) is admission.NO_ROOM


class SharedPort(RequestPort):
    """Stands in for a request port that all transfers share; nothing is sent."""

    def __init__(self) -> None:
        pass

    def share(self) -> None:
        pass

    def send(self, datagram: Any, peer: Any, local: Any) -> None:
        pass


def test_each_verdict_has_a_counter_and_a_reason_or_none() -> None:
    """A counter is one of the server's."""
    counters = {field.name for field in fields(Counters)}
    verdicts = [each for each in vars(admission).values() if isinstance(each, Verdict)]
    verdicts.append(admission.no_socket(OSError(24, "Too many open files")))
    assert len(verdicts) == 12
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
def test_what_can_not_be_served_is_counted_by_its_verdict(
    datagram: bytes, verdict: Verdict
) -> None:
    """Of what is no request, or can't be read, too."""
    net = network()
    ask(net, datagram)
    assert verdict.counter is not None
    assert net.server.counters == Counters(**{verdict.counter: 1})


def test_malformed_request_without_a_socket_is_counted_once() -> None:
    """There is nowhere to answer it from, as with each other request then."""

    class NoSocket(MemoryNetwork):
        def open(self, peer: Any, local: Any, reading: bool) -> Any:
            raise OSError(24, "Too many open files")

    net = NoSocket(MemoryBackend(FILES))
    ask(net, b"\0\1f")
    assert net.server.counters == Counters(shed=1)
