"""Describe or drop the datagrams of a client's transfers, to see how a server behaves.

A `FilteredLink` is the link of one transfer that has a list of filters. Each filter sees each
datagram and says whether it goes on to the next one; so filters can be combined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from typing import Any, Protocol

from twisted.logger import Logger

from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer, Receive, ReceiveTrain
from twisted_tftp.protocol.describe import describe

#: A function that is called for each packet with its text, and whether it was received.
Trace = Callable[[str, bool], None]


class DatagramFilter(Protocol):
    """A filter that sees each datagram between a client and the network, and may drop it."""

    def take(self, datagram: Buffer, received: bool) -> bool:
        """Process a datagram; return False to drop it.

        @param received: whether it comes from the network; otherwise the client sends it.
        """


class TraceFilter:
    """A filter that calls a function with the text of each datagram, until the function fails."""

    _log = Logger()

    def __init__(self, trace: Trace) -> None:
        self._trace: Trace | None = trace

    def take(self, datagram: Buffer, received: bool) -> bool:
        if self._trace is not None:
            try:
                self._trace(describe(datagram), received)
            except Exception:
                self._log.failure("the trace function failed, so tracing ends")
                self._trace = None
        return True


class LossFilter:
    """A filter that drops datagrams at random, in both directions, as a bad network does."""

    def __init__(self, loss: float, chance: Callable[[], float]) -> None:
        """Set up.

        @param loss: the share of datagrams to drop, from 0 to 1.
        @param chance: returns a random number from 0 to less than 1.
        """
        self._loss = loss
        self._chance = chance

    def take(self, datagram: Buffer, received: bool) -> bool:
        return self._chance() >= self._loss


def make_filters(trace: Trace | None, loss: float) -> list[DatagramFilter]:
    """Return the filters of one link, from the client's side to the network's.

    The trace shows all that the client sends, and of what it is sent only what is not dropped.

    @param trace: called with the text of each packet, or None.
    @param loss: the share of datagrams to drop, from 0 to 1.
    """
    filters: list[DatagramFilter] = []
    if trace is not None:
        filters.append(TraceFilter(trace))
    if loss:
        filters.append(LossFilter(loss, random))
    return filters


class FilteredLink(ClientLink):
    """A client's link whose datagrams go through filters, one by one."""

    __slots__ = ("_inwards", "_outwards")

    def __init__(self, filters: Sequence[DatagramFilter], *parts: Any) -> None:
        """Make a link.

        @param filters: from the client's side to the network's: the last one sees first what is
            received.
        @param parts: what every `ClientLink` takes.
        """
        super().__init__(*parts)
        self._outwards = tuple(filters)
        self._inwards = tuple(reversed(filters))

    def send(self, datagrams: Sequence[Buffer]) -> None:
        kept: list[Buffer] = []
        for index in range(0, len(datagrams), 2):
            pieces = datagrams[index : index + 2]  # a header and its octets
            datagram = b"".join(pieces)
            if all(each.take(datagram, False) for each in self._outwards):
                kept += pieces
        if kept:
            super().send(kept)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def receive_filtered(datagram: Buffer, now: float) -> None:
            if all(each.take(datagram, True) for each in self._inwards):
                receive(datagram, now)

        super().attach(receive_filtered)
