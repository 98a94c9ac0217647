"""Heed the signals of who runs the daemon: SIGHUP, and a second SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from twisted.logger import ILogObserver, Logger, textFileLogObserver
from twisted.python.logfile import LogFile

from twisted_tftp.service import TFTPService

#: What a signal is handled by.
Handler = Callable[[int, FrameType | None], Any]


class Signals:
    """SIGHUP opens the log anew and looks at the files anew; a second stop waits for nothing.

    twistd has its own handlers of SIGTERM and SIGINT, which take a second one for a mistake, and
    none of SIGHUP, which would end the process.

    @ivar log_path: what `open_log` opens.
    """

    _log = Logger()

    def __init__(self) -> None:
        """Take no signals before `serve` is called."""
        self.log_path = ""
        self._reactor: Any = None
        self._log_file: LogFile | None = None
        self._service: TFTPService | None = None
        self._stopping = False

    def open_log(self) -> ILogObserver:
        """Log to a file as twistd does, SIGUSR1 included, which rotates it."""
        log_file = self._log_file = LogFile.fromFullPath(os.path.abspath(self.log_path))
        if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR1, self._rotate)
        observer: ILogObserver = textFileLogObserver(log_file)
        return observer

    def serve(self, reactor: Any, service: TFTPService, foreground: bool) -> None:
        """Take the signals for `service`, in the loop of `reactor`.

        @param foreground: whether the process stays with its terminal, if it has one. Then SIGHUP
            means that the terminal is gone, and ends the process.
        """
        self._reactor = reactor
        self._service = service
        if not (foreground and _has_terminal()):
            signal.signal(signal.SIGHUP, self._hang_up)
        self._reactor.callWhenRunning(self._take_stops)

    def _take_stops(self) -> None:
        """Come before the reactor's handlers, which are there by now."""
        for number in (signal.SIGTERM, signal.SIGINT):
            first = signal.getsignal(number)
            if callable(first):
                signal.signal(number, partial(self._stop, first))

    def _rotate(self, number: int, frame: FrameType | None) -> None:
        if self._log_file is not None:
            self._reactor.callFromThread(self._log_file.rotate)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        log_file = self._log_file
        if log_file is not None:
            try:
                with open(log_file.path, "ab"):
                    pass
            except OSError as error:
                self._log.warn("the log can't be opened anew: {error}", error=error)
            else:
                log_file.reopen()
        if self._service is not None:
            self._service.reload()
        self._log.info("SIGHUP: opened the log and looked at the files anew")

    def _stop(self, first: Handler, number: int, frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            first(number, frame)
        elif self._service is not None:
            self._reactor.callFromThread(self._service.stop_now)


def _has_terminal() -> bool:
    return any(
        stream is not None and stream.isatty()
        for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    )


#: Those of the process: there can't be two to take them.
signals = Signals()

#: What makes an observer of its log; twistd finds it by this name.
open_log = signals.open_log
