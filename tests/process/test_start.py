"""Test what the daemon says when it starts, or cannot start."""

from __future__ import annotations

import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.daemon import (
    TIMEOUT,
    TWIST,
    TWISTD,
    Daemon,
    LoggingDaemon,
    free_port,
    wait_for_text,
)
from tests.support.marks import as_root, linux
from tests.support.peer import LOCALHOST, Peer
from tests.support.served_root import CONTENT, open_root, root

__all__ = ["open_root", "root"]  # fixtures

#: A folder whose name is longer than what twistd tells about an error of a daemon.
LONG_NAME = "a-long-name-of-a-folder-" * 6

IDS = ("--uid", "nobody", "--gid", "nogroup")


def warnings(daemon: Daemon) -> list[str]:
    """Return the warnings of a daemon, without time stamps."""
    return [line.partition("#warn] ")[2] for line in daemon.lines if "#warn]" in line]


def test_background_daemon_writes_the_whole_reason_of_a_failed_start(
    root: Path, tmp_path: Path
) -> None:
    """The line is not cut off, and the log has it too."""
    missing, log = tmp_path / LONG_NAME, tmp_path / "log"
    command = (TWISTD, f"--pidfile={tmp_path / 'pid'}", f"--logfile={log}")
    # With --rundir the root is checked in the background only.
    done = run(*command, "--rundir", tmp_path, "tftp", "--root", missing)
    assert done.returncode == 1
    line, *more = done.stderr.splitlines()
    assert line == f"tftp: root {str(missing)!r} is not a directory"
    assert not any(LONG_NAME[:20] in each for each in more)
    assert line in log.read_text()
    assert not (tmp_path / "pid").exists()


def test_background_daemon_closes_the_standard_error_of_its_command(
    root: Path, tmp_path: Path
) -> None:
    """Once the service runs, a command that reads the output of `twistd` comes to its end."""
    pid, port = tmp_path / "pid", free_port()
    options = ("--root", root, "--host", LOCALHOST, "--port", port)
    done = run(TWISTD, f"--pidfile={pid}", f"--logfile={tmp_path / 'log'}", "tftp", *options)
    process = int(pid.read_text())
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with Peer() as peer:
            assert peer.fetch(b"file", (LOCALHOST, port)) == CONTENT
    finally:
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + TIMEOUT
        while pid.exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # it is not our child


@pytest.mark.parametrize("command", [[TWISTD, "-n", "--pidfile="], [TWIST]])
def test_port_that_cannot_be_bound_is_reported_once(command: list[Path | str], root: Path) -> None:
    """A terminal shows standard output and standard error: the line is in one of them."""
    done = run(*command, "tftp", "--root", root, "--host", "192.0.2.1", "--port", free_port())
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("can't listen on") == 1
    assert done.stderr.count("can't listen on") == 1


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--logfile=/missing/log", "can't open the log /missing/log: No such file or directory"),
        ("--chroot=/missing", "--chroot '/missing' is not a directory"),
        ("--rundir=/missing", "--rundir '/missing' is not a directory"),
    ],
)
def test_missing_folder_of_twistd_is_one_line(
    option: str, text: str, background: bool, root: Path, tmp_path: Path
) -> None:
    """twistd alone would print a traceback."""
    command = [TWISTD, f"--pidfile={tmp_path / 'pid'}", option, *([] if background else ["-n"])]
    done = run(*command, "tftp", "--root", root)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done
    assert done.stderr.startswith(f"tftp: {text}")


def test_options_that_contradict_each_other_are_warnings(root: Path) -> None:
    """The daemon starts in spite of them."""
    with Daemon(root, "--max-upload", "0", hosts=[LOCALHOST]) as daemon:
        assert warnings(daemon)[0] == "--max-upload has no effect: --write is never"


@linux
@as_root
def test_permissions_that_the_user_lacks_are_warnings(open_root: Path, tmp_path: Path) -> None:
    """They are checked for the user that is left after --uid."""
    uid = pwd.getpwnam("nobody").pw_uid
    for mode, words in ((0o700, "may not be entered"), (0o755, "is not writable")):
        open_root.chmod(mode)
        with Daemon(open_root, "--write", "create", hosts=[LOCALHOST], twistd=IDS) as daemon:
            line = daemon.wait_for_line("#warn.*root ")
        assert f"root {str(open_root)!r} {words} by uid {uid} (mode {mode:o})" in line.string
    with Daemon(open_root, hosts=[LOCALHOST], twistd=IDS) as daemon:
        pass
    assert not [line for line in warnings(daemon) if "root" in line]


@linux
@as_root
def test_log_folder_that_the_user_cannot_write_is_a_warning(open_root: Path) -> None:
    """SIGHUP could not create a new log; if that happens, the old one stays in use."""
    folder = open_root / "logs"
    folder.mkdir(0o755)
    log = folder / "log"
    with LoggingDaemon(open_root, log, twistd=IDS) as daemon:
        wait_for_text(log, f"the log folder {folder} is not writable by uid ")
        moved = log.rename(folder / "old")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for_text(moved, "can't be reopened, still writing to the old file: ")
    assert not log.exists()
