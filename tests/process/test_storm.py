"""Storms of simulated machines, against our daemon."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, free_port
from twisted_tftp.tools.storm import percentiles

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon with what PXELINUX asks for."""
    root = tmp_path_factory.mktemp("root")
    for name, size in (("pxelinux.0", 42_000), ("ldlinux.c32", 120_000), ("vmlinuz", 300_000)):
        (root / name).write_bytes(bytes(size))
    (root / "initrd.img").write_bytes(bytes(200_000))
    (root / "pxelinux.cfg").mkdir()
    (root / "pxelinux.cfg" / "default").write_bytes(b"default linux\n")
    with Daemon(root, hosts=[HOST]) as running:
        yield running


def storm(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a storm."""
    command = [sys.executable, "-m", "twisted_tftp", "storm", "--port", str(port), HOST]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)


def report(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the report of a storm that ended well."""
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_every_machine_boots(daemon: Daemon) -> None:
    """Each asks for all that its firmware asks for; what may be missing is no failure."""
    said = report(storm(daemon.port, "--clients", "40", "--json", "-q"))
    assert said["machines"] == said["booted"] == 40
    assert said["failures"] == {}
    assert said["transfers"] == 40 * 5
    assert said["missing"] == 40 * 3
    assert said["octets"] == 40 * (42_000 + 120_000 + 300_000 + 200_000 + 14)
    assert said["files"]["vmlinuz"]["count"] == 40
    assert 0 < said["boot"]["p50"] <= said["boot"]["p99"] <= said["boot"]["max"]


def test_machines_arrive_by_chance_and_think(daemon: Daemon, tmp_path: Path) -> None:
    """A profile of one's own, from a file, at a rate, with pauses."""
    (tmp_path / "mine").write_text(
        "try {mac}.cfg\nget vmlinuz windowsize=8 blksize=1428\nthink 0\n"
    )
    said = report(
        storm(
            daemon.port,
            *("--clients", "20", "--arrival", "200/s", "--think", "0.001", "--json", "-q"),
            *("--profile", str(tmp_path / "mine")),
        )
    )
    assert said["booted"] == 20
    assert (said["missing"], said["transfers"]) == (20, 20)


def test_lost_datagrams_delay_machines_and_stop_none(daemon: Daemon) -> None:
    """The network of a storm may be bad."""
    said = report(storm(daemon.port, "--clients", "10", "--loss", "0.02", "--json", "-q"))
    assert said["booted"] == 10


def test_report_is_read_by_people(daemon: Daemon) -> None:
    """One line for the storm, one for the files, and a table."""
    done = storm(daemon.port, "--clients", "5", "-q")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("5 of 5 machines booted in ")
    assert "files, 3.3 MB" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == [
        *("seconds", "boot", "pxelinux.0", "ldlinux.c32", "pxelinux.cfg/default"),
        *("vmlinuz", "initrd.img"),
    ]


def test_machines_that_fail_are_counted_by_reason(daemon: Daemon, tmp_path: Path) -> None:
    """And the exit status tells that there were some."""
    (tmp_path / "bad").write_text("get vmlinuz\nget not-there\n")
    done = storm(daemon.port, "--clients", "3", "-q", "--profile", str(tmp_path / "bad"))
    assert done.returncode == 1
    assert "failed: 3 x not-there: no such file" in done.stdout
    port = free_port()
    done = storm(port, "--clients", "3", "-q", "--timeout", "0.05", "--retries", "1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["failures"] == {"pxelinux.0: Connection refused": 3}


def test_interrupted_storm_reports_what_there_was(daemon: Daemon) -> None:
    """Ctrl-C ends the transfers, and what was seen until then is not lost."""
    command = [sys.executable, "-m", "twisted_tftp", "storm", HOST, "--port", str(daemon.port)]
    with subprocess.Popen(
        [*command, "--json", "--clients", "10000", "--arrival", "5/s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        for line in running.stderr:
            if " 0 booted" not in line:
                break
        running.send_signal(signal.SIGINT)
        said = json.loads(running.stdout.read())
    assert running.returncode == 130
    assert said["booted"] > 0
    assert said["failures"] == {"not done": 10_000 - said["booted"]}


def test_storm_interrupted_while_all_machines_wait_ends_quietly() -> None:
    """The last one that is stopped does not stop the reactor once more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        command = [sys.executable, "-m", "twisted_tftp", "storm", HOST, "--json", "-q"]
        port = ["--port", str(sock.getsockname()[1])]
        with subprocess.Popen(
            [*command, *port, "--clients", "2", "--retries", "50"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            peers = set()
            while len(peers) < 2:
                peers.add(sock.recvfrom(1000)[1])
            running.send_signal(signal.SIGINT)
            said, complaint = running.communicate()
    assert running.returncode == 130
    assert complaint == ""
    assert json.loads(said)["failures"] == {"not done": 2}


def test_storm_is_drawn(daemon: Daemon, tmp_path: Path) -> None:
    """The distribution and the course, as SVG."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "storm.svg"
    report(storm(daemon.port, "--clients", "5", "--json", "-q", "--plot", str(path)))
    drawn = path.read_text()
    assert drawn.startswith("<?xml")
    assert "svg" in drawn


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clients", "0"],
        ["--arrival", "fast"],
        ["--loss", "0.95"],
        ["--profile", "not-there"],
        ["--timeout", "0"],
    ],
)
def test_mistake_in_the_options_is_status_2(arguments: list[str]) -> None:
    """Before anything is asked."""
    done = storm(1, *arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr


def test_percentiles_are_values_that_were_seen() -> None:
    """So many percent are not above them."""
    assert percentiles([5.0]) == [5.0] * 4
    assert percentiles([float(number) for number in range(100, 0, -1)]) == [50, 95, 99, 100]
    assert percentiles([1.0, 2.0, 3.0]) == [2.0, 3.0, 3.0, 3.0]
