"""Test a client whose server has several addresses, on loopback."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import DNSLookupError

from tests.support.daemon import IPV6, free_port
from tests.support.memory_server import FILE, MemoryServer, close_client
from tests.support.reactors import ClockedReactor, clocked, outcome, reactor
from tests.support.resolvers import TestResolver
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.errors import FileNotFound, NoAnswer, PortUnreachable

__all__ = ["clocked", "reactor"]

needs_ipv6 = pytest.mark.skipif(not IPV6, reason="this host has no IPv6")

#: An address of this host where no server of these tests listens.
CLOSED = "127.0.0.3"


@pytest.fixture
def served(clocked: ClockedReactor) -> Iterator[MemoryServer]:
    """Return a server at 127.0.0.1; its time passes only when the test lets it pass."""
    served = MemoryServer(clocked)
    yield served
    served.stop()


@pytest.fixture
def silent(served: MemoryServer) -> Iterator[socket.socket]:
    """Return a socket at 127.0.0.2 and the server's port; nothing answers there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", served.port))
        yield sock


def named(clocked: ClockedReactor, port: int, *hosts: str, **settings: Any) -> TFTPClient:
    """Return a client of a server whose name has the addresses `hosts`."""
    clocked.installNameResolver(TestResolver(*hosts))
    return TFTPClient(clocked, "name.example", port, clock=clocked.seconds, **settings)


@pytest.mark.parametrize("act", ["get", "put"])
def test_next_address_is_asked_if_the_first_one_is_silent(
    served: MemoryServer, silent: socket.socket, act: str
) -> None:
    """A server that answers at its second address only is found there, in both directions."""
    client = named(served.reactor, served.port, "127.0.0.2", "127.0.0.1", timeout=0.05, retries=4)
    sink = io.BytesIO()
    transfer = client.get("file", sink) if act == "get" else client.put(io.BytesIO(FILE), "new")
    served.reactor.pass_time(0.1)
    outcome(served.reactor, transfer)
    assert (sink.getvalue() if act == "get" else served.backend.files["new"]) == FILE
    assert silent.recv(1000)
    close_client(served.reactor, client)


@pytest.mark.parametrize("closed", [CLOSED, pytest.param("::1", marks=needs_ipv6)])
def test_closed_port_leads_to_the_next_address_at_once(served: MemoryServer, closed: str) -> None:
    """After an ICMP "port unreachable" the next address is asked without a timeout."""
    client = named(served.reactor, served.port, closed, "127.0.0.1", timeout=20)
    outcome(served.reactor, client.get("file", io.BytesIO()))
    assert served.reactor.seconds() == 0.0
    assert client.address == ("127.0.0.1", served.port)
    close_client(served.reactor, client)


def test_later_transfers_begin_with_the_address_that_has_answered(
    served: MemoryServer, silent: socket.socket
) -> None:
    """Only the first transfer asks the silent address; the name is looked up once."""
    client = named(served.reactor, served.port, "127.0.0.2", "127.0.0.1", timeout=0.05, retries=2)
    transfer = client.get("file", io.BytesIO())
    served.reactor.pass_time(0.05)
    outcome(served.reactor, transfer)
    silent.setblocking(False)
    while True:
        try:
            silent.recv(1000)
        except BlockingIOError:
            break
    outcome(served.reactor, client.get("file", io.BytesIO()))
    with pytest.raises(BlockingIOError):
        silent.recv(1000)
    assert served.reactor.nameResolver.look_ups == 1
    close_client(served.reactor, client)


def test_error_of_an_address_is_final(served: MemoryServer, silent: socket.socket) -> None:
    """An ERROR is an answer: no other address is asked."""
    client = named(served.reactor, served.port, "127.0.0.1", "127.0.0.2")
    with pytest.raises(FileNotFound):
        outcome(served.reactor, client.get("missing", io.BytesIO()))
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.recv(1000)
    close_client(served.reactor, client)


def test_failure_says_which_addresses_were_asked(
    served: MemoryServer, silent: socket.socket
) -> None:
    """If no address answers, the exception names each one with its reason."""
    client = named(served.reactor, served.port, "127.0.0.2", CLOSED, timeout=0.05, retries=4)
    transfer = client.get("file", io.BytesIO())
    served.reactor.pass_time(0.3)
    with pytest.raises(
        NoAnswer, match=rf"127\.0\.0\.2 \(the server does not answer\), {CLOSED} \(Connection re"
    ):
        outcome(served.reactor, transfer)
    close_client(served.reactor, client)


def test_closed_ports_of_all_addresses_are_port_unreachable(clocked: ClockedReactor) -> None:
    """If all addresses refuse, the exception is PortUnreachable."""
    client = named(clocked, free_port(), CLOSED, "127.0.0.1", timeout=0.02, retries=9)
    transfer = client.get("file", io.BytesIO())
    clocked.pass_time(0.2)
    with pytest.raises(PortUnreachable, match=r"127\.0\.0\.3 .*127\.0\.0\.1 "):
        outcome(clocked, transfer)
    close_client(clocked, client)


@needs_ipv6
@pytest.mark.parametrize(
    ("family", "found"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_UNSPEC, "::1")],
)
def test_family_chooses_the_addresses(
    clocked: ClockedReactor, family: socket.AddressFamily, found: str
) -> None:
    """With a family, only addresses of that family are asked."""
    served = MemoryServer(clocked, found)
    client = named(clocked, served.port, "::1", "127.0.0.1", family=family)
    outcome(clocked, client.get("file", io.BytesIO()))
    assert client.address[0] == found  # type: ignore[index]
    close_client(clocked, client)
    served.stop()


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET6), ("::1", socket.AF_INET)]
)
def test_address_of_the_other_family_is_not_found(
    reactor: Any, host: str, family: socket.AddressFamily
) -> None:
    """An address that the family excludes is an error that names the family."""
    client = TFTPClient(reactor, host, family=family)
    name = "IPv6" if family == socket.AF_INET6 else "IPv4"
    with pytest.raises(DNSLookupError, match=f"no {name} address was found for the host {host}"):
        outcome(reactor, client.get("file", io.BytesIO()))


@needs_ipv6
def test_bind_excludes_addresses_of_the_other_family(served: MemoryServer) -> None:
    """A client that is bound to an IPv4 address asks only IPv4 addresses."""
    client = named(served.reactor, served.port, "::1", "127.0.0.1", bind="127.0.0.1")
    outcome(served.reactor, client.get("file", io.BytesIO()))
    close_client(served.reactor, client)
    with pytest.raises(ValueError, match="bind must be"):
        TFTPClient(served.reactor, "localhost", family=socket.AF_INET6, bind="127.0.0.1")


def test_fixed_port_is_kept_for_all_addresses(served: MemoryServer, silent: socket.socket) -> None:
    """With a local port that the user has chosen, all addresses are asked from that port."""
    port = free_port()
    client = named(
        *(served.reactor, served.port, "127.0.0.2", "127.0.0.1"),
        timeout=0.05,
        retries=4,
        bind="127.0.0.1",
        bind_port=port,
    )
    transfer = client.get("file", io.BytesIO())
    served.reactor.pass_time(0.1)
    outcome(served.reactor, transfer)
    assert silent.recvfrom(1000)[1] == ("127.0.0.1", port)
    assert served.recorder.events[-1][1].context.peer.port == port
    close_client(served.reactor, client)
