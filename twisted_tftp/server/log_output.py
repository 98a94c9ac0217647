"""Write the log: to a file that can be reopened, to standard output, or to syslog."""

from __future__ import annotations

import os
import stat
import syslog
from collections.abc import Callable
from typing import IO, Any

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEventAsClassicLogText,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from twisted_tftp.server.log_lines import LogLines

#: The priority in syslog for each level of the log. Unexpected exceptions have the level
#: `critical`; for these, it is the priority that Twisted's own observer uses.
_PRIORITIES = {
    LogLevel.debug: syslog.LOG_DEBUG,
    LogLevel.info: syslog.LOG_INFO,
    LogLevel.warn: syslog.LOG_WARNING,
    LogLevel.error: syslog.LOG_ERR,
    LogLevel.critical: syslog.LOG_ALERT,
}


class ReopenableFile:
    """A log file that can be reopened; if that fails, the old file stays in use.

    A new file gets the mode of the old one.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        """Open the file.

        @raise OSError: it can't be opened.
        """
        self._path = path
        self._file = LogFile.fromFullPath(path)

    def write(self, text: str) -> None:
        """Append to the file."""
        self._file.write(text)

    def flush(self) -> None:
        """Flush the file, as log observers expect; `LogFile` has no buffer."""
        self._file.flush()

    def rotate(self) -> None:
        """Rename the file, and continue in a new one."""
        self._file.defaultMode = self._mode()
        self._file.rotate()

    def reopen(self) -> None:
        """Continue in the file that has the path now; an existing file keeps its own mode.

        @raise OSError: the file can't be opened.
        """
        mode = None if os.path.exists(self._path) else self._mode()
        opened = LogFile.fromFullPath(self._path, defaultMode=mode)
        before, self._file = self._file, opened
        before.close()

    def warn_if_folder_is_not_writable(self) -> None:
        """Log a warning if this user may not create a log file there, as SIGHUP may have to."""
        folder = os.path.dirname(self._path)
        effective_ids = os.access in os.supports_effective_ids
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective_ids):
            self._log.warn(
                "the log folder {folder} is not writable by uid {uid}: after the log file was "
                "moved, SIGHUP can't create a new one",
                folder=folder,
                uid=os.geteuid(),
            )

    def _mode(self) -> int:
        """Return the mode of the open file, which may have another name now."""
        return stat.S_IMODE(os.fstat(self._file._file.fileno()).st_mode)


@implementer(ILogObserver)
class FileObserver:
    """A log observer that writes to a file as twistd does; each line has its own time stamp."""

    def __init__(self, file: Any) -> None:
        """Set up.

        @param file: an open text file, or a L{ReopenableFile}.
        """
        self._file: IO[str] = file
        self._observe = textFileLogObserver(file)

    def __call__(self, event: LogEvent) -> None:
        """Write an event."""
        lines = event.get("lines")
        if isinstance(lines, LogLines):
            self._file.write(lines.stamped())
            self._file.flush()
        else:
            self._observe(event)


@implementer(ILogObserver)
class SyslogObserver:
    """A log observer that writes to syslog, with the priority that fits the level of each event.

    (Twisted's own observer gives warnings the priority LOG_INFO.)
    """

    def __init__(self, prefix: str, send: Callable[[int, str], None] = syslog.syslog) -> None:
        """Set up.

        @param prefix: the name of the program in syslog.
        @param send: sends one line with a priority.
        """
        syslog.openlog(prefix, 0, syslog.LOG_USER)
        self._send = send

    def __call__(self, event: LogEvent) -> None:
        """Write an event; syslog adds the time stamps."""
        level = event.get("log_level", LogLevel.info)
        priority = _PRIORITIES.get(level, syslog.LOG_INFO)
        lines = event.get("lines")
        if isinstance(lines, LogLines):
            system = f"{event.get('log_namespace', '-')}#{level.name}"
            texts = [f"[{system}] {text}" for text in lines]
        else:
            whole = formatEventAsClassicLogText(event, formatTime=lambda _: "") or ""
            texts = whole.strip().split("\n")
        for text in texts:
            if text:
                self._send(priority, text)
