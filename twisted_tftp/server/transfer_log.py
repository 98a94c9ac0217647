"""The log of transfers: one line at the end of each transfer, and its progress at debug level.

Each failed transfer is a line, and in a flood of forged requests all transfers fail. So these
lines are limited: failures above the limit are counted, and their number is logged once a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from twisted_tftp.context import Direction, Outcome, TransferStatistics
from twisted_tftp.interfaces import ITransferObserver
from twisted_tftp.protocol.wire import OCTET
from twisted_tftp.server import reasons
from twisted_tftp.server.log_limit import LogLimit
from twisted_tftp.server.log_lines import LogLines

#: How long lines are collected for one log event, in seconds.
COLLECT_TIME = 0.1

#: The most transfers whose lines are collected. To write so many lines takes 2 ms.
MAX_COLLECTED = 500

#: The longest file name, in octets, whose part of the line is cached.
MAX_CACHED_NAME = 128

#: The most lines of failures in a minute. It is more than a rack of machines causes when each of
#: them tries many names of configuration files, most of which do not exist.
MAX_FAILURE_LINES = 2000

#: The outcomes that are not failures. (A set would call the hash of Enum, which is slow.)
_SUCCESSES = (Outcome.COMPLETED, Outcome.SIZE_PROBE)


@implementer(ITransferObserver)
class TransferLog:
    """The observer that writes transfers to the log."""

    def __init__(
        self, verbose: bool = False, reactor: Any = None, log: Logger | None = None
    ) -> None:
        """Set up.

        @param verbose: whether to log requests and progress too, at debug level. (twistd logs all
            levels, so without this parameter the log would always have these lines.)
        @param reactor: an `IReactorTime`; None for the global one.
        @param log: where the lines go; None for a logger of the namespace `twisted_tftp`.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._log = Logger(namespace="twisted_tftp") if log is None else log
        self._system = f"{self._log.namespace}#{LogLevel.info.name}"
        self._verbose = verbose
        self._reactor = reactor
        self._ended: list[tuple[float, TransferStatistics]] = []  # transfers without a line yet
        self._failure_limit = LogLimit(reactor, MAX_FAILURE_LINES, self._log_unlogged)
        self._last_unlogged = ""  # the line of the last failure that was only counted
        self._timer: IDelayedCall | None = None

    def started(self, statistics: TransferStatistics) -> None:
        """Log the request at debug level."""
        if not self._verbose:
            return
        context = statistics.context
        self._log.debug(
            "{direction} {file} from {peer} mode {mode} options {options}",
            direction=context.direction.value,
            file=f'"{reasons.shown(context.path)}"',
            peer=context.peer,
            mode=context.mode,
            options=reasons.shown(_pairs(context.options.items())),
        )

    def progressed(self, statistics: TransferStatistics) -> None:
        """Log the progress of a large transfer, at debug level."""
        if not self._verbose:
            return
        context = statistics.context
        self._log.debug(
            "{direction} {file} from {peer}: {octets} octets so far",
            direction=context.direction.value,
            file=f'"{reasons.shown(context.path)}"',
            peer=context.peer,
            octets=statistics.octets,
        )

    def finished(self, statistics: TransferStatistics) -> None:
        """Log the transfer in one line: at info level if it succeeded, otherwise as a warning.

        A log event costs as much as a small transfer. So the first line is logged at once, and the
        lines of the next `COLLECT_TIME` seconds follow in one event. Their texts are made then,
        because a line in a batch takes half of the time of a single line.
        """
        if statistics.outcome not in _SUCCESSES:
            self._log_failure(_line(statistics, False))
        elif self._timer is None:
            self._log.info("{lines}", lines=_line(statistics, True))
            self._timer = self._reactor.callLater(COLLECT_TIME, self._log_collected)
        else:
            self._ended.append((time.time(), statistics))
            if len(self._ended) >= MAX_COLLECTED:
                self._write_collected()

    def flush(self) -> None:
        """Log the collected lines; call this before the process ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write_collected()
        self._failure_limit.flush()

    def _log_failure(self, line: str) -> None:
        if self._failure_limit.take_line():
            self._log.warn("{lines}", lines=line)
        else:
            self._last_unlogged = line

    def _log_unlogged(self, count: int) -> None:
        self._log.warn(
            "further failed transfers: {count}, the last: {line}",
            count=count,
            line=self._last_unlogged,
        )

    def _log_collected(self) -> None:
        self._timer = None
        if self._ended:
            self._timer = self._reactor.callLater(COLLECT_TIME, self._log_collected)
            self._write_collected()

    def _write_collected(self) -> None:
        ended, self._ended = self._ended, []
        lines: list[tuple[float, str]] = []
        for at, statistics in ended:
            try:
                lines.append((at, _line(statistics, True)))
            except Exception:  # the other lines must not be lost
                self._log.failure("the line of a transfer could not be made")
        if lines:
            self._log.info("{lines}", lines=LogLines(lines, self._system))


def _line(statistics: TransferStatistics, is_success: bool) -> str:
    """Return the line of a transfer that has ended; the reason of a failure comes first."""
    context = statistics.context
    outcome = statistics.outcome
    assert outcome is not None
    seconds, octets = statistics.seconds, statistics.octets
    reason = reasons.reason_of(statistics)
    describe = _request_cached if len(context.filename) <= MAX_CACHED_NAME else _request
    start = f"{describe(context.direction, context.filename)} from {context.peer!s}: "
    if is_success:
        start += f"{outcome.value}, "
        reason = reason and f": {reason}"
    else:
        start += f"{reasons.first_words(outcome)}: {reason}"
        if outcome is Outcome.REFUSED:
            return start + reasons.asked(context)
        start += "; "
        reason = ""
    rate = f"{octets / 1000 / seconds:.0f}" if seconds else "-"
    remark = _size_remark(statistics) if context.announced_size else ""
    return (
        f"{start}{octets} octets in {seconds:.3f} s ({rate} kB/s),"
        f" options {_granted(statistics.granted)},"
        f" {statistics.retransmissions} retransmissions{remark}{reason}"
    )


def _request(direction: Direction, filename: bytes) -> str:
    """Return the direction of a request and its file name, escaped."""
    path = filename.decode("utf-8", "surrogateescape")
    return f'{direction.value} "{reasons.shown(path)}"'


# Booting machines ask for the same files again and again.
_request_cached = lru_cache(maxsize=1024)(_request)


def _size_remark(statistics: TransferStatistics) -> str:
    """Return a remark if a complete upload does not have the size that the client announced.

    Call this only if the client has announced a size; 0 means that it does not know the size. In
    netascii the announced size may be that of the client's own file, which has other line ends.
    """
    context = statistics.context
    announced = context.announced_size
    if announced == statistics.octets:
        return ""
    if statistics.outcome is not Outcome.COMPLETED or context.mode != OCTET:
        return ""
    return f", the client had announced {announced} octets (tsize)"


def _pairs(options: Iterable[tuple[str, str]]) -> str:
    return ",".join([f"{name}={value}" for name, value in options]) or "none"


# The server grants few different sets of options.
_granted = lru_cache(maxsize=1024)(_pairs)
