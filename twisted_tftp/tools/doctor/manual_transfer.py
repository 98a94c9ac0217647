"""Read transfers that a check controls packet by packet, over a plain blocking socket.

The checks stop answering, repeat packets, send from a wrong port, and report blocks as lost. The
client of this package can't do that.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from twisted_tftp.errors import TFTPError
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.udp import MAX_DATAGRAM, allow_fragmentation
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import accept

#: The time to wait for an answer, in seconds.
DEFAULT_TIMEOUT = 1.0

#: The time in which no ACK is sent and retransmissions are counted, in seconds.
DEFAULT_WATCH = 8.0

#: How often a request is sent if it is not answered.
REQUEST_ATTEMPTS = 3

#: The ERROR that ends the transfer of a check.
END_OF_CHECK = wire.error(TFTPError("the check has ended"))


@dataclass(frozen=True)
class Target:
    """The server that is checked, and how to check it.

    @ivar address: the socket address of the request port.
    @ivar filename: the file to request.
    @ivar timeout: how long to wait for an answer, in seconds.
    @ivar watch: how long to send no ACK and count the retransmissions, in seconds.
    """

    address: SocketAddress
    filename: str
    timeout: float = DEFAULT_TIMEOUT
    watch: float = DEFAULT_WATCH

    def open_socket(self) -> socket.socket:
        """Return a new UDP socket of the server's address family."""
        family = socket.AF_INET6 if len(self.address) == 4 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        allow_fragmentation(sock)
        return sock

    def encode_request(
        self, options: Mapping[str, str] | None = None, mode: str = wire.OCTET
    ) -> bytes:
        """Return a read request for the file.

        @raise ValueError: the file name is empty, or contains a NUL.
        """
        filename = self.filename.encode("utf-8", "surrogateescape")
        return wire.encode_request(wire.Request(wire.Opcode.RRQ, filename, mode, options or {}))


@dataclass
class ManualTransfer:
    """One read transfer with its own socket; a context manager, which ends it.

    @ivar peer: the address from which the server has answered; None before it has answered.
    @ivar sent_at: when the last packet was sent, in seconds of the monotonic clock.
    """

    target: Target
    sock: socket.socket = field(init=False)
    peer: SocketAddress = None
    sent_at: float = 0.0

    def __enter__(self) -> ManualTransfer:
        """Open the socket; nothing is sent yet."""
        self.sock = self.target.open_socket()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send an ERROR to the server if it has answered, and close the socket."""
        with self.sock:
            if self.peer is not None:
                with contextlib.suppress(OSError):
                    self.sock.sendto(END_OF_CHECK, self.peer)

    def request(self, options: Mapping[str, str] | None = None, mode: str = wire.OCTET) -> bytes:
        """Send a read request and return the answer.

        @return: the first datagram of the server; empty if several requests were not answered.
        """
        request = self.target.encode_request(options, mode)
        for _ in range(REQUEST_ATTEMPTS):
            self.sent_at = time.monotonic()
            self.sock.sendto(request, self.target.address)
            answer = self.receive(self.target.timeout)
            if answer is not None:
                return answer
        return b""

    def request_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Send a read request with options, and return the options that the server grants.

        @return: option names and values; empty if the answer is not a valid OACK.
        """
        return granted_options(self.request(options), options)

    def send(self, datagram: bytes) -> None:
        """Send a datagram to the port from which the server has answered."""
        self.sent_at = time.monotonic()
        self.sock.sendto(datagram, self.peer)

    def receive(self, seconds: float) -> bytes | None:
        """Return the next datagram of the server, or None if none arrives in time."""
        received = receive_from(self.sock, seconds, self._is_from_server)
        if received is None:
            return None
        datagram, self.peer = received
        return datagram

    def receive_answer(self) -> bytes:
        """Return the next datagram of the server; empty if none arrives within the timeout."""
        return self.receive(self.target.timeout) or b""

    def _is_from_server(self, source: SocketAddress) -> bool:
        if self.peer is None:
            return bool(source[0] == self.target.address[0])
        return bool(source == self.peer)


def receive_from(
    sock: socket.socket, seconds: float, is_expected: Callable[[SocketAddress], bool]
) -> tuple[bytes, SocketAddress] | None:
    """Return the next datagram from an expected address, and that address.

    @return: None if no such datagram arrives in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if left < 0 or not select.select([sock], [], [], left)[0]:
            return None
        try:
            datagram, source = sock.recvfrom(MAX_DATAGRAM)
        except ConnectionError:  # an ICMP error about an earlier datagram
            continue
        if is_expected(source):
            return datagram, source


def granted_options(answer: bytes, requested: Mapping[str, str]) -> Mapping[str, str]:
    """Return the options that an answer grants; empty if it is not a valid OACK."""
    if wire.opcode_of(answer) != wire.Opcode.OACK:
        return {}
    try:
        return dict(accept(requested, wire.parse_oack(answer)).accepted)
    except TFTPError:
        return {}
