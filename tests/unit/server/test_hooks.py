"""Tests of the hooks: when they are run, with which facts, and their limits; without processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.logs import captured_log
from twisted_tftp.context import Direction, Endpoint, Outcome, TransferContext, TransferStatistics
from twisted_tftp.server.hooks import (
    HOOK_PATH,
    MAX_FAILURE_LINES,
    HookObserver,
    HookRunner,
    HookSettings,
)
from twisted_tftp.server.log_limit import INTERVAL
from twisted_tftp.testing import Recorder

#: Both hooks, each with an argument.
BOTH = HookSettings(("upload", "-u"), ("transfer", "-t"), processes=2, time_limit=7, queue_size=3)

#: A name with everything that a shell, a log or an environment could misunderstand.
EVIL = b"a b/$(x)`y`;\"'\\\n=\xff\x1b%s{0}"


class Process:
    """The process of a hook, which ends when the test says so."""

    def __init__(
        self,
        command: tuple[str, ...],
        environment: dict[bytes, bytes],
        time_limit: float,
        on_end: Callable[[Any, str], None],
        reactor: Any,
    ) -> None:
        self.command = command
        self.environment = environment
        self.time_limit = time_limit
        self.is_killed = False
        self._on_end = on_end

    def end(self, failure: str = "") -> None:
        self._on_end(self, failure)

    def kill(self) -> None:
        self.is_killed = True


class Hooks:
    """Hooks in memory.

    @ivar started: all processes that were started.
    @ivar error: what the next starts raise; None to succeed.
    """

    def __init__(self, settings: HookSettings = BOTH) -> None:
        self.clock = Clock()
        self.started: list[Process] = []
        self.error: Exception | None = None
        self.runner = HookRunner(self.clock, settings, self._launch)
        self.recorder = Recorder()
        self.observer = HookObserver(self.recorder, settings, self.runner)

    def _launch(self, *arguments: Any) -> Process:
        if self.error is not None:
            raise self.error
        self.started.append(Process(*arguments))
        return self.started[-1]

    @property
    def names(self) -> list[str]:
        """The programs that were started, and the names of the files."""
        return [
            f"{each.command[0]} {each.environment[b'TFTP_FILE'].decode()}" for each in self.started
        ]

    def finish(self, name: bytes = b"f", **values: Any) -> None:
        """Let a transfer end."""
        self.observer.finished(statistics(name, **values))


def statistics(
    name: bytes = b"f",
    direction: Direction = Direction.READ,
    outcome: Outcome = Outcome.COMPLETED,
    stored_path: bytes | None = None,
) -> TransferStatistics:
    context = TransferContext(Endpoint("fe80::1%eth0", 2000), None, direction, name, "octet", {})
    return TransferStatistics(
        context, 0.0, octets=12, ended=1.0, outcome=outcome, stored_path=stored_path
    )


@pytest.fixture
def hooks() -> Hooks:
    return Hooks()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return the lines that are logged."""
    with captured_log() as found:
        yield found


def test_facts_are_in_the_environment_only(hooks: Hooks) -> None:
    """Names arrive as they were sent; the command stays as the operator gave it."""
    hooks.finish(EVIL, direction=Direction.WRITE, stored_path=b"/srv/" + EVIL)
    upload, transfer = hooks.started
    assert (upload.command, transfer.command) == (("upload", "-u"), ("transfer", "-t"))
    assert (
        upload.environment
        == transfer.environment
        == {
            b"PATH": HOOK_PATH.encode(),
            b"TFTP_PEER": b"fe80::1%eth0",
            b"TFTP_PORT": b"2000",
            b"TFTP_DIRECTION": b"write",
            b"TFTP_FILE": EVIL,
            b"TFTP_PATH": b"/srv/" + EVIL,
            b"TFTP_OCTETS": b"12",
            b"TFTP_OUTCOME": b"completed",
        }
    )
    assert upload.time_limit == 7


