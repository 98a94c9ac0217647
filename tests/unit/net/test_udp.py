"""Tests of the sockets of transfers and of the request port, over loopback."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
from collections.abc import Iterator
from random import random
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from tests.support.reactors import ClockedReactor, reactor, spin
from tests.support.sockets import (
    FailingSocket,
    OpenedSockets,
    SocketWithoutIPv6,
)
from twisted_tftp.context import Endpoint
from twisted_tftp.net.addresses import endpoint
from twisted_tftp.net.download_link import CONNECT_AFTER
from twisted_tftp.net.hub import make_hub
from twisted_tftp.net.link_opener import (
    IDLE_TIME,
    MAX_IDLE_PORTS,
    MAX_PEERS,
    MAX_PORTS_PER_PEER,
    PAIR_REUSE_DELAY,
    LinkOpener,
    RecentPairs,
)
from twisted_tftp.net.request_port import RequestPort, listen
from twisted_tftp.net.segmentation import HAS_OFFLOAD
from twisted_tftp.net.shared_link import SharedLink
from twisted_tftp.net.transfer_port import PORT_MAX_AGE, TRANSFERS_PER_PORT
from twisted_tftp.net.udp import open_socket
from twisted_tftp.protocol import wire

__all__ = ["reactor"]

#: The socket address of a peer to which nothing is sent.
LOOPBACK = ("127.0.0.1", 1)


class Protocol:
    """The part of a protocol that a request port uses."""

    noisy = False

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Any, Any]] = []
        self.fail = False

    def makeConnection(self, port: Any) -> None:
        self.port = port

    def doStop(self) -> None:
        pass

    def received(self, datagram: bytes, peer: Any, local: Any) -> None:
        self.got.append((datagram, peer, local))
        if self.fail:
            raise ZeroDivisionError


def received(reactor: Any, sock: socket.socket) -> bytes:
    """Turn `reactor` until a datagram comes to `sock`, and return it."""
    spin(reactor, lambda: select.select([sock], [], [], 0)[0])
    return sock.recv(65535)


def free_range(count: int) -> tuple[int, int]:
    """Return the lowest and the highest of `count` ports in a row that are free.

    The system does not choose ports from this range, so no other socket gets one of them.
    """
    for low in sorted(range(20_000, 30_000, count), key=lambda _: random()):
        with contextlib.ExitStack() as socks, contextlib.suppress(OSError):
            for port in range(low, low + count):
                socks.enter_context(open_socket(LOOPBACK, LOOPBACK, (port, port)))
            return low, low + count - 1
    raise AssertionError("every port is in use")


@contextlib.contextmanager
def listening(reactor: Any, host: str) -> Iterator[tuple[Protocol, RequestPort]]:
    protocol = Protocol()
    port = listen(reactor, 0, protocol, host)
    yield protocol, port
    stopped: list[Any] = []
    port.stopListening().addCallback(stopped.append)
    spin(reactor, lambda: stopped)


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """Return the socket of a client."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


class LinkFixture:
    """A link to a client, the opener that made it, and its socket."""

    link: Any

    def __init__(self, reactor: Any, client: socket.socket, reading: bool) -> None:
        self.reactor = reactor
        self.time = ClockedReactor(reactor)
        self.sockets = OpenedSockets()
        self.opener = LinkOpener(self.time, clock=self.time.seconds, open_socket=self.sockets)
        self.responder = self.opener.responder
        self.got: list[bytes] = []
        self.link = self.opener.open(client.getsockname(), ("127.0.0.1", 69), reading)
        self.sock = self.sockets.of(self.link)
        self.address = self.sock.getsockname()

    def receive(self, datagram: Any, now: float) -> None:
        self.got.append(bytes(datagram))

    def refuse(self, *errors: int) -> list[bytes]:
        """Let the next calls that send fail; return the list that gets what is sent."""
        self.sock.send_errors = list(errors)
        return self.sock.sent

    def turn_offload_off(self) -> None:
        """Let the system refuse segmentation offload, so that the link does not use it again."""
        self.sock.send_errors = [errno.EIO, errno.EIO]
        self.link.send([b"h1", b"1", b"h2", b"2"])
        assert self.sock.sent == [b"h11", b"h22"]
        self.sock.sent.clear()


def fixture(reactor: Any, client: socket.socket, reading: bool) -> Iterator[LinkFixture]:
    linked = LinkFixture(reactor, client, reading)
    yield linked
    linked.link.close()
    linked.link.close()
    linked.opener.close()
    assert not linked.time.getDelayedCalls()


@pytest.fixture
def linked(reactor: Any, client: socket.socket) -> Iterator[LinkFixture]:
    """Return the link of a download."""
    yield from fixture(reactor, client, True)


@pytest.fixture
def uploading(reactor: Any, client: socket.socket) -> Iterator[LinkFixture]:
    """Return the link of an upload."""
    yield from fixture(reactor, client, False)


