"""Find the entry of a machine in a hosts file, which is read again when it changes."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.backends.filesystem.content_cache import MIN_UNCHANGED, Identity, identity
from twisted_tftp.backends.filesystem.kernel_lookup import KernelLookup
from twisted_tftp.backends.filesystem.threads import InThread, Threads
from twisted_tftp.backends.template.hosts import (
    FoundHost,
    HostAnswer,
    HostsError,
    HostTable,
    IHostSource,
    Machine,
)
from twisted_tftp.backends.template.hosts_formats import PARSERS, parse
from twisted_tftp.backends.template.single_flight import SingleFlight
from twisted_tftp.errors import BackendUnavailable, TFTPError

#: The largest hosts file, in octets.
MAX_FILE_SIZE = 8 * 1024 * 1024

#: How long a file is used before it is looked at again, if that needs a thread; in seconds.
LOOK_INTERVAL = 1.0


class _Reading(NamedTuple):
    """The result of looking at the file.

    @ivar identity: the state of the file; None if it can't be read.
    @ivar is_settled: whether it has not changed for a while, so that an unchanged modification
        time and size mean unchanged content.
    @ivar table: the entries; None if the file is not valid.
    @ivar problem: why it is not valid.
    """

    identity: Identity | None
    is_settled: bool
    table: HostTable | None
    problem: str


@implementer(IHostSource)
class HostsFile:
    """The entries of a hosts file.

    @ivar path: the path of the file.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        *,
        in_thread: InThread | None = None,
        lookup: KernelLookup | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Set up, without reading the file.

        @param in_thread: calls a function in a thread; None for a pool of one thread.
        @param lookup: finds the file in the kernel's caches; None for a new one.
        @param monotonic: returns the time in seconds of a monotonic clock.
        @param wall_clock: returns the time in seconds since 1970, as files have it.
        @raise ValueError: the extension of the file is not known.
        """
        self.path = path
        folder, self._name = os.path.split(os.path.abspath(path))
        self._extension = os.path.splitext(path)[1].lower()
        if self._extension not in PARSERS:
            raise ValueError(f"hosts file {path!r} must end in {', '.join(PARSERS)}")
        self._in_thread = in_thread or Threads("tftp-hosts", 1)
        self._lookup = lookup or KernelLookup(folder)
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._table: HostTable | None = None
        self._read: SingleFlight[None] = SingleFlight()
        self._last = _Reading(None, False, None, "")
        self._look_again = 0.0

    def check(self) -> None:
        """Read the file; this may block.

        @raise BackendUnavailable: it is not valid; the text has the file and the line.
        """
        reading = self._read_file()
        if reading.table is None:
            raise BackendUnavailable(reading.problem)
        self._use(reading)

    def forget(self) -> None:
        """Read the file again at the next request."""
        self._last = _Reading(None, False, None, self._last.problem)
        self._look_again = 0.0

    def find(self, machine: Machine) -> FoundHost:
        """Find the entry of a machine; first read the file in a thread if it has changed."""
        if self._is_current():
            return self._find(machine)
        reading = self._read.join(self._start_reading)
        return reading.addCallback(lambda _: self._find(machine))

    def _find(self, machine: Machine) -> HostAnswer:
        if self._table is None:
            return HostAnswer(None, self._last.problem)
        return self._table.find(machine)

    def _is_current(self) -> bool:
        """Return whether the file is as it was when it was read, as far as that is known."""
        try:
            found = self._lookup.find(self._name)
        except TFTPError:
            state = None  # it was removed
        else:
            if found is None:
                return self._monotonic() < self._look_again
            state = found.identity
            found.close()
        is_same = state is not None and state == self._last.identity
        return (is_same and self._last.is_settled) or (
            state == self._last.identity and self._monotonic() < self._look_again
        )

    def _start_reading(self) -> Deferred[None]:
        return self._in_thread(self._read_file).addCallbacks(self._use, self._log_failure)

    def _read_file(self) -> _Reading:
        """Read and parse the file; this may block."""
        state: Identity | None = None
        is_settled = False
        try:
            self._lookup.detect_file_system()
            with open(self.path, "rb", opener=_open_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise HostsError(0, "not a regular file")
                state = identity(status)
                changed = max(status.st_mtime, status.st_ctime)
                is_settled = self._wall_clock() - changed >= MIN_UNCHANGED
                octets = file.read(MAX_FILE_SIZE + 1)
            table = HostTable(parse(self._extension, _decoded(octets)))
        except HostsError as error:
            where = f"hosts file {self.path}"
            where += f", line {error.line}" if error.line else ""
            return _Reading(state, is_settled, None, f"{where}: {error}")
        except OSError as error:
            return _Reading(state, is_settled, None, f"hosts file {self.path}: {error.strerror}")
        except Exception as error:  # of a parser; it would fail at each request
            reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            return _Reading(state, is_settled, None, f"hosts file {self.path}: {reason}")
        return _Reading(state, is_settled, table, "")

    def _use(self, reading: _Reading) -> None:
        """Use what was read; keep the old entries if the file is not valid."""
        if reading.table is not None:
            if self._last.problem:
                self._log.info("hosts file {path} is read again", path=self.path)
            self._table = reading.table
        elif reading.problem != self._last.problem:
            self._log.error("the old hosts stay in use: {problem}", problem=reading.problem)
        self._last = reading
        self._look_again = self._monotonic() + LOOK_INTERVAL

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure("hosts file {path} could not be read", failure, path=self.path)
        self._look_again = self._monotonic() + LOOK_INTERVAL


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; if it is a FIFO, do not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _decoded(octets: bytes) -> str:
    """Return the text of a hosts file.

    @raise HostsError: it is too large, or not UTF-8.
    """
    if len(octets) > MAX_FILE_SIZE:
        raise HostsError(0, f"larger than {MAX_FILE_SIZE >> 20} MiB")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise HostsError(line, "not UTF-8") from None
