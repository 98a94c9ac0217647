"""Tests of both hubs: they call links that are ready, and go on after errors."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.reactors import reactor, spin
from twisted_tftp.net.hub import BATCH, EpollHub, Hub, ReactorHub, make_hub

__all__ = ["reactor"]


class Probe:
    """A link that records its calls."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.read: list[bytes] = []
        self.writable = 0
        self.on_read: Callable[[], object] = lambda: None
        self.disconnected = False

    def fileno(self) -> int:
        return self.ours.fileno()

    def logPrefix(self) -> str:
        return "probe"

    def connectionLost(self, reason: Any) -> None:
        self.disconnected = True

    def doRead(self) -> None:
        self.read.append(self.ours.recv(100))
        self.on_read()

    def doWrite(self) -> None:
        self.writable += 1

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture(params=[EpollHub, ReactorHub])
def hub(request: Any, reactor: Any) -> Iterator[Hub]:
    """Return each kind of hub."""
    hub = request.param(reactor)
    yield hub
    hub.close()


@pytest.fixture
def probe() -> Iterator[Probe]:
    """Return a link."""
    probe = Probe()
    yield probe
    probe.close()


def test_epoll_hub_is_used_on_linux(reactor: Any) -> None:
    """Transfers wait in an epoll object of their own."""
    hub = make_hub(reactor)
    assert isinstance(hub, EpollHub)
    assert hub.logPrefix() == "tftp"
    hub.connectionLost(None)  # type: ignore[arg-type]
    hub.close()