@pytest.fixture(params=[True, False], ids=["reads", "writes"])
def either(request: Any, reactor: Any, client: socket.socket) -> Iterator[LinkFixture]:
    """Return the link of a download and that of an upload."""
    yield from fixture(reactor, client, request.param)


def test_link_sends_bursts_and_receives_answers(
    either: LinkFixture, client: socket.socket
) -> None:
    """Each pair of header and octets is sent as one datagram."""
    either.link.attach(either.receive)
    either.link.send([b"\0\3\0\1", b"one", b"\0\3\0\2", memoryview(b"two")])
    assert client.recv(100) == b"\0\3\0\1one"
    assert client.recv(100) == b"\0\3\0\2two"
    either.link.send((b"\0\4\0\1",))
    assert client.recv(100) == b"\0\4\0\1"
    client.sendto(b"ack", either.address)
    spin(either.reactor, lambda: either.got == [b"ack"])


def test_link_reads_all_datagrams(either: LinkFixture, client: socket.socket) -> None:
    """No datagram stays in the socket, however many are read in one turn."""
    either.link.attach(either.receive)
    for number in range(200):
        client.sendto(bytes([number]), either.address)
    spin(either.reactor, lambda: len(either.got) == 200)
    assert sorted(either.got) == [bytes([number]) for number in range(200)]


def test_drain_reads_waiting_datagrams_at_once(either: LinkFixture, client: socket.socket) -> None:
    """The socket is emptied without the reactor."""
    either.link.attach(either.receive)
    for number in range(3):
        client.sendto(bytes([number]), either.address)
    either.link.receive_waiting()
    assert len(either.got) == 3


def test_strangers_do_not_reach_the_transfer(either: LinkFixture, client: socket.socket) -> None:
    """Packets from another port or another address get ERROR 5."""
    either.link.attach(either.receive)
    with contextlib.ExitStack() as stack:
        for address in (("127.0.0.1", 0), ("127.0.0.2", client.getsockname()[1])):
            stranger = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stranger.bind(address)
            stranger.settimeout(10)
            stranger.sendto(wire.ack(1), either.address)
            spin(either.reactor, lambda: either.responder.packet_count)
            assert wire.parse_error(stranger.recv(100))[0] == 5
            either.responder.packet_count = 0
    assert either.got == []


def test_link_closed_by_a_datagram_reads_no_more(
    either: LinkFixture, client: socket.socket
) -> None:
    """The datagram that ends the transfer is the last one."""

    def receive(datagram: Any, now: float) -> None:
        either.got.append(bytes(datagram))
        either.link.close()

    either.link.attach(receive)
    for _ in range(3):
        client.sendto(b"x", either.address)
    spin(either.reactor, lambda: either.got)
    assert either.got == [b"x"]


def test_burst_waits_for_room_in_the_socket(either: LinkFixture) -> None:
    """After EAGAIN a copy of the rest waits; a newer burst replaces it."""
    either.turn_offload_off()
    sent = either.refuse(0, errno.EAGAIN, errno.EAGAIN)
    either.link.attach(either.receive)
    octets = bytearray(b"12")
    view = memoryview(octets)
    either.link.send([b"h1", view[:1], b"h2", view[1:]])
    octets[:] = b"xx"
    either.link.send([b"h3", b"3"])
    spin(either.reactor, lambda: len(sent) == 2)
    assert sent == [b"h11", b"h33"]
    either.link.send([b"h4", b"4"])
    assert sent[2:] == [b"h44"], "nothing waits any more"


def test_waiting_burst_is_a_copy(either: LinkFixture) -> None:
    """Buffers that the reader reuses do not change what is sent later."""
    sent = either.refuse(errno.EAGAIN)
    either.link.attach(either.receive)
    octets = bytearray(b"12")
    either.link.send([b"h1", memoryview(octets)])
    octets[:] = b"xx"
    spin(either.reactor, lambda: sent)
    assert sent == [b"h112"]
    octets[:] = b"12"
    sent = either.refuse(errno.EAGAIN)
    sent.clear()
    either.link.send([b"h1", memoryview(octets), b"h2", memoryview(octets)])
    octets[:] = b"xx"
    spin(either.reactor, lambda: len(b"".join(sent)) == 8)
    assert b"".join(sent) == b"h112h212"


@pytest.mark.parametrize(
    "error", [errno.ENOBUFS, errno.EPERM, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EMSGSIZE]
)
def test_datagram_that_can_not_be_sent_counts_as_lost(either: LinkFixture, error: int) -> None:
    """The other datagrams of the burst are sent, and no exception is raised."""
    either.turn_offload_off()
    sent = either.refuse(error, error)
    either.link.send([b"h1", b"1", b"h2", b"2"])
    assert sent == [b"h22"]


