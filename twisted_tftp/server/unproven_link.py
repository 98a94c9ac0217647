"""A link that limits what it sends to its peer until the peer has answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted_tftp.net.udp import Buffer, Link, OnPortUnreachable, Receive, ReceiveTrain
from twisted_tftp.server.unproven_rate import Allowance


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

    __slots__ = ("_allowance", "_link", "_peer", "send")

    send: Callable[[Sequence[Buffer]], None]

    def __init__(self, link: Link, allowance: Allowance, peer: Peer) -> None:
        """Wrap `link`.

        @param peer: the transfer that uses the link.
        """
        self._link = link
        self._allowance = allowance
        self._peer: Peer | None = peer
        self.send = self._send_within_allowance

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        """Let the inner link receive."""
        self._link.attach(receive, receive_train)

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
        self._peer = None
        self._link.close()

    def _send_within_allowance(self, datagrams: Sequence[Buffer]) -> None:
        if self._peer is not None and self._peer.peer_has_answered:
            self._allowance.note_answer()
            self.send = self._link.send
        elif not self._allowance.take(sum(map(len, datagrams))):
            return
        self._link.send(datagrams)
