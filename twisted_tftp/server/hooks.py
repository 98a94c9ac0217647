"""Run commands of the operator, the hooks, after uploads and other transfers.

What comes from the network is only in the environment of a hook, never in its arguments. The
number of running hooks, of waiting hooks and of log lines is limited.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from twisted_tftp.context import Direction, Outcome, TransferStatistics
from twisted_tftp.interfaces import ITransferObserver
from twisted_tftp.protocol.printable import printable
from twisted_tftp.server import reasons
from twisted_tftp.server.hook_process import HookProcess
from twisted_tftp.server.log_limit import LogLimit

#: Where the programs of hooks are looked for; it is `PATH` in their environment too.
HOOK_PATH = "/usr/local/bin:/usr/bin:/bin"

#: The most log lines about failed hooks in a minute.
MAX_FAILURE_LINES = 100

#: The default of `processes` in L{HookSettings}.
DEFAULT_PROCESSES = 4

#: The default of `time_limit` in L{HookSettings}, in seconds.
DEFAULT_TIME_LIMIT = 60.0

#: The default of `queue_size` in L{HookSettings}.
DEFAULT_QUEUE_SIZE = 1000


class Hook(Enum):
    """The hooks; the value is the name of the option."""

    #: After each complete upload.
    ON_UPLOAD = "on-upload"
    #: After the end of each transfer.
    ON_TRANSFER = "on-transfer"


@dataclass(frozen=True)
class HookSettings:
    """The commands of the hooks, and their limits.

    @ivar on_upload: a program and its arguments; empty for no hook.
    @ivar on_transfer: the same.
    @ivar processes: how many hooks may run at once, at least 1.
    @ivar time_limit: how long a hook may run, in seconds.
    @ivar queue_size: how many hooks of each kind may wait.
    """

    on_upload: tuple[str, ...] = ()
    on_transfer: tuple[str, ...] = ()
    processes: int = DEFAULT_PROCESSES
    time_limit: float = DEFAULT_TIME_LIMIT
    queue_size: int = DEFAULT_QUEUE_SIZE

    @property
    def commands(self) -> dict[Hook, tuple[str, ...]]:
        """The command of each hook that there is."""
        all_commands = {Hook.ON_UPLOAD: self.on_upload, Hook.ON_TRANSFER: self.on_transfer}
        return {hook: command for hook, command in all_commands.items() if command}

    def problems(self) -> Iterator[tuple[Hook, str]]:
        """Return the hooks whose programs can't be run, and why."""
        for hook, (program, *_) in self.commands.items():
            if shutil.which(program, path=HOOK_PATH) is None:
                yield hook, _why_not_runnable(program)


def _why_not_runnable(program: str) -> str:
    if "/" not in program:
        return f"there is no program {program!r} in {HOOK_PATH}"
    if not os.path.exists(program):
        return f"there is no program {program!r}"
    return f"{program!r} is not an executable file"


def environment_of(statistics: TransferStatistics) -> dict[bytes, bytes]:
    """Return the environment of the hooks of a transfer that has ended."""
    context, outcome = statistics.context, statistics.outcome
    assert outcome is not None
    variables = {
        b"PATH": HOOK_PATH.encode(),
        b"TFTP_PEER": os.fsencode(context.peer.host),
        b"TFTP_PORT": b"%d" % context.peer.port,
        b"TFTP_DIRECTION": context.direction.value.encode(),
        b"TFTP_FILE": context.filename,
        b"TFTP_OCTETS": b"%d" % statistics.octets,
        b"TFTP_OUTCOME": outcome.value.encode(),
    }
    if statistics.stored_path is not None:
        variables[b"TFTP_PATH"] = statistics.stored_path
    return variables


@dataclass(frozen=True)
class HookCall:
    """A hook to be run for a transfer.

    @ivar command: the program and its arguments.
    @ivar environment: all of its environment.
    @ivar subject: what the log says of the transfer.
    """

    hook: Hook
    command: tuple[str, ...]
    environment: dict[bytes, bytes]
    subject: str


@implementer(ITransferObserver)
class HookObserver:
    """An observer that runs hooks at the end of transfers; it passes all calls on.

    @ivar started: the method of the wrapped observer.
    @ivar progressed: the method of the wrapped observer.
    """

    started: Callable[[TransferStatistics], None]
    progressed: Callable[[TransferStatistics], None]

    def __init__(self, observer: Any, settings: HookSettings, runner: HookRunner) -> None:
        """Wrap an observer.

        @param observer: an L{ITransferObserver}.
        """
        self._observer = observer
        self._commands = settings.commands
        self._runner = runner
        self.started, self.progressed = observer.started, observer.progressed

    def finished(self, statistics: TransferStatistics) -> None:
        """Notify the wrapped observer, and run the hooks of the transfer."""
        try:
            self._observer.finished(statistics)
        finally:
            self._run_hooks(statistics)

    def _run_hooks(self, statistics: TransferStatistics) -> None:
        context = statistics.context
        environment = environment_of(statistics)
        name = reasons.shown(context.path)
        subject = f'{context.direction.value} "{name}" from {context.peer}'
        is_upload = (
            context.direction is Direction.WRITE and statistics.outcome is Outcome.COMPLETED
        )
        for hook, command in self._commands.items():
            if is_upload or hook is not Hook.ON_UPLOAD:
                self._runner.add(HookCall(hook, command, environment, subject))