def test_reactor_hub_is_used_without_epoll(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The links are registered with the reactor."""
    monkeypatch.delattr("select.epoll")
    assert isinstance(make_hub(reactor), ReactorHub)


def test_datagrams_are_read(hub: Hub, reactor: Any, probe: Probe) -> None:
    """A link is called as long as its socket is readable."""
    hub.add(probe)
    for number in range(20):
        probe.theirs.send(bytes([number]))
    spin(reactor, lambda: len(probe.read) == 20)
    hub.remove(probe)


def test_writable_link_is_called_while_it_is_watched(hub: Hub, reactor: Any, probe: Probe) -> None:
    """After `watch_writable(link, False)` it is not called any more."""
    hub.add(probe)
    hub.watch_writable(probe, True)
    spin(reactor, lambda: probe.writable)
    hub.watch_writable(probe, False)
    seen = probe.writable
    probe.theirs.send(b"x")
    spin(reactor, lambda: probe.read)
    assert probe.writable == seen
    hub.remove(probe)


def test_removed_link_is_not_called(hub: Hub, reactor: Any, probe: Probe) -> None:
    """Nothing is read after the removal, even if a datagram waits in the socket."""
    other = Probe()
    hub.add(probe)
    hub.add(other)
    hub.remove(probe)
    probe.theirs.send(b"x")
    other.theirs.send(b"x")
    spin(reactor, lambda: other.read)
    assert probe.read == []
    hub.remove(other)
    other.close()


def test_link_removed_in_the_same_round_is_not_called(hub: Hub, reactor: Any) -> None:
    """Two links are ready, and the first one removes the second."""
    links = [Probe(), Probe()]

    def end_the_other() -> None:
        for link in links:
            if not link.read:
                hub.remove(link)
                link.close()

    for link in links:
        link.on_read = end_the_other
        hub.add(link)
        link.theirs.send(b"x")
    spin(reactor, lambda: links[0].read or links[1].read)
    assert len(links[0].read) + len(links[1].read) == 1
    for link in links:
        if link.read:
            hub.remove(link)
            link.close()


class Sender:
    """A link that records what it sends, or raises an exception."""

    def __init__(self, fails: bool = False) -> None:
        self.sent: list[bytes] = []
        self.fails = fails

    def send_now(self, datagram: bytes) -> None:
        if self.fails:
            raise ZeroDivisionError
        self.sent.append(datagram)


def test_single_datagrams_are_sent_at_the_end_of_a_round(reactor: Any) -> None:
    """All ready links are read before the first answer is sent; answers keep their order."""
    hub = EpollHub(reactor, busy_poll=0.0, clock=lambda: 0.0)  # no datagram is ever overdue
    links = [Probe() for _ in range(3)]
    sender = Sender()
    seen: list[int] = []
    for link in links:

        def answer(link: Probe = link) -> None:
            assert hub.outbox is not None
            hub.outbox.append((sender, link.read[-1]))
            seen.append(len(sender.sent))

        link.on_read = answer
        hub.add(link)
        link.theirs.send(str(len(seen)).encode())
    spin(reactor, lambda: len(sender.sent) == 3)
    assert seen == [0, 0, 0]
    assert hub.outbox is None
    for link in links:
        hub.remove(link)
        link.close()
    hub.close()


def test_outbox_can_be_sent_before_the_round_is_over(reactor: Any, probe: Probe) -> None:
    """Later datagrams of the round are collected again."""
    hub = EpollHub(reactor)
    sender = Sender()

    def answer() -> None:
        assert hub.outbox is None  # a single ready link sends its answer at once
        hub.gather()
        hub.gather()
        assert hub.outbox is not None
        hub.outbox.append((sender, b"first"))
        hub.send_outbox()
        assert sender.sent == [b"first"]
        hub.outbox.append((sender, b"second"))

    probe.on_read = answer
    hub.add(probe)
    probe.theirs.send(b"x")
    spin(reactor, lambda: len(sender.sent) == 2)
    hub.send_outbox()
    hub.remove(probe)
    hub.close()
    ReactorHub(reactor).gather()
    ReactorHub(reactor).send_overdue()
    ReactorHub(reactor).send_outbox()


def test_answers_do_not_wait_for_slow_links(reactor: Any, probe: Probe) -> None:
    """A slow link delays its own answers only."""
    now = [0.0]
    hub = EpollHub(reactor, clock=lambda: now[0])
    sender = Sender()
    seen: list[list[bytes]] = []

    def answer() -> None:
        hub.gather()
        for number in range(3):
            hub.send_overdue()
            seen.append(list(sender.sent))
            assert hub.outbox is not None
            hub.outbox.append((sender, bytes([number])))
            now[0] += 0.02

    probe.on_read = answer
    hub.add(probe)
    probe.theirs.send(b"x")
    hub.doRead()
    assert seen == [[], [b"\0"], [b"\0", b"\1"]]
    assert len(sender.sent) == 3
    hub.remove(probe)
    hub.close()


def test_exception_while_sending_does_not_stop_the_hub(reactor: Any, probe: Probe) -> None:
    """The exception is logged, and the next round is served."""
    hub = EpollHub(reactor)

    sender = Sender()

    def answer() -> None:
        hub.gather()
        assert hub.outbox is not None
        hub.outbox += [(Sender(fails=True), b""), (sender, b"other")]

    probe.on_read = answer
    hub.add(probe)
    for count in (1, 2):
        probe.theirs.send(b"x")
        spin(reactor, lambda count=count: len(sender.sent) == count)
    hub.remove(probe)
    hub.close()


def test_socket_of_a_removed_link_is_unregistered(reactor: Any, probe: Probe) -> None:
    """An open socket without a link does not keep the hub busy."""
    hub = EpollHub(reactor)
    hub.add(probe)
    hub.remove(probe)
    probe.theirs.send(b"x")
    hub.doRead()
    assert select.select([hub], [], [], 0)[0] == []
    hub.close()


def test_exception_in_a_link_does_not_stop_the_others(reactor: Any) -> None:
    """The exception is logged, and the other links are served."""
    hub = EpollHub(reactor)
    links = [Probe(), Probe()]
    for link in links:
        link.on_read = lambda: 1 / 0
        hub.add(link)
        link.theirs.send(b"x")
    spin(reactor, lambda: links[0].read and links[1].read)
    for link in links:
        hub.remove(link)
        link.close()
    hub.close()


def test_link_may_close_the_hub(reactor: Any) -> None:
    """A stop in the middle of a round ends the round."""
    hub = EpollHub(reactor)
    links = [Probe() for _ in range(3)]

    def stop() -> None:
        for link in links:
            hub.remove(link)
        hub.close()

    for link in links:
        link.on_read = stop
        hub.add(link)
        link.theirs.send(b"x")
    hub.doRead()
    assert sum(len(link.read) for link in links) == 1
    for link in links:
        link.close()


def test_more_links_than_one_round_serves_are_all_served(reactor: Any) -> None:
    """The links above `BATCH` are served in the next rounds."""
    hub = EpollHub(reactor)
    links = [Probe() for _ in range(BATCH + 20)]
    for link in links:
        hub.add(link)
        link.theirs.send(b"x")
    spin(reactor, lambda: all(link.read for link in links))
    for link in links:
        hub.remove(link)
        link.close()
    hub.close()
