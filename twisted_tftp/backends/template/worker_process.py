"""One worker process, as the server sees it: the requests that it has, and its end."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from twisted_tftp.backends.template.frames import READY, Answer, FrameError, Limits, take_answers

#: How long a worker process may take to start, in seconds.
START_LIMIT = 30.0

#: The Python code of a process. Its arguments are a module with a function `main`, the folder, the
#: limits, and the search path for modules. It runs with `-I`, so that nothing of the environment
#: or the working directory has an effect.
PROGRAM = (
    "import sys; sys.path[:] = sys.argv[4:]; from importlib import import_module; "
    "import_module('twisted_tftp.backends.template.' + sys.argv[1]).main(*sys.argv[2:4])"
)

#: The environment of a worker.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

#: The end of the error output that is kept for the log, in octets.
MAX_ERROR_OUTPUT = 2000

#: The path of the modules, absolute: the process may change its working directory later.
_MODULE_PATH = [os.path.abspath(path) for path in sys.path]


def program_arguments(module: str, folder: str, limits: Limits) -> list[str]:
    """Return the command line of a process that runs a module.

    @param module: the name of a module of this package.
    """
    own = [module, folder, limits.to_json()]
    return [sys.executable, "-I", "-c", PROGRAM, *own, *_MODULE_PATH]


class RenderError(Exception):
    """A template was not rendered; the text says why."""


class Job:
    """A request for a worker, and the Deferred of its answer.

    @ivar request: the octets of the request.
    @ivar answered: fires with an L{Answer}, or fails with L{RenderError}.
    """

    __slots__ = ("answered", "request")

    def __init__(self, request: bytes, cancel: Callable[[Job], None]) -> None:
        """Set up.

        @param cancel: called if the Deferred is cancelled.
        """
        self.request = request
        self.answered: Deferred[Answer] = Deferred(lambda _: cancel(self))

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer."""
        return self.answered.called

    def succeed(self, answer: Answer) -> None:
        """Deliver the answer, unless nobody waits."""
        if not self.answered.called:
            self.answered.callback(answer)

    def fail(self, reason: str) -> None:
        """Report that there is no answer, unless nobody waits."""
        if not self.answered.called:
            self.answered.errback(RenderError(reason))


class WorkerOwner(Protocol):
    """What a worker tells its owner."""

    def on_ready(self, worker: WorkerProcess) -> None:
        """The worker can take a request: it has started, or has answered one."""

    def on_retired(self, worker: WorkerProcess, left: list[Job]) -> None:
        """The worker takes no more requests; `left` are those that it has not begun."""

    def on_ended(self, worker: WorkerProcess) -> None:
        """The process has ended and was reaped."""


class WorkerProcess(ProcessProtocol):
    """A worker process. It answers requests in the order in which they were sent.

    @ivar is_ready: whether the process has started.
    @ivar is_retired: whether it takes no more requests.
    @ivar end_reason: why it takes none.
    @ivar jobs: the requests that were sent and not answered.
    """

    def __init__(self, reactor: Any, folder: str, limits: Limits, owner: WorkerOwner) -> None:
        """Set up; `start` starts the process."""
        self._reactor = reactor
        self._folder = folder
        self._limits = limits
        self._owner = owner
        self._buffer = bytearray()
        self._error_output = b""
        self._deadline = 0.0
        self._alarm: Any = None
        self.is_ready = False
        self.is_retired = False
        self.end_reason = ""
        self.jobs: deque[Job] = deque()

    def start(self) -> None:
        """Start the process.

        @raise OSError: it can't be started.
        """
        arguments = program_arguments("worker", self._folder, self._limits)
        self._reactor.spawnProcess(
            self,
            arguments[0],
            arguments,
            env=ENVIRONMENT,
            path="/",
            childFDs={0: "w", 1: "r", 2: "r"},  # all other descriptors are closed
        )
        self._set_deadline(START_LIMIT)

    def send(self, job: Job) -> None:
        """Send a request."""
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._set_deadline(self._limits.seconds)
        assert self.transport is not None  # the process has started
        self.transport.write(job.request)

    def retire(self, reason: str) -> None:
        """Kill the process; the request that it is working on fails with `reason`."""
        if self.is_retired:
            return
        self.is_retired = True
        self.end_reason = reason
        self._cancel_alarm()
        if self.transport is not None and self.transport.pid:
            self.transport.signalProcess("KILL")
            self.transport.loseConnection()
        left = [job for job in self.jobs if not job.is_cancelled]
        if self.jobs and left and left[0] is self.jobs[0]:
            left.pop(0).fail(reason)
        self.jobs.clear()
        self._owner.on_retired(self, left)

    # -- called by Twisted -----------------------------------------------------------------

    def outReceived(self, data: bytes) -> None:
        """Deliver answers."""
        self._buffer += data
        try:
            for answer in take_answers(self._buffer, self._limits.output):
                if self.is_retired:
                    return
                self._receive(answer)
        except (FrameError, LookupError) as error:
            self.retire(str(error))

    def errReceived(self, data: bytes) -> None:
        """Keep the end of the error output."""
        self._error_output = (self._error_output + data)[-MAX_ERROR_OUTPUT:]

    def processEnded(self, reason: Failure) -> None:
        """Report the end of the process: it has crashed, unless `retire` has killed it.

        It was reaped, and all that it has written was received.
        """
        lines = self._error_output.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self.retire(f"its process has ended: {last or _end_of(reason.value)}")
        self._owner.on_ended(self)

    # -- internal --------------------------------------------------------------------------

    def _receive(self, answer: Answer) -> None:
        if READY in answer.header:
            self.is_ready = True
        else:
            self.jobs.popleft().succeed(answer)
            if answer.header.get("fatal"):
                self.retire("")
                return
        if self.jobs:
            self._set_deadline(self._limits.seconds)
        self._owner.on_ready(self)

    def _set_deadline(self, seconds: float) -> None:
        """Set when the process must have answered; the alarm is armed again when it goes off."""
        self._deadline = self._reactor.seconds() + seconds
        if self._alarm is None or self._alarm.getTime() > self._deadline:
            self._cancel_alarm()
            self._alarm = self._reactor.callLater(seconds, self._check_deadline)

    def _check_deadline(self) -> None:
        self._alarm = None
        if self.is_ready and not self.jobs:
            return
        left = self._deadline - self._reactor.seconds()
        if left > 0:
            self._alarm = self._reactor.callLater(left, self._check_deadline)
        elif self.is_ready:
            self.retire(f"it took longer than {self._limits.seconds:g} s")
        else:
            self.retire(f"its process did not start in {START_LIMIT:g} s")

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _end_of(error: Any) -> str:
    """Return how a process has ended."""
    if getattr(error, "signal", None):
        return f"signal {error.signal}"
    return f"exit code {getattr(error, 'exitCode', None)}"
