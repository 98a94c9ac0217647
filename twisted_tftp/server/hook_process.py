"""Run one hook: a command of the operator, in a process group of its own, with a time limit.

Twisted's `spawnProcess` can't start a new process group without a terminal. So the process is
started by `subprocess`, and Twisted's handler of SIGCHLD reports its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.process import reapProcessHandlers
from zope.interface import implementer

#: How long a hook may take to end after SIGTERM, before SIGKILL, in seconds.
KILL_DELAY = 5.0

#: The most octets that a hook may write to standard error. It is closed then.
MAX_ERROR_OUTPUT = 1024 * 1024

#: The octets at the end of standard error that are kept.
KEPT_ERROR_OUTPUT = 4096

#: The octets of one read of standard error.
_READ_SIZE = 64 * 1024


@implementer(IReadDescriptor)
class ErrorOutput:
    """The reader of what a hook writes to standard error; it keeps the end."""

    def __init__(self, pipe: IO[bytes], reactor: Any) -> None:
        """Read from `pipe`, an unbuffered file, until it ends.

        @param reactor: an `IReactorFDSet`.
        """
        self._pipe = pipe
        self._reactor = reactor
        self._end = b""
        self._octets = 0
        os.set_blocking(pipe.fileno(), False)
        reactor.addReader(self)

    @property
    def last_line(self) -> str:
        """The last line that is not empty; empty if there is none."""
        lines = self._end.decode("utf-8", "surrogateescape").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def fileno(self) -> int:
        """Return the descriptor; -1 if it is closed."""
        return -1 if self._pipe.closed else self._pipe.fileno()

    def logPrefix(self) -> str:
        """Return the name of this reader for the log of the reactor."""
        return "hook"

    def doRead(self) -> None:
        """Read what the hook has written; close the pipe at its end, or if it was too much."""
        self._read()

    def connectionLost(self, reason: object) -> None:
        """Close the pipe: the reactor can't read from it."""
        self.close()

    def read_rest(self) -> None:
        """Read what is left, without waiting, and close the pipe: the hook has ended."""
        while self._read():
            pass
        self.close()

    def close(self) -> None:
        """Close the pipe."""
        if not self._pipe.closed:
            self._reactor.removeReader(self)
            self._pipe.close()

    def _read(self) -> bool:
        """Read once; return whether there may be more."""
        if self._pipe.closed:
            return False
        octets = self._pipe.read(_READ_SIZE)
        if octets is None:  # nothing is there yet
            return False
        self._octets += len(octets)
        self._end = (self._end + octets)[-KEPT_ERROR_OUTPUT:]
        if not octets or self._octets > MAX_ERROR_OUTPUT:
            self.close()
        return not self._pipe.closed


class HookProcess:
    """A running hook.

    @ivar pid: the number of its process, and of its process group.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[bytes, bytes],
        time_limit: float,
        on_end: Callable[[HookProcess, str], None],
        reactor: Any,
    ) -> None:
        """Start the command, with nothing but `environment`, in the root directory.

        Standard input and output are /dev/null; no other descriptor is passed on.

        @param command: the program and its arguments.
        @param time_limit: seconds after which it is ended.
        @param on_end: called once with this object and the reason why the hook has failed; the
            reason is empty if it has not.
        @param reactor: an `IReactorTime` and `IReactorFDSet` whose handler of SIGCHLD is
            installed.
        @raise OSError: it can't be started.
        @raise ValueError: there is a NUL in an argument or in the environment.
        """
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self.pid = self._process.pid
        self._on_end = on_end
        self._reactor = reactor
        self._time_limit = time_limit
        self._is_overdue = False
        self._errors = ErrorOutput(self._process.stderr, reactor)
        self._timer = reactor.callLater(time_limit, self._handle_time_limit)
        # Twisted only calls `reapProcess`.
        reapProcessHandlers[self.pid] = self  # type: ignore[assignment]

    def kill(self) -> None:
        """End the hook and its children at once."""
        self._signal(signal.SIGKILL)

    def reapProcess(self) -> None:
        """Note the end, if the process has ended. Twisted calls this after each SIGCHLD."""
        with contextlib.suppress(ChildProcessError):  # another part of the program has waited
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.pid, flags) is None:
                return
            # The number of the group can't be used again before the process is waited for.
            self.kill()
        del reapProcessHandlers[self.pid]
        status = self._process.wait()
        self._errors.read_rest()
        if self._timer.active():
            self._timer.cancel()
        self._on_end(self, self._failure(status))

    def _handle_time_limit(self) -> None:
        """Ask the hook and its children to end; end them later if they do not."""
        self.reapProcess()  # the signal may have been missed
        if self._process.returncode is None:
            self._is_overdue = True
            self._timer = self._reactor.callLater(KILL_DELAY, self._kill_overdue)
            self._signal(signal.SIGTERM)

    def _kill_overdue(self) -> None:
        self.reapProcess()
        if self._process.returncode is None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _failure(self, status: int) -> str:
        """Return why the hook has failed, with the last line of its standard error; maybe empty.

        @param status: the exit status; for a signal, its negative number.
        """
        if self._is_overdue:
            reason = f"not finished after {self._time_limit:g} s (--hook-time), ended"
        elif status > 0:
            reason = f"exit status {status}"
        elif status < 0:
            reason = f"ended by {_signal_name(-status)}"
        else:
            return ""
        line = self._errors.last_line
        return f"{reason}: {line}" if line else reason


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
