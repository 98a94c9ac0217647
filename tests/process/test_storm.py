"""Test `txtftp storm`, which simulates booting machines, with our daemon."""

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

from tests.support import forked_command
from tests.support.daemon import Daemon, free_port
from tests.support.forked_command import ForkedCommand
from twisted_tftp.tools.storm import percentiles

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return a daemon with the files that PXELINUX requests."""
    root = tmp_path_factory.mktemp("root")
    for name, size in (("pxelinux.0", 42_000), ("ldlinux.c32", 120_000), ("vmlinuz", 300_000)):
        (root / name).write_bytes(bytes(size))
    (root / "initrd.img").write_bytes(bytes(200_000))
    (root / "pxelinux.cfg").mkdir()
    (root / "pxelinux.cfg" / "default").write_bytes(b"default linux\n")
    with Daemon(root, hosts=[HOST]) as running:
        yield running


def storm(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `txtftp storm`."""
    command = [sys.executable, "-m", "twisted_tftp", "storm", "--port", str(port), HOST]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)


def report(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON report of a storm that had no failure."""
    said = json.loads(done.stdout)
    assert (done.stderr, said["failures"], done.returncode) == ("", {}, 0)
    return said


def test_every_machine_boots(daemon: Daemon) -> None:
    """Each machine requests all files of its profile; optional files may be missing."""
    said = report(storm(daemon.port, "--clients", "40", "--json", "-q"))
    assert said["machines"] == said["booted"] == 40
    assert said["failures"] == {}
    assert said["transfers"] == 40 * 5
    assert said["missing"] == 40 * 3
    assert said["octets"] == 40 * (42_000 + 120_000 + 300_000 + 200_000 + 14)
    assert said["files"]["vmlinuz"]["count"] == 40
    assert 0 < said["boot"]["p50"] <= said["boot"]["p99"] <= said["boot"]["max"]


def test_storm_takes_a_profile_an_arrival_rate_and_pauses(daemon: Daemon, tmp_path: Path) -> None:
    """A profile from a file, an arrival rate and pauses can be given."""
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


def test_machines_store_files(tmp_path: Path) -> None:
    """Each machine stores a text of its own."""
    (tmp_path / "root").mkdir()
    (tmp_path / "mine").write_text("put {mac}.txt blksize=1428\n")
    with Daemon(tmp_path / "root", "--write", "create", hosts=[HOST]) as running:
        profile = ("--profile", str(tmp_path / "mine"))
        said = report(storm(running.port, "--clients", "3", "--json", "-q", *profile))
    assert (said["booted"], said["transfers"]) == (3, 3)
    stored = {path.name: path.read_text() for path in (tmp_path / "root").iterdir()}
    assert sorted(stored) == [f"02-00-00-00-00-0{number}.txt" for number in range(3)]
    assert stored["02-00-00-00-00-02.txt"] == (
        "This is the configuration of 02-00-00-00-00-02 with the address 10.0.0.3.\n"
    )


def test_all_machines_boot_in_spite_of_loss(daemon: Daemon) -> None:
    """With --loss all machines still boot."""
    said = report(storm(daemon.port, "--clients", "10", "--loss", "0.02", "--json", "-q"))
    assert said["booted"] == 10


def test_default_report_is_a_table(daemon: Daemon) -> None:
    """By default the report is a line for the storm, a line for the files, and a table."""
    done = storm(daemon.port, "--clients", "5", "-q")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("5 of 5 machines booted in ")
    assert "files, 3.3 MB" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == [
        *("seconds", "boot", "pxelinux.0", "ldlinux.c32", "pxelinux.cfg/default"),
        *("vmlinuz", "initrd.img"),
    ]


def test_failures_are_counted_by_reason(daemon: Daemon, tmp_path: Path) -> None:
    """Failed machines are counted by reason, and the exit status is 1."""
    (tmp_path / "bad").write_text("get vmlinuz\nget not-there\n")
    done = storm(daemon.port, "--clients", "3", "-q", "--profile", str(tmp_path / "bad"))
    assert done.returncode == 1
    assert "failed: 3 x not-there: no such file" in done.stdout
    port = free_port()
    done = storm(port, "--clients", "3", "-q", "--timeout", "0.05", "--retries", "1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["failures"] == {"pxelinux.0: Connection refused": 3}


def test_interrupted_storm_still_reports(daemon: Daemon) -> None:
    """Ctrl-C ends the transfers, and the report covers what was done until then."""
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
    assert said["failures"] == {"interrupted": 10_000 - said["booted"]}


def test_storm_interrupted_while_all_machines_wait_ends_quietly() -> None:
    """Ctrl-C while all machines wait for an answer causes no error output."""
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
    assert json.loads(said)["failures"] == {"interrupted": 2}


def test_plot_option_writes_an_svg_file(daemon: Daemon, tmp_path: Path) -> None:
    """--plot writes the distribution and the course of the storm as SVG."""
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
    """An invalid option ends with status 2 and an error, before anything is sent."""
    words = ("txtftp", "storm", "--port", 1, HOST, *arguments)
    done = ForkedCommand(forked_command.txtftp, *words).wait()
    assert done.returncode == 2
    assert "error: " in done.stderr


def test_percentiles_are_values_of_the_sample() -> None:
    """The percentiles 50, 95, 99 and 100 of a sample are values in it."""
    assert percentiles([5.0]) == [5.0] * 4
    assert percentiles([float(number) for number in range(100, 0, -1)]) == [50, 95, 99, 100]
    assert percentiles([1.0, 2.0, 3.0]) == [2.0, 3.0, 3.0, 3.0]
