"""Test the hooks of the daemon: facts, limits, failures, the stop and the reload."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.configured_daemon import ConfiguredDaemon, run_twistd
from tests.support.daemon import TIMEOUT, TWISTD, Daemon, assert_ended_well, wait_for_text
from tests.support.marks import linux
from tests.support.packets import ack, data, wrq
from tests.support.peer import LOCALHOST, Peer
from twisted_tftp.server.hooks import HOOK_PATH

#: A name that a shell, a log or an environment could misunderstand. A slash would be a folder.
EVIL = b"-e $(touch x)`y`;\"'\n= |&>\xff\x1b%s{0}"

#: How many transfers the storm has.
STORM = 300


class Script:
    """A hook: a script whose `$dir` is the folder of the test.

    @ivar path: the path of the script.
    """

    def __init__(self, folder: Path, name: str, text: str) -> None:
        self.path = folder / name
        self.path.write_text(f"#!/bin/sh\ndir='{folder}'\n{text}\n")
        self.path.chmod(0o755)

    def __str__(self) -> str:
        return str(self.path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the served folder, with one file."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"octets")
    return root


def serving(root: Path, *options: str) -> Daemon:
    return Daemon(root, *options, hosts=[LOCALHOST])


def fetch(daemon: Daemon) -> None:
    """Fetch the file."""
    with Peer() as client:
        assert client.fetch(b"file", (LOCALHOST, daemon.port)) == b"octets"


def store(daemon: Daemon, name: bytes, mode: bytes = b"octet") -> int:
    """Upload a file of six octets; return the port of the client."""
    with Peer() as client:
        answer, transfer = client.ask(wrq(name, mode), (LOCALHOST, daemon.port))
        assert answer == ack(0)
        assert client.ask(data(1, b"octets"), transfer)[0] == ack(1)
        return client.port


def children_of(pid: int) -> list[int]:
    """Return the children of a process, also those that have ended and are not waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def test_facts_arrive_unchanged_and_never_as_arguments(root: Path, tmp_path: Path) -> None:
    """The arguments are those of the operator, and the environment has nothing else."""
    script = Script(
        tmp_path,
        "hook",
        'for each in "$0" "$@"; do printf "%s\\0" "$each"; done >$dir/arguments\n'
        "env -0 >$dir/part; mv $dir/part $dir/environment; touch $dir/done",
    )
    command = f"{script} 'one word' $TFTP_FILE"
    with serving(root, "--write", "create", "--on-upload", command) as daemon:
        port = store(daemon, EVIL)
        done = tmp_path / "done"
        wait_for_text(done, "")
        daemon.stop()
        assert_ended_well(daemon)
    arguments = (tmp_path / "arguments").read_bytes().split(b"\0")
    assert arguments == [str(script).encode(), b"one word", b"$TFTP_FILE", b""]
    variables = dict(
        entry.split(b"=", 1)
        for entry in (tmp_path / "environment").read_bytes().split(b"\0")
        if entry
    )
    for name in (b"PWD", b"OLDPWD", b"SHLVL", b"_"):
        variables.pop(name, None)  # the shell of the script sets them
    assert variables == {
        b"PATH": HOOK_PATH.encode(),
        b"TFTP_PEER": LOCALHOST.encode(),
        b"TFTP_PORT": b"%d" % port,
        b"TFTP_DIRECTION": b"write",
        b"TFTP_FILE": EVIL,
        b"TFTP_PATH": bytes(root.resolve()) + b"/" + EVIL,
        b"TFTP_OCTETS": b"6",
        b"TFTP_OUTCOME": b"completed",
    }


