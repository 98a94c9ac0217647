"""Log transfers: one line at the end of each, its progress at debug level."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from twisted_tftp.context import Outcome, TransferStatistics
from twisted_tftp.interfaces import ITransferObserver

_QUIET = frozenset((Outcome.COMPLETED, Outcome.SIZE_PROBE))


def printable(text: str) -> str:
    """Return `text` in one line of printable ASCII, everything else escaped.

    File names and error texts come from the network: a line break in them would forge a line
    of the log, an escape sequence would reach the reader's terminal.
    """
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\x{octet:02x}"
        for octet in octets
    )


@implementer(ITransferObserver)
class TransferLog:
    """Write transfers to the log."""

    _log = Logger(namespace="twisted_tftp")

    def __init__(self, verbose: bool = False) -> None:
        """Make a log.

        @param verbose: log requests and progress too, at debug level. They are held back here
            because twistd writes every level.
        """
        self._verbose = verbose

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
        """Log the transfer in one line: info where it went well, a warning where not."""
        context = statistics.context
        assert statistics.outcome is not None
        seconds = statistics.seconds
        level = LogLevel.info if statistics.outcome in _QUIET else LogLevel.warn
        self._log.emit(
            level,
            "{direction} {file} from {peer}: {outcome}, {octets} octets in {seconds} s"
            " ({rate} kB/s), options {granted}, {retransmissions} retransmissions{reason}",
            direction=context.direction.value,
            file=f'"{printable(context.path)}"',
            peer=context.peer,
            outcome=statistics.outcome.value,
            octets=statistics.octets,
            seconds=f"{seconds:.3f}",
            rate=f"{statistics.octets / 1000 / seconds:.0f}" if seconds else "-",
            granted=_pairs(statistics.granted),
            retransmissions=statistics.retransmissions,
            reason=f": {printable(statistics.error)}" if statistics.error else "",
        )


def _pairs(options: object) -> str:
    return ",".join(f"{name}={value}" for name, value in options) or "none"  # type: ignore[attr-defined]
