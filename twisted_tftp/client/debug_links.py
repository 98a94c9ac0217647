"""Links that tell what goes through them, or lose some of it: to see what a server makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer, Receive, ReceiveTrain
from twisted_tftp.protocol.describe import describe

#: What is called for each packet: (the words for it, whether it was received).
Trace = Callable[[str, bool], None]


class TracedLink(ClientLink):
    """A link that says what goes through it, for as long as somebody listens."""

    __slots__ = ("trace",)

    _log = Logger()

    trace: Trace

    def _tell(self, datagram: Buffer, received: bool) -> None:
        try:
            self.trace(describe(datagram), received)
        except Exception:
            self._log.failure("a trace failed, and ends")
            self.trace = _nothing

    def send(self, datagrams: Sequence[Buffer]) -> None:
        for index in range(0, len(datagrams), 2):
            self._tell(b"".join(datagrams[index : index + 2]), False)
        super().send(datagrams)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def traced(datagram: Buffer, now: float) -> None:
            self._tell(datagram, True)
            receive(datagram, now)

        super().attach(traced)


def _nothing(words: str, received: bool) -> None:
    """Tell nobody."""


class LossyLink(ClientLink):
    """A link that loses datagrams by chance, both ways, as a bad network does."""

    __slots__ = ("chance", "loss")

    loss: float
    chance: Callable[[], float]

    def send(self, datagrams: Sequence[Buffer]) -> None:
        kept: list[Buffer] = []
        for index in range(0, len(datagrams), 2):
            if self.chance() >= self.loss:
                kept += datagrams[index : index + 2]
        if kept:
            super().send(kept)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def by_chance(datagram: Buffer, now: float) -> None:
            if self.chance() >= self.loss:
                receive(datagram, now)

        super().attach(by_chance)