@linux
def test_hook_that_never_ends_is_killed(root: Path, tmp_path: Path) -> None:
    """It and its children get SIGTERM; the log has one line, and the daemon goes on."""
    script = Script(tmp_path, "hook", "sleep 1000 & echo $! >$dir/child; wait")
    with serving(root, "--on-transfer", str(script), "--hook-time", "0.5") as daemon:
        fetch(daemon)
        daemon.wait_for_line(
            f'on-transfer {script} failed after read "file" from {LOCALHOST}:[0-9]+: not '
            r"finished after 0.5 s \(--hook-time\), ended$"
        )
        child = (tmp_path / "child").read_text().strip()
        before = daemon.descriptors()
        fetch(daemon)
        state = Path(f"/proc/{child}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
        _wait_until(lambda: daemon.descriptors() <= before)
        daemon.stop()
        assert_ended_well(daemon)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo 'no\033 room' >&2; exit 3", r"exit status 3: no\\x1b room$"),
        ("kill -9 $$", "ended by SIGKILL$"),
    ],
)
def test_failure_is_one_line(root: Path, tmp_path: Path, text: str, reason: str) -> None:
    """It has the name of the program, the transfer and the last line of standard error."""
    script = Script(tmp_path, "hook", text)
    with serving(root, "--on-transfer", str(script)) as daemon:
        fetch(daemon)
        daemon.wait_for_line(f'on-transfer {script} failed after read "file" from .*: {reason}')
        daemon.stop()
        assert_ended_well(daemon)
    assert len([line for line in daemon.lines if "on-transfer" in line]) == 1


def test_program_that_vanishes_is_logged(root: Path, tmp_path: Path) -> None:
    """It was there at the start."""
    script = Script(tmp_path, "hook", "")
    with serving(root, "--on-transfer", str(script)) as daemon:
        script.path.unlink()
        fetch(daemon)
        daemon.wait_for_line(f"on-transfer {script} failed .*: can't be started: No such file")
        daemon.stop()
        assert_ended_well(daemon)


def most_at_once(lines: Iterable[str]) -> int:
    """Return how many hooks ran at once: each writes `+` when it starts and `-` at its end."""
    running = most = 0
    for line in lines:
        running += 1 if line == "+" else -1
        most = max(most, running)
    return most


@linux
def test_storm_runs_two_hooks_at_once(root: Path, tmp_path: Path) -> None:
    """All are run in the end; no process and no descriptor is left."""
    script = Script(tmp_path, "hook", "echo + >>$dir/marks; sleep 0.02; echo - >>$dir/marks")
    marks = tmp_path / "marks"
    options = ("--on-transfer", str(script), "--hook-processes", "2")
    with serving(root, *options) as daemon, ThreadPoolExecutor(30) as pool:
        fetch(daemon)
        wait_for_text(marks, "+\n-\n")
        before = daemon.descriptors()
        for each in [pool.submit(fetch, daemon) for _ in range(STORM - 1)]:
            each.result(TIMEOUT)
        wait_for_text(marks, "+\n")
        _wait_until(lambda: marks.read_text().count("-") == STORM)
        _wait_until(lambda: children_of(daemon.process.pid) == [])
        _wait_until(lambda: daemon.descriptors() <= before)
        daemon.stop()
        assert_ended_well(daemon)
    assert most_at_once(marks.read_text().split()) == 2
    assert "on-transfer" not in daemon.log


