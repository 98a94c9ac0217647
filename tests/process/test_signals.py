"""Test how the daemon handles SIGHUP, SIGUSR1, SIGTERM and SIGINT."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import (
    TIMEOUT,
    Daemon,
    LoggingDaemon,
    TacDaemon,
    TwistDaemon,
    assert_ended_well,
    wait_for_text,
)
from tests.support.packets import ack, data, error, rrq, wrq
from tests.support.peer import LOCALHOST, Peer, peer
from tests.support.served_root import CONTENT, root, temporary_files

__all__ = ["peer", "root"]  # fixtures


def test_sighup_reopens_the_log(root: Path, tmp_path: Path, peer: Peer) -> None:
    """After its log was renamed, SIGHUP creates a new one with the same mode; no line is lost."""
    log, moved = tmp_path / "log", tmp_path / "log.old"
    log.touch(0o600)
    with LoggingDaemon(root, log) as daemon:
        address = (LOCALHOST, daemon.port)
        assert peer.fetch(b"file", address) == CONTENT
        wait_for_text(log, "completed")
        log.rename(moved)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for_text(log, "SIGHUP: the log was reopened")
        with Peer() as other:
            assert other.fetch(b"file", address) == CONTENT
        wait_for_text(log, "completed")
        daemon.stop()
    assert log.stat().st_mode & 0o777 == 0o600
    assert moved.read_text().count("completed") == log.read_text().count("completed") == 1
    assert daemon.process.returncode in (0, -signal.SIGTERM)


def test_log_that_can_not_be_reopened_stays_open(root: Path, tmp_path: Path, peer: Peer) -> None:
    """If the log can't be reopened at SIGHUP, the daemon says so and keeps the old one."""
    directory = tmp_path / "logs"
    directory.mkdir()
    with LoggingDaemon(root, directory / "log") as daemon:
        moved = tmp_path / "moved"
        directory.rename(moved)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for_text(moved / "log", "SIGHUP: the log can't be reopened")
        # A second SIGHUP must not change this.
        daemon.process.send_signal(signal.SIGHUP)
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        wait_for_text(moved / "log", "completed")


def test_sigusr1_rotates_the_log(root: Path, tmp_path: Path, peer: Peer) -> None:
    """SIGUSR1 rotates the log file, as it does for every twistd daemon."""
    log = tmp_path / "log"
    with LoggingDaemon(root, log) as daemon:
        assert peer.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        wait_for_text(log, "completed")
        daemon.process.send_signal(signal.SIGUSR1)
        assert "completed" in wait_for_text(tmp_path / "log.1", "completed")


@pytest.mark.parametrize("kind", [Daemon, TwistDaemon, TacDaemon])
def test_transfers_continue_after_sighup(
    kind: type[Daemon], root: Path, tmp_path: Path, peer: Peer
) -> None:
    """SIGHUP clears the file caches; running transfers complete."""
    with kind(root, directory=tmp_path) as daemon:
        block, transfer = peer.ask(rrq(b"file"), (LOCALHOST, daemon.port))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_line("SIGHUP: the file caches were cleared")
        assert peer.rest(block, transfer) == CONTENT


#: An application that does not install the signal handlers.
TAC_WITHOUT_SIGNALS = """
import os
from twisted.application.service import Application
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.server import TFTPService

application = Application("tftp")
service = TFTPService(MemoryBackend({}), port=int(os.environ["TFTP_PORT"]), host=["127.0.0.1"])
service.setServiceParent(application)
"""


class TacWithoutSignals(TacDaemon):
    """A daemon that runs that application."""

    def command(self) -> list[str]:
        return [self.executable, "-noy", str(self.root / "plain.tac"), "--pidfile="]


def test_sighup_ends_an_application_that_installs_no_handlers(root: Path) -> None:
    """The guide says so: SIGHUP then has the effect that it has on other programs."""
    (root / "plain.tac").write_text(TAC_WITHOUT_SIGNALS)
    with TacWithoutSignals(root, hosts=[LOCALHOST]) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.wait() == -signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_stop_signal_ends_the_drain_at_once(number: int, root: Path, peer: Peer) -> None:
    """A second SIGTERM or SIGINT ends the drain: clients get an ERROR, and no file is left."""
    with Daemon(root, "--drain", "3600", "--write", "create", hosts=[LOCALHOST]) as daemon:
        address = (LOCALHOST, daemon.port)
        _, reading = peer.ask(rrq(b"file"), address)
        with Peer() as writer:
            _, writing = writer.ask(wrq(b"new"), address)
            assert writer.ask(data(1, CONTENT[:512]), writing)[0] == ack(1)
            daemon.process.send_signal(number)
            daemon.wait_for_line("waiting for 2 transfers")
            daemon.process.send_signal(number)
            stopped = error(0, b"the server is being stopped")
            assert peer.receive() == (stopped, reading)
            assert writer.receive() == (stopped, writing)
        daemon.wait()
    assert temporary_files(root) == []
    assert not (root / "new").exists()
    if number == signal.SIGTERM:
        assert_ended_well(daemon)