@pytest.mark.parametrize("error", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EMSGSIZE])
@pytest.mark.parametrize("burst", [[b"h1", b"1"], [b"h1", b"1", b"h2", b"2"]])
def test_error_about_an_earlier_datagram_loses_nothing(
    either: LinkFixture, error: int, burst: list[bytes]
) -> None:
    """The system reports an ICMP error instead of sending; the datagram is sent again."""
    sent = either.refuse(error)
    either.link.send(burst)
    assert b"".join(sent) == b"".join(burst)
    sent.clear()
    either.link.send([b"h3", b"3", b"h4", b"4"])
    assert len(sent) == (1 if HAS_OFFLOAD else 2), "one system call sends a window"


def test_socket_error_while_reading_is_ignored(
    uploading: LinkFixture, client: socket.socket
) -> None:
    """An ICMP error that the system reports does not end the transfer."""
    uploading.link.attach(uploading.receive)
    uploading.sock.receive_errors = [errno.ECONNREFUSED]
    client.sendto(b"x", uploading.address)
    spin(uploading.reactor, lambda: uploading.got == [b"x"])


def test_receive_buffer_grows_for_large_windows(uploading: LinkFixture) -> None:
    """It is not changed for windows that fit."""
    before = uploading.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    uploading.link.enlarge_buffer(1000)
    assert uploading.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before
    uploading.link.enlarge_buffer(before)
    assert uploading.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= before
    assert uploading.link.logPrefix() == "tftp"
    uploading.link.connectionLost(None)  # type: ignore[arg-type]


def test_ports_come_from_the_range() -> None:
    """All ports of the range are used before the range counts as exhausted."""
    with open_socket(LOOPBACK, LOOPBACK) as probe:
        base = probe.getsockname()[1]
    socks = []
    try:
        # Other programs may use some of these ports, so five is the most.
        with contextlib.suppress(OSError):
            for _ in range(5):
                socks.append(open_socket(LOOPBACK, LOOPBACK, (base, base + 4)))
        with pytest.raises(OSError, match="in use"):
            open_socket(LOOPBACK, LOOPBACK, (base, base + 4))
        assert {sock.getsockname()[1] for sock in socks} <= set(range(base, base + 5))
        assert socks
    finally:
        for sock in socks:
            sock.close()


def test_port_of_a_range_is_not_used_again_for_the_same_peer(reactor: Any) -> None:
    """Late datagrams could reach the next transfer; if there is no other port, it is used."""
    now = [0.0]
    low, high = free_range(3)
    sockets = OpenedSockets()
    opener = LinkOpener(reactor, (low, high), lambda: now[0], open_socket=sockets)
    peer, local = ("127.0.0.1", 1), ("127.0.0.1", 69)
    for reading in (False, True):
        for _ in range(5):
            ports = []
            for _ in range(3):
                link: Any = opener.open(peer, local, reading)
                ports.append(sockets.port_of(link))
                link.close()
                opener.close_idle()
            assert sorted(ports) == [low, low + 1, high]
            now[0] += 1
    opener.close()


@pytest.mark.parametrize("reading", [True, False])
def test_port_of_a_range_is_avoided_from_the_end_of_its_transfer(
    reactor: Any, reading: bool
) -> None:
    """A transfer may take longer than `PAIR_REUSE_DELAY`."""
    now = [0.0]
    low, high = free_range(2)
    sockets = OpenedSockets()
    opener = LinkOpener(reactor, (low, high), lambda: now[0], open_socket=sockets)
    peer, local = ("127.0.0.1", 1), ("127.0.0.1", 69)
    for _ in range(10):
        ports = []
        for _ in range(2):
            link: Any = opener.open(peer, local, reading)
            ports.append(sockets.port_of(link))
            now[0] += PAIR_REUSE_DELAY + 1
            link.close()
            opener.close_idle()
        assert sorted(ports) == [low, high]
    opener.close()


def test_idle_port_of_a_range_is_not_used_for_an_earlier_peer(reactor: Any) -> None:
    """The peer may have used the same port number with another socket."""
    low, high = free_range(2)
    local = ("127.0.0.1", 69)
    for _ in range(10):
        sockets = OpenedSockets()
        opener = LinkOpener(reactor, (low, high), lambda: 0.0, open_socket=sockets)

        def opened(number: int, opener: LinkOpener = opener) -> Any:
            return opener.open(("127.0.0.1", number), local, True)

        first = opened(1)
        port = sockets.port_of(first)
        first.close()
        opener.close_idle()
        for number in range(2, 100):
            other = opened(number)
            is_same = sockets.port_of(other) == port
            other.close()
            if is_same:
                break
            opener.close_idle()
        second = opened(1)
        assert sockets.port_of(second) != port
        second.close()
        opener.close()


