"""Open UDP sockets, and send bursts through them, with segmentation offload if available."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from twisted.python.failure import Failure

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.segmentation import (
    HAS_OFFLOAD,
    MAX_OFFLOAD_SIZE,
    MAX_SEGMENTS,
    OFFLOAD_ERRORS,
    SEGMENT_SIZE,
    UDP_SEGMENT,
)
from twisted_tftp.net.socket_options import SocketOptions
from twisted_tftp.transfer.flow import Offerer
from twisted_tftp.transfer.machine import Buffer

#: Called with each datagram of a transfer: (datagram, now). The datagram is only valid during the
#: call.
Receive = Callable[[Buffer, float], None]

#: Called with several datagrams in one buffer: (datagrams, size of each but the last one, now).
ReceiveTrain = Callable[[memoryview, int, float], None]

#: Called when ICMP reports that the peer's port is closed: (now).
OnPortUnreachable = Callable[[float], None]

#: The size of a buffer for any UDP datagram, in octets.
MAX_DATAGRAM = 65535

#: The type of all sockets: UDP, and non-blocking from the start if the system supports that.
SOCKET_TYPE = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)

#: The most reads from a socket before a timeout is handled: they usually empty it.
READS_BEFORE_TIMEOUT = 1024

#: The option of an IPv4 socket that says whether DF is set in its datagrams, from linux/in.h.
IP_MTU_DISCOVER = 10

#: The value of this option for datagrams without DF, on a socket that ignores ICMP errors about
#: the MTU. `IP_PMTUDISC_DONT` would obey such errors, which may be forged.
IP_PMTUDISC_OMIT = 5


class Link(Protocol):
    """The socket of one transfer, its own or a shared one, and the address of the peer."""

    def attach(
        self,
        receive: Receive,
        receive_train: ReceiveTrain | None = None,
        offerer: Offerer | None = None,
    ) -> None:
        """Start to receive: call `receive` for each datagram of the peer.

        @param receive_train: called instead for several datagrams that arrive together; None to
            call `receive` for each of them.
        @param offerer: the machine that may leave windows to a flow; None for no flows. Many links
            have no flows.
        """

    def flow_delay(self) -> float | None:
        """Return how much later the flow has sent a window than the machine knows.

        @return: from the last window that the machine knows to the last one of the flow, in
            seconds; None if there is no flow.
        """

    def follow_flow(self) -> None:
        """Let the machine take over what its flow has done, if there is one; the flow continues.

        Call this before a question to the machine.
        """

    def end_flow(self) -> None:
        """End the flow, if there is one, and let the machine take over what it has done.

        Call this before the machine does anything but receive a datagram of this link.
        """

    def watch_port_unreachable(self, on_port_unreachable: OnPortUnreachable) -> None:
        """Call `on_port_unreachable` when ICMP reports that the peer's port is closed.

        Some systems do not report this.
        """

    def enlarge_buffer(self, size: int) -> int:
        """Make the receive buffer large enough for a window, if the system allows it.

        @param size: the size of the window in octets, with the headers.
        @return: how many octets of datagrams fit into the buffer.
        """

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send a burst. A datagram that cannot be sent is lost, without an error.

        @param datagrams: the header and the octets of each datagram: header, octets, header, ...
        """

    def receive_waiting(self) -> None:
        """Receive the datagrams that wait in the socket now."""

    def close(self) -> None:
        """Release the socket; no more datagrams are received."""


def allow_fragmentation(sock: socket.socket) -> None:
    """Never set DF in the datagrams of an IPv4 socket, so that routers may fragment them.

    Behind a tunnel whose router sends no ICMP, or whose ICMP is filtered, a large datagram with DF
    would never arrive. IPv6 has no DF: its routers never fragment.
    """
    if sock.family == socket.AF_INET and sys.platform == "linux":
        with contextlib.suppress(OSError):  # emulated kernels may lack it
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)


def open_socket(
    peer: SocketAddress,
    local: SocketAddress | None,
    port_range: tuple[int, int] | None = None,
    avoid: Collection[int] = (),
    options: SocketOptions | None = None,
) -> socket.socket:
    """Return a non-blocking socket for a transfer with `peer`, bound to the host of `local`.

    @param port_range: lowest and highest port to bind; None for any port. The first port that is
        tried is random, because the port of a transfer should be hard to guess (RFC 1350
        section 4).
    @param avoid: ports of the range that are used only if all others are in use.
    @param options: options that are set before the socket is bound, or None.
    @raise OSError: all ports are in use, there is no descriptor left, or `local` is not an address
        of this host.
    """
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
    host, scope = (local[0], tuple(local[2:])) if local else (wildcard, ())
    sock = socket.socket(family, SOCKET_TYPE)
    try:
        sock.setblocking(False)  # for systems without SOCK_NONBLOCK
        allow_fragmentation(sock)
        if options is not None:
            options.apply(sock)
        if port_range is None:
            sock.bind((host, 0, *scope))
            return sock
        low, high = port_range
        count = high - low + 1
        start = secrets.randbelow(count)
        for port in _ports_to_try(low, start, count, avoid):
            try:
                sock.bind((host, port, *scope))
                return sock
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "every port of the range is in use")
    except BaseException:
        sock.close()
        raise