class _NotStarted:
    """What stands for the process of a hook that can't be started."""

    def kill(self) -> None:
        """Do nothing."""


class HookRunner:
    """Runs hooks, some at once; the others wait in two queues, that of `on-upload` goes first.

    A flood of requests can fill the queue of `on-transfer` only.

    @ivar settings: the limits that hold now. A waiting hook keeps its own command.
    @ivar dropped: how many hooks were not run because too many were waiting, or at a stop.
    """

    _log = Logger(namespace="twisted_tftp")

    def __init__(
        self,
        reactor: Any,
        settings: HookSettings | None = None,
        launch: Callable[..., Any] = HookProcess,
    ) -> None:
        """Set up; nothing is run yet.

        @param reactor: an `IReactorTime`; see L{HookProcess}.
        @param launch: starts a process, as L{HookProcess} does.
        """
        self.settings = settings or HookSettings()
        self.dropped = 0
        self._reactor = reactor
        self._launch = launch
        self._waiting: dict[Hook, deque[HookCall]] = {hook: deque() for hook in Hook}
        self._running: dict[Any, HookCall] = {}
        self._idle: list[Deferred[None]] = []
        self._drop_limits = {
            hook: LogLimit(reactor, 1, partial(self._log_dropped, hook)) for hook in Hook
        }
        self._failure_limit = LogLimit(reactor, MAX_FAILURE_LINES, self._log_failures)

    @property
    def running(self) -> int:
        """How many hooks are running."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many hooks are waiting."""
        return sum(map(len, self._waiting.values()))

    def add(self, call: HookCall) -> None:
        """Run a hook: now, or later; drop it if too many are waiting."""
        if self.running < self.settings.processes and not self.waiting:
            self._start(call)
        elif len(self._waiting[call.hook]) < self.settings.queue_size:
            self._waiting[call.hook].append(call)
        else:
            self.dropped += 1
            if self._drop_limits[call.hook].take_line():
                self._log_dropped(call.hook, 1)

    def stop(self) -> Deferred[None]:
        """Wait until no hook runs or waits any more.

        If the Deferred is cancelled, the waiting hooks are dropped and the running ones killed.
        """
        if not self.running and not self.waiting:
            self._flush_log()
            return succeed(None)
        self._log.info(
            "waiting for {running} hooks, and {waiting} that have not been started",
            running=self.running,
            waiting=self.waiting,
        )
        idle: Deferred[None] = Deferred(lambda _: self._give_up())
        self._idle.append(idle)
        return idle

    def _give_up(self) -> None:
        """Drop the waiting hooks and kill the running ones."""
        waiting = self.waiting
        self._log.warn(
            "the server stops: {running} hooks were killed, {waiting} were not run",
            running=self.running,
            waiting=waiting,
        )
        self.dropped += waiting
        for queue in self._waiting.values():
            queue.clear()
        for process in list(self._running):
            process.kill()
        self._note_idle()

    def _start(self, call: HookCall) -> None:
        settings = self.settings
        try:
            process = self._launch(
                call.command,
                call.environment,
                settings.time_limit,
                self._note_end,
                self._reactor,
            )
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            # Later: if no hook can be started, a full queue would block the reactor.
            failed = _NotStarted()
            self._running[failed] = call
            self._reactor.callLater(0, self._note_end, failed, f"can't be started: {reason}")
        else:
            self._running[process] = call

    def _note_end(self, process: Any, failure: str) -> None:
        """Start the next hook.

        @param failure: why this one has failed; empty if it has not.
        """
        call = self._running.pop(process)
        if failure:
            self._log_failure(call, failure)
        self._start_waiting()
        if not self.running and not self.waiting:
            self._note_idle()

    def _start_waiting(self) -> None:
        for queue in self._waiting.values():
            while queue and self.running < self.settings.processes:
                self._start(queue.popleft())

    def _note_idle(self) -> None:
        idle, self._idle = self._idle, []
        if idle:
            self._flush_log()
        for each in idle:
            each.callback(None)

    def _log_failure(self, call: HookCall, failure: str) -> None:
        if self._failure_limit.take_line():
            self._log.warn(
                "{hook} {program} failed after {subject}: {reason}",
                hook=call.hook.value,
                program=printable(call.command[0]),
                subject=call.subject,
                reason=reasons.shown(failure),
            )

    def _log_failures(self, count: int) -> None:
        self._log.warn("further failed hooks: {count}", count=count)

    def _log_dropped(self, hook: Hook, count: int) -> None:
        self._log.warn(
            "{hook} was not run for {count} transfers: {limit} hooks are waiting (--hook-queue)",
            hook=hook.value,
            count=count,
            limit=self.settings.queue_size,
        )

    def _flush_log(self) -> None:
        for limit in (self._failure_limit, *self._drop_limits.values()):
            limit.flush()
