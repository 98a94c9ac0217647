"""Flow offload: a table answers the expected ACKs of a download in place of its state machine.

A network card takes over an established connection as a flow, and returns it to the kernel at the
first packet that is not routine. Here a table of flows (`net.offload`) takes over a sender. A flow
knows one answer: if the expected ACK arrives, it sends the next window. It has no timer and never
sends anything again. Any other packet ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from twisted_tftp.transfer.machine import Buffer


class Offer(NamedTuple):
    """What a flow needs: the ACK that it waits for, and the blocks that follow.

    @ivar octets: a part of the file. Neither the machine nor the file changes it during the flow.
    @ivar position: where in `octets` the next window starts.
    @ivar is_file_end: whether the file ends where `octets` end.
    @ivar awaited: the number of the awaited ACK on the wire. After 65535 comes 0.
    @ivar blksize: octets of a block.
    @ivar windowsize: blocks of a window.
    @ivar sent_at: when the awaited ACK was caused, in seconds of the hub's clock.
    @ivar measure_at: from this time on, the next round trip is measured.
    @ivar is_first: whether the awaited ACK is that of the OACK, whose round trip is measured too.
    """

    octets: Buffer
    position: int
    is_file_end: bool
    awaited: int
    blksize: int
    windowsize: int
    sent_at: float
    measure_at: float
    is_first: bool


class Progress(NamedTuple):
    """What a flow has done since the offer, or since the last time it was asked.

    @ivar acks: how many ACKs it has received. If it is 0, the other values mean nothing.
    @ivar blocks: how many blocks it has sent.
    @ivar window: how many of them belong to the window that is not acknowledged yet.
    @ivar unsent: how many blocks at the end of this window could not be sent.
    @ivar has_last: whether the last block of the file is in this window.
    @ivar at: when it received the last ACK, in seconds of the hub's clock.
    @ivar measure_at: from this time on, the next round trip is measured.
    @ivar round_trips: the measured round-trip times, in seconds.
    """

    acks: int
    blocks: int
    window: int
    unsent: int
    has_last: bool
    at: float
    measure_at: float
    round_trips: tuple[float, ...]


class Offerer(Protocol):
    """An object that can leave the next windows of its machine to a flow."""

    def offer(self, least: int) -> Offer | None:
        """Return what a flow needs; None if the machine must process the next packet itself.

        @param least: the fewest windows that are left to a flow.
        """

    def take_back(self, progress: Progress) -> Sequence[Buffer]:
        """Continue from where the flow is, as if the machine had processed all packets itself.

        @return: the datagrams that the flow could not send: header, octets, header, ...
        """

    def resume(self, progress: Progress, datagram: bytes, now: float) -> None:
        """Continue from where the flow is, and process the datagram that has ended it."""
