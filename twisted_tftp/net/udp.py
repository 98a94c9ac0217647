"""Open UDP sockets and send bursts through them, by segmentation offload where there is one."""

from __future__ import annotations

import errno
import secrets
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from twisted.python.failure import Failure

from twisted_tftp.context import Endpoint
from twisted_tftp.net.hub import Hub

Buffer = bytes | memoryview
#: What is called for each datagram of a transfer: (datagram, now). The datagram is only valid
#: during the call.
Receive = Callable[[Buffer, float], None]
#: The same for datagrams that came in one piece: (datagrams, octets of each but the last, now).
ReceiveTrain = Callable[[memoryview, int, float], None]
#: What is called when ICMP says that the peer's port is closed: (now).
Refused = Callable[[float], None]
#: A socket address as Python has it: (host, port) or (host, port, flow, scope).
SocketAddress = Any

#: The largest UDP payload, and so the largest datagram that can come.
MAX_DATAGRAM = 65535

#: The kind of every socket.
DATAGRAM = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)

#: Datagrams that are read at most from a socket before a timeout is acted on.
READS_PER_DRAIN = 1024

#: Whether the system has UDP segmentation and receive offload.
OFFLOAD = sys.platform == "linux"

# Of linux/udp.h.
UDP_SEGMENT = 103
UDP_GRO = 104

#: Datagrams that one call may send by segmentation offload.
MAX_SEGMENTS = 64

#: Octets that one call may send by segmentation offload.
MAX_OFFLOAD = 65_000

_SEGMENT_SIZE = struct.Struct("@H")
_NO_OFFLOAD = (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT)


def endpoint(address: SocketAddress) -> Endpoint:
    """Return a socket address in the form that people and backends see."""
    if len(address) == 4 and address[3]:
        return Endpoint(f"{address[0]}%{address[3]}", address[1])
    return Endpoint(address[0], address[1])


class Link(Protocol):
    """A path to the peer of one transfer."""

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        """Give each of the peer's datagrams to `receive`, or several to `receive_train`."""

    def watch_refusals(self, refused: Refused) -> None:
        """Call `refused` when ICMP says that the peer's port is closed, where that can be told."""

    def expect(self, octets: int) -> int:
        """Make room for windows of `octets`; return for how much there is room."""

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send a burst: header, octets, header, octets, ...; a lost datagram is nobody's fault."""

    def drain(self) -> None:
        """Read what waits in the socket now."""

    def close(self) -> None:
        """Release the path; nothing is received after that."""


def open_socket(
    peer: SocketAddress,
    local: SocketAddress | None,
    port_range: tuple[int, int] | None = None,
    avoid: Collection[int] = (),
) -> socket.socket:
    """Return a non-blocking socket for a transfer with `peer`, bound to the host of `local`.

    @param port_range: lowest and highest port to bind to; tried from a random one on, since a
        transfer's port should not be guessed (RFC 1350 section 4).
    @param avoid: ports of the range that are taken only where no other is free.
    @raise OSError: there is no port or no descriptor left, or `local` is no address of ours.
    """
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
    host, scope = (local[0], tuple(local[2:])) if local else (wildcard, ())
    sock = socket.socket(family, DATAGRAM)
    try:
        sock.setblocking(False)  # no system call where DATAGRAM has said so
        if port_range is None:
            sock.bind((host, 0, *scope))
            return sock
        low, high = port_range
        count = high - low + 1
        start = secrets.randbelow(count)
        for port in _in_turn(low, start, count, avoid):
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


def _in_turn(low: int, start: int, count: int, avoid: Collection[int]) -> Iterator[int]:
    """Return the ports of a range from a random one on, and those to avoid after them."""
    for step in range(count):
        port = low + (start + step) % count
        if port not in avoid:
            yield port
    yield from (port for port in avoid if low <= port < low + count)


