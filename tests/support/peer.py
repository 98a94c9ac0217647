"""A TFTP client that is one socket: the test decides which packets it sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.daemon import TIMEOUT
from tests.support.packets import ack, data, rrq

LOCALHOST = "127.0.0.1"

Address = tuple[str, int]


class Peer:
    """A client's socket; its methods send and receive one packet, or read a whole file."""

    def __init__(self, host: str = LOCALHOST) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.bind((host, 0))
        self._last: tuple[bytes, Address] | None = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def port(self) -> int:
        """The socket's own port."""
        port: int = self.sock.getsockname()[1]
        return port

    def send(self, datagram: bytes, address: Address) -> None:
        """Send a datagram."""
        self.sock.sendto(datagram, address)

    def receive(self) -> tuple[bytes, Address]:
        """Return the next datagram and the address that it came from.

        A repetition of the previous datagram from the same address is skipped: if the test is
        slow to answer, the daemon retransmits it.
        """
        last = self._last
        while self._last == last:
            datagram, address = self.sock.recvfrom(65535)
            self._last = datagram, address[:2]
        assert self._last is not None
        return self._last

    def forget_last(self) -> None:
        """Let the next call of `receive` return any datagram, even if it is a repetition."""
        self._last = None

    def ask(self, datagram: bytes, address: Address) -> tuple[bytes, Address]:
        """Send a datagram, and return the next one that arrives with its source address."""
        self.send(datagram, address)
        return self.receive()

    def fetch(self, name: bytes, address: Address) -> bytes:
        """Read a file in blocks of 512 octets, and return its content."""
        block, transfer = self.ask(rrq(name), address)
        return self.rest(block, transfer)

    def rest(self, block: bytes, transfer: Address) -> bytes:
        """Acknowledge `block`, the first DATA, and all that follow; return their octets."""
        content, number = b"", 1
        while True:
            assert block[:4] == data(number, b""), block[:100]
            content += block[4:]
            if len(block) < 516:
                self.send(ack(number), transfer)
                return content
            number += 1
            block, address = self.ask(ack(number - 1), transfer)
            assert address == transfer


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Return a client's socket at 127.0.0.1."""
    with Peer() as one:
        yield one
