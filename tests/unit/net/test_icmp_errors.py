"""Tests of ICMP errors over loopback: a closed port ends a transfer whose peer never answered."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.reactors import reactor, spin
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.context import Outcome
from twisted_tftp.net import icmp_errors
from twisted_tftp.net.request_port import listen
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server import TFTPServer, TFTPService
from twisted_tftp.testing import Recorder

__all__ = ["reactor"]

pytestmark = pytest.mark.skipif(
    not icmp_errors.AVAILABLE or sys.platform != "linux",
    reason="the system does not report ICMP errors",
)

#: Requests, by kind.
REQUESTS = {
    "read": b"\0\1file\0octet\0",
    "read with options": b"\0\1file\0octet\0blksize\x001000\0",
    "write": b"\0\2new\0octet\0",
    "write with options": b"\0\2new\0octet\0blksize\x001000\0",
}

#: The timeout of the server in seconds, longer than any test.
TIMEOUT = 100


class Served:
    """A server with files in memory that repeats nothing during a test."""

    def __init__(self, reactor: Any, host: str, single_port: bool) -> None:
        self.reactor = reactor
        self.recorder = Recorder()
        self.service = TFTPService(
            MemoryBackend({"file": bytes(3000)}, "create"),
            port=0,
            host=[host],
            drain=0,
            policy=Policy(timeout=TIMEOUT, single_port=single_port),
            observer=self.recorder,
            reactor=reactor,
        )
        self.service.startService()
        self.address = (host, self.service.ports[0].getHost().port)
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def socket(self) -> socket.socket:
        """Return a socket of a client."""
        return socket.socket(self.family, socket.SOCK_DGRAM)

    def stop(self) -> None:
        stopped: list[Any] = []
        self.service.stopService().addBoth(stopped.append)
        spin(self.reactor, lambda: stopped)


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: Any) -> str:
    """Return a loopback address, IPv4 and IPv6."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["ports", "single-port"])
def served(request: Any, reactor: Any, host: str) -> Iterator[Served]:
    """Return a running server."""
    served = Served(reactor, host, request.param)
    yield served
    served.stop()


@pytest.mark.parametrize("kind", REQUESTS)
def test_closed_port_ends_its_transfer_within_two_answers(served: Served, kind: str) -> None:
    """The transfer ends long before the server's timeout."""
    with served.socket() as sock:
        sock.sendto(REQUESTS[kind], served.address)
    spin(served.reactor, lambda: served.recorder.outcomes)
    assert served.recorder.outcomes == [Outcome.UNREACHABLE]
    ((_, statistics), *_) = served.recorder.events
    assert statistics.retransmissions == 1
    assert statistics.error == "the client's port is closed"


def test_errors_are_read_from_the_socket(served: Served) -> None:
    """An error that is not read would wake the reactor again and again."""
    with served.socket() as sock:
        for number in range(5):
            sock.sendto(b"\0\1file\0octet\0%d\x001\0" % number, served.address)
    spin(served.reactor, lambda: len(served.recorder.outcomes) == 5)
    served.reactor.iterate(0)
    served.reactor.iterate(0)
    (server,) = served.service.servers
    assert select.select([server.opener.hub], [], [], 0)[0] == []


class FailingServer(TFTPServer):
    """A server that fails when it is told of a closed port."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.failures = 0

    def port_unreachable(self, *args: Any) -> None:
        self.failures += 1
        raise RuntimeError("a mistake")


def test_exception_while_an_error_is_handled_stops_nothing(reactor: Any, host: str) -> None:
    """All transfers share the port, so an exception must not reach its reader."""
    backend = MemoryBackend({"file": bytes(3000)})
    policy = Policy(timeout=TIMEOUT, single_port=True)
    server = FailingServer(backend, policy, observer=Recorder(), reactor=reactor)
    port = listen(reactor, 0, server, host, server.opener.hub)
    with socket.socket(port.addressFamily, socket.SOCK_DGRAM) as sock:
        sock.sendto(REQUESTS["read"], (host, port.getHost().port))
    assert select.select([port.socket], [], [], 20)[0]
    for _ in range(1000):
        port.read_one()
        if server.failures:
            break
    assert server.failures
    server.transfers.cancel_all("")
    stopped: list[Any] = []
    port.stopListening().addCallback(stopped.append)
    spin(reactor, lambda: stopped)
    server.opener.close()


def test_answered_transfer_survives_a_closed_port(served: Served) -> None:
    """The client may close its socket and bind the same port again."""
    with served.socket() as sock:
        sock.sendto(b"\0\1file\0octet\0windowsize\x002\0", served.address)
        spin(served.reactor, lambda: select.select([sock], [], [], 0)[0])
        _, transfer = sock.recvfrom(2000)
        client = sock.getsockname()
    with served.socket() as sock:
        sock.bind(client)
        sock.sendto(wire.ack(0), transfer)
        spin(served.reactor, lambda: select.select([sock], [], [], 0)[0])
    with served.socket() as sock:
        sock.bind(client)
        sock.sendto(wire.ack(1), transfer)
    with served.socket() as other:  # its answer shows that the packets before were read
        other.sendto(REQUESTS["read"], served.address)
        spin(served.reactor, lambda: select.select([other], [], [], 0)[0])
    assert served.recorder.outcomes == []
    assert served.service.transfers.running == 2


def test_error_of_one_client_does_not_affect_another(served: Served) -> None:
    """The system reports an error at the next use of the socket, for any client."""
    for _ in range(20):
        with served.socket() as gone, served.socket() as sock:
            sock.bind((served.address[0], 0))  # before the other socket's port is free again
            gone.sendto(b"\0\1file\0octet\0", served.address)
            gone.close()
            sock.sendto(b"\0\1file\0octet\0", served.address)
            spin(served.reactor, lambda: select.select([sock], [], [], 0)[0])
            block, transfer = sock.recvfrom(2000)
            for number in range(1, 7):
                assert block[:4] == wire.DATA_HEADERS[number]
                sock.sendto(wire.ack(number), transfer)
                if number == 6:
                    break
                spin(served.reactor, lambda: select.select([sock], [], [], 0)[0])
                block, _ = sock.recvfrom(2000)
        spin(served.reactor, lambda: not served.service.transfers.running)