def test_unknown_path_is_absent(hooks: Hooks) -> None:
    """A read has none, and an upload only if the backend tells it."""
    hooks.finish()
    hooks.finish(direction=Direction.WRITE)
    assert [b"TFTP_PATH" in each.environment for each in hooks.started] == [False] * 2


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("direction", Direction)
def test_upload_hook_runs_for_complete_uploads_only(
    hooks: Hooks, direction: Direction, outcome: Outcome
) -> None:
    """The other hook runs after every transfer."""
    hooks.finish(direction=direction, outcome=outcome)
    is_upload = direction is Direction.WRITE and outcome is Outcome.COMPLETED
    assert hooks.names == ["upload f"] * is_upload + ["transfer f"]
    assert hooks.started[-1].environment[b"TFTP_OUTCOME"] == outcome.value.encode()


def test_hook_without_command_is_not_run() -> None:
    """Each of the two may be missing."""
    for settings, names in (
        (HookSettings(on_upload=("upload",)), ["upload f"]),
        (HookSettings(on_transfer=("transfer",)), ["transfer f"]),
        (HookSettings(), []),
    ):
        hooks = Hooks(settings)
        hooks.finish(direction=Direction.WRITE)
        assert hooks.names == names


def test_wrapped_observer_gets_all_calls(hooks: Hooks) -> None:
    """Its exceptions do not keep hooks from running."""
    transfer = statistics()
    for event in ("started", "progressed", "finished"):
        getattr(hooks.observer, event)(transfer)
    assert hooks.recorder.events == [
        (event, transfer) for event in ("started", "progressed", "finished")
    ]

    class Broken(Recorder):
        def finished(self, statistics: TransferStatistics) -> None:
            raise RuntimeError("broken")

    observer = HookObserver(Broken(), BOTH, hooks.runner)
    with pytest.raises(RuntimeError):
        observer.finished(transfer)
    assert hooks.names == ["transfer f"] * 2


def test_hooks_wait_for_one_another(hooks: Hooks) -> None:
    """Two run at once, the others in order, and uploads first."""
    for name in (b"1", b"2", b"3", b"4"):
        hooks.finish(name)
    hooks.finish(b"new", direction=Direction.WRITE)
    assert hooks.names == ["transfer 1", "transfer 2"]
    assert (hooks.runner.running, hooks.runner.waiting) == (2, 4)
    for process in hooks.started:  # those that are started meanwhile too
        process.end()
    assert hooks.names[2:] == ["upload new", "transfer 3", "transfer 4", "transfer new"]
    assert (hooks.runner.running, hooks.runner.waiting) == (0, 0)


