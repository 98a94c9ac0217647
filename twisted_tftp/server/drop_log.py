"""Log the packets that start no transfer: at most one line a minute for each reason."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.logger import Logger

from twisted_tftp.server.log_limit import LogLimit


class DropLog:
    """The log of packets to the request port that are not served, counted by reason.

    Nearly all of them are dropped; a malformed request is answered with an ERROR.

    A flood must not fill the log. So the first packet of a reason is logged at once; the packets
    that follow are counted, and their number is logged when a minute is over, or by `flush`.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        """Set up, with no packets.

        @param reactor: an `IReactorTime`.
        """
        self._reactor = reactor
        self._limits: dict[str, LogLimit] = {}  # by reason
        self._last: dict[str, str] = {}  # reason to the host of the last packet

    def add(self, reason: str, host: str) -> None:
        """Count a packet from `host`; log it if it is the first one of its reason for a minute."""
        self._last[reason] = host
        limit = self._limits.get(reason)
        if limit is None:
            limit = LogLimit(self._reactor, 1, partial(self._log_count, reason))
            self._limits[reason] = limit
        if limit.take_line():
            self._log_count(reason, 1)

    def flush(self) -> None:
        """Log the packets that were only counted; call this before the process ends."""
        for limit in self._limits.values():
            limit.flush()

    def _log_count(self, reason: str, count: int) -> None:
        self._log.warn(
            "{packets} not served: {reason} (the last one from {host})",
            packets="a packet was" if count == 1 else f"{count} packets were",
            count=count,
            reason=reason,
            host=self._last[reason],
        )
