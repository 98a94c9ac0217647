"""The link of a server's upload: a socket that receives several datagrams in one system call."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.segmentation import HAS_OFFLOAD, UDP_GRO
from twisted_tftp.net.strangers import StrangerResponder
from twisted_tftp.net.udp import (
    READS_BEFORE_TIMEOUT,
    OnPortUnreachable,
    Receive,
    ReceiveTrain,
    UDPLink,
)
from twisted_tftp.transfer.flow import Offerer

#: The most reads from the socket of an upload before the hub serves the next socket.
READS_PER_CALL = 64

#: The content of the control message of UDP_GRO: the size of each datagram but the last one.
_GRO_SIZE = struct.Struct("@i")

#: The size of this control message in octets.
_GRO_SPACE = socket.CMSG_SPACE(_GRO_SIZE.size)


@implementer(IReadWriteDescriptor)
class UploadLink(UDPLink):
    """The link of one upload, with receive offload (`UDP_GRO`); the base class of `ClientLink`.

    Its socket is not connected: otherwise the kernel would drop the packets of strangers, which
    are to be answered with an ERROR.

    @ivar on_closed: called with the local port when the socket is closed, or None.
    """

    __slots__ = (
        "_buffer",
        "_clock",
        "_on_port_unreachable",
        "_receive",
        "_receive_train",
        "_responder",
        "on_closed",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: SocketAddress,
        hub: Hub,
        responder: StrangerResponder,
        buffer: memoryview,
        clock: Callable[[], float],
    ) -> None:
        """Set up the link of `sock`; `close` closes this socket.

        @param buffer: the buffer for received datagrams, which all links share.
        """
        super().__init__(sock, peer, hub)
        self._responder = responder
        self._buffer = buffer
        self._clock = clock
        self._receive: Receive | None = None
        self._receive_train: ReceiveTrain | None = None
        self._on_port_unreachable: OnPortUnreachable | None = None
        self.on_closed: Callable[[int], None] | None = None

    def watch_port_unreachable(self, on_port_unreachable: OnPortUnreachable) -> None:
        """Call `on_port_unreachable` when ICMP says that the peer's port is closed."""
        if self._hub.allows_icmp_errors:
            icmp_errors.ask_for_errors(self._sock)
            self._on_port_unreachable = on_port_unreachable

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        """Start to receive."""
        self._hub.add(self)
        self._receive = receive
        self._receive_train = receive_train

    def enlarge_buffer(self, size: int) -> int:
        """Enlarge the socket's receive buffer for a window of `size` octets, if the system can.

        The kernel counts about two octets of buffer for each octet of a datagram.
        """
        capacity = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if size > capacity // 2:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(2 * size, 2**30))
            capacity = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if HAS_OFFLOAD:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        return capacity

    def receive_waiting(self) -> None:
        """Read all datagrams in the socket, with up to `READS_BEFORE_TIMEOUT` reads."""
        self._read(READS_BEFORE_TIMEOUT)

    def close(self) -> None:
        """Leave the hub and close the socket."""
        if not self.closed:
            if self._hub.outbox:
                self._hub.send_outbox()
            self.closed = True
            try:
                if self._receive is not None:
                    self._hub.remove(self)
                if self.on_closed is not None:
                    self.on_closed(self._sock.getsockname()[1])
            finally:
                self._sock.close()

    def doRead(self) -> None:
        """Read some datagrams."""
        self._read(READS_PER_CALL)

    def doWrite(self) -> None:
        """Send the datagrams that have waited until the socket is writable."""
        if self.send_pending():
            self._hub.watch_writable(self, False)

    def _read(self, count: int) -> None:
        for _ in range(count):
            if self.closed or not self._read_one():
                return

    def _read_one(self) -> bool:
        """Read once from the socket; return whether there may be more to read.

        With receive offload, one read may return several datagrams. All of them have the same
        size, except that the last one may be shorter.
        """
        buffer = self._buffer
        try:
            size, ancillary, _, address = self._sock.recvmsg_into((buffer,), _GRO_SPACE)
        except (BlockingIOError, InterruptedError):
            self._read_errors()
            return False
        except OSError:  # an ICMP error about an earlier datagram
            self._read_errors()
            return not self.closed
        now = self._clock()
        segment = _GRO_SIZE.unpack(ancillary[0][2])[0] if ancillary else size
        if not self._accept_source(address):
            self._receive_from_stranger(address, buffer[:segment], now)
            return not self.closed
        if segment < size and self._receive_train is not None:
            self._receive_train(buffer[:size], segment, now)
            return True
        receive = self._receive
        for start in range(0, size, segment or 1):
            receive(buffer[start : min(start + segment, size)], now)  # type: ignore[misc]
            if self.closed:
                return False
        return True

    def _read_errors(self) -> None:
        """Tell the transfer if ICMP reports that its peer's port is closed."""
        if self._on_port_unreachable is not None:
            for _ in range(icmp_errors.count_port_unreachable(self._sock, self._peer)):
                self._on_port_unreachable(self._clock())

    def _receive_from_stranger(
        self, address: SocketAddress, datagram: memoryview, now: float
    ) -> None:
        self._responder.answer(self._sock, address, datagram, now)

    def _accept_source(self, address: SocketAddress) -> bool:
        return bool(address == self._peer)

    def _watch_writable(self) -> None:
        self._hub.watch_writable(self, True)
