"""Tests of the sockets of a client: their local address, and ports that were not used recently."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_tftp.net.client_ports import (
    PORT_REUSE_DELAY,
    PORT_TRIES,
    ROUTE_MAX_AGE,
    ClientPorts,
    PortHistory,
    route_source,
)

#: The socket address of a server.
SERVER = ("127.0.0.1", 69)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Return a stack that closes the sockets of the test."""
    with ExitStack() as stack:
        yield stack


class Ports(ClientPorts):
    """Client ports with a clock and a record of port use of their own."""

    def __init__(self, bind: Any = None, **options: Any) -> None:
        self.time = Clock()
        self.history = PortHistory(self.time.seconds)
        super().__init__(bind, clock=self.time.seconds, history=self.history, **options)


def opens(stack: ExitStack, ports: ClientPorts, server: Any = SERVER) -> Any:
    """Open a socket and return its local address."""
    return stack.enter_context(ports.open(server)).getsockname()


@pytest.mark.parametrize(
    ("server", "local"),
    [
        (("127.0.0.1", 69), "127.0.0.1"),
        (("127.9.9.9", 69), "127.0.0.1"),
        (("::1", 69, 0, 0), "::1"),
    ],
)
def test_socket_is_bound_to_the_address_of_the_route(
    opened: ExitStack, server: Any, local: str
) -> None:
    """Datagrams to other local addresses do not reach the socket (IPv4 and IPv6)."""
    assert opens(opened, Ports(), server)[0] == local


def test_datagram_to_another_local_address_does_not_arrive(opened: ExitStack) -> None:
    """A datagram to the same port of 127.9.9.9 is not received."""
    sock = opened.enter_context(Ports().open(SERVER))
    other = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    port = sock.getsockname()[1]
    other.sendto(b"stray", ("127.9.9.9", port))
    other.sendto(b"meant", ("127.0.0.1", port))
    assert sock.recvfrom(100)[0] == b"meant"
    with pytest.raises(BlockingIOError):
        sock.recvfrom(100)


def test_socket_without_a_route_is_bound_to_the_wildcard_address(opened: ExitStack) -> None:
    """Sending fails until there is a route; a broadcast address has none."""
    server = ("255.255.255.255", 69)
    assert route_source(server) is None
    assert opens(opened, Ports(), server)[0] == "0.0.0.0"


def test_route_is_cached_for_some_seconds(opened: ExitStack) -> None:
    """A lookup costs as much as a datagram."""
    looked_up: list[Any] = []

    def source(server: Any) -> Any:
        looked_up.append(server)
        return ("127.0.0.1", 0)

    ports = Ports(find_source=source)
    for _ in range(3):
        opens(opened, ports)
    assert looked_up == [SERVER]
    ports.time.advance(ROUTE_MAX_AGE)
    opens(opened, ports)
    assert looked_up == [SERVER] * 2


def test_route_is_looked_up_again_if_its_address_is_gone(opened: ExitStack) -> None:
    """The host may have lost the cached local address."""
    sources = [("192.0.2.77", 0), ("127.0.0.1", 0)]
    ports = Ports(find_source=lambda server: sources.pop(0))
    assert opens(opened, ports)[0] == "127.0.0.1"


def test_socket_is_bound_to_the_address_of_the_caller(opened: ExitStack) -> None:
    """The caller may choose an address, or an address and a port."""
    ports = Ports(("127.9.9.9", 0))
    host, port = opens(opened, ports)
    assert host == "127.9.9.9"
    assert not ports.is_fixed
    fixed = Ports(("127.9.9.8", port))
    assert fixed.is_fixed
    assert opens(opened, fixed) == ("127.9.9.8", port)
    with pytest.raises(OSError, match="in use"):
        fixed.open(SERVER)
    with pytest.raises(OSError, match="assign"):
        Ports(("192.0.2.77", 0)).open(SERVER)


class ChosenPorts:
    """A replacement for the system's choice of ports: a list of numbers."""

    def __init__(self, numbers: list[int]) -> None:
        self.open: list[int] = []
        self.numbers = numbers

    def open_socket(self, *args: Any) -> Any:
        if not self.numbers:
            raise OSError(errno.EMFILE, "too many open files")
        return ChosenSocket(self, self.numbers.pop(0))


class ChosenSocket:
    """A socket with a port of the list."""

    def __init__(self, chosen: ChosenPorts, number: int) -> None:
        self.chosen, self.number = chosen, number
        chosen.open.append(number)

    def getsockname(self) -> Any:
        return ("127.0.0.1", self.number)

    def close(self) -> None:
        self.chosen.open.remove(self.number)


def test_used_port_is_avoided_for_ten_seconds() -> None:
    """A server may still repeat its answer to a request from that port."""
    chosen = ChosenPorts([1, 1, 2, 1, 3, 1])
    ports = Ports(open_socket=chosen.open_socket)
    assert ports.open(SERVER).getsockname()[1] == 1
    assert ports.open(SERVER).getsockname()[1] == 2
    ports.time.advance(PORT_REUSE_DELAY - 1)
    ports.release(1)
    ports.time.advance(PORT_REUSE_DELAY - 1)
    assert ports.open(SERVER).getsockname()[1] == 3
    ports.time.advance(1)
    assert ports.open(SERVER).getsockname()[1] == 1
    assert sorted(chosen.open) == [1, 1, 2, 3]


def test_recently_used_port_is_used_if_there_is_no_other() -> None:
    """This happens after `PORT_TRIES` ports, or if there is no descriptor to try more."""
    chosen = ChosenPorts([*range(1, PORT_TRIES + 3)])
    ports = Ports(open_socket=chosen.open_socket)
    for number in range(1, PORT_TRIES + 3):
        ports.release(number)
    assert ports.open(SERVER).getsockname()[1] == PORT_TRIES + 1
    assert chosen.open == [PORT_TRIES + 1]
    assert ports.open(SERVER).getsockname()[1] == PORT_TRIES + 2
    with pytest.raises(OSError, match="too many"):
        ports.open(SERVER)
