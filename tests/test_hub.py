"""Both hubs serve links, survive their failures, and forget them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.reactors import reactor, spin
from twisted_tftp.net.hub import BATCH, EpollHub, Hub, ReactorHub, make_hub

__all__ = ["reactor"]


class Probe:
    """A link that notes when it is called."""

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
    """Return each kind of hub in turn."""
    hub = request.param(reactor)
    yield hub
    hub.close()


@pytest.fixture
def probe() -> Iterator[Probe]:
    """Return a link."""
    probe = Probe()
    yield probe
    probe.close()


def test_the_fast_hub_is_chosen_where_there_is_epoll(reactor: Any) -> None:
    """On Linux transfers wait in an epoll of their own."""
    hub = make_hub(reactor)
    assert isinstance(hub, EpollHub)
    assert hub.logPrefix() == "tftp"
    hub.connectionLost(None)  # type: ignore[arg-type]
    hub.close()


def test_elsewhere_links_are_left_to_the_reactor(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without epoll everything works through the plain reactor calls."""
    monkeypatch.delattr("select.epoll")
    assert isinstance(make_hub(reactor), ReactorHub)


def test_datagrams_are_read(hub: Hub, reactor: Any, probe: Probe) -> None:
    """A readable link is called until it has read all."""
    hub.add(probe)
    for number in range(20):
        probe.theirs.send(bytes([number]))
    spin(reactor, lambda: len(probe.read) == 20)
    hub.remove(probe)


def test_writability_is_told_while_it_is_wanted(hub: Hub, reactor: Any, probe: Probe) -> None:
    """A link is called when it can send, and no longer once it has sent."""
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
    """After the removal nothing is read, whatever waits in the socket."""
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


def test_link_closed_by_another_in_the_same_round_is_left_alone(hub: Hub, reactor: Any) -> None:
    """Two links are ready and the first one ends the other: the other is not called."""
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


def test_descriptor_changes_hands(hub: Hub, reactor: Any, probe: Probe) -> None:
    """Another link may take over the socket that a link has."""
    other = Probe()
    other.close()
    other.ours = probe.ours
    hub.add(probe)
    hub.replace(probe, other)
    probe.theirs.send(b"x")
    spin(reactor, lambda: other.read)
    assert probe.read == []
    hub.remove(other)


def test_link_that_fails_does_not_stop_the_others(reactor: Any) -> None:
    """An exception in one transfer is logged; the next one is served."""
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


def test_a_hub_may_be_closed_by_a_link_it_serves(reactor: Any) -> None:
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


def test_more_ready_links_than_one_round_holds_are_all_served(reactor: Any) -> None:
    """A crowd is served round by round."""
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