def test_idle_ports_are_closed_for_a_peer_that_needs_another_port(reactor: Any) -> None:
    """The opener does not try all idle ports, so it may miss the right one."""
    sockets = OpenedSockets()
    opener = LinkOpener(
        reactor,
        free_range(3),
        lambda: 0.0,
        open_socket=sockets,
        random_number=lambda: 0.0,  # always tries the same idle port
    )
    local = ("127.0.0.1", 69)

    def opened(number: int) -> Any:
        return opener.open(("127.0.0.1", number), local, True)

    link = opened(1)
    first = sockets.port_of(link)
    link.close()
    opener.close_idle()
    known = opened(1)
    with open_socket(LOOPBACK, LOOPBACK, (first, first)):
        other = opened(2)
    known.close()
    good = sockets.port_of(other)
    other.close()  # two ports are idle, and the one that has served the peer is tried
    last = opened(1)
    assert sockets.port_of(last) == good
    last.close()
    opener.close()


def test_idle_ports_that_a_peer_must_avoid_are_not_closed(reactor: Any) -> None:
    """To close them would give the peer no better port."""
    sockets = OpenedSockets()
    opener = LinkOpener(reactor, free_range(2), lambda: 0.0, open_socket=sockets)
    peer, local = ("127.0.0.1", 1), ("127.0.0.1", 69)
    opener.open(peer, local, True).close()
    opener.close_idle()
    opener.open(peer, local, True).close()
    (idle,) = [sock for sock in sockets.all if sock.fileno() >= 0]
    last = opener.open(peer, local, True)
    assert sockets.of(last) is not idle
    assert idle.fileno() >= 0
    last.close()
    opener.close()


def test_pairs_are_forgotten_after_a_minute() -> None:
    """The ports of a peer are in the order of their last use."""
    now = [0.0]
    pairs = RecentPairs(lambda: now[0])
    for port in (1, 2, 1):
        pairs.add(LOOPBACK, port)
        now[0] += 1
    assert pairs.ports_of(LOOPBACK) == [2, 1]
    now[0] = 1 + PAIR_REUSE_DELAY
    assert pairs.ports_of(LOOPBACK) == [1]
    now[0] = 2 + PAIR_REUSE_DELAY
    assert pairs.ports_of(LOOPBACK) == []


def test_number_of_remembered_pairs_is_bounded() -> None:
    """The oldest ports of a peer and the oldest peers are forgotten first."""
    pairs = RecentPairs(lambda: 0.0)
    for port in range(MAX_PORTS_PER_PEER + 1):
        pairs.add(LOOPBACK, port)
    assert pairs.ports_of(LOOPBACK) == list(range(1, MAX_PORTS_PER_PEER + 1))
    for number in range(MAX_PEERS - 1):
        pairs.add(("192.0.2.1", number), 1)
    pairs.add(LOOPBACK, 2)  # used again, so not the oldest any more
    pairs.add(("192.0.2.2", 1), 1)
    assert pairs.ports_of(("192.0.2.1", 0)) == []
    assert pairs.ports_of(("192.0.2.1", 1)) == [1]
    assert pairs.ports_of(LOOPBACK)[-1] == 2


def test_socket_can_not_be_bound_to_a_foreign_address() -> None:
    """The socket is closed, and the error is raised."""
    with pytest.raises(OSError, match="assign"):
        open_socket(LOOPBACK, ("192.0.2.1", 69), (40000, 40001))
    with pytest.raises(OSError, match="assign"):
        open_socket(LOOPBACK, ("192.0.2.1", 69))


def test_socket_without_a_local_address_is_bound_to_the_wildcard() -> None:
    """A plain Twisted port does not tell which address a request reached."""
    with open_socket(LOOPBACK, None) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"
    with open_socket(("::1", 1, 0, 0), None) as sock:
        assert sock.getsockname()[0] == "::"


def test_port_that_can_not_be_bound_leaves_no_socket(reactor: Any) -> None:
    """Its descriptor is closed at once, and not by the garbage collector."""
    with listening(reactor, "127.0.0.1") as (_, port):
        taken = port.getHost().port
        before = os.listdir("/proc/self/fd")
        kept: list[BaseException] = []
        for _ in range(3):
            with pytest.raises(CannotListenError) as caught:
                listen(reactor, taken, DatagramProtocol(), "127.0.0.1")
            kept.append(caught.value)  # its traceback keeps the frames and their objects
        assert os.listdir("/proc/self/fd") == before


def test_request_port_reports_the_local_address(reactor: Any) -> None:
    """With a wildcard socket, the destination address of each request is known."""
    with listening(reactor, "0.0.0.0") as (protocol, port):
        number = port.getHost().port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for host in ("127.0.0.1", "127.0.0.2"):
                sock.sendto(b"x", (host, number))
        spin(reactor, lambda: len(protocol.got) == 2)
        assert [local for _, _, local in protocol.got] == [
            ("127.0.0.1", number),
            ("127.0.0.2", number),
        ]


