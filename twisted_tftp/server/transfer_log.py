"""Log transfers: one line at the end of each, its progress at debug level.

Requests from forged addresses fail, and each failure is a line: beyond a bound those are counted,
and told once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from twisted_tftp.context import Outcome, TransferStatistics
from twisted_tftp.interfaces import ITransferObserver
from twisted_tftp.protocol.printable import printable

#: Seconds for which lines are gathered.
GATHER = 0.1

#: Seconds after which failures are counted from zero again.
MINUTE = 60.0

#: Failures in a `MINUTE` that have a line of their own: more than a rack causes that looks for its
#: configuration.
MOST_FAILURE_LINES = 2000

_QUIET = frozenset((Outcome.COMPLETED, Outcome.SIZE_PROBE))


@implementer(ITransferObserver)
class TransferLog:
    """Write transfers to the log."""

    _log = Logger(namespace="twisted_tftp")

    def __init__(self, verbose: bool = False, reactor: Any = None) -> None:
        """Make a log.

        @param verbose: log requests and progress too, at debug level. They are held back here
            because twistd writes every level.
        @param reactor: an L{IReactorTime}; None for the global one.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._verbose = verbose
        self._reactor = reactor
        self._lines: list[str] = []
        self._failures = 0  # in this minute
        self._untold = ""  # the last one that has no line
        self._minute: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None

    def started(self, statistics: TransferStatistics) -> None:
        """Log the request at debug level."""
        if not self._verbose:
            return
        context = statistics.context
        self._log.debug(
            "{direction} {file} from {peer} mode {mode} options {options}",
            direction=context.direction.value,
            file=f'"{printable(context.path)}"',
            peer=context.peer,
            mode=context.mode,
            options=printable(_pairs(context.options.items())),
        )

    def progressed(self, statistics: TransferStatistics) -> None:
        """Log how far a large transfer is, at debug level."""
        if not self._verbose:
            return
        context = statistics.context
        self._log.debug(
            "{direction} {file} from {peer}: {octets} octets so far",
            direction=context.direction.value,
            file=f'"{printable(context.path)}"',
            peer=context.peer,
            octets=statistics.octets,
        )

    def finished(self, statistics: TransferStatistics) -> None:
        """Log the transfer in one line: info where it went well, a warning where not.

        An event of the log costs as much as a small transfer. So the first line goes out at
        once, and those that come within `GATHER` seconds of it follow in one event.
        """
        line = _line(statistics)
        if statistics.outcome not in _QUIET:
            self._failed(line)
        elif self._timer is None:
            self._log.info("{lines}", lines=line)
            self._timer = self._reactor.callLater(GATHER, self._gathered)
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Log what was gathered; to be called before the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._log.info("{lines}", lines="\n".join(lines))
        if self._minute is not None:
            self._minute.cancel()
            self._minute_is_over()

    def _failed(self, line: str) -> None:
        if self._minute is None:
            self._minute = self._reactor.callLater(MINUTE, self._minute_is_over)
        self._failures += 1
        if self._failures <= MOST_FAILURE_LINES:
            self._log.warn("{lines}", lines=line)
        else:
            self._untold = line

    def _minute_is_over(self) -> None:
        self._minute = None
        untold = self._failures - MOST_FAILURE_LINES
        self._failures = 0
        if untold > 0:
            self._log.warn(
                "{count} more failed, the last: {line}", count=untold, line=self._untold
            )

    def _gathered(self) -> None:
        self._timer = None
        if self._lines:
            self._timer = self._reactor.callLater(GATHER, self._gathered)
            lines, self._lines = self._lines, []
            self._log.info("{lines}", lines="\n".join(lines))


def _line(statistics: TransferStatistics) -> str:
    context = statistics.context
    outcome = statistics.outcome
    assert outcome is not None
    seconds, octets = statistics.seconds, statistics.octets
    rate = f"{octets / 1000 / seconds:.0f}" if seconds else "-"
    reason = f": {printable(statistics.error)}" if statistics.error else ""
    return (
        f'{context.direction.value} "{printable(context.path)}" from {context.peer}:'
        f" {outcome.value}, {octets} octets in {seconds:.3f} s ({rate} kB/s),"
        f" options {_pairs(statistics.granted)},"
        f" {statistics.retransmissions} retransmissions{reason}"
    )


def _pairs(options: Iterable[tuple[str, str]]) -> str:
    return ",".join([f"{name}={value}" for name, value in options]) or "none"