class SocketDescriptor:
    """The part of a reactor's file descriptor object that is the same for all our sockets."""

    __slots__ = ("_sock",)

    _sock: socket.socket

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the reactor has stopped, and the sessions close their links."""


class UDPLink(SocketDescriptor):
    """What links have in common: a socket that bursts are sent through."""

    __slots__ = ("_hub", "_offload", "_peer", "_pending", "_to", "closed")

    def __init__(self, sock: socket.socket, peer: SocketAddress, hub: Hub) -> None:
        self._sock = sock
        self._peer = peer
        self._hub = hub
        self._offload = OFFLOAD
        self._pending: list[bytes] = []
        self._to: SocketAddress | None = peer  # None where the socket is connected
        self.closed = False

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram.

        A single one waits for the others of the hub's round, if there is one.
        """
        if self._pending:
            self._wait(datagrams)
        elif len(datagrams) <= 2:
            # One copy is cheaper than what sendmsg makes of two buffers.
            datagram = b"".join(datagrams)
            if self._hub.outbox is None:
                self.send_now(datagram)
            else:
                self._hub.outbox.append((self, datagram))
        else:
            if self._hub.outbox:
                self._hub.send_outbox()  # this burst comes after what was said before
            self._send_window(datagrams)

    def send_now(self, datagram: bytes) -> None:
        """Send one datagram."""
        try:
            if self._to is None:
                self._sock.send(datagram)
            else:
                self._sock.sendto(datagram, self._to)
        except BlockingIOError:
            self._wait((datagram,))
        except OSError as error:
            self._lost(error)
            self._send_once_more(datagram)

    def _send_once_more(self, datagram: bytes) -> None:
        """Send what the system has refused: the error may be ICMP's word on an earlier one."""
        try:
            if self._to is None:
                self._sock.send(datagram)
            else:
                self._sock.sendto(datagram, self._to)
        except BlockingIOError:
            self._wait((datagram,))
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """Take it that no buffers, a firewall or no route lose a datagram, as others may be."""

    def send_pending(self) -> bool:
        """Send what had to wait; return whether nothing waits any more."""
        pending, self._pending = self._pending, []
        if len(pending) <= 2:
            if pending:
                self.send_now(b"".join(pending))
        else:
            self._send_window(pending)
        return not self._pending

    def _send_window(self, datagrams: Sequence[Buffer]) -> None:
        """Send a window in as few calls as the system takes: segmentation offload.

        The kernel cuts one large send into datagrams of the given size; 44 blocks of 1428 octets
        cost little more than one.
        """
        send, peer = self._sock.sendmsg, self._to
        size = len(datagrams[0]) + len(datagrams[1])
        step = 2
        if self._offload:
            step = 2 * max(1, min(MAX_SEGMENTS, MAX_OFFLOAD // size))
        ancillary = [(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
        index = 0
        failed_at = -1
        while index < len(datagrams):
            piece = datagrams[index : index + step]
            try:
                # A single datagram is no offload: where it is too large, that would refuse it.
                send(piece, ancillary if len(piece) > 2 else (), 0, peer)
            except BlockingIOError:
                self._wait(datagrams[index:])
                return
            except OSError as error:
                if failed_at != index:
                    failed_at = index  # the error may be ICMP's word on an earlier datagram
                    continue
                if step > 2 and error.errno in _NO_OFFLOAD:
                    # Once and for good: the way to this peer, or this system, can't do it.
                    self._offload = False
                    step = 2
                    continue
            index += step

    def _wait(self, datagrams: Sequence[Buffer]) -> None:
        """Keep what does not fit into the socket until it is writable.

        The octets are copied: their source may reuse its buffer. What waited before belongs to
        an older burst and is given up for this one.
        """
        if self.closed:
            return
        waiting = bool(self._pending)
        self._pending = [bytes(buffer) for buffer in datagrams]
        if not waiting:
            self._watch_writable()

    def _watch_writable(self) -> None:
        """See to it that `send_pending` is called once there is room."""
        raise NotImplementedError
