"""Links that tell what goes through them, or lose some of it: to see what a server makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted_tftp.net.links import ClientLink
from twisted_tftp.net.udp import Buffer, Receive, ReceiveTrain
from twisted_tftp.trace import describe

#: What is called for each packet: (the words for it, whether it was received).
Trace = Callable[[str, bool], None]


class TracedLink(ClientLink):
    """A link that says what goes through it."""

    __slots__ = ("trace",)

    trace: Trace

    def send(self, datagrams: Sequence[Buffer]) -> None:
        for index in range(0, len(datagrams), 2):
            self.trace(describe(b"".join(datagrams[index : index + 2])), False)
        super().send(datagrams)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def traced(datagram: Buffer, now: float) -> None:
            self.trace(describe(datagram), True)
            receive(datagram, now)

        super().attach(traced)


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
