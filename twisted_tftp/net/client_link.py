"""The link of a client's transfer, which learns the server's port from the first answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.strangers import StrangerResponder
from twisted_tftp.net.udp import READS_BEFORE_TIMEOUT
from twisted_tftp.net.upload_link import UploadLink
from twisted_tftp.transfer.machine import Buffer


@implementer(IReadWriteDescriptor)
class ClientLink(UploadLink):
    """The link of one transfer of a client.

    The request is sent to the server's request port. The first answer comes from another port, the
    server's port for this transfer (its TID, RFC 1350 section 4).

    @ivar knows_server_port: whether that port is known; from then on, only datagrams from it are
        received.
    @ivar other_host: the last other host that sent a datagram before that port was known, or
        None.
    @ivar on_unreachable: called with the error if the server's port is closed, or there is no
        route to the server. None after the first answer, when errors are not reported.
    @ivar on_other_port: once that port is known, called with (datagram, now) for each datagram
        from another port of the server's host; None to ignore such datagrams.
    @ivar local: the local socket address.
    """

    __slots__ = (
        "_reports_errors",
        "_source",
        "knows_server_port",
        "local",
        "on_other_port",
        "on_unreachable",
        "other_host",
    )

    def __init__(
        self,
        sock: socket.socket,
        server: SocketAddress,
        hub: Hub,
        responder: StrangerResponder,
        buffer: memoryview,
        clock: Callable[[], float],
    ) -> None:
        """Set up the link of `sock`; `close` closes this socket.

        @param server: the server's request port; the peer until `learn_server_port` is called.
        @param buffer: the buffer for received datagrams, which all links share.
        """
        super().__init__(sock, server, hub, responder, buffer, clock)
        self._source: SocketAddress = None
        self.knows_server_port = False
        self.other_host: str | None = None
        self.on_unreachable: Callable[[OSError], None] | None = None
        self.on_other_port: Callable[[Buffer, float], None] | None = None
        self.local: SocketAddress = self._sock.getsockname()
        self._reports_errors = False
        self.report_errors(True)

    @property
    def is_unbound(self) -> bool:
        """Whether the socket has the wildcard address: there was no route to the server."""
        return self.local[0] in ("0.0.0.0", "::")

    @property
    def server(self) -> SocketAddress:
        """The server's socket address: the request port, then the port of the transfer."""
        return self._peer

    def learn_server_port(self) -> None:
        """Take the source port of the current datagram as the server's port for this transfer.

        Call this only while a datagram is being received.
        """
        self._peer = self._to = self._source
        self.knows_server_port = True
        self.on_unreachable = None
        self.report_errors(False)

    def report_errors(self, is_wanted: bool) -> None:
        """Start or stop reporting ICMP errors; reporting costs one more call for each read.

        Some systems can't report them.
        """
        if icmp_errors.AVAILABLE:
            self._reports_errors = is_wanted
            icmp_errors.ask_for_errors(self._sock, is_wanted)  # False empties the queue too

    def _accept_source(self, address: SocketAddress) -> bool:
        """Note the source of a datagram; return whether the datagram belongs to this transfer.

        Before the server's port is known, each datagram from the server's host does.
        """
        if self.knows_server_port:
            return bool(address == self._peer)
        self._source = address
        if self._is_of_server(address):
            return True
        self.other_host = address[0]
        return False

    def _is_of_server(self, address: SocketAddress) -> bool:
        """Return whether `address` has the server's host and scope."""
        return bool(address[0] == self._peer[0] and address[3:] == self._peer[3:])

    def _receive_from_stranger(
        self, address: SocketAddress, datagram: memoryview, now: float
    ) -> None:
        super()._receive_from_stranger(address, datagram, now)
        if self.on_other_port and self.knows_server_port and self._is_of_server(address):
            self.on_other_port(datagram, now)

    def answer_stranger(self, datagram: Buffer, now: float) -> None:
        """Answer `datagram`, which is being received, with ERROR 5: a stranger has sent it.

        The server's request port gets no ERROR: a server in single-port mode would end the
        transfer that it is about to start for us.
        """
        if self._source != self._peer:
            self._responder.answer(self._sock, self._source, datagram, now)

    def discard_waiting(self) -> None:
        """Discard the datagrams in the socket: they can't answer a request that is not sent."""
        for _ in range(READS_BEFORE_TIMEOUT):
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
        """Report ICMP errors for datagrams to the server, if they are wanted."""
        if not self._reports_errors:
            return
        for error in icmp_errors.read_errors(self._sock):
            if self.on_unreachable is not None and error.peer == self._peer:
                self.on_unreachable(OSError(error.number, os.strerror(error.number)))
