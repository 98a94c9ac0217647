"""The doctor tells good servers from bad ones."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.daemon import Daemon, free_port
from twisted_tftp.protocol import wire
from twisted_tftp.tools.doctor import Doctor, Finding, Verdict, worst_verdict

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Return our daemon, with files of some sizes."""
    root = tmp_path_factory.mktemp("root")
    (root / "large").write_bytes(b"some text\r\n\n" * 60_000)
    (root / "short").write_bytes(b"short")
    with Daemon(root, hosts=[HOST]) as running:
        yield running


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "twisted_tftp", "doctor", HOST, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_our_server_is_well(daemon: Daemon) -> None:
    """Every check that a large file allows comes out good."""
    done = doctor("large", "--port", str(daemon.port), "--json", "--watch", "2.5")
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert {each["verdict"] for each in found.values()} == {"ok"}, found
    assert done.returncode == 0
    assert list(found) == [
        *("answers", "options", "blksize", "windowsize", "gap", "duplicate ACK", "stranger"),
        *("repeated request", "retransmission", "netascii", "rollover"),
    ]
    assert found["windowsize"]["text"] == "64 granted, 64 blocks for one ACK"
    assert found["rollover"]["text"] == "65535 is followed by 0"


def test_what_a_short_file_does_not_show_is_skipped(daemon: Daemon) -> None:
    """Rather than guessed."""
    found = Doctor((HOST, daemon.port), "short", watch=0.1).examine()
    verdicts = {each.check: each.verdict for each in found}
    assert verdicts["gap"] is verdicts["rollover"] is verdicts["blksize"] is Verdict.SKIPPED
    assert Verdict.PROBLEM not in verdicts.values()


def test_findings_are_read_by_people(daemon: Daemon) -> None:
    """A line for each, as it is found; without a file only whether there is a server."""
    done = doctor("--port", str(daemon.port))
    assert done.returncode == 0
    assert done.stdout.startswith("      ok  answers: ERROR 1 from 127.0.0.1 port ")


def test_monitoring_gets_one_line_and_a_status(daemon: Daemon) -> None:
    """0 is fine, 2 is critical."""
    done = doctor("--check", "--port", str(daemon.port))
    assert (done.returncode, done.stdout[:10]) == (0, "TFTP OK - ")
    done = doctor("--check", "--port", str(free_port()), "--timeout", "0.05")
    assert (done.returncode, done.stdout) == (2, "TFTP CRITICAL - answers: no answer\n")
    done = doctor("missing", "--check", "--port", str(daemon.port))
    assert done.returncode == 2
    assert "ERROR 1" in done.stdout


class Sick:
    """A server that answers each datagram as `conduct` says, in a thread of its own."""

    def __init__(self, conduct: Callable[[bytes], list[bytes]]) -> None:
        self._conduct = conduct
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((HOST, 0))
        self.address: Any = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Sick:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"stop", self.address)
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        while True:
            datagram, peer = self._sock.recvfrom(2048)
            if datagram == b"stop":
                return
            for answer in self._conduct(datagram):
                self._sock.sendto(answer, peer)


def data(number: int) -> bytes:
    return wire.DATA_HEADERS[number] + bytes(512)


def sorcerer(datagram: bytes) -> list[bytes]:
    """Answer each ACK with a block, and requests without options."""
    if datagram[1] == 4:
        return [data(int.from_bytes(datagram[2:4], "big") + 1)]
    return [data(1)] if datagram[1] == 1 else []


def presumptuous(datagram: bytes) -> list[bytes]:
    """Grant what was not asked for."""
    return [wire.oack([("multicast", "")])] if datagram[1] == 1 else []


def broken(datagram: bytes) -> list[bytes]:
    """Send half an OACK, and no block."""
    return [b"\0\6blksize"] if datagram[1] == 1 else []


def windowless(datagram: bytes) -> list[bytes]:
    """Grant windows of no block, and escape sequences."""
    if datagram[1] == 1 and b"windowsize" in datagram:
        return [wire.oack([("windowsize", "0"), ("blksize", "\x1b[31m")])]
    return [data(1)] if datagram[1] == 1 else []


def large(datagram: bytes) -> list[bytes]:
    """Grant large blocks, and lose them."""
    if datagram[1] == 1:
        request = wire.parse_request(datagram)
        if "blksize" not in request.options:
            return [data(1)]
        return [wire.oack([("blksize", request.options["blksize"])])]
    return []


def finding(conduct: Callable[[bytes], list[bytes]], check: str) -> Finding:
    """Return what the doctor finds in a sick server."""
    with Sick(conduct) as sick:
        found = Doctor(sick.address, "file", timeout=0.05, watch=0.2).examine()
    (one,) = [each for each in found if each.check == check]
    return one


@pytest.mark.parametrize(
    ("conduct", "check", "verdict", "words"),
    [
        (sorcerer, "duplicate ACK", Verdict.PROBLEM, "three ACKs of one block with 3 blocks"),
        (sorcerer, "options", Verdict.WARNING, "no option"),
        (sorcerer, "windowsize", Verdict.WARNING, "no windows"),
        (sorcerer, "retransmission", Verdict.WARNING, "nothing is sent again"),
        (sorcerer, "answers", Verdict.OK, "single port"),
        (presumptuous, "options", Verdict.PROBLEM, "multicast was not asked for"),
        (broken, "options", Verdict.PROBLEM, "cut short"),
        (broken, "blksize", Verdict.PROBLEM, "no block of any size"),
        (windowless, "windowsize", Verdict.WARNING, "no windows"),
        (windowless, "rollover", Verdict.SKIPPED, ""),
        (windowless, "options", Verdict.WARNING, "blksize=\\x1b[31m"),
        (large, "blksize", Verdict.PROBLEM, "no block of any size"),
    ],
)
def test_sick_server_is_told_by_its_symptom(
    conduct: Callable[[bytes], list[bytes]], check: str, verdict: Verdict, words: str
) -> None:
    """Each with what was seen."""
    found = finding(conduct, check)
    assert found.verdict is verdict
    assert words in found.text


def test_worst_finding_counts() -> None:
    """A skipped check is no warning."""
    good, poor, bad, skipped = (
        Finding("", verdict, "")
        for verdict in (Verdict.OK, Verdict.WARNING, Verdict.PROBLEM, Verdict.SKIPPED)
    )
    assert worst_verdict([good, skipped]) is Verdict.OK
    assert worst_verdict([good, poor, skipped]) is Verdict.WARNING
    assert worst_verdict([poor, bad, good]) is Verdict.PROBLEM
