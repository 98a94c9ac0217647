"""Test the daemon during a flood of requests from forged addresses.

TFTP_FLOOD_SECONDS sets how long it lasts (5 seconds), TFTP_FLOOD_RETRIES after how many seconds of
silence a client gives up (30). `pytest -s` prints the figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forges addresses as on Linux")

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parents[2]

#: Seconds that a flood lasts.
SECONDS = float(os.environ.get("TFTP_FLOOD_SECONDS", "5"))

#: Forged requests a second.
RATE = 20_000

#: Honest clients.
CLIENTS = 50

#: Seconds of silence after which an honest client gives up. On an idle machine 5, the default of
#: txtftp, are enough; a busy machine needs more.
RETRIES = int(os.environ.get("TFTP_FLOOD_RETRIES", "30"))

#: Seconds after a flood in which all its transfers must end.
SETTLE = 60.0

#: Descriptors that a daemon keeps open after its first transfers.
KEPT_DESCRIPTORS = 4

#: Octets of memory by which the daemon may be larger after the second flood than after the first.
MAX_GROWTH = 16 * 1024 * 1024

#: The most octets of log for each minute: lines for 2,000 failures, and some others.
MAX_LOG_PER_MINUTE = 600_000


def module(name: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a module of the benchmarks as a child process."""
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


@contextlib.contextmanager
def flooding(daemon: Daemon, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Flood the daemon while the block runs, and at least for `seconds`."""
    with module("flood", HOST, daemon.port, "--rate", RATE, "--seconds", seconds) as flood:
        assert flood.stdout is not None
        assert "flooding" in flood.stdout.readline()
        yield flood
        said, complaint = flood.communicate()
    assert (flood.returncode, complaint) == (0, "")
    print(said, end="")


def settled(daemon: Daemon, idle: int) -> int:
    """Return the number of open descriptors once it is at most `idle`, or after a timeout."""
    give_up = time.monotonic() + SETTLE
    while daemon.descriptors() > idle and time.monotonic() < give_up:
        time.sleep(0.1)
    return daemon.descriptors()


def test_clients_are_served_during_a_flood_and_nothing_leaks(tmp_path: Path) -> None:
    """Clients complete during a flood; then descriptors, memory and files are as before it."""
    root = tmp_path / "root"
    root.mkdir()
    content = random.Random(5).randbytes(1_000_000)
    (root / "file").write_bytes(content)
    with Daemon(root, "--write", "create", hosts=[HOST]) as daemon:
        began = time.monotonic()
        started = daemon.descriptors()
        with flooding(daemon, SECONDS):
            pass  # until the daemon has what it keeps, such as pools
        idle = settled(daemon, started + KEPT_DESCRIPTORS)
        assert idle <= started + KEPT_DESCRIPTORS
        resident = daemon.resident()
        arguments = [daemon.port, "file", root / "file", "--clients", CLIENTS]
        arguments += ["--seconds", SECONDS, "--retries", RETRIES]
        with module("honest", *arguments) as honest:
            assert honest.stdin is not None
            assert honest.stdout is not None
            assert honest.stdout.readline() == "begun\n"
            with flooding(daemon, SECONDS):
                honest.stdin.write("\n")
                honest.stdin.flush()
            said, complaint = honest.communicate()
        assert settled(daemon, idle) <= idle
        after = daemon.resident()
        log = len(daemon.log)
        minutes = int((time.monotonic() - began) / 60) + 1
        print(f"{said}memory {resident} then {after}, {log} octets of log")
        assert complaint == ""
        assert json.loads(said) == {**json.loads(said), "done": CLIENTS, "failures": {}}
        assert after <= resident + MAX_GROWTH
        assert log <= MAX_LOG_PER_MINUTE * minutes
        assert not [name for name in os.listdir(root) if name != "file"]
        daemon.stop()
    assert "Traceback" not in daemon.log
    assert not daemon.errors


def test_flood_has_its_rate_and_many_source_addresses() -> None:
    """The flood program sends requests and other datagrams, each from another address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(10)
        port = server.getsockname()[1]
        with module("flood", HOST, port, "--rate", 2000, "--seconds", 1, "--file", "x") as flood:
            peers, packets = set(), set()
            for _ in range(1000):
                packet, peer = server.recvfrom(2048)
                peers.add(peer)
                packets.add(packet)
            said, complaint = flood.communicate()
    assert (flood.returncode, complaint) == (0, "")
    sent = re.search(r"^(\d+) requests in", said, re.MULTILINE)
    assert sent is not None
    assert 1000 <= int(sent[1]) <= 2000
    assert len(peers) > 950
    assert len({host for host, _ in peers}) > 950
    assert len({port for _, port in peers}) > 5
    assert all(host.startswith("127.") for host, _ in peers)
    assert {packet[:2] for packet in packets} >= {b"\0\1", b"\0\2", b"\0\7"}
    assert b"\0\1x\0octet\0" in packets


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "localhost", "0.0.0.0"])
def test_flood_rejects_addresses_that_are_not_ipv4_loopback(host: str) -> None:
    """The flood program ends with an error for any host that is not an IPv4 loopback address."""
    with module("flood", host, 20001, "--seconds", 1) as flood:
        said, complaint = flood.communicate()
    assert (flood.returncode, said) == (2, "")
    assert "error: " in complaint
