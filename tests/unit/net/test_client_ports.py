"""Sockets of a client: the address that they are bound to, and ports that have rested."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_tftp.net.client_ports import (
    PORT_REST,
    PORT_TRIES,
    ROUTE_LIFE,
    ClientPorts,
    PortRest,
    route_source,
)

SERVER = ("127.0.0.1", 69)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as stack:
        yield stack


class Ports(ClientPorts):
    """Ports with a clock and a memory of their own."""

    def __init__(self, bind: Any = None, **options: Any) -> None:
        self.time = Clock()
        self.rest = PortRest(self.time.seconds)
        super().__init__(bind, clock=self.time.seconds, rest=self.rest, **options)


def opens(stack: ExitStack, ports: ClientPorts, server: Any = SERVER) -> Any:
    """Open a socket and return its address."""
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
    """Of either family; what is sent to another local address does not reach it."""
    assert opens(opened, Ports(), server)[0] == local


def test_datagram_to_another_local_address_does_not_arrive(opened: ExitStack) -> None:
    """It is sent to the same port of 127.9.9.9."""
    sock = opened.enter_context(Ports().open(SERVER))
    other = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    port = sock.getsockname()[1]
    other.sendto(b"stray", ("127.9.9.9", port))
    other.sendto(b"meant", ("127.0.0.1", port))
    assert sock.recvfrom(100)[0] == b"meant"
    with pytest.raises(BlockingIOError):
        sock.recvfrom(100)


def test_server_without_a_route_gets_the_wildcard_address(opened: ExitStack) -> None:
    """A broadcast address stands here for it; sending fails until there is a route."""
    server = ("255.255.255.255", 69)
    assert route_source(server) is None
    assert opens(opened, Ports(), server)[0] == "0.0.0.0"


def test_route_is_looked_up_again_after_some_seconds(opened: ExitStack) -> None:
    """And not before: it costs as much as a datagram."""
    looked_up: list[Any] = []

    def source(server: Any) -> Any:
        looked_up.append(server)
        return ("127.0.0.1", 0)

    ports = Ports(find_source=source)
    for _ in range(3):
        opens(opened, ports)
    assert looked_up == [SERVER]
    ports.time.advance(ROUTE_LIFE)
    opens(opened, ports)
    assert looked_up == [SERVER] * 2


def test_address_that_has_left_the_host_is_not_used(opened: ExitStack) -> None:
    """The route is looked up again at once."""
    sources = [("192.0.2.77", 0), ("127.0.0.1", 0)]
    ports = Ports(find_source=lambda server: sources.pop(0))
    assert opens(opened, ports)[0] == "127.0.0.1"


def test_address_of_the_caller_is_used(opened: ExitStack) -> None:
    """With any port, or with that of the caller."""
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


class Chosen:
    """The system's choice of ports, by a list."""

    def __init__(self, numbers: list[int]) -> None:
        self.open: list[int] = []
        self.numbers = numbers

    def open_socket(self, *args: Any) -> Any:
        if not self.numbers:
            raise OSError(errno.EMFILE, "too many open files")
        return ChosenSocket(self, self.numbers.pop(0))


class ChosenSocket:
    """A socket on a port of the list."""

    def __init__(self, chosen: Chosen, number: int) -> None:
        self.chosen, self.number = chosen, number
        chosen.open.append(number)

    def getsockname(self) -> Any:
        return ("127.0.0.1", self.number)

    def close(self) -> None:
        self.chosen.open.remove(self.number)


def test_port_rests_for_ten_seconds_after_its_use() -> None:
    """A server may still repeat its answer to the request that was sent from it."""
    chosen = Chosen([1, 1, 2, 1, 3, 1])
    ports = Ports(open_socket=chosen.open_socket)
    assert ports.open(SERVER).getsockname()[1] == 1
    assert ports.open(SERVER).getsockname()[1] == 2
    ports.time.advance(PORT_REST - 1)
    ports.release(1)
    ports.time.advance(PORT_REST - 1)
    assert ports.open(SERVER).getsockname()[1] == 3
    ports.time.advance(1)
    assert ports.open(SERVER).getsockname()[1] == 1
    assert sorted(chosen.open) == [1, 1, 2, 3]


def test_port_that_has_not_rested_is_better_than_none() -> None:
    """After some tries, or where no descriptor is left to try with."""
    chosen = Chosen([*range(1, PORT_TRIES + 3)])
    ports = Ports(open_socket=chosen.open_socket)
    for number in range(1, PORT_TRIES + 3):
        ports.release(number)
    assert ports.open(SERVER).getsockname()[1] == PORT_TRIES + 1
    assert chosen.open == [PORT_TRIES + 1]
    assert ports.open(SERVER).getsockname()[1] == PORT_TRIES + 2
    with pytest.raises(OSError, match="too many"):
        ports.open(SERVER)