def test_request_port_answers_from_the_address_that_was_asked(reactor: Any) -> None:
    """In single-port mode the source of an answer is the destination of the request."""
    for wildcard, host in (("0.0.0.0", "127.0.0.3"), ("::", "::1")):
        with listening(reactor, wildcard) as (protocol, port):
            family = port.addressFamily
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.sendto(b"x", (host, port.getHost().port))
                spin(reactor, lambda: protocol.got)
                _, peer, local = protocol.got[0]
                link = SharedLink(port, peer, local)
                link.attach(lambda datagram, now: None)
                link.enlarge_buffer(10)
                link.send([b"h1", b"1", b"h2", b"2"])
                assert sock.recvfrom(10)[0] == b"h11"
                datagram, source = sock.recvfrom(10)
                assert (datagram, source[0]) == (b"h22", host)
                sock.sendto(b"y", (host, port.getHost().port))
                link.receive_waiting()
                assert protocol.got[-1][0] == b"y"
                link.close()
                SharedLink(port, peer, None).send((b"z",))
                assert sock.recv(10) == b"z"


class Arriving:
    """A socket from which one datagram with packet information is read."""

    def __init__(self, datagram: bytes, info: tuple[int, int, bytes]) -> None:
        self._arrival = (datagram, [info], 0, LOOPBACK)

    def recvmsg(self, *args: Any) -> Any:
        return self._arrival


def test_broadcast_and_multicast_requests_are_ignored(reactor: Any) -> None:
    """RFC 1123 section 4.2.3.5 requires it for requests to broadcast addresses."""
    with listening(reactor, "127.0.0.1") as (protocol, port):
        real = port.socket
        local, everyone = socket.inet_aton("192.0.2.1"), socket.inet_aton("255.255.255.255")
        group = socket.inet_pton(socket.AF_INET6, "ff02::1")
        near = socket.inet_pton(socket.AF_INET6, "fe80::1")
        arrivals = [
            (b"broadcast", (socket.IPPROTO_IP, 8, b"\1\0\0\0" + local + everyone)),
            (b"multicast", (socket.IPPROTO_IPV6, 50, group + b"\1\0\0\0")),
            (b"link-local", (socket.IPPROTO_IPV6, 50, near + b"\3\0\0\0")),
            (b"unknown", (0, 0, b"")),
        ]
        for datagram, info in arrivals:
            port.socket = Arriving(datagram, info)
            assert port.read_one()
        port.socket = real
        assert protocol.got == [
            (b"link-local", LOOPBACK, ("fe80::1", port.getHost().port, 0, 3)),
            (b"unknown", LOOPBACK, None),
        ]


def test_exception_in_the_protocol_does_not_stop_the_port(reactor: Any) -> None:
    """The exception is logged, and the next datagram is read."""
    with listening(reactor, "127.0.0.1") as (protocol, port):
        protocol.fail = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(100):
                sock.sendto(b"x", ("127.0.0.1", port.getHost().port))
        spin(reactor, lambda: len(protocol.got) == 100)


