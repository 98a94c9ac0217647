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

from twisted_tftp.server.service import TFTPService

#: What a signal is handled by.
Handler = Callable[[int, FrameType | None], Any]


class _LogFile:
    """A log that goes on in the old file where the new one can't be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = LogFile.fromFullPath(path)

    def write(self, text: str) -> None:
        self._file.write(text)

    def flush(self) -> None:
        self._file.flush()

    def rotate(self) -> None:
        self._file.rotate()

    def reopen(self) -> None:
        """Go on in the file that has the name now.

        @raise OSError: it can't be opened.
        """
        opened = LogFile.fromFullPath(self._path, defaultMode=self._file.defaultMode)
        before, self._file = self._file, opened
        before.close()


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
        self._log_file: _LogFile | None = None
        self._service: TFTPService | None = None
        self._stopping = False

    def open_log(self) -> ILogObserver:
        """Log to a file as twistd does, SIGUSR1 included, which rotates it."""
        log_file = self._log_file = _LogFile(os.path.abspath(self.log_path))
        if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR1, self._rotate)
        observer: ILogObserver = textFileLogObserver(log_file)  # type: ignore[arg-type]
        return observer

    def serve(self, reactor: Any, service: TFTPService) -> None:
        """Take the signals for `service`, in the loop of `reactor`."""
        self._reactor = reactor
        self._service = service
        if not _has_terminal():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is open yet
        # By then a daemon has left its terminal, and the reactor has its handlers.
        reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        """Take SIGHUP, which at a terminal means that it is gone; come before other handlers."""
        if not _has_terminal():
            signal.signal(signal.SIGHUP, self._hang_up)
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
        if self._log_file is not None:
            try:
                self._log_file.reopen()
            except OSError as error:
                self._log.warn("the log can't be opened anew: {error}", error=error)
            else:
                self._log.info("SIGHUP: the log is opened anew")
        if self._service is not None:
            self._service.reload()
            self._log.info("SIGHUP: the files are looked at anew")

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
