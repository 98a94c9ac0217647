"""Log the packets that start no transfer: at most one line a minute for each reason."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from twisted_tftp.server.log_limit import LogLimit
from twisted_tftp.server.reasons import NOT_A_REQUEST

# A logger of a class would have the name of the class in its namespace.
_log = Logger()


class DropLog:
    """The log of packets to the request port that are not served, counted by reason.

    Nearly all of them are ignored; a malformed request is refused: it is answered with an ERROR.

    A flood must not fill the log. So the first packet of a reason is logged at once; the packets
    that follow are counted, and their number is logged when a minute is over, or by `flush`.
    """

    def __init__(self, reactor: Any) -> None:
        """Set up, with no packets.

        @param reactor: an `IReactorTime`.
        """
        self._reactor = reactor
        self._by_kind: dict[tuple[str, bool], _Packets] = {}

    def add(
        self, reason: str, host: str, *, is_answered: bool = False, contents: str = ""
    ) -> None:
        """Count a packet; log it if it is the first one of its reason for a minute.

        @param reason: why it is not served, see L{twisted_tftp.server.reasons}.
        @param host: the address of its sender.
        @param is_answered: whether its sender gets an ERROR.
        @param contents: what is known of its contents, for the log, without unescaped characters
            from the network.
        """
        kind = (reason, is_answered)
        packets = self._by_kind.get(kind)
        if packets is None:
            packets = self._by_kind[kind] = _Packets(self._reactor, reason, is_answered)
        packets.add(host, contents)

    def flush(self) -> None:
        """Log the packets that were only counted; call this before the process ends."""
        for packets in self._by_kind.values():
            packets.flush()


class _Packets:
    """The packets with one reason: it counts them, and logs some lines about them."""

    __slots__ = ("_contents", "_host", "_hosts_differ", "_limit", "_reason", "_unit", "_verb")

    def __init__(self, reactor: Any, reason: str, is_answered: bool) -> None:
        self._unit = "packet" if reason == NOT_A_REQUEST else "request"
        self._verb = "refused" if is_answered else "ignored"
        self._reason = reason
        self._limit = LogLimit(reactor, 1, self._log_count)
        self._host = ""  # of the last packet
        self._hosts_differ = False
        self._contents = ""  # of the last packet

    def add(self, host: str, contents: str) -> None:
        """Count a packet, and log it if the limit allows that."""
        if host != self._host:
            self._hosts_differ = self._host != "" or self._hosts_differ
            self._host = host
        self._contents = contents
        if self._limit.take_line():
            self._log_count(1)

    def flush(self) -> None:
        """Log the packets that were only counted."""
        self._limit.flush()

    def _log_count(self, count: int) -> None:
        others = " and others" if self._hosts_differ else ""
        _log.warn(
            "{count} {unit} from {host}{others} {verb}: {reason}{contents}",
            count=count,
            unit=self._unit if count == 1 else f"{self._unit}s",
            host=self._host,
            others=others,
            verb=self._verb,
            reason=self._reason,
            contents=self._contents and f" ({self._contents})",
        )
        self._host = ""
        self._hosts_differ = False
