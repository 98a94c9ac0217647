"""Tests of the soak's client, which keeps the last datagrams of each transfer."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from benchmarks.honest import Comparison, WrongOctets
from benchmarks.ring import DESCRIBED, KEPT, RingClient, WrongAnswers, is_wrong
from tests.support.reactors import ClockedReactor, clocked, outcome, reactor, spin
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.errors import TFTPError
from twisted_tftp.protocol.wire import DATA_HEADERS
from twisted_tftp.server import TFTPService

__all__ = ["clocked", "reactor"]

#: The content of a file.
FILE = bytes(range(256)) * 40


@pytest.fixture
def port(clocked: ClockedReactor) -> Iterator[int]:
    """Return the port of a server that has a file."""
    backend = MemoryBackend({"file": FILE}, "overwrite")
    service = TFTPService(backend, port=0, host=["127.0.0.1"], drain=0, reactor=clocked)
    service.startService()
    yield service.ports[0].getHost().port
    outcome(clocked, maybeDeferred(service.stopService))


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    """Return the sockets of a server and of others."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)
        ]
        for sock in opened:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        yield opened


def ring_client(clocked: ClockedReactor, port: int, **settings: Any) -> RingClient:
    """Return a client of a server on loopback; it repeats nothing."""
    return RingClient(clocked, "127.0.0.1", port, in_thread=maybeDeferred, **settings)


def hear(clocked: ClockedReactor, sock: socket.socket) -> tuple[bytes, Any]:
    """Return the next datagram that reaches a socket, and where it came from."""
    heard: list[tuple[bytes, Any]] = []

    def read() -> bool:
        try:
            heard.append(sock.recvfrom(2048))
        except BlockingIOError:
            return False
        return True

    spin(clocked, read)
    return heard[0]


def address(sock: socket.socket) -> str:
    """Return the address of a socket in words."""
    return "{}:{}".format(*sock.getsockname())


def test_short_transfer_is_described_completely(clocked: ClockedReactor, port: int) -> None:
    """The description has a title, both addresses, and each datagram with its time."""
    client = ring_client(clocked, port, blksize=8192)
    client.begin("read", 7, "file")
    outcome(clocked, client.get("file", Comparison(FILE)))
    outcome(clocked, client.close())
    title, link, *lines = client.describe_last().splitlines()
    assert title == "read 7, file"
    addresses = re.fullmatch(r"  link 127\.0\.0\.1:(\d+) with 127\.0\.0\.1:(\d+)", link)
    assert addresses is not None
    local, remote = addresses.groups()
    said = [re.fullmatch(r"  (\S+) s, port (\d+) (.*)", line).groups() for line in lines]  # type: ignore[union-attr]
    assert {each[1] for each in said} == {local}
    assert said[0][2].startswith(f'to 127.0.0.1:{port}: RRQ "file" octet blksize=8192')
    assert said[1][2].startswith(f"from 127.0.0.1:{remote}: OACK blksize=8192")
    assert said[2][2] == f"to 127.0.0.1:{remote}: ACK 0"
    assert said[3][2].endswith("DATA 1, 8192 octets: 00 01 02 03 04 05 06 07 ...")
    assert float(said[0][0]) == 0.0
    assert [float(each[0]) for each in said] == sorted(float(each[0]) for each in said)


def test_only_the_last_datagrams_of_a_long_transfer_are_kept(
    clocked: ClockedReactor, port: int
) -> None:
    """This holds too where a window is sent or received in one system call."""
    client = ring_client(clocked, port, blksize=512, windowsize=16)
    client.begin("write", 1, "new")
    outcome(clocked, client.put(io.BytesIO(FILE), "new"))
    lines = client.describe_last().splitlines()[2:]
    assert len(lines) == KEPT
    assert lines[-1].endswith("ACK 21")
    assert "DATA 21, 0 octets: " in lines[-2]
    client.begin("read", 2, "file")
    outcome(clocked, client.get("file", Comparison(FILE)))
    outcome(clocked, client.close())
    lines = client.describe_last().splitlines()[2:]
    assert len(lines) == KEPT
    assert lines[-1].endswith("ACK 21")


def test_datagrams_of_strangers_are_kept(
    clocked: ClockedReactor, peers: list[socket.socket]
) -> None:
    """They come from the server's host before the answer, and from other ports after it."""
    server, transfer, stranger = peers
    client = ring_client(clocked, server.getsockname()[1], options=False)
    client.begin("read", 3, "file")
    got: list[Any] = []
    client.get("file", Comparison(b"x" * 512)).addBoth(got.append)
    _, asking = hear(clocked, server)
    stranger.sendto(b"\0\4\0\7", asking)
    transfer.sendto(DATA_HEADERS[1] + b"x" * 512, asking)
    hear(clocked, transfer)
    stranger.sendto(b"\0\4\0\x08", asking)
    spin(clocked, lambda: "stranger" in client.describe_last())
    transfer.sendto(DATA_HEADERS[2], asking)
    spin(clocked, lambda: got)
    outcome(clocked, client.close())
    said = client.describe_last()
    assert f"with {address(transfer)}" in said
    assert f"from {address(stranger)}: ACK 7" in said
    assert f"from the stranger {address(stranger)}: ACK 8" in said


def test_all_links_of_a_transfer_are_described(clocked: ClockedReactor, port: int) -> None:
    """A transfer may repeat its request from another port."""
    client = ring_client(clocked, port)
    client.begin("read", 4, "file")
    for _ in range(2):
        outcome(clocked, client.get("file", Comparison(FILE)))
    outcome(clocked, client.close())
    lines = client.describe_last().splitlines()
    links = [line.split()[1] for line in lines if line.startswith("  link ")]
    assert len(set(links)) == 2
    assert {f"port {link.split(':')[1]} " in client.describe_last() for link in links} == {True}


def test_wrong_answers_are_all_counted_and_some_described(
    clocked: ClockedReactor, port: int
) -> None:
    """Long descriptions are limited, so that they do not fill a log."""
    client, wrong = ring_client(clocked, port), WrongAnswers()
    assert wrong.problems() == []
    client.begin("read", 5, "file")
    with pytest.raises(TFTPError) as failed:
        outcome(clocked, client.get("file", Comparison(b"else")))
    outcome(clocked, client.close())
    assert is_wrong(failed.value)
    for _ in range(DESCRIBED + 2):
        wrong.add("read", failed.value, client)
    *described, counted = wrong.problems()
    assert len(described) == DESCRIBED
    assert described[0].startswith("read: octets 0 to 10240 differ\nread 5, file\n  link ")
    assert counted == f"{DESCRIBED + 2} wrong answers: {DESCRIBED + 2} x read"


def test_other_errors_are_not_wrong_answers() -> None:
    """An error counts as a wrong answer if it is one, or if its cause is one."""
    assert is_wrong(WrongOctets())
    assert not is_wrong(TFTPError())
    assert not is_wrong(OSError())
