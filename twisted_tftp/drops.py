"""Tell of packets that are not served, once a minute for each reason."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

#: Seconds between two lines for the same reason.
INTERVAL = 60.0


class Drops:
    """What was dropped and not told yet: a flood must not fill the log.

    The first of a kind is told at once; those that follow are counted, and told with the first one
    after a minute, or by `flush`.
    """

    _log = Logger()

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}  # reason to when it was told
        self._untold: dict[str, int] = {}  # reason to how many came since
        self._last: dict[str, str] = {}  # reason to the host of the last one

    def add(self, reason: str, host: str) -> None:
        """Count a packet of `host`, and tell of it if that is due."""
        now = self._clock()
        self._last[reason] = host
        self._untold[reason] = self._untold.get(reason, 0) + 1
        if now - self._told.get(reason, -INTERVAL) >= INTERVAL:
            self._tell(reason, now)

    def flush(self) -> None:
        """Tell what is untold."""
        now = self._clock()
        for reason in list(self._untold):
            self._tell(reason, now)

    def _tell(self, reason: str, now: float) -> None:
        count = self._untold.pop(reason)
        self._told[reason] = now
        self._log.warn(
            "{packets} dropped: {reason} (the last one from {host})",
            packets="a packet was" if count == 1 else f"{count} packets were",
            count=count,
            reason=reason,
            host=self._last[reason],
        )
