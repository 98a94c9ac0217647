"""Give each transfer of a client a socket, and learn the server's port from the first answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.strangers import Strangers
from twisted_tftp.net.udp import READS_PER_DRAIN, Buffer, SocketAddress
from twisted_tftp.net.upload_link import WriteLink


@implementer(IReadWriteDescriptor)
class ClientLink(WriteLink):
    """The link of one transfer of a client; the first answer tells the server's transfer port.

    @ivar locked: whether the server's transfer port is known; only its datagrams count from then
        on.
    @ivar elsewhere: another host than the server's that sent something before the answer, the last
        one of them; None where there was none.
    @ivar on_unreachable: called with the error when the system says that no program listens on
        the server's port, or that there is no route; None after the first answer.
    @ivar on_rival: called with (datagram, now) for each datagram that the server's host sends from
        another port than the transfer's, once that is known; None to ignore them.
    @ivar local: the local socket address.
    """

    __slots__ = (
        "_from",
        "elsewhere",
        "local",
        "locked",
        "on_rival",
        "on_unreachable",
    )

    def __init__(
        self,
        sock: socket.socket,
        server: SocketAddress,
        hub: Hub,
        strangers: Strangers,
        buffer: memoryview,
        clock: Callable[[], float],
    ) -> None:
        """Take over `sock`.

        @param server: the server's request port; the peer until `lock` is called.
        @param buffer: where datagrams are received; all links share it.
        """
        super().__init__(sock, server, hub, strangers, buffer, clock)
        self._from: SocketAddress = None
        self.locked = False
        self.elsewhere: str | None = None
        self.on_unreachable: Callable[[OSError], None] | None = None
        self.on_rival: Callable[[Buffer, float], None] | None = None
        self.local: SocketAddress = self._sock.getsockname()
        if icmp_errors.AVAILABLE:
            icmp_errors.ask_for_errors(self._sock)

    @property
    def is_unbound(self) -> bool:
        """Whether the socket is bound to no address, since there was no route to the server."""
        return self.local[0] in ("0.0.0.0", "::")

    @property
    def server(self) -> SocketAddress:
        """The socket address that the transfer is with."""
        return self._peer

    def lock(self) -> None:
        """Make the sender of the datagram that is being received the peer of this transfer."""
        self._peer = self._to = self._from
        self.locked = True
        self.on_unreachable = None
        if icmp_errors.AVAILABLE:
            icmp_errors.ask_for_errors(self._sock, False)  # this empties the queue too

    def _is_peer(self, address: SocketAddress) -> bool:
        """Whether a datagram from `address` is of this transfer.

        Before the lock each one from the server's host is.
        """
        if self.locked:
            return bool(address == self._peer)
        self._from = address
        if self._is_of_server(address):
            return True
        self.elsewhere = address[0]
        return False

    def _is_of_server(self, address: SocketAddress) -> bool:
        return bool(address[0] == self._peer[0] and address[3:] == self._peer[3:])

    def _received_from_elsewhere(
        self, address: SocketAddress, datagram: memoryview, now: float
    ) -> None:
        super()._received_from_elsewhere(address, datagram, now)
        if self.locked and self.on_rival is not None and self._is_of_server(address):
            self.on_rival(datagram, now)

    def refuse(self, datagram: Buffer, now: float) -> None:
        """Send ERROR 5 to the sender of `datagram`, the one that is being received.

        The port that was asked gets none: a server that answers from that port would end the
        transfer that it is about to begin for us.
        """
        if self._from != self._peer:
            self._strangers.received(self._sock, self._from, datagram, now)

    def discard(self) -> None:
        """Drop what waits in the socket: it came before the request, so it is no answer to it."""
        for _ in range(READS_PER_DRAIN):
            try:
                self._sock.recv(1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                pass  # an ICMP error, of another socket that had this port

    def _lost(self, error: OSError) -> None:
        if self.on_unreachable is not None:
            self.on_unreachable(error)

    def _read_errors(self) -> None:
        """Note what ICMP says before the first answer."""
        if self.locked or not icmp_errors.AVAILABLE:
            return
        for error in icmp_errors.read_errors(self._sock):
            if self.on_unreachable is not None and error.peer == self._peer:
                self.on_unreachable(OSError(error.number, os.strerror(error.number)))
