"""The result of a client's transfer that was successful."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted_tftp.context import TransferContext, TransferStatistics


@dataclass(frozen=True)
class TransferResult:
    """What a client knows of a transfer after its successful end.

    @ivar filename: the name of the file on the server.
    @ivar octets: the size of the file.
    @ivar seconds: the time from the first request to the end.
    @ivar asked: the requested options, name to value.
    @ivar options: the options that the server granted, name to value.
    @ivar retransmissions: datagrams that the client sent again.
    """

    filename: str
    octets: int
    seconds: float
    asked: Mapping[str, str]
    options: Mapping[str, str]
    retransmissions: int

    @property
    def rate(self) -> float:
        """Octets per second."""
        return self.octets / self.seconds if self.seconds else 0.0


def result_of(context: TransferContext, statistics: TransferStatistics) -> TransferResult:
    """Return the result of a transfer that has ended."""
    return TransferResult(
        filename=context.path,
        octets=statistics.octets,
        seconds=statistics.seconds,
        asked=context.options,
        options=dict(statistics.granted),
        retransmissions=statistics.retransmissions,
    )