def test_error_of_the_request_socket_is_ignored(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A datagram that can't be read or sent is lost."""
    with listening(reactor, "127.0.0.1") as (protocol, port):
        real = port.socket
        failing = FailingSocket(real)
        failing.receive_errors = [errno.ECONNREFUSED]
        port.socket = failing
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", port.getHost().port))
            spin(reactor, lambda: protocol.got)
        port.send(b"x", ("127.0.0.1", 0), None)
        port.socket = real


def test_port_that_can_not_be_bound_is_a_cannot_listen_error(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port is in use, or the address or its family does not exist."""
    with listening(reactor, "127.0.0.1") as (_, port), pytest.raises(CannotListenError):
        listen(reactor, port.getHost().port, Protocol(), "127.0.0.1")
    with pytest.raises(CannotListenError):
        listen(reactor, 0, Protocol(), "192.0.2.1")
    monkeypatch.setattr(socket, "socket", SocketWithoutIPv6)
    with pytest.raises(CannotListenError):
        listen(reactor, 0, Protocol(), "::1")


def test_link_local_addresses_keep_their_scope() -> None:
    """The interface is a part of a link-local address."""
    assert endpoint(("fe80::1", 5, 0, 3)) == Endpoint("fe80::1%3", 5)
    assert endpoint(("::1", 5, 0, 0)) == Endpoint("::1", 5)
    assert endpoint(("192.0.2.1", 5)) == Endpoint("192.0.2.1", 5)


def test_link_of_a_long_download_is_connected(linked: LinkFixture, client: socket.socket) -> None:
    """A second socket serves the peer, and strangers still get ERROR 5 from the first one."""
    linked.link.attach(linked.receive)
    for number in range(CONNECT_AFTER + 10):
        client.sendto(bytes([number]), linked.address)
    spin(linked.reactor, lambda: len(linked.got) == CONNECT_AFTER + 10)
    assert sorted(linked.got) == [bytes([number]) for number in range(CONNECT_AFTER + 10)]
    assert linked.link.fileno() != linked.sock.fileno()
    linked.link.send([b"h1", b"1"])
    linked.link.send([b"h2", b"2", b"h3", b"3"])
    assert [client.recvfrom(10) for _ in range(3)] == [
        (datagram, linked.address) for datagram in (b"h11", b"h22", b"h33")
    ]
    client.sendto(b"on", linked.address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(10)
        stranger.sendto(wire.ack(1), linked.address)
        spin(linked.reactor, lambda: linked.responder.packet_count)
        assert wire.parse_error(stranger.recv(100))[0] == 5
        stranger.sendto(wire.ack(1), linked.address)
        linked.link.receive_waiting()
    spin(linked.reactor, lambda: linked.got[-1] == b"on")
    assert linked.responder.packet_count == 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(linked.address)


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process open `count` more descriptors and no others."""
    with open(os.devnull) as probe:
        first_free = probe.fileno()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("cause", ["no descriptor", "few descriptors", "no shared port"])
def test_download_goes_on_without_a_second_socket(
    linked: LinkFixture, client: socket.socket, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """There may be no descriptor for it, or the port can't be shared."""
    linked.link.attach(linked.receive)
    with contextlib.ExitStack() as stack:
        if cause == "no descriptor":
            stack.enter_context(descriptors_left(0))
        elif cause == "few descriptors":
            stack.enter_context(descriptors_left(1))
        else:
            stack.enter_context(monkeypatch.context()).setattr(socket, "SO_REUSEADDR", 12345)
        for _ in range(CONNECT_AFTER):
            client.sendto(b"x", linked.address)
            linked.link.receive_waiting()
    assert linked.link.fileno() == linked.sock.fileno()
    client.sendto(b"on", linked.address)
    spin(linked.reactor, lambda: linked.got[-1] == b"on")
    assert len(linked.got) == CONNECT_AFTER + 1


def open_read(linked: LinkFixture, peer: Any) -> Any:
    """Open the link of another download."""
    return linked.opener.open(peer, ("127.0.0.1", 69), True)


def test_running_downloads_have_different_ports(linked: LinkFixture) -> None:
    """A port is used again only after its download is over."""
    other = open_read(linked, ("127.0.0.1", 1))
    sock = linked.sockets.of(other)
    assert sock.getsockname() != linked.address
    other.close()
    third = open_read(linked, ("127.0.0.1", 2))
    assert linked.sockets.of(third) is sock
    assert third.fileno() >= 0
    third.close()


def test_port_is_not_used_again_for_the_same_peer(
    linked: LinkFixture, client: socket.socket
) -> None:
    """Late packets of the peer's first download reach no other, and get no answer."""
    linked.link.close()
    again = open_read(linked, client.getsockname())
    again.attach(linked.receive)
    address = linked.sockets.of(again).getsockname()
    assert address != linked.address
    client.sendto(wire.ack(3), linked.address)
    client.sendto(b"new", address)
    spin(linked.reactor, lambda: linked.got)
    assert linked.got == [b"new"]
    assert linked.responder.packet_count == 0
    again.close()


def test_client_with_a_fixed_port_fills_no_list_of_idle_ports(linked: LinkFixture) -> None:
    """Each of its downloads needs a new port, and none of these is kept."""
    linked.link.close()
    asked = [("127.0.0.1", 1)] * 20
    ports = []
    for peer in asked:
        link = open_read(linked, peer)
        ports.append(linked.sockets.of(link))
        link.close()
    assert len(set(ports)) == 20
    assert [port.fileno() >= 0 for port in ports] == [True] + [False] * 19


def test_port_used_again_receives_from_its_new_peer_only(
    linked: LinkFixture, client: socket.socket
) -> None:
    """The peer before gets no answer, and other addresses get ERROR 5."""
    linked.link.close()
    with contextlib.ExitStack() as stack:
        new, stranger = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in "ab"
        )
        for sock in (new, stranger):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(10)
        link = open_read(linked, new.getsockname())
        link.attach(linked.receive)
        assert linked.sockets.of(link) is linked.sock
        for sock in (client, stranger, new):
            sock.sendto(wire.ack(1), linked.address)
        spin(linked.reactor, lambda: linked.got)
        assert linked.responder.packet_count == 1
        assert wire.parse_error(stranger.recv(100))[0] == 5
        link.close()
        stranger.sendto(wire.ack(2), linked.address)
        spin(linked.reactor, lambda: linked.responder.packet_count == 2)


def test_port_is_closed_after_some_downloads(linked: LinkFixture) -> None:
    """The next download gets a new port."""
    linked.link.close()
    for number in range(TRANSFERS_PER_PORT - 1):
        link = open_read(linked, ("127.0.0.2", number + 1))
        assert linked.sockets.of(link) is linked.sock
        link.close()
    assert linked.sock.fileno() < 0
    link = open_read(linked, ("127.0.0.3", 1))
    assert linked.sockets.of(link) is not linked.sock
    link.close()


def test_port_is_closed_after_some_seconds(linked: LinkFixture) -> None:
    """A port whose number is known is not used for long."""
    linked.link.close()
    link = open_read(linked, ("127.0.0.1", 1))
    assert linked.sockets.of(link) is linked.sock
    linked.time.advance(PORT_MAX_AGE)
    link.close()
    assert linked.sock.fileno() < 0


def test_idle_port_is_chosen_at_random(linked: LinkFixture) -> None:
    """The port of a download can't be guessed from the one before."""
    first = [open_read(linked, ("127.0.0.2", number)) for number in range(1, 11)]
    before = [linked.sockets.of(link) for link in first]
    for link in first:
        link.close()
    second = [open_read(linked, ("127.0.0.3", number)) for number in range(1, 11)]
    after = [linked.sockets.of(link) for link in second]
    assert after != before
    assert after != before[::-1]
    assert set(after) == set(before)
    for link in second:
        link.close()


def test_no_socket_is_connected_without_epoll(
    reactor: Any, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reactor that uses poll() drops a connected socket with an ICMP error."""
    monkeypatch.delattr("select.epoll")  # now each socket is registered with the reactor
    with contextlib.contextmanager(fixture)(reactor, client, True) as linked:
        linked.link.attach(linked.receive)
        for _ in range(2 * CONNECT_AFTER):
            client.sendto(b"x", linked.address)
        spin(linked.reactor, lambda: len(linked.got) == 2 * CONNECT_AFTER)
        assert linked.link.fileno() == linked.sock.fileno()


def test_request_port_can_be_paused_and_resumed(reactor: Any) -> None:
    """This works with a hub too."""
    hub = make_hub(reactor)
    protocol = Protocol()
    port = listen(reactor, 0, protocol, "127.0.0.1", hub)
    port.pauseProducing()
    port.resumeProducing()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", port.getHost().port))
        spin(reactor, lambda: protocol.got)
    stopped: list[Any] = []
    port.stopListening().addCallback(stopped.append)
    spin(reactor, lambda: stopped)
    hub.close()


def test_idle_ports_are_closed_after_a_second(linked: LinkFixture) -> None:
    """At most `MAX_IDLE_PORTS` ports are idle, and no timer is left after the last one."""
    links_ = [open_read(linked, ("127.0.0.2", number + 1)) for number in range(MAX_IDLE_PORTS + 5)]
    socks = [linked.sockets.of(link) for link in links_]

    def count_open() -> int:
        return sum(sock.fileno() >= 0 for sock in socks)

    for link in links_:
        link.close()
    assert count_open() == MAX_IDLE_PORTS
    first, second = (open_read(linked, ("127.0.0.3", number)) for number in (1, 2))
    linked.time.advance(IDLE_TIME)
    assert count_open() == 2
    first.close()
    linked.time.advance(IDLE_TIME / 2)
    second.close()
    assert count_open() == 2
    linked.time.advance(IDLE_TIME / 2)
    assert count_open() == 1
    linked.time.advance(IDLE_TIME)
    assert count_open() == 0
    assert not linked.time.getDelayedCalls()


def test_idle_ports_are_closed_if_there_is_no_other_socket(reactor: Any) -> None:
    """If no port or descriptor is free, the idle ports are closed for a new transfer."""
    sockets: list[socket.socket] = []

    def open_one(*args: Any) -> socket.socket:
        if any(sock.fileno() >= 0 for sock in sockets):
            raise OSError(errno.EADDRINUSE, "none left")
        sockets.append(open_socket(*args))
        return sockets[-1]

    opener = LinkOpener(reactor, open_socket=open_one)
    opener.open(("127.0.0.1", 1), ("127.0.0.1", 69), True).close()
    assert sockets[0].fileno() >= 0
    write = opener.open(("127.0.0.1", 2), ("127.0.0.1", 69), False)
    assert sockets[0].fileno() < 0
    with pytest.raises(OSError, match="none left"):
        opener.open(("127.0.0.1", 3), ("127.0.0.1", 69), False)
    write.close()
    opener.close()


def test_idle_port_of_another_address_is_not_used(reactor: Any) -> None:
    """The answer must leave from the address that the request reached."""
    sockets = OpenedSockets()
    opener = LinkOpener(reactor, open_socket=sockets, random_number=lambda: 0.0)
    asked = ("127.0.0.1", 69)
    first: Any = opener.open(("127.0.0.1", 1), asked, True)
    sock = sockets.of(first)
    first.close()
    for local in (("127.0.0.2", 69), None):
        link: Any = opener.open(("127.0.0.1", 2), local, True)
        assert sockets.of(link) is not sock
        link.close()
    link = opener.open(("127.0.0.1", 2), asked, True)
    assert sockets.of(link) is sock
    link.close()
    opener.close()


def test_closed_link_sends_no_waiting_datagrams(linked: LinkFixture) -> None:
    """What waited for room in the socket is dropped."""
    sent = linked.refuse(errno.EAGAIN)
    linked.link.send((b"one",))
    linked.link.close()
    linked.reactor.iterate(0)
    linked.reactor.iterate(0)
    assert sent == []


@pytest.mark.parametrize("error", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT])
def test_window_is_sent_without_offload_if_that_is_refused(
    linked: LinkFixture, error: int
) -> None:
    """Each block is sent by itself, and offload is not tried again."""
    sent = linked.refuse(error, error)
    linked.link.send([b"h1", b"1", b"h2", b"2", b"h3", b""])
    assert sent == [b"h11", b"h22", b"h3"]
    linked.link.send([b"h4", b"4", b"h5", b"5"])
    assert sent[3:] == [b"h44", b"h55"]


@pytest.mark.parametrize("size", [8, 512, 1428, 8192, 60000])
@pytest.mark.parametrize("count", [2, 44, 45, 64, 130])
def test_windows_of_any_size_arrive_as_datagrams(
    linked: LinkFixture, client: socket.socket, size: int, count: int
) -> None:
    """With segmentation offload the peer gets the same datagrams as without it."""
    client.setsockopt(socket.SOL_SOCKET, 33, 64 * 1024 * 1024)
    if client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * count * (size + 700):
        pytest.xfail("the system allows no buffer for so large a window")
    linked.link.attach(linked.receive)
    burst: list[Any] = []
    for number in range(count):
        burst += [wire.DATA_HEADERS[number], bytes([number]) * size]
    burst[-1] = b"end"
    linked.link.send(burst)
    for number in range(count):
        octets = bytes([number]) * size if number < count - 1 else b"end"
        assert received(linked.reactor, client) == wire.DATA_HEADERS[number] + octets


def test_datagrams_received_with_offload_are_separated(
    uploading: LinkFixture, client: socket.socket
) -> None:
    """One system call receives a whole window; each of its datagrams is delivered."""
    uploading.link.enlarge_buffer(1000)
    uploading.link.attach(uploading.receive)
    segments = [bytes([number]) * 100 for number in range(10)] + [b"end"]
    size = [(socket.IPPROTO_UDP, 103, b"\x64\x00")]
    client.sendmsg(segments, size, 0, uploading.address)
    client.sendto(b"alone", uploading.address)
    client.sendto(b"", uploading.address)
    client.sendto(b"last", uploading.address)
    spin(uploading.reactor, lambda: uploading.got and uploading.got[-1] == b"last")
    assert [datagram for datagram in uploading.got if datagram] == [*segments, b"alone", b"last"]


def test_window_of_a_stranger_is_not_delivered(
    uploading: LinkFixture, client: socket.socket
) -> None:
    """With receive offload too, a stranger gets ERROR 5."""
    uploading.link.enlarge_buffer(1000)
    uploading.link.attach(uploading.receive)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(10)
        size = [(socket.IPPROTO_UDP, 103, b"\x08\x00")]
        stranger.sendmsg([wire.DATA_HEADERS[1] + b"1234"] * 3, size, 0, uploading.address)
        spin(uploading.reactor, lambda: uploading.responder.packet_count)
        assert wire.parse_error(stranger.recv(100))[0] == 5
    assert uploading.got == []


def test_link_closed_within_a_received_window_gets_no_more_of_it(
    uploading: LinkFixture, client: socket.socket
) -> None:
    """The datagrams after the last one of the transfer are not delivered."""

    def receive(datagram: Any, now: float) -> None:
        uploading.got.append(bytes(datagram))
        uploading.link.close()

    uploading.link.enlarge_buffer(1000)
    uploading.link.attach(receive)
    size = [(socket.IPPROTO_UDP, 103, b"\x08\x00")]
    client.sendmsg([b"12345678"] * 3, size, 0, uploading.address)
    spin(uploading.reactor, lambda: uploading.got)
    assert uploading.got == [b"12345678"]


def test_request_port_waits_for_room_in_the_socket(reactor: Any, client: socket.socket) -> None:
    """In single-port mode, datagrams that do not fit are sent later, in order."""
    with listening(reactor, "127.0.0.1") as (_, port):
        port.prepare_for_transfers()
        real = port.socket
        full = FailingSocket(real)
        full.send_errors = [errno.EAGAIN, errno.EAGAIN]
        port.socket = full
        link = SharedLink(port, client.getsockname(), ("127.0.0.1", port.getHost().port))
        link.send([b"h1", b"1", b"h2", b"2", b"h3", b"3"])
        assert [received(reactor, client) for _ in range(3)] == [b"h11", b"h22", b"h33"]
        port.socket = real
