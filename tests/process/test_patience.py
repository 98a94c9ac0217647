"""Test how long the daemon waits for clients that have answered and are then silent."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import LOOPBACK, TIMEOUT, Daemon
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode

#: The patience of the daemon in these tests, in seconds.
PATIENCE = 2.0


class Client:
    """A client that answers the first packet of a transfer, with a socket of its own.

    @ivar answered_at: when it has answered.
    """

    def __init__(self, host: str, port: int, opcode: Opcode) -> None:
        self._sock = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self._sock.settimeout(TIMEOUT)
        self._is_read = opcode is Opcode.RRQ
        name = f"new-{host.count(':')}" if opcode is Opcode.WRQ else "file"
        request = wire.Request(opcode, name.encode(), wire.OCTET, {})
        self._sock.sendto(wire.encode_request(request), (host, port))
        self.receive()
        self.answer(1)
        self.receive()
        self.answered_at = time.monotonic()

    def receive(self) -> bytes:
        """Return the next packet of the server."""
        datagram, self._peer = self._sock.recvfrom(65535)
        return datagram

    def answer(self, number: int) -> None:
        """Acknowledge a block, or send one."""
        packet = wire.ack(number) if self._is_read else wire.DATA_HEADERS[number] + bytes(512)
        self._sock.sendto(packet, self._peer)

    def silence(self) -> float:
        """Return for how long the server waits for the next packet, in seconds."""
        while wire.opcode_of(self.receive()) != Opcode.ERROR:
            pass
        return time.monotonic() - self.answered_at

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


@pytest.mark.parametrize("mode", [[], ["--single-port"]], ids=["own ports", "single port"])
@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (["--patience", f"{PATIENCE:g}"], PATIENCE),
        (["--patience", "60", "--timeout", "0.5", "--retries", "2"], 1.0),
    ],
    ids=["patience", "retries"],
)
def test_daemon_waits_for_a_silent_client(
    options: list[str], seconds: float, mode: list[str], tmp_path: Path
) -> None:
    """Reads and writes by IPv4 and IPv6: the silence is `--patience`, or N timeouts."""
    (tmp_path / "file").write_bytes(bytes(100_000))
    with Daemon(tmp_path, "--write", "create", *options, *mode) as daemon, ExitStack() as stack:
        clients = [
            Client(host, daemon.port, opcode)
            for host in LOOPBACK
            for opcode in (Opcode.RRQ, Opcode.WRQ)
        ]
        for client in clients:
            stack.callback(client.close)
        for client in clients:
            assert seconds - 0.3 <= client.silence() <= seconds + 3
