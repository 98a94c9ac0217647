"""Trace or drop the datagrams of a client's transfers, to test and debug a server.

A `FilteredLink` is a client's link with a list of filters. Each datagram passes the filters in
order, until one of them drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from typing import Any, Protocol

from twisted.logger import Logger

from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Receive, ReceiveTrain
from twisted_tftp.protocol.describe import describe
from twisted_tftp.transfer.flow import Offerer
from twisted_tftp.transfer.machine import Buffer

#: A function that is called for each packet with its text, and whether it was received.
Trace = Callable[[str, bool], None]


class DatagramFilter(Protocol):
    """A filter that sees each datagram between a client and the network, and may drop it."""

    def process(self, datagram: Buffer, is_received: bool) -> bool:
        """Process a datagram; return False to drop it.

        @param is_received: whether it comes from the network; otherwise the client sends it.
        """


class TraceFilter:
    """A filter that calls a function with the text of each datagram, until the function fails."""

    _log = Logger()

    def __init__(self, trace: Trace) -> None:
        self._trace: Trace | None = trace

    def process(self, datagram: Buffer, is_received: bool) -> bool:
        if self._trace is not None:
            try:
                self._trace(describe(datagram), is_received)
            except Exception:
                self._log.failure("the trace function failed, so tracing ends")
                self._trace = None
        return True


class LossFilter:
    """A filter that drops datagrams at random in both directions, like an unreliable network."""

    def __init__(self, loss: float, random_number: Callable[[], float]) -> None:
        """Set up.

        @param loss: the share of datagrams to drop, from 0 to 1.
        @param random_number: returns a random number from 0 to less than 1.
        """
        self._loss = loss
        self._random_number = random_number

    def process(self, datagram: Buffer, is_received: bool) -> bool:
        return self._random_number() >= self._loss


def make_filters(trace: Trace | None, loss: float) -> list[DatagramFilter]:
    """Return the filters of one link, in the order in which they see a datagram that is sent.

    The trace shows each datagram that the client sends, and each received one that the loss filter
    does not drop.

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
    """A client's link with filters that see each datagram, and may drop it."""

    __slots__ = ("_inwards", "_outwards")

    def __init__(self, filters: Sequence[DatagramFilter], *parts: Any) -> None:
        """Make a link.

        @param filters: in their order for a datagram that is sent; a received one passes them in
            the opposite order.
        @param parts: the arguments of `ClientLink`.
        """
        super().__init__(*parts)
        self._outwards = tuple(filters)
        self._inwards = tuple(reversed(filters))

    def send(self, datagrams: Sequence[Buffer]) -> None:
        kept: list[Buffer] = []
        for index in range(0, len(datagrams), 2):
            pieces = datagrams[index : index + 2]  # a header and its octets
            datagram = b"".join(pieces)
            if all(each.process(datagram, False) for each in self._outwards):
                kept += pieces
        if kept:
            super().send(kept)

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        def receive_filtered(datagram: Buffer, now: float) -> None:
            if all(each.process(datagram, True) for each in self._inwards):
                receive(datagram, now)

        super().attach(receive_filtered)
