"""Test the log of the daemon: time stamps, the mode of its file, and syslog."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.marks import as_root, linux
from tests.support.packets import rrq
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import CONTENT, root

__all__ = ["peer", "root"]  # fixtures

#: Where the C library sends messages for syslog.
SYSLOG_SOCKET = Path("/dev/log")


def test_each_transfer_has_a_line_with_time_and_level(root: Path) -> None:
    """Transfers whose lines are collected have lines like all others."""
    with Daemon(root, hosts=[LOCALHOST]) as daemon:
        for _ in range(10):
            with Peer() as client:
                assert client.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        daemon.stop()
    lines = [line for line in daemon.lines if "completed" in line]
    assert len(lines) == 10
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\S+ \[twisted_tftp#info\] read ", line), line


@pytest.fixture
def syslog() -> Iterator[socket.socket]:
    """Return a socket that gets the messages for syslog."""
    if SYSLOG_SOCKET.exists():
        pytest.skip("this machine has a syslog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(SYSLOG_SOCKET))
        sock.settimeout(30)
        try:
            yield sock
        finally:
            SYSLOG_SOCKET.unlink()


class SyslogDaemon(Daemon):
    """A daemon that logs to syslog.

    @ivar messages: gets the messages.
    """

    messages: socket.socket

    def wait_until_serving(self) -> None:
        self.message("serving on")

    def message(self, text: str) -> str:
        """Wait for a message with `text`, and return it."""
        while True:
            message = self.messages.recv(5000).decode()
            if text in message:
                return message


@linux
@as_root
def test_refusals_are_warnings_in_syslog(root: Path, peer: Peer, syslog: socket.socket) -> None:
    """The priority of a refusal is that of a warning, and that of a transfer is information."""
    daemon = SyslogDaemon(root, hosts=[LOCALHOST], twistd=["--syslog", "--prefix", "boot"])
    daemon.messages = syslog
    with daemon:
        peer.ask(rrq(b"missing"), (LOCALHOST, daemon.port))
        assert re.match(r"<12>.* boot: \[twisted_tftp#warn\] read ", daemon.message("refused: "))
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        assert re.match(r"<14>.* boot: \[twisted_tftp#info\] read ", daemon.message("completed"))
