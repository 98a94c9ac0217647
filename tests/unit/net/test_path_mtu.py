"""Test how the MTUs of routes are asked for and cached."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.daemon import IPV6
from tests.support.marks import linux
from twisted_tftp.net import path_mtu
from twisted_tftp.net.path_mtu import MAX_ROUTES, MTU_MAX_AGE, RouteMtus, mtu_of_route

#: The MTU of the loopback interface, by IP version: an IPv4 packet has at most 65535 octets.
LOOPBACK_MTU, LOOPBACK_MTU_IPV6 = 65535, 65536

LOCAL = ("127.0.0.1", 69)

pytestmark = linux


class Questions:
    """Counts the questions to the system, and answers them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mtu: int = 1400) -> None:
        self.peers: list[Any] = []
        self.mtu = mtu
        monkeypatch.setattr(path_mtu, "_ask", self)

    def __call__(self, sock: socket.socket, peer: Any) -> int:
        self.peers.append(peer)
        return self.mtu


@pytest.mark.parametrize("local", [None, LOCAL, ("127.9.9.9", 69)])
def test_mtu_of_loopback(local: Any) -> None:
    """The MTU of the route to a loopback address is that of the interface."""
    routes = RouteMtus()
    assert routes.mtu(("127.0.0.1", 2000), local) == LOOPBACK_MTU
    assert routes.mtu(("127.0.0.2", 2000), local) == LOOPBACK_MTU
    routes.close()
    assert mtu_of_route(("127.0.0.1", 69)) == LOOPBACK_MTU


@pytest.mark.skipif(not IPV6, reason="needs IPv6")
def test_mtu_of_ipv6_loopback() -> None:
    """The same for IPv6."""
    routes = RouteMtus()
    for local in (None, ("::1", 69, 0, 0)):
        assert routes.mtu(("::1", 2000, 0, 0), local) == LOOPBACK_MTU_IPV6
    routes.close()


def test_mtu_is_cached_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked once for each host in five seconds, whatever the port."""
    questions, clock = Questions(monkeypatch), Clock()
    routes = RouteMtus(clock.seconds)
    for port in range(2000, 2010):
        assert routes.mtu(("192.0.2.1", port), LOCAL) == 1400
    assert len(questions.peers) == 1
    questions.mtu = 1300
    clock.advance(MTU_MAX_AGE)
    assert routes.mtu(("192.0.2.1", 2000), LOCAL) == 1300
    assert routes.mtu(("192.0.2.2", 2000), LOCAL) == 1300
    assert len(questions.peers) == 3
    questions.mtu = 1200
    clock.advance(MTU_MAX_AGE)
    assert routes.mtu(("192.0.2.1", 2000), LOCAL) == 1200
    routes.close()


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests from very many addresses do not fill the memory."""
    Questions(monkeypatch)
    routes = RouteMtus()
    for number in range(3 * MAX_ROUTES):
        routes.mtu((f"10.0.{number >> 8}.{number & 255}", 2000), LOCAL)
        assert len(routes._cache) <= MAX_ROUTES
    routes.close()


def test_sockets_are_few_and_get_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All questions from one local address use one socket; `close` closes it."""
    before = len(os.listdir("/proc/self/fd"))
    opened = []

    def open_socket(*arguments: Any) -> socket.socket:
        opened.append(arguments)
        return real(*arguments)

    real = path_mtu._open_socket
    monkeypatch.setattr(path_mtu, "_open_socket", open_socket)
    routes = RouteMtus()
    for number in range(100):
        routes.mtu((f"127.0.1.{number}", 2000), LOCAL)
    assert len(opened) == 1
    assert len(os.listdir("/proc/self/fd")) == before + 1
    for number in range(100):
        routes.mtu(("127.0.0.1", 2000), (f"127.0.2.{number}", 69))
    assert len(os.listdir("/proc/self/fd")) <= before + path_mtu.MAX_SOCKETS
    routes.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_unknown_mtu() -> None:
    """Without a route, or with a local address that this host does not have, it is unknown."""
    before = len(os.listdir("/proc/self/fd"))
    routes = RouteMtus()
    assert routes.mtu(("255.255.255.255", 2000), LOCAL) is None
    assert routes.mtu(("255.255.255.255", 2000), None) is None
    assert routes.mtu(("127.0.0.1", 2000), ("192.0.2.99", 69)) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert routes.mtu(("127.0.0.1", 2000), LOCAL) == LOOPBACK_MTU
    routes.close()
