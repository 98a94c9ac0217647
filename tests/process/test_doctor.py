"""Test the doctor, `txtftp doctor`, with our daemon and with servers that have faults."""

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
    """Return our daemon, with a large and a short file."""
    root = tmp_path_factory.mktemp("root")
    (root / "large").write_bytes(b"some text\r\n\n" * 60_000)
    (root / "short").write_bytes(b"short")
    (root / "just rolls over").write_bytes(bytes(8 * 65_576))
    with Daemon(root, hosts=[HOST]) as running:
        yield running


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `txtftp doctor`."""
    command = [sys.executable, "-m", "twisted_tftp", "doctor", HOST, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_doctor_finds_no_fault_in_our_server(daemon: Daemon) -> None:
    """With a large file, all checks of our server are ok."""
    done = doctor("large", "--port", str(daemon.port), "--json", "--watch", "2.5")
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert {each["verdict"] for each in found.values()} == {"ok"}, found
    assert done.returncode == 0
    assert list(found) == [
        *("answers", "options", "blksize", "windowsize", "gap", "duplicate ACK", "foreign ACK"),
        *("repeated request", "retransmission", "netascii", "rollover"),
    ]
    assert found["windowsize"]["text"] == (
        "a window of 64 blocks was granted, 64 blocks arrived after one ACK"
    )
    assert found["rollover"]["text"] == "block number 65535 is followed by 0"


def test_checks_that_need_a_large_file_are_skipped_for_a_short_one(daemon: Daemon) -> None:
    """With a short file, the checks that need many blocks are skipped."""
    found = Doctor((HOST, daemon.port), "short", watch=0.1).examine()
    verdicts = {each.check: each.verdict for each in found}
    assert verdicts["gap"] is verdicts["rollover"] is verdicts["blksize"] is Verdict.SKIPPED
    assert Verdict.PROBLEM not in verdicts.values()


@pytest.mark.parametrize(
    ("size", "skipped"),
    [
        (0, ["gap", "duplicate ACK", "foreign ACK", "netascii"]),
        (511, ["gap", "duplicate ACK", "foreign ACK", "netascii"]),
        (2047, ["gap"]),
        (20_000, []),
    ],
)
def test_each_check_that_needs_a_longer_file_says_so(
    daemon: Daemon, size: int, skipped: list[str]
) -> None:
    """A check that can't be made with a short file is skipped with that reason, never ok."""
    (daemon.root / f"{size}").write_bytes(b"x" * size)
    found = Doctor((HOST, daemon.port), f"{size}", watch=0.1).examine()
    short = {each.check for each in found if each.text == "the file is too short"}
    assert short == {"blksize", "windowsize", "rollover", *skipped}
    assert {each.verdict for each in found if each.check in short} == {Verdict.SKIPPED}


def test_missing_file_name_is_reported_with_the_checks_that_need_one(daemon: Daemon) -> None:
    """Without FILE the last finding names all checks that a file would add."""
    found = Doctor((HOST, daemon.port), None).examine()
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.SKIPPED]
    with_file = Doctor((HOST, daemon.port), "short", watch=0.1).examine()
    names = ", ".join(each.check for each in with_file[1:])
    assert found[1].text == f"there is no FILE for {names}"
    done = doctor("--check", "--port", str(daemon.port))
    assert done.stdout.endswith("(1 check)\n")


def test_file_whose_last_window_rolls_over_is_too_short_for_the_check(daemon: Daemon) -> None:
    """The end of the file in the last window is not taken for a missing block."""
    found = Doctor((HOST, daemon.port), "just rolls over", watch=0.1).examine()
    (verdict,) = [each.verdict for each in found if each.check == "rollover"]
    assert verdict is Verdict.SKIPPED


def test_default_output_is_one_line_for_each_finding(daemon: Daemon) -> None:
    """By default the doctor writes one readable line for each finding."""
    done = doctor("--port", str(daemon.port))
    assert done.returncode == 0
    assert done.stdout.startswith("      ok  answers: ERROR 1 from 127.0.0.1 port ")


def test_check_mode_is_one_line_and_a_status_for_monitoring(daemon: Daemon) -> None:
    """With --check the output is one line, and the status is 0 (ok) or 2 (critical)."""
    done = doctor("--check", "--port", str(daemon.port))
    assert (done.returncode, done.stdout[:10]) == (0, "TFTP OK - ")
    done = doctor("--check", "--port", str(free_port()), "--timeout", "0.05")
    assert (done.returncode, done.stdout) == (
        2,
        "TFTP CRITICAL - answers: no answer to 3 requests\n",
    )
    done = doctor("missing", "--check", "--port", str(daemon.port))
    assert done.returncode == 2
    assert "ERROR 1" in done.stdout


class FaultyServer:
    """A server that answers each datagram with what `conduct` returns, in its own thread."""

    def __init__(self, conduct: Callable[[bytes], list[bytes]]) -> None:
        self._conduct = conduct
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((HOST, 0))
        self.address: Any = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FaultyServer:
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
    """Answer each ACK with a block, even a duplicate one, and ignore options."""
    if datagram[1] == 4:
        return [data(int.from_bytes(datagram[2:4], "big") + 1)]
    return [data(1)] if datagram[1] == 1 else []


