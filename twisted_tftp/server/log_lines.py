"""Several lines of the log in one log event, each with its own time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from twisted.logger import formatTime


@lru_cache(maxsize=16)
def time_stamp(second: int) -> str:
    """Return the time stamp of a log line, as Twisted writes it."""
    return formatTime(second)


class LogLines:
    """The lines of one log event.

    A log event costs as much as a small transfer, so lines are collected. The observers of
    L{twisted_tftp.server.log_output} write each line as if it were an event of its own. Other
    observers get a text in which each line but the first begins with its time stamp and its level.
    """

    __slots__ = ("_lines", "_system")

    def __init__(self, lines: Sequence[tuple[float, str]], system: str) -> None:
        """Set up.

        @param lines: the time of each line, in seconds since the epoch, and its text.
        @param system: the namespace and the level, in the form `namespace#level`.
        """
        self._lines = lines
        self._system = system

    def __iter__(self) -> Iterator[str]:
        """Return the texts of the lines, without time stamps."""
        return (text for _, text in self._lines)

    def __str__(self) -> str:
        """Return the text for observers that do not know this class."""
        (_, first), *more = self._lines
        return "\n".join([first, *self._stamped(more)])

    def stamped(self) -> str:
        """Return all lines with their time stamps, each with a line break at its end."""
        return "\n".join([*self._stamped(self._lines), ""])

    def _stamped(self, lines: Sequence[tuple[float, str]]) -> list[str]:
        """Return lines with their time stamps; thousands of lines may have the same second."""
        stamped: list[str] = []
        second, prefix = -1, ""
        for at, text in lines:
            if int(at) != second:
                second = int(at)
                prefix = f"{time_stamp(second)} [{self._system}] "
            stamped.append(prefix + text)
        return stamped
