"""Tell of packets that are not served, once a minute for each reason."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

#: Seconds between two lines for the same reason.
INTERVAL = 60.0


class Drops:
    """What was dropped and not told yet: a flood must not fill the log.

    The first of a kind is told at once; those that follow are counted, and told when a minute is
    over, or by `flush`.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        """Wait with `IReactorTime` `reactor`."""
        self._reactor = reactor
        self._minute: IDelayedCall | None = None
        self._untold: dict[str, int] = {}  # reason to how many came since it was told
        self._last: dict[str, str] = {}  # reason to the host of the last one

    def add(self, reason: str, host: str) -> None:
        """Count a packet of `host`, and tell of it if it is the first in a while."""
        self._last[reason] = host
        if reason in self._untold:
            self._untold[reason] += 1
            return
        self._untold[reason] = 0
        self._tell(reason, 1)
        if self._minute is None:
            self._minute = self._reactor.callLater(INTERVAL, self._minute_is_over)

    def flush(self) -> None:
        """Tell what is untold; to be called before the end."""
        if self._minute is not None:
            self._minute.cancel()
            self._minute = None
        untold, self._untold = self._untold, {}
        for reason, count in untold.items():
            if count:
                self._tell(reason, count)

    def _minute_is_over(self) -> None:
        self._minute = None
        untold = self._untold
        # What came in this minute is counted in the next one too, and the rest is forgotten.
        self._untold = {reason: 0 for reason, count in untold.items() if count}
        for reason in self._untold:
            self._tell(reason, untold[reason])
        if self._untold:
            self._minute = self._reactor.callLater(INTERVAL, self._minute_is_over)

    def _tell(self, reason: str, count: int) -> None:
        self._log.warn(
            "{packets} dropped: {reason} (the last one from {host})",
            packets="a packet was" if count == 1 else f"{count} packets were",
            count=count,
            reason=reason,
            host=self._last[reason],
        )
