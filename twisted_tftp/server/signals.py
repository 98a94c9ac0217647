"""The signal handlers of the daemon: SIGHUP, SIGUSR1, and a second SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from twisted.logger import ILogObserver, Logger

from twisted_tftp.server.log_output import FileObserver, ReopenableFile, SyslogObserver
from twisted_tftp.server.service import TFTPService

#: A signal handler.
Handler = Callable[[int, FrameType | None], Any]


class Signals:
    """The signal handlers of the process.

    SIGHUP reopens the log and reloads the service. SIGUSR1 rotates the log. A second
    SIGTERM or SIGINT stops the service without waiting for transfers. (The handlers of twistd
    ignore a second SIGTERM or SIGINT. Without a handler, SIGHUP would end the process.)

    @ivar log_path: the path of the file that `open_log` opens; `-` for standard output.
    @ivar syslog_prefix: the name of this program in syslog, for `open_syslog`.
    """

    _log = Logger()

    def __init__(self) -> None:
        """Set up, without installing handlers; L{install} does that."""
        self.log_path = "-"
        self.syslog_prefix = ""
        self._reactor: Any = None
        self._log_file: ReopenableFile | None = None
        self._service: TFTPService | None = None
        self._reload_service: Callable[[], object] = self._clear_caches
        self._is_stopping = False

    def open_log(self) -> ILogObserver:
        """Return a log observer that writes to a file, as twistd's does; SIGUSR1 rotates it.

        @raise SystemExit: the file can't be opened; the text says why.
        """
        if self.log_path == "-":
            return FileObserver(sys.stdout)
        path = os.path.abspath(self.log_path)
        try:
            log_file = self._log_file = ReopenableFile(path)
        except OSError as error:
            sys.exit(f"tftp: can't open the log {path}: {error.strerror}")
        if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR1, self._handle_sigusr1)
        return FileObserver(log_file)

    def open_syslog(self) -> ILogObserver:
        """Return a log observer that writes to syslog."""
        return SyslogObserver(self.syslog_prefix)

    def install(
        self, reactor: Any, service: TFTPService, reload: Callable[[], object] | None = None
    ) -> None:
        """Install the handlers when `reactor` runs; they call `service` in its thread.

        @param reload: called at SIGHUP, after the log was reopened; it logs what it has done. None
            to clear the caches of the service.
        """
        self._reactor = reactor
        self._service = service
        if reload is not None:
            self._reload_service = reload
        if not _has_terminal():
            # Until the reactor runs, its calls wait.
            signal.signal(signal.SIGHUP, self._handle_sighup)
        # When the reactor runs, a daemon has left its terminal, and the reactor has installed its
        # own handlers.
        reactor.callWhenRunning(self._install_now)

    def _install_now(self) -> None:
        """Install the handlers for SIGHUP, SIGTERM and SIGINT, and check the log's folder.

        At a terminal, SIGHUP keeps its usual effect: it reports that the terminal was closed. The
        handlers for SIGTERM and SIGINT call those of the reactor for the first signal.
        """
        if self._log_file is not None:
            self._log_file.warn_if_folder_is_not_writable()
        if not _has_terminal():
            signal.signal(signal.SIGHUP, self._handle_sighup)
        for number in (signal.SIGTERM, signal.SIGINT):
            first = signal.getsignal(number)
            if callable(first):
                signal.signal(number, partial(self._handle_stop, first))

    def _handle_sigusr1(self, number: int, frame: FrameType | None) -> None:
        """Rotate the log."""
        if self._log_file is not None:
            self._reactor.callFromThread(self._log_file.rotate)

    def _handle_sighup(self, number: int, frame: FrameType | None) -> None:
        """Reopen the log and reload the service, in the reactor's thread."""
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        if self._log_file is not None:
            try:
                self._log_file.reopen()
            except OSError as error:
                self._log.warn(
                    "SIGHUP: the log can't be reopened, still writing to the old file: {error}",
                    error=error,
                )
            else:
                self._log.info("SIGHUP: the log was reopened")
        self._reload_service()

    def _clear_caches(self) -> None:
        if self._service is not None:
            self._service.reload()
            self._log.info("SIGHUP: the file caches were cleared")

    def _handle_stop(self, first: Handler, number: int, frame: FrameType | None) -> None:
        """Call `first`, the reactor's handler, at the first signal; at the next, stop at once."""
        if not self._is_stopping:
            self._is_stopping = True
            first(number, frame)
        elif self._service is not None:
            self._reactor.callFromThread(self._service.stop_now)


def _has_terminal() -> bool:
    """Return whether a standard stream of the process is a terminal."""
    return any(
        stream is not None and stream.isatty()
        for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    )


#: The handlers of this process; there can be only one set of them.
signals = Signals()

#: The factories of the log observers; twistd finds them by these names.
open_log = signals.open_log
open_syslog = signals.open_syslog
