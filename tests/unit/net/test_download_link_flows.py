"""Tests of the link of a download with a table of flows that does what the test says."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from tests.support.reactors import ClockedReactor, reactor, spin
from tests.support.sockets import OpenedSockets
from twisted_tftp.net import offload
from twisted_tftp.net.download_link import CONNECT_AFTER
from twisted_tftp.net.link_opener import LinkOpener
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import Buffer

__all__ = ["reactor"]

#: What a flow has done that has received nothing.
NOTHING = Progress(0, 0, 0, 0, False, 0.0, 0.0, ())

#: An offer; the table of these tests does not look at it.
OFFER = Offer(b"", 0, True, 0, 512, 1, 0.0, 0.0, False)


needs_module = pytest.mark.skipif(offload._offload is None, reason="the C module is not built")


class ScriptedTable:
    """A table whose flows do nothing.

    @ivar active: the descriptors that have flows.
    @ivar refuses: whether it takes no flow.
    @ivar progress: what the flow that is asked next has done.
    """

    least_windows = 2
    sends_between_offers = 0

    def __init__(self, wait: Any) -> None:
        self.active: set[int] = set()
        self.refuses = False
        self.progress = NOTHING
        self._wait = wait

    def add(self, sock: Any, *args: Any) -> bool:
        assert sock.fileno() not in self.active
        if not self.refuses:
            self.active.add(sock.fileno())
        return not self.refuses

    def look(self, descriptor: int) -> Progress:
        assert descriptor in self.active
        progress, self.progress = self.progress, NOTHING
        return progress

    def take(self, descriptor: int) -> Progress:
        progress = self.look(descriptor)
        self.active.remove(descriptor)
        return progress

    def poll(self, most: int, until: float, idle_until: float) -> Any:
        return [], self._wait(0, most), 0

    def close(self) -> None:
        pass


class Fixture:
    """A link, its table of flows, and its client. It is the machine too.

    @ivar done: what the link has asked of the machine, in order.
    @ivar unsent: what a flow could not send.
    """

    def __init__(self, reactor: Any, is_scripted: bool = True) -> None:
        """Open a link; `is_scripted`: its table is a `ScriptedTable`."""
        self.reactor = reactor
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.bind(("127.0.0.1", 0))
        self.client.setblocking(False)
        time = ClockedReactor(reactor)
        self.sockets = OpenedSockets()
        self.opener = LinkOpener(time, clock=time.seconds, open_socket=self.sockets)
        hub: Any = self.opener.hub
        self.table = ScriptedTable(hub._epoll.poll)
        if is_scripted:
            hub.flows = self.table
        self.link: Any = self.opener.open(self.client.getsockname(), ("127.0.0.1", 69), True)
        self.sock = self.sockets.of(self.link)
        self.client.connect(self.sock.getsockname())
        self.done: list[Any] = []
        self.unsent: Sequence[Buffer] = ()
        self.link.attach(self.receive, None, self)

    def offer(self, least: int) -> Offer:
        return OFFER

    def take_back(self, progress: Progress) -> Sequence[Buffer]:
        self.done.append(progress)
        return self.unsent

    def resume(self, progress: Progress, datagram: bytes, now: float) -> None:
        self.done += [progress, datagram]

    def receive(self, datagram: Any, now: float) -> None:
        self.done.append(bytes(datagram))

    def received(self) -> bytes:
        """Wait for a datagram to the client, and return it."""
        datagrams: list[bytes] = []

        def has_come() -> bool:
            try:
                datagrams.append(self.client.recv(100))
            except BlockingIOError:
                return False
            return True

        spin(self.reactor, has_come)
        return datagrams[0]

    def connect(self) -> None:
        """Let the client send so many packets that the link connects a second socket."""
        first = self.link.fileno()
        for _ in range(CONNECT_AFTER):
            self.client.send(b"packet")
        spin(self.reactor, lambda: self.link.fileno() != first)
        spin(self.reactor, lambda: len(self.done) == CONNECT_AFTER)
        self.done.clear()

    def close(self) -> None:
        self.link.close()
        self.opener.close()


@pytest.fixture
def fixture(reactor: Any) -> Iterator[Fixture]:
    """Return a link that has sent nothing."""
    fixture = Fixture(reactor)
    with closing(fixture.client):
        yield fixture
        fixture.close()
    assert not fixture.table.active


def acks(count: int) -> Progress:
    """Return what a flow has done that has received `count` ACKs."""
    return NOTHING._replace(acks=count, blocks=count, window=1)


@pytest.mark.parametrize("error", [0, errno.EAGAIN, errno.ENOBUFS])
def test_link_sends_what_a_flow_could_not_send(fixture: Fixture, error: int) -> None:
    """If the socket is full, the link waits until it is writable."""
    fixture.link.send((b"block",))
    assert fixture.received() == b"block"
    fixture.unsent = (b"head", b"octets")
    fixture.sock.send_errors = [error]
    fixture.link.resume(None, None)
    assert fixture.table.active == set()
    assert fixture.received() == b"headoctets"


def test_no_flow_begins_while_datagrams_wait(fixture: Fixture) -> None:
    """It would send the next window before the earlier one."""
    fixture.sock.send_errors = [errno.EAGAIN]
    fixture.link.send((b"one",))
    assert not fixture.table.active
    assert fixture.received() == b"one"
    fixture.link.send((b"two",))
    assert fixture.table.active


def test_link_works_alone_if_the_table_refuses_the_flow(fixture: Fixture) -> None:
    """The table in C has room for some descriptors only."""
    fixture.table.refuses = True
    fixture.link.send((b"one",))
    fixture.client.send(b"packet")
    spin(fixture.reactor, lambda: fixture.done)
    fixture.link.follow_flow()
    fixture.link.end_flow()
    assert fixture.done == [b"packet"]


@pytest.mark.parametrize("is_connected", [False, True])
def test_flow_ends_before_the_link_reads_a_packet_itself(
    fixture: Fixture, is_connected: bool
) -> None:
    """The hub may have found the packet before the flow began."""
    if is_connected:
        fixture.connect()
    fixture.link.send((b"one",))
    assert fixture.table.active == {fixture.link.fileno()}
    fixture.table.progress = acks(1)
    fixture.client.send(b"packet")  # the table returns the event, as if there were no flow
    spin(fixture.reactor, lambda: len(fixture.done) >= 2)
    assert fixture.done == [acks(1), b"packet"]
    assert not fixture.table.active


def test_acks_of_a_flow_count_for_the_second_socket(fixture: Fixture) -> None:
    """It is connected after the packet that has ended the flow."""
    first = fixture.link.fileno()
    fixture.link.send((b"one",))
    fixture.table.progress = acks(CONNECT_AFTER - 1)
    fixture.link.resume(b"packet", None)
    assert fixture.done == [acks(CONNECT_AFTER - 1), b"packet"]
    assert fixture.link.fileno() != first


def test_second_socket_waits_for_the_end_of_the_flow(fixture: Fixture) -> None:
    """To look at the flow does not connect it; no flow begins before it is connected."""
    first = fixture.link.fileno()
    fixture.link.send((b"one",))
    fixture.table.progress = acks(1000)
    fixture.link.follow_flow()
    assert fixture.link.fileno() == first
    assert fixture.table.active == {first}
    fixture.link.end_flow()
    fixture.link.send((b"two",))
    assert not fixture.table.active
    fixture.client.send(b"packet")
    spin(fixture.reactor, lambda: b"packet" in fixture.done)
    assert fixture.link.fileno() != first
    fixture.link.send((b"three",))
    assert fixture.table.active == {fixture.link.fileno()}


def test_closed_link_ends_its_flow_and_asks_its_machine_nothing(fixture: Fixture) -> None:
    """What the hub has received for it meanwhile is lost."""
    fixture.link.send((b"one",))
    fixture.link.close()
    assert not fixture.table.active
    fixture.link.resume(b"packet", None)
    fixture.link.follow_flow()
    fixture.link.end_flow()
    assert fixture.done == []


@pytest.mark.parametrize("is_native", [False, pytest.param(True, marks=needs_module)])
def test_link_that_is_closed_after_its_hub_leaves_no_socket(
    reactor: Any, monkeypatch: pytest.MonkeyPatch, is_native: bool
) -> None:
    """The hub has ended the flow already."""
    monkeypatch.setenv("TFTP_OFFLOAD", str(int(is_native)))
    fixture = Fixture(reactor, is_scripted=False)
    fixture.link.send([b"\0\3\0\1", b"block"])
    assert fixture.link._has_flow
    fixture.opener.close()
    fixture.link.close()
    assert fixture.sock.fileno() == -1
    fixture.client.close()