def _wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for a change that is no event for this process."""
    pause = threading.Event()
    for _ in range(int(TIMEOUT / 0.02)):
        if is_true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen in time")


def test_full_queue_is_logged(root: Path, tmp_path: Path) -> None:
    """Transfers go on."""
    script = Script(
        tmp_path, "hook", "until test -e $dir/go; do sleep 0.02; done; echo >>$dir/ran"
    )
    options = ("--on-transfer", str(script), "--hook-processes", "1", "--hook-queue", "2")
    with serving(root, *options) as daemon:
        for _ in range(10):
            fetch(daemon)
        daemon.wait_for_line("on-transfer was not run for 1 transfers: 2 hooks are waiting")
        (tmp_path / "go").touch()
        wait_for_text(tmp_path / "ran", "\n\n\n")
        daemon.stop()
        assert_ended_well(daemon)
    assert (tmp_path / "ran").read_text() == "\n" * 3
    daemon.wait_for_line("on-transfer was not run for 6 transfers")


def test_stop_waits_for_hooks(root: Path, tmp_path: Path) -> None:
    """Those that have not been started are run too."""
    script = Script(tmp_path, "hook", "touch $dir/began; sleep 0.3; echo >>$dir/ran")
    with serving(root, "--on-transfer", str(script), "--hook-processes", "1") as daemon:
        for _ in range(3):
            fetch(daemon)
        wait_for_text(tmp_path / "began", "")
        daemon.stop()
        assert_ended_well(daemon)
    assert (tmp_path / "ran").read_text() == "\n" * 3
    daemon.wait_for_line("waiting for 1 hooks, and 2 that have not been started")


@linux
def test_second_signal_kills_hooks(root: Path, tmp_path: Path) -> None:
    """The daemon ends soon, and says which hooks were lost."""
    script = Script(tmp_path, "hook", "trap '' TERM; echo $$ >$dir/pid; sleep 1000")
    with serving(root, "--on-transfer", str(script), "--hook-processes", "1") as daemon:
        fetch(daemon)
        fetch(daemon)
        pid = wait_for_text(tmp_path / "pid", "\n").strip()
        daemon.terminate()
        daemon.wait_for_line("waiting for 1 hooks")
        daemon.stop()
        assert_ended_well(daemon)
    daemon.wait_for_line("the server stops: 1 hooks were killed, 1 were not run")
    state = Path(f"/proc/{pid}/stat")
    _wait_until(
        lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    )


#: A configuration with a hook, whose path is relative.
CONFIGURATION = """\
[tftp]
host = ["127.0.0.1"]
port = PORT
root = "root"
on_transfer = ["./first", "x"]
"""


def test_sighup_changes_hooks(root: Path, tmp_path: Path) -> None:
    """A hook that runs goes on; one that can't be run keeps the old configuration."""
    Script(
        tmp_path, "first", "until test -e $dir/go; do sleep 0.02; done; echo $1 >>$dir/first.out"
    )
    Script(tmp_path, "second", "echo $1 >>$dir/second.out")
    with ConfiguredDaemon(tmp_path, CONFIGURATION) as daemon:
        fetch(daemon)
        daemon.reload(CONFIGURATION.replace("first", "second"))
        fetch(daemon)
        wait_for_text(tmp_path / "second.out", "x\n")
        mark = daemon.reload(
            CONFIGURATION.replace("first", "third"), "the old configuration stays"
        )
        daemon.wait_for_line(
            f"{daemon.path}:5: .tftp. on_transfer: there is no program '{tmp_path}/./third'",
            start=mark,
        )
        (tmp_path / "go").touch()
        wait_for_text(tmp_path / "first.out", "x\n")
        daemon.reload(CONFIGURATION.replace("on_transfer", "#"))
        fetch(daemon)
        daemon.stop()
        assert_ended_well(daemon)
    assert (tmp_path / "first.out").read_text() == (tmp_path / "second.out").read_text() == "x\n"


#: A configuration in which an upload passes a client rule, a rate, a mount and versions.
FARM = """\
[tftp]
host = ["127.0.0.1"]
port = PORT
max_rate = "10M/s"
on_upload = ["./hook"]

[[mount]]
prefix = "/configs"
backend = "filesystem:root"
write = "version"

[[client]]
network = "127.0.0.0/8"
max_rate = "5M/s"
"""


@linux
@pytest.mark.parametrize("mode", [b"octet", b"netascii"])
def test_path_of_a_version_passes_all_wrappers(root: Path, tmp_path: Path, mode: bytes) -> None:
    """The hook gets the path of the version, not that of the link, and the name as asked for."""
    Script(
        tmp_path, "hook", 'printf "%s\\n" "$TFTP_FILE" "$TFTP_PATH" >$dir/p; mv $dir/p $dir/out'
    )
    with ConfiguredDaemon(tmp_path, FARM) as daemon:
        store(daemon, b"/configs/sw1", mode)
        name, path = wait_for_text(tmp_path / "out", "\n").splitlines()
        daemon.stop()
        assert_ended_well(daemon)
    assert name == "/configs/sw1"
    assert Path(path) == (root / "sw1").resolve()
    assert Path(path).name.startswith("sw1.2")
    assert Path(path).read_bytes() == b"octets"


def test_program_is_checked_at_the_start(root: Path, tmp_path: Path) -> None:
    """`--check` finds it too, and tells the place."""
    path = tmp_path / "tftp.toml"
    path.write_text(CONFIGURATION.replace("PORT", "0"))
    ended = run_twistd("--config", str(path), "--check")
    assert ended.returncode == 1
    problem = f"there is no program '{tmp_path}/./first'\n"
    assert ended.stderr == f"{path}:5: [tftp] on_transfer: {problem}"
    command = [str(TWISTD), "-n", "--pidfile=", "tftp", "--config", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ended.returncode == 1
    assert re.search(rf"tftp: on-transfer: {re.escape(problem)}", ended.stderr)
    assert "Traceback" not in ended.stdout + ended.stderr
