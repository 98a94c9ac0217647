"""Tests of the processes of hooks, with real processes and timers that the test advances."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.process import reapAllProcesses, reapProcessHandlers
from twisted.internet.task import Clock

from tests.support.marks import linux
from tests.support.reactors import reactor, spin
from twisted_tftp.server.hook_process import KILL_DELAY, HookProcess

__all__ = ["reactor"]

#: The time limit of the hooks, in seconds of the clock of the test.
LIMIT = 60.0


class MixedReactor:
    """The readers of a real reactor, and the timers of a `Clock`."""

    def __init__(self, reactor: Any) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.addReader, self.removeReader = reactor.addReader, reactor.removeReader


class Running:
    """Hooks that are run by `/bin/sh`.

    @ivar failures: why each hook that has ended has failed.
    """

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.reactor = reactor
        self.mixed = MixedReactor(reactor)
        self.clock = self.mixed.clock
        self.folder = folder
        self.failures: list[str] = []

    def run(self, script: str, **environment: str) -> HookProcess:
        """Start a script, whose `$out` is a path in the folder of the test."""
        variables = {"PATH": os.environ["PATH"], "out": str(self.folder / "out"), **environment}
        encoded = {os.fsencode(name): os.fsencode(text) for name, text in variables.items()}
        return HookProcess(["/bin/sh", "-c", script], encoded, LIMIT, self._on_end, self.mixed)

    def _on_end(self, process: HookProcess, failure: str) -> None:
        self.failures.append(failure)

    def wait(self) -> str:
        """Wait until one has ended; return why it has failed."""
        spin(self.reactor, lambda: reapAllProcesses() or self.failures)
        return self.failures.pop()

    def wait_for_output(self) -> str:
        """Wait until the script has written a line to `$out`, and return it."""
        path = self.folder / "out"
        spin(self.reactor, lambda: path.exists() and path.read_text().endswith("\n"))
        return path.read_text().strip()


@pytest.fixture
def running(reactor: Any, tmp_path: Path) -> Iterator[Running]:
    """Return the hooks; nothing of them may be left at the end."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    running = Running(reactor, tmp_path)
    yield running
    assert running.failures == []
    assert running.clock.getDelayedCalls() == []
    assert not reapProcessHandlers
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid: int) -> None:
    limit = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < limit, f"process {pid} is still running"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("exit 0", ""),
        ("echo fine >&2", ""),
        ("exit 3", "exit status 3"),
        ("echo one >&2; printf ' two \\n\\n' >&2; exit 3", "exit status 3: two"),
        ("kill -9 $$", "ended by SIGKILL"),
        ("exec /no/such/program", None),
    ],
)
def test_end_is_reported(running: Running, script: str, failure: str | None) -> None:
    """A failure has the status or the signal, and the last line of standard error."""
    running.run(script)
    reported = running.wait()
    if failure is None:
        assert reported.startswith(("exit status 127: ", "exit status 126: "))
    else:
        assert reported == failure


def test_program_that_cannot_be_started_raises(running: Running, tmp_path: Path) -> None:
    """Nothing is left of it."""
    for command, error in (
        (["/no/such"], FileNotFoundError),
        ([str(tmp_path)], PermissionError),
        (["a\0b"], ValueError),
    ):
        with pytest.raises(error):
            HookProcess(command, {}, LIMIT, running._on_end, running.mixed)


@linux
def test_process_has_nothing_else(running: Running, tmp_path: Path) -> None:
    """It has no descriptor but the standard ones, its own group, and only the given variables."""
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        process = running.run(
            "{ ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]*\\) -> /\\1 /p'; cat /proc/$$/stat; pwd;"
            " env; } >$out.part; echo >>$out.part; mv $out.part $out"
        )
        assert running.wait() == ""
    finally:
        os.close(inherited)
    lines = (tmp_path / "out").read_text().splitlines()
    descriptors = dict(line.split(" ", 1) for line in lines if line[0:1] in "012" and "/" in line)
    assert {descriptors["0"], descriptors["1"]} <= {"/dev/null", f"{tmp_path}/out.part"}
    assert str(tmp_path) not in descriptors.values()
    (stat,) = [line for line in lines if line.startswith(f"{process.pid} (")]
    _, _, group, session = stat.rpartition(")")[2].split()[:4]
    assert int(group) == int(session) == process.pid
    assert "/" in lines
    variables = {line.partition("=")[0] for line in lines if "=" in line}
    assert variables - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "out"}


def test_environment_arrives_unchanged(running: Running, tmp_path: Path) -> None:
    """Also line breaks and octets that are not UTF-8."""
    name = b"a b/$(x)`y`;\"'\\\n=\xff\x1b"
    running.run('printf %s "$NAME" >$out', NAME=os.fsdecode(name))
    assert running.wait() == ""
    assert (tmp_path / "out").read_bytes() == name


@linux
def test_overdue_hook_is_ended_with_its_children(running: Running) -> None:
    """It gets SIGTERM, and so do its children."""
    running.run("sleep 1000 & echo $! >$out; wait")
    child = int(running.wait_for_output())
    running.clock.advance(LIMIT - 1)
    assert is_running(child)
    running.clock.advance(1)
    assert running.wait() == "not finished after 60 s (--hook-time), ended"
    wait_for_end(child)


@linux
def test_hook_that_ignores_sigterm_is_killed(running: Running) -> None:
    """It gets SIGKILL some seconds later."""
    running.run("trap '' TERM; sleep 1000 & echo $! >$out; echo stuck >&2; wait; wait; wait")
    child = int(running.wait_for_output())
    running.clock.advance(LIMIT)
    running.clock.advance(KILL_DELAY - 1)
    reapAllProcesses()
    assert running.failures == []
    assert is_running(child)
    running.clock.advance(1)
    assert running.wait() == "not finished after 60 s (--hook-time), ended: stuck"
    wait_for_end(child)


@linux
def test_children_end_with_the_hook(running: Running) -> None:
    """They would escape the limits; one that holds standard error open is not waited for."""
    running.run("sleep 1000 & echo $! >$out")
    child = int(running.wait_for_output())
    assert running.wait() == ""
    wait_for_end(child)


def test_end_is_found_without_sigchld(running: Running) -> None:
    """At the latest at the time limit."""
    process = running.run("exit 1")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    running.clock.advance(LIMIT)
    assert running.failures.pop() == "exit status 1"


def test_too_much_error_output_closes_it(running: Running) -> None:
    """A program that writes for ever gets SIGPIPE."""
    running.run("yes x >&2; exit 4")
    assert running.wait().startswith("exit status 4: ")


def test_kill_ends_the_hook_at_once(running: Running) -> None:
    """The end is reported as that of any signal."""
    running.run("sleep 1000").kill()
    assert running.wait() == f"ended by {signal.SIGKILL.name}"
