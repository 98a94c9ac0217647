"""Tell the operator in one line why the service cannot start, wherever its output goes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class ErrorOutput:
    """The standard error of the command that starts the service.

    `twistd` replaces `sys.stderr` by its log. As a daemon it also connects descriptor 2 to
    /dev/null, and tells the parent process only the first 100 octets of an error. So a duplicate
    of descriptor 2 is kept until the service runs.

    @ivar log_is_shown: whether the log goes to standard output, where the operator sees it too.
    """

    def __init__(self) -> None:
        self.log_is_shown = False
        self._kept: int | None = None
        self._kept_by = 0  # the process that has made the duplicate

    @property
    def is_replaced(self) -> bool:
        """Whether this process is the daemon: only the duplicate leads to the command's output."""
        return self._kept is not None and self._kept_by != os.getpid()

    def keep(self) -> None:
        """Duplicate descriptor 2; call this before the process becomes a daemon by two forks.

        Programs that the daemon executes do not inherit it.
        """
        if self._kept is None:
            with suppress(OSError):  # there is no standard error
                self._kept = os.dup(2)
                self._kept_by = os.getpid()

    def release(self) -> None:
        """Close the duplicate: the service has started."""
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None

    def write(self, text: str) -> bool:
        """Write a line, and return True; return False if `sys.stderr` is the right place."""
        line = f"{text}\n"
        if self._kept is not None and self.is_replaced:
            with suppress(OSError):  # the terminal was closed
                os.write(self._kept, line.encode("utf-8", "backslashreplace"))
            return True
        if sys.__stderr__ is None or sys.stderr is sys.__stderr__:
            return False
        sys.__stderr__.write(line)
        sys.__stderr__.flush()
        return True


#: The standard error of this process; there is only one.
error_output = ErrorOutput()


class StartError(SystemExit, Exception):
    """The service cannot start; the text is one line that tells the operator why.

    Because it is a SystemExit, it ends the process with exit status 1 and without a traceback.
    Because it is an Exception too, twistd removes its pid file. The text is written to the
    standard error of the command, and Python writes it to `sys.stderr`, which is the log, unless
    the operator would see it twice.

    @ivar text: the line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        if error_output.write(text) and error_output.log_is_shown:
            self.code = 1  # Python then prints nothing

    def __str__(self) -> str:
        """Return the text; as a daemon, a short one, which twistd writes below the text."""
        return "the line above is the reason" if error_output.is_replaced else self.text