#: Runs a script in a Python whose `fsync` takes an hour.
HANGING = """
import os, runpy, sys, time

os.fsync = lambda descriptor: time.sleep(3600)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class HangingDaemon(Daemon):
    """A daemon whose disk hangs in `fsync`."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", HANGING, *super().command()]


class HangingTwistDaemon(HangingDaemon, TwistDaemon):
    """The same, started by `twist`: it ends by the exit of Python, not by the signal."""


@pytest.mark.parametrize("kind", [HangingDaemon, HangingTwistDaemon])
def test_second_stop_signal_does_not_wait_for_a_hanging_disk(
    kind: type[Daemon], root: Path, peer: Peer
) -> None:
    """The hanging upload gets no ACK; the next start removes its temporary file."""
    with kind(root, "--drain", "3600", "--write", "create", hosts=[LOCALHOST]) as daemon:
        _, transfer = peer.ask(wrq(b"new"), (LOCALHOST, daemon.port))
        peer.send(data(1, b"octets"), transfer)
        with Peer() as other:
            assert other.fetch(b"file", (LOCALHOST, daemon.port)) == CONTENT
        daemon.wait_for_line('read "file".*completed')  # its last ACK may be read late
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for_line("waiting for 1 transfers")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait()
    assert "a call in a thread (tftp-write) has not ended: it is abandoned" in daemon.log
    assert not (root / "new").exists()
    assert len(temporary_files(root)) == 1
    with Daemon(root, "--write", "create", hosts=[LOCALHOST]) as daemon:
        daemon.wait_for_line("removed 1 unfinished uploads")


#: A program that embeds the backend, and stops its reactor while `fsync` hangs.
EMBEDDED = """
import os, sys, time
from twisted.internet import reactor
from twisted_tftp.backends import FilesystemBackend
from twisted_tftp.context import Direction, Endpoint, TransferContext

def hang(descriptor):
    reactor.callFromThread(reactor.stop)
    time.sleep(3600)

os.fsync = hang
peer = Endpoint("192.0.2.1", 4000)
context = TransferContext(peer, None, Direction.WRITE, b"new", "octet", {})
opening = FilesystemBackend(sys.argv[1], "create").open_writer("new", context)
opening.addCallback(lambda writer: writer.commit())
reactor.run()
"""


def test_embedding_process_ends_although_a_disk_hangs(root: Path) -> None:
    """A process that stops its own reactor ends, although an upload hangs in `fsync`."""
    command = [sys.executable, "-c", EMBEDDED, str(root)]
    assert subprocess.run(command, timeout=TIMEOUT).returncode == 0


#: Runs `twistd` in a Python whose wall clock is set back by a day at each SIGUSR2.
CLOCK_SHIFT = """
import signal, sys, time

right, wrong_by = time.time, [0]
time.time = lambda: right() - wrong_by[0]


def set_back(number, frame):
    wrong_by[0] += 86400
    print("the clock was set back", flush=True)


signal.signal(signal.SIGUSR2, set_back)
sys.argv[0] = "twistd"
from twisted.scripts.twistd import run
run()
"""


class ClockShiftDaemon(Daemon):
    """A daemon whose wall clock goes back by a day at each SIGUSR2."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", CLOCK_SHIFT, *super().command()[1:]]


def test_clock_that_is_set_back_delays_no_timer(root: Path, peer: Peer) -> None:
    """Retransmissions, timeouts and the drain are on time, even if the clock is set back."""
    options = ("--timeout", "0.2", "--retries", "3", "--drain", "0.5")
    with ClockShiftDaemon(root, *options, hosts=[LOCALHOST]) as daemon, Peer() as silent:
        address = (LOCALHOST, daemon.port)
        first = silent.ask(rrq(b"file"), address)[0]
        # After another client was served, the timer of the first transfer is set.
        assert peer.fetch(b"file", address) == CONTENT
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.wait_for_line("the clock was set back")
        assert silent.sock.recv(1000) == first  # sent again
        daemon.wait_for_line("timed-out")
        assert peer.ask(rrq(b"file"), address)[0] == first
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait()
    assert re.search("read .*: (cancelled|timed-out)", daemon.log)
    assert_ended_well(daemon)