def test_full_queue_drops_hooks(hooks: Hooks, lines: list[str]) -> None:
    """They are counted, with one line now and one for the rest of the minute."""
    for _ in range(2 + 3 + 5):
        hooks.finish()
    assert hooks.runner.dropped == 5
    text = "on-transfer was not run for {} transfers: 3 hooks are waiting (--hook-queue)"
    assert lines == [text.format(1)]
    hooks.clock.advance(INTERVAL)
    assert lines == [text.format(1), text.format(4)]
    hooks.finish(b"new", direction=Direction.WRITE)
    for process in hooks.started:
        process.end()
    assert "upload new" in hooks.names, "the queue of transfers is full, not that of uploads"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "transfer"),
            "No such file or directory",
        ),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_hook_that_cannot_be_started_is_logged(
    hooks: Hooks,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    """The next ones are started later, not in one turn of the reactor."""
    turns: list[Callable[[], None]] = []
    monkeypatch.setattr(
        hooks.clock, "callLater", lambda _, function, *rest: turns.append(partial(function, *rest))
    )
    hooks.error = error
    for _ in range(5):
        hooks.finish(b'"\n')
    assert (len(turns), hooks.runner.waiting, lines) == (2, 3, [])
    for turn in turns[:2]:
        turn()
    assert (len(turns), hooks.runner.waiting) == (4, 1)
    hooks.error = None
    for turn in turns[2:]:
        turn()
    assert (
        lines
        == [
            r'on-transfer transfer failed after read "\x22\x0a" from [fe80::1%eth0]:2000: '
            f"can't be started: {reason}"
        ]
        * 4
    )
    assert len(hooks.started) == 1


def test_failures_are_logged_escaped_and_limited(hooks: Hooks, lines: list[str]) -> None:
    """Above the limit they are counted."""
    for _ in range(MAX_FAILURE_LINES + 5):
        hooks.finish()
        hooks.started[-1].end("exit status 1: \x1b[2J\n" + "x" * 5000)
    assert len(lines) == MAX_FAILURE_LINES
    assert r"exit status 1: \x1b[2J\x0axxx" in lines[0]
    assert len(lines[0]) < 1500
    hooks.clock.advance(INTERVAL)
    assert lines[MAX_FAILURE_LINES:] == ["further failed hooks: 5"]


def test_success_is_not_logged(hooks: Hooks, lines: list[str]) -> None:
    """The transfer has its own line."""
    hooks.finish()
    hooks.started[0].end()
    assert lines == []


def test_new_limits_hold_at_once(hooks: Hooks) -> None:
    """A hook that waits keeps its command, and running ones go on."""
    for name in (b"1", b"2", b"3", b"4"):
        hooks.finish(name)
    hooks.runner.settings = HookSettings(on_transfer=("new",), processes=1, time_limit=9)
    hooks.started[0].end()
    assert len(hooks.started) == 2
    hooks.started[1].end()
    assert hooks.names == ["transfer 1", "transfer 2", "transfer 3"]
    assert hooks.started[2].time_limit == 9


def stop(hooks: Hooks) -> tuple[Deferred[None], list[Any]]:
    """Stop; return the Deferred and the list of its results."""
    results: list[Any] = []
    stopping = hooks.runner.stop()
    stopping.addBoth(results.append)
    return stopping, results


def test_stop_waits_for_running_and_waiting_hooks(hooks: Hooks, lines: list[str]) -> None:
    """Without any it waits for nothing."""
    assert stop(hooks)[1] == [None]
    assert lines == []
    for _ in range(3):
        hooks.finish()
    _, results = stop(hooks)
    assert lines == ["waiting for 2 hooks, and 1 that have not been started"]
    for number in range(3):
        assert results == []
        hooks.started[number].end()
    assert results == [None]


def test_cancelled_stop_kills_hooks(hooks: Hooks, lines: list[str]) -> None:
    """Those that wait are not run; what was only counted is logged."""
    for _ in range(7):
        hooks.finish()
    stopping, results = stop(hooks)
    stopping.cancel()
    assert results == [None]
    assert [each.is_killed for each in hooks.started] == [True, True]
    assert hooks.runner.dropped == 5
    assert lines[2:] == [
        "the server stops: 2 hooks were killed, 3 were not run",
        "on-transfer was not run for 1 transfers: 3 hooks are waiting (--hook-queue)",
    ]
    for process in hooks.started:
        process.end("ended by SIGKILL")
    assert len(hooks.started) == 2


def test_problems_name_programs_that_cannot_be_run(tmp_path: Any) -> None:
    """They must exist and be executable; names are looked for in the path of hooks."""
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    runnable = tmp_path / "runnable"
    runnable.write_text("#!/bin/sh\n")
    runnable.chmod(0o755)

    def problems(program: str) -> list[str]:
        return [text for _, text in HookSettings(on_upload=(program, "x")).problems()]

    assert problems(str(runnable)) == problems("sh") == []
    assert problems(str(plain)) == [f"'{plain}' is not an executable file"]
    assert problems(str(tmp_path)) == [f"'{tmp_path}' is not an executable file"]
    assert problems("/no/such") == ["there is no program '/no/such'"]
    assert problems("no-such-program") == [f"there is no program 'no-such-program' in {HOOK_PATH}"]
