"""The link of a client's transfer, which learns the server's port from the first answer."""

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
from twisted_tftp.net.upload_link import UploadLink


@implementer(IReadWriteDescriptor)
class ClientLink(UploadLink):
    """The link of one transfer of a client.

    The request is sent to the server's request port. The first answer comes from another port, the
    server's port for this transfer (its TID, RFC 1350 section 4).

    @ivar locked: whether that port is known; from then on, datagrams from other ports are not
        received.
    @ivar elsewhere: the last other host that has sent a datagram before the link was locked, or
        None.
    @ivar on_unreachable: called with the error if the server's port is closed or there is no route
        to the server. None after the first answer.
    @ivar on_rival: after the link is locked, called with (datagram, now) for each datagram from
        another port of the server's host; None to ignore such datagrams.
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
        """Set up the link of `sock`; `close` closes this socket.

        @param server: the server's request port; the peer until `lock` is called.
        @param buffer: the buffer for received datagrams, which all links share.
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
        """Whether the socket has the wildcard address: there was no route to the server."""
        return self.local[0] in ("0.0.0.0", "::")

    @property
    def server(self) -> SocketAddress:
        """The server's socket address: the request port, then the port of the transfer."""
        return self._peer

    def lock(self) -> None:
        """Make the sender of the current datagram the peer of this transfer.

        Call this only while a datagram is being received.
        """
        self._peer = self._to = self._from
        self.locked = True
        self.on_unreachable = None
        if icmp_errors.AVAILABLE:
            icmp_errors.ask_for_errors(self._sock, False)  # this empties the queue too

    def _is_peer(self, address: SocketAddress) -> bool:
        """Return whether a datagram from `address` belongs to this transfer; note the address.

        Before the link is locked, each datagram from the server's host does.
        """
        if self.locked:
            return bool(address == self._peer)
        self._from = address
        if self._is_of_server(address):
            return True
        self.elsewhere = address[0]
        return False

    def _is_of_server(self, address: SocketAddress) -> bool:
        """Return whether `address` has the server's host and scope."""
        return bool(address[0] == self._peer[0] and address[3:] == self._peer[3:])

    def _received_from_elsewhere(
        self, address: SocketAddress, datagram: memoryview, now: float
    ) -> None:
        super()._received_from_elsewhere(address, datagram, now)
        if self.locked and self.on_rival is not None and self._is_of_server(address):
            self.on_rival(datagram, now)

    def refuse(self, datagram: Buffer, now: float) -> None:
        """Send ERROR 5 to the sender of `datagram`, the datagram that is being received.

        The server's request port gets no ERROR: a server in single-port mode would end the
        transfer that it is about to start for us.
        """
        if self._from != self._peer:
            self._strangers.received(self._sock, self._from, datagram, now)

    def discard(self) -> None:
        """Drop the datagrams in the socket; before a request is sent, none can be its answer."""
        for _ in range(READS_PER_DRAIN):
            try:
                self._sock.recv(1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                pass  # an ICMP error for another socket that had this port

    def _send_failed(self, error: OSError) -> None:
        if self.on_unreachable is not None:
            self.on_unreachable(error)

    def _read_errors(self) -> None:
        """Report the ICMP errors that come before the first answer."""
        if self.locked or not icmp_errors.AVAILABLE:
            return
        for error in icmp_errors.read_errors(self._sock):
            if self.on_unreachable is not None and error.peer == self._peer:
                self.on_unreachable(OSError(error.number, os.strerror(error.number)))
