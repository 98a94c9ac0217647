"""Test what the daemon sends to an address that was forged as the source of a request."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.forged_requests import FORGED


@pytest.mark.parametrize("mode", [[], ["--single-port"]])
@pytest.mark.parametrize("forged", ["read", "read, options", "write, options"])
def test_daemon_sends_four_datagrams_to_a_victim(
    forged: str, mode: list[str], tmp_path: Path
) -> None:
    """An address that never answers gets four equal datagrams for one request, and no more."""
    (tmp_path / "file").write_bytes(bytes(100_000))
    options = ("--write", "create", "--timeout", "0.02", "--retries", "50", *mode)
    with (
        Daemon(tmp_path, *options, hosts=["127.0.0.1"]) as daemon,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim,
    ):
        victim.sendto(FORGED[forged], ("127.0.0.1", daemon.port))
        daemon.wait_for_line("timed-out")
        received = [victim.recv(65535) for _ in range(4)]
        with pytest.raises(BlockingIOError):
            victim.recv(65535, socket.MSG_DONTWAIT)
    assert len(set(received)) == 1