def _ports_to_try(low: int, start: int, count: int, avoid: Collection[int]) -> Iterator[int]:
    """Return the ports of a range, beginning at `low + start`; those to avoid come last."""
    for step in range(count):
        port = low + (start + step) % count
        if port not in avoid:
            yield port
    yield from (port for port in avoid if low <= port < low + count)


class SocketDescriptor:
    """The methods that the reactor requires of an object with a socket."""

    __slots__ = ("_sock",)

    _sock: socket.socket

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the reactor has stopped, and the owner of the socket closes it."""


class UDPLink(SocketDescriptor):
    """The base class of links with a socket of their own; it sends their datagrams.

    @ivar closed: whether the link is closed.
    """

    __slots__ = ("_hub", "_offload", "_peer", "_pending", "_to", "closed")

    def __init__(self, sock: socket.socket, peer: SocketAddress, hub: Hub) -> None:
        self._sock = sock
        self._peer = peer
        self._hub = hub
        self._offload = HAS_OFFLOAD
        self._pending: list[bytes] = []
        self._to: SocketAddress | None = peer  # None if the socket is connected
        self.closed = False

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram.

        A single datagram is put into the hub's outbox, if there is one.
        """
        if self._pending:
            self._keep(datagrams)
        elif len(datagrams) <= 2:
            # One copy is cheaper than sendmsg with two buffers.
            datagram = b"".join(datagrams)
            if self._hub.outbox is None:
                self.send_now(datagram)
            else:
                self._hub.outbox.append((self, datagram))
        else:
            if self._hub.outbox:
                self._hub.send_outbox()  # earlier datagrams of this link must be sent first
            self._send_window(datagrams)

    def send_now(self, datagram: bytes) -> None:
        """Send one datagram."""
        try:
            if self._to is None:
                self._sock.send(datagram)
            else:
                self._sock.sendto(datagram, self._to)
        except BlockingIOError:
            self._keep((datagram,))
        except OSError as error:
            self._send_failed(error)
            self._send_once_more(datagram)

    def _send_once_more(self, datagram: bytes) -> None:
        """Repeat a send that failed: the error may be an ICMP error for an earlier datagram."""
        try:
            if self._to is None:
                self._sock.send(datagram)
            else:
                self._sock.sendto(datagram, self._to)
        except BlockingIOError:
            self._keep((datagram,))
        except OSError as error:
            self._send_failed(error)

    def _send_failed(self, error: OSError) -> None:
        """Ignore the error: the datagram counts as lost in the network."""

    def send_pending(self) -> bool:
        """Send the datagrams that have waited for the socket; return whether all were sent."""
        pending, self._pending = self._pending, []
        if len(pending) <= 2:
            if pending:
                self.send_now(b"".join(pending))
        else:
            self._send_window(pending)
        return not self._pending

    def _send_window(self, datagrams: Sequence[Buffer]) -> None:
        """Send a window with as few system calls as possible.

        With segmentation offload, the kernel divides one large send into datagrams of the given
        size. 44 blocks of 1428 octets then cost little more than one block.
        """
        send, peer = self._sock.sendmsg, self._to
        size = len(datagrams[0]) + len(datagrams[1])
        step = 2
        if self._offload:
            step = 2 * max(1, min(MAX_SEGMENTS, MAX_OFFLOAD_SIZE // size))
        ancillary = [(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_SIZE.pack(size))]
        index = 0
        failed_at = -1
        while index < len(datagrams):
            piece = datagrams[index : index + step]
            try:
                # A datagram above the MTU can be sent alone, but not with offload.
                send(piece, ancillary if len(piece) > 2 else (), 0, peer)
            except BlockingIOError:
                self._keep(datagrams[index:])
                return
            except OSError as error:
                if failed_at != index:
                    failed_at = index  # maybe an ICMP error for an earlier datagram: try again
                    continue
                if step > 2 and error.errno in OFFLOAD_ERRORS:
                    # The system, or the route to this peer, does not support offload.
                    self._offload = False
                    step = 2
                    continue
            index += step

    def _keep(self, datagrams: Sequence[Buffer]) -> None:
        """Keep datagrams that do not fit into the socket until it is writable.

        The octets are copied, because their source may reuse its buffer. Datagrams of an older
        burst that still wait are discarded.
        """
        if self.closed:
            return
        waiting = bool(self._pending)
        self._pending = [bytes(buffer) for buffer in datagrams]
        if not waiting:
            self._watch_writable()

    def flow_delay(self) -> float | None:
        """Return None: only L{DownloadLink} has flows."""
        return None

    def follow_flow(self) -> None:
        """Do nothing: only L{DownloadLink} has flows."""

    def end_flow(self) -> None:
        """Do nothing: only L{DownloadLink} has flows."""

    def _watch_writable(self) -> None:
        """Make the hub call `send_pending` when the socket is writable."""
        raise NotImplementedError