def presumptuous(datagram: bytes) -> list[bytes]:
    """Grant an option that was not requested."""
    return [wire.oack([("multicast", "")])] if datagram[1] == 1 else []


def broken(datagram: bytes) -> list[bytes]:
    """Send a truncated OACK, and no block."""
    return [b"\0\6blksize"] if datagram[1] == 1 else []


def padded(datagram: bytes) -> list[bytes]:
    """Grant options in an OACK that ends with NULs."""
    if datagram[1] != 1:
        return []
    return [wire.oack(wire.parse_request(datagram).options.items()) + bytes(3)]


def windowless(datagram: bytes) -> list[bytes]:
    """Grant a window of 0 blocks, and an option with an escape sequence."""
    if datagram[1] == 1 and b"windowsize" in datagram:
        return [wire.oack([("windowsize", "0"), ("blksize", "\x1b[31m")])]
    return [data(1)] if datagram[1] == 1 else []


def large(datagram: bytes) -> list[bytes]:
    """Grant large blocks, but send none."""
    if datagram[1] == 1:
        request = wire.parse_request(datagram)
        if "blksize" not in request.options:
            return [data(1)]
        return [wire.oack([("blksize", request.options["blksize"])])]
    return []


def repeating(datagram: bytes) -> list[bytes]:
    """Grant a window, and send the five blocks of a short file, one of them twice."""
    if datagram[1] == 1 and b"windowsize" in datagram:
        return [wire.oack([("windowsize", "64")])]
    if datagram[1] == 1:
        return [data(1)]
    blocks = [data(number) for number in (1, 2, 3, 4)]
    return [*blocks, data(4), data(5)[:100]] if datagram == wire.ack(0) else []


def lossy(datagram: bytes) -> list[bytes]:
    """Grant a window of 64 blocks, of which only ten arrive."""
    if datagram[1] == 1 and b"windowsize" in datagram:
        return [wire.oack([("windowsize", "64")])]
    if datagram[1] == 1:
        return [data(1)]
    return [data(number) for number in range(1, 11)] if datagram == wire.ack(0) else []


def finding(conduct: Callable[[bytes], list[bytes]], check: str) -> Finding:
    """Return the doctor's finding of one check of a faulty server."""
    with FaultyServer(conduct) as server:
        found = Doctor(server.address, "file", timeout=0.05, watch=0.2).examine()
    (one,) = [each for each in found if each.check == check]
    return one


@pytest.mark.parametrize(
    ("conduct", "check", "verdict", "words"),
    [
        (sorcerer, "duplicate ACK", Verdict.PROBLEM, "three ACKs of one block with 3 blocks"),
        (sorcerer, "options", Verdict.WARNING, "none of blksize, timeout"),
        (sorcerer, "windowsize", Verdict.WARNING, "windowsize is not granted"),
        (sorcerer, "retransmission", Verdict.WARNING, "is not sent again"),
        (sorcerer, "answers", Verdict.OK, "single port"),
        (presumptuous, "options", Verdict.PROBLEM, "not requested: multicast"),
        (broken, "options", Verdict.PROBLEM, "truncated"),
        (broken, "blksize", Verdict.PROBLEM, "no block of any size"),
        (padded, "options", Verdict.WARNING, "3 octets of the OACK belong to no option"),
        (windowless, "windowsize", Verdict.WARNING, "windowsize is not granted"),
        (windowless, "rollover", Verdict.SKIPPED, "blocks of 8 octets are not granted"),
        (windowless, "options", Verdict.WARNING, "blksize=\\x1b[31m"),
        (repeating, "windowsize", Verdict.SKIPPED, "the file is too short"),
        (lossy, "windowsize", Verdict.WARNING, "64 blocks was granted, 10 blocks arrived"),
        (large, "blksize", Verdict.PROBLEM, "no block of any size"),
    ],
)
def test_each_fault_of_a_server_is_found(
    conduct: Callable[[bytes], list[bytes]], check: str, verdict: Verdict, words: str
) -> None:
    """The doctor finds each fault, with the right verdict and what it saw."""
    found = finding(conduct, check)
    assert found.verdict is verdict
    assert words in found.text


def test_first_address_that_answers_is_checked(daemon: Daemon) -> None:
    """An address without a server is a warning; the next address of the name is checked."""
    silent, serving = ("127.0.0.2", daemon.port), (HOST, daemon.port)
    found = Doctor(silent, None, 0.05, other_addresses=[serving]).examine()
    assert [each.verdict for each in found[:2]] == [Verdict.WARNING, Verdict.OK]
    assert "no answer from 127.0.0.2" in found[0].text
    assert "ERROR 1 from 127.0.0.1" in found[1].text


def test_worst_finding_is_the_verdict() -> None:
    """The verdict of a run is its worst finding; skipped checks do not count."""
    good, poor, bad, skipped = (
        Finding("", verdict, "")
        for verdict in (Verdict.OK, Verdict.WARNING, Verdict.PROBLEM, Verdict.SKIPPED)
    )
    assert worst_verdict([good, skipped]) is Verdict.OK
    assert worst_verdict([good, poor, skipped]) is Verdict.WARNING
    assert worst_verdict([poor, bad, good]) is Verdict.PROBLEM
