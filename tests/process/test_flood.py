"""A flood from forged addresses: honest clients are served beside it, and it leaves nothing.

TFTP_FLOOD_SECONDS sets how long it lasts (5), TFTP_FLOOD_RETRIES how many seconds of silence a
client bears (30); with `pytest -s` the figures are printed.
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
SECONDS = float(os.environ.get("TFTP_FLOOD_SECONDS", "5"))
RATE, CLIENTS = 20_000, 50

#: Seconds of silence that a client bears. By hand it may be txtftp's 5; a machine that is busy
#: with other things besides may need more.
RETRIES = int(os.environ.get("TFTP_FLOOD_RETRIES", "30"))

#: Seconds in which all that a flood has begun must have ended.
SETTLE = 60.0

#: Descriptors that a daemon keeps from its first transfers on.
KEPT = 4

#: Octets by which a second flood may leave the daemon larger than the first one did.
GROWTH = 16 * 1024 * 1024

#: Octets of the log in each minute that begins, whatever comes in: a line for 2,000 failures, and
#: some others.
LOG = 600_000


def module(name: str, *arguments: object) -> subprocess.Popen[str]:
    """Start one of the modules of the benchmarks."""
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
    """Flood the daemon while the block runs, and then until the time is over."""
    with module("flood", HOST, daemon.port, "--rate", RATE, "--seconds", seconds) as flood:
        assert flood.stdout is not None
        assert "flooding" in flood.stdout.readline()
        yield flood
        said, complaint = flood.communicate()
    assert (flood.returncode, complaint) == (0, "")
    print(said, end="")


def settled(daemon: Daemon, idle: int) -> int:
    """Return the descriptors when they are no more than `idle`, or after a while in vain."""
    give_up = time.monotonic() + SETTLE
    while daemon.descriptors() > idle and time.monotonic() < give_up:
        time.sleep(0.1)
    return daemon.descriptors()


def test_honest_clients_are_served_beside_a_flood(tmp_path: Path) -> None:
    """Those that fetch already and those that come in its midst; then all is as it was before."""
    root = tmp_path / "root"
    root.mkdir()
    content = random.Random(5).randbytes(1_000_000)
    (root / "file").write_bytes(content)
    with Daemon(root, "--write", "create", hosts=[HOST]) as daemon:
        began = time.monotonic()
        started = daemon.descriptors()
        with flooding(daemon, SECONDS):
            pass  # so that what is kept for later is there
        idle = settled(daemon, started + KEPT)
        assert idle <= started + KEPT
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
        assert after <= resident + GROWTH
        assert log <= LOG * minutes
        assert not [name for name in os.listdir(root) if name != "file"]
        daemon.stop()
    assert "Traceback" not in daemon.log
    assert not daemon.errors


def test_flood_comes_at_its_rate_from_many_addresses() -> None:
    """Each datagram from an address of its own, by several ports: requests, and what is none."""
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
def test_flood_leaves_other_machines_alone(host: str) -> None:
    """Forged addresses go to IPv4 loopback, and nowhere else."""
    with module("flood", host, 20001, "--seconds", 1) as flood:
        said, complaint = flood.communicate()
    assert (flood.returncode, said) == (2, "")
    assert "error: " in complaint
