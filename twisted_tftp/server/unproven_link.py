"""A link that limits what it sends to its peer until the peer has answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted_tftp.net.udp import Link, OnPortUnreachable, Receive, ReceiveTrain
from twisted_tftp.server.unproven_rate import Allowance
from twisted_tftp.transfer.flow import Offer, Offerer, Progress
from twisted_tftp.transfer.machine import Buffer


class Peer(Protocol):
    """What the link must know of the transfer that uses it."""

    @property
    def peer_has_answered(self) -> bool:
        """Whether the peer has answered."""


class UnprovenLink:
    """A L{Link} to a peer whose address may be forged.

    The answer of the peer is noticed when the transfer sends the next datagram. From then on, the
    link costs nothing: its `send` is that of the inner link.

    @ivar send: sends a burst, if the allowance permits it; otherwise the burst is lost.
    """

    __slots__ = ("_allowance", "_link", "_offerer", "_peer", "send")

    send: Callable[[Sequence[Buffer]], None]

    def __init__(self, link: Link, allowance: Allowance, peer: Peer) -> None:
        """Wrap `link`.

        @param peer: the transfer that uses the link.
        """
        self._link = link
        self._allowance = allowance
        self._peer: Peer | None = peer
        self._offerer: Offerer | None = None
        self.send = self._send_within_allowance

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        """Start to receive through the inner link. It asks for offers through this link."""
        self._offerer = offerer
        self._link.attach(receive, receive_train, self if offerer else None)

    def offer(self, least: int) -> Offer | None:
        """Return the offer of the machine; the inner link calls this."""
        return self._offerer.offer(least)  # type: ignore[union-attr]

    def take_back(self, progress: Progress) -> Sequence[Buffer]:
        """Note whether a flow has received an answer, and let the machine continue."""
        if progress.acks and self._peer is not None:
            self._note_answer()
        return self._offerer.take_back(progress)  # type: ignore[union-attr]

    def resume(self, progress: Progress, datagram: bytes, now: float) -> None:
        """Note whether a flow has received an answer, and let the machine continue."""
        if progress.acks and self._peer is not None:
            self._note_answer()
        self._offerer.resume(progress, datagram, now)  # type: ignore[union-attr]

    def flow_delay(self) -> float | None:
        """Return the delay of the inner link."""
        return self._link.flow_delay()

    def follow_flow(self) -> None:
        """Let the machine take over what the flow of the inner link has done."""
        self._link.follow_flow()

    def end_flow(self) -> None:
        """End the flow of the inner link."""
        self._link.end_flow()

    def watch_port_unreachable(self, on_port_unreachable: OnPortUnreachable) -> None:
        """Let the inner link report that the peer's port is closed."""
        self._link.watch_port_unreachable(on_port_unreachable)

    def enlarge_buffer(self, size: int) -> int:
        """Enlarge the receive buffer of the inner link."""
        return self._link.enlarge_buffer(size)

    def receive_waiting(self) -> None:
        """Receive the datagrams that wait in the socket of the inner link."""
        self._link.receive_waiting()

    def close(self) -> None:
        """Close the inner link."""
        self.send = self._link.send  # a cycle of references would wait for the garbage collector
        self._peer = self._offerer = None
        self._link.close()

    def _send_within_allowance(self, datagrams: Sequence[Buffer]) -> None:
        if self._peer is not None and self._peer.peer_has_answered:
            self._note_answer()
        elif not self._allowance.take(sum(map(len, datagrams))):
            return
        self._link.send(datagrams)

    def _note_answer(self) -> None:
        self._peer = None
        self._allowance.note_answer()
        self.send = self._link.send
