"""Test a service whose interfaces lose and get addresses, with real sockets on the loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.daemon import free_port
from tests.support.logs import captured_log
from tests.support.reactors import ClockedReactor, clocked, outcome, reactor, spin
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server import followed_interface
from twisted_tftp.server.service import TFTPService

__all__ = ["clocked", "reactor"]

ADDRESS = "127.0.0.1"


class Host:
    """A host with two interfaces, whose addresses a test sets, and the service on them.

    @ivar addresses: the addresses of each interface.
    """

    def __init__(self, reactor: ClockedReactor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, list[str]] = {"eth0": [ADDRESS], "eth1": []}
        self._reactor = reactor
        self._services: list[TFTPService] = []
        monkeypatch.setattr(followed_interface, "addresses_of", self.addresses.__getitem__)

    def start(self, hosts: list[str], backend: Any = None, **settings: Any) -> TFTPService:
        """Return a running service."""
        service = TFTPService(
            backend or MemoryBackend({"f": bytes(1024)}, "create"),
            port=free_port(),
            host=hosts,
            policy=Policy(**settings),
            reactor=self._reactor,
        )
        self._services.append(service)
        service.startService()
        return service

    def change(self, **addresses: list[str]) -> None:
        """Set the addresses of interfaces; the service learns of it."""
        self.addresses.update(addresses)
        for service in self._services:
            service._listeners.follow_interfaces()

    def stop(self) -> None:
        """Stop the services."""
        for service in self._services:
            outcome(self._reactor, service.stopService())


@pytest.fixture
def host(clocked: ClockedReactor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Return a host whose first interface has an address; no time passes on it."""
    host = Host(clocked, monkeypatch)
    yield host
    host.stop()


class Client:
    """A client's socket."""

    def __init__(self, reactor: ClockedReactor, service: TFTPService) -> None:
        self._reactor = reactor
        self._server = (ADDRESS, service.ports[0].getHost().port)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind((ADDRESS, 0))

    def send(self, datagram: bytes) -> None:
        """Send a datagram to the request port."""
        self._sock.sendto(datagram, self._server)

    def receive(self) -> bytes:
        """Return the next datagram."""
        received: list[bytes] = []

        def has_received() -> bool:
            try:
                received.append(self._sock.recv(2048))
            except BlockingIOError:
                return False
            return True

        spin(self._reactor, has_received)
        return received[0]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


@pytest.mark.parametrize("hosts", [["eth0", "eth1"], ["eth1", "eth0"]])
def test_address_that_moves_to_another_interface_stays_bound(
    clocked: ClockedReactor, host: Host, hosts: list[str]
) -> None:
    """The order of the interfaces does not matter, if both changes are found at once."""
    service = host.start(hosts)
    with captured_log() as lines:
        host.change(eth0=[], eth1=[ADDRESS])
        spin(clocked, lambda: service.ports)
    assert [port.address for port in service.ports] == [ADDRESS]
    assert not [line for line in lines if "can't listen" in line]
    host.change(eth1=[])
    assert service.ports == []


def test_no_address_is_bound_after_the_stop(clocked: ClockedReactor, host: Host) -> None:
    """The service is stopped while a port of an address that has moved is being closed."""
    service = host.start(["eth0", "eth1"])
    host.change(eth0=[], eth1=[ADDRESS])
    host.stop()
    assert service.ports == service.servers == []


def test_address_is_lost_while_an_upload_is_opened(clocked: ClockedReactor, host: Host) -> None:
    """With a single port, the window of the upload has no socket then; the transfer goes on."""
    opening: Deferred[Any] = Deferred()

    class Backend(MemoryBackend):
        def open_writer(self, path: str, context: Any) -> Any:
            writer = super().open_writer(path, context)
            return opening.addCallback(lambda _: writer)

    backend = Backend({}, "create")
    service = host.start(["eth0"], backend, single_port=True)
    client = Client(clocked, service)
    client.send(b"\0\2new\0octet\0windowsize\x0016\0")
    spin(clocked, lambda: len(service.transfers))
    with captured_log() as lines:
        host.change(eth0=[])
        spin(clocked, lambda: not service._listeners._closing)
        opening.callback(None)
    assert not [line for line in lines if "unexpected" in line]
    host.change(eth0=[ADDRESS])
    client.send(b"\0\2new\0octet\0windowsize\x0016\0")  # the first answer was lost
    assert client.receive() == wire.oack([("windowsize", "1")])
    client.send(wire.DATA_HEADERS[1] + b"octets")
    assert client.receive() == wire.ack(1)
    assert backend.files == {"new": b"octets"}
    client.close()


def test_transfer_goes_on_when_its_address_comes_back(clocked: ClockedReactor, host: Host) -> None:
    """With a single port too, a transfer that has lost its address for a moment goes on."""
    service = host.start(["eth0"], single_port=True)
    client = Client(clocked, service)
    client.send(b"\0\1f\0octet\0")
    assert client.receive() == wire.DATA_HEADERS[1] + bytes(512)
    for block in (1, 2):
        host.change(eth0=[])
        spin(clocked, lambda: not service._listeners._closing)
        host.change(eth0=[ADDRESS])
        client.send(wire.ack(block))
        assert client.receive()[:4] == wire.DATA_HEADERS[block + 1]
    client.send(wire.ack(3))
    spin(clocked, lambda: not len(service.transfers))
    client.close()
