"""Give each transfer a UDP socket of its own: open it, bind it, send bursts, receive."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.context import Endpoint
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.strangers import Strangers

Buffer = bytes | memoryview
#: What is called for each datagram of a transfer: (datagram, now). The datagram is only valid
#: during the call.
Receive = Callable[[Buffer, float], None]
#: A socket address as Python has it: (host, port) or (host, port, flow, scope).
SocketAddress = Any

#: The largest UDP payload, and so the largest datagram that can come.
MAX_DATAGRAM = 65535

_NONBLOCK: int = getattr(socket, "SOCK_NONBLOCK", 0)

#: Datagrams read from one socket before others have their turn.
READS_PER_TURN = 64

#: The longest datagram that a reading client sends: an ACK, or an ERROR with its text.
MAX_ANSWER = 516

#: Packets of a peer after which its socket is connected: a small file is over by then.
CONNECT_AFTER = 32

#: Whether the system has UDP offloads (Linux), their socket options, and how much they take.
OFFLOAD = sys.platform == "linux"
UDP_SEGMENT, UDP_GRO = 103, 104
MAX_SEGMENTS, MAX_OFFLOAD = 64, 65_000
_SEGMENT_SIZE = struct.Struct("@H")
_GRO_SIZE = struct.Struct("@i")
_GRO_SPACE = socket.CMSG_SPACE(_GRO_SIZE.size)
_NO_OFFLOAD = (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT)

#: Datagrams read from one socket before a timeout is acted on.
READS_PER_DRAIN = 1024


def endpoint(address: SocketAddress) -> Endpoint:
    """Return a socket address in the form that people and backends see."""
    if len(address) == 4 and address[3]:
        return Endpoint(f"{address[0]}%{address[3]}", address[1])
    return Endpoint(address[0], address[1])


class Link(Protocol):
    """A path to the peer of one transfer."""

    def attach(self, receive: Receive, greedy: bool) -> None:
        """Give each of the peer's datagrams to `receive`; read several in a turn if `greedy`."""

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
) -> socket.socket:
    """Return a non-blocking socket for a transfer with `peer`, bound to the host of `local`.

    @param port_range: lowest and highest port to bind to; tried from a random one on, since a
        transfer's port should not be guessed (RFC 1350 section 4).
    @raise OSError: there is no port or no descriptor left, or `local` is no address of ours.
    """
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
    host, scope = (local[0], tuple(local[2:])) if local else (wildcard, ())
    sock = socket.socket(family, socket.SOCK_DGRAM | _NONBLOCK)
    try:
        if not _NONBLOCK:
            sock.setblocking(False)
        if port_range is None:
            sock.bind((host, 0, *scope))
            return sock
        low, high = port_range
        count = high - low + 1
        start = secrets.randbelow(count)
        for step in range(count):
            try:
                sock.bind((host, low + (start + step) % count, *scope))
                return sock
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "every port of the range is in use")
    except BaseException:
        sock.close()
        raise


@implementer(IReadWriteDescriptor)
class UDPLink:
    """The socket of one transfer, in a hub.

    At first it is not connected: a stranger's packet must reach us to be answered. A read that
    goes on for a while gets a second socket on the same port, connected to its peer, which
    spares the kernel and us an address for each packet (a fifth of the cost of a packet in lock
    step); the first one stays for the strangers, as the link's `_Doorstep`.
    """

    __slots__ = (
        "_answers",
        "_buffer",
        "_clock",
        "_doorstep",
        "_greedy",
        "_hub",
        "_offload",
        "_peer",
        "_pending",
        "_receive",
        "_sock",
        "_strangers",
        "_to",
        "closed",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: SocketAddress,
        hub: Hub,
        strangers: Strangers,
        buffer: memoryview,
        clock: Callable[[], float],
    ) -> None:
        """Take over `sock`; `buffer` is where datagrams are received, shared by all links."""
        self._sock = sock
        self._peer = peer
        self._hub = hub
        self._strangers = strangers
        self._buffer = buffer
        self._clock = clock
        self._answers = 0  # packets of the peer until the socket is to be connected
        self._doorstep: _Doorstep | None = None
        self._greedy = False
        self._offload = OFFLOAD
        self._pending: list[bytes] = []
        self._receive: Receive | None = None
        self._to: SocketAddress | None = peer  # None where the socket is connected
        self.closed = False

    def attach(self, receive: Receive, greedy: bool) -> None:
        """Start to receive."""
        self._greedy = greedy
        self._answers = 0 if greedy else CONNECT_AFTER
        self._hub.add(self)
        self._receive = receive

    def expect(self, octets: int) -> int:
        """Make room in the socket for a window of `octets`, as far as the system allows.

        The system counts what a datagram costs it, about twice its octets.
        """
        room = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if octets > room // 2:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(2 * octets, 2**30))
            room = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if OFFLOAD:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        return room

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram."""
        if self._pending:
            self._wait(datagrams)
        elif len(datagrams) <= 2:
            # One copy is cheaper than what sendmsg makes of two buffers.
            try:
                if self._to is None:
                    self._sock.send(b"".join(datagrams))
                else:
                    self._sock.sendto(b"".join(datagrams), self._to)
            except BlockingIOError:
                self._wait(datagrams)
            except OSError:
                pass  # no buffers, a firewall, no route: lost, as others may be
        else:
            self._send_window(datagrams)

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
        while index < len(datagrams):
            piece = datagrams[index : index + step]
            try:
                # A single datagram is no offload: where it is too large, that would refuse it.
                send(piece, ancillary if len(piece) > 2 else (), 0, peer)
            except BlockingIOError:
                self._wait(datagrams[index:])
                return
            except OSError as error:
                if step > 2 and error.errno in _NO_OFFLOAD:
                    # Once and for good: the way to this peer, or this system, can't do it.
                    self._offload = False
                    step = 2
                    continue
            index += step

    def drain(self) -> None:
        """Read what waits, and no more than a socket's buffer may hold, whatever floods in."""
        if self._doorstep is not None:
            self._doorstep.drain()
        read = self._read_window if self._greedy else self._read_one
        for _ in range(READS_PER_DRAIN):
            if not read():
                return

    def close(self) -> None:
        """Leave the hub and close the socket."""
        if not self.closed:
            self.closed = True
            try:
                if self._receive is not None:
                    self._hub.remove(self)
            finally:
                self._sock.close()
                if self._doorstep is not None:
                    self._doorstep.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped; the session closes the link."""

    def doRead(self) -> None:
        """Read one datagram, or some of them where they come in windows."""
        if self._greedy:
            for _ in range(READS_PER_TURN):
                if not self._read_window():
                    return
        else:
            self._read_one()

    def doWrite(self) -> None:
        """Send what had to wait."""
        pending, self._pending = self._pending, []
        if pending:
            self.send(pending)
        if not self._pending:
            self._hub.watch_writable(self, False)

    def _read_one(self) -> bool:
        """Read a datagram of a client that reads; return whether there may be more."""
        if self.closed:
            return False
        try:
            if self._to is None:
                datagram, address = self._sock.recv(MAX_ANSWER), self._peer
            else:
                datagram, address = self._sock.recvfrom(MAX_ANSWER)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True  # an ICMP error about something sent earlier
        if self._to is None:
            self._receive(datagram, self._clock())  # type: ignore[misc]
            return True
        self._deliver(self._sock, datagram, address)
        if self._answers > 0:
            self._answers -= 1
            # What waits to be sent waits for the first socket.
            if not self._answers and not self.closed and not self._pending:
                self._connect()
        return True

    def _deliver(self, sock: socket.socket, datagram: bytes, address: SocketAddress) -> None:
        """Give a datagram to the session if it is the peer's."""
        now = self._clock()
        if address == self._peer:
            self._receive(datagram, now)  # type: ignore[misc]
        else:
            self._strangers.received(sock, address, datagram, now)

    def _connect(self) -> None:
        """Go on with a connected socket; where that can't be had, with the one there is."""
        first = self._sock
        try:
            second = socket.socket(first.family, socket.SOCK_DGRAM | _NONBLOCK)
        except OSError:
            return
        try:
            # Two sockets on one port: for the moment of the bind, and not for other processes.
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            second.bind(first.getsockname())
            second.connect(self._peer)
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            second.close()
            with contextlib.suppress(OSError):
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            return
        if not _NONBLOCK:
            second.setblocking(False)
        doorstep = _Doorstep(first, self)
        self._hub.replace(self, doorstep)
        self._sock, self._to, self._doorstep = second, None, doorstep
        self._hub.add(self)
        # What came between the bind and the connect may be anybody's.
        _drain(second, self)

    def _read_window(self) -> bool:
        """Read datagrams of a client that writes; return whether there may be more.

        With receive offload the system hands over several in one piece, all of one size but for
        the last.
        """
        if self.closed:
            return False
        buffer = self._buffer
        try:
            size, ancillary, _, address = self._sock.recvmsg_into((buffer,), _GRO_SPACE)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True  # an ICMP error about something sent earlier
        now = self._clock()
        segment = _GRO_SIZE.unpack(ancillary[0][2])[0] if ancillary else size
        if address != self._peer:
            self._strangers.received(self._sock, address, buffer[:segment], now)
            return True
        receive = self._receive
        for start in range(0, size, segment or 1):
            receive(buffer[start : min(start + segment, size)], now)  # type: ignore[misc]
            if self.closed:
                return False
        return True

    def _wait(self, datagrams: Sequence[Buffer]) -> None:
        """Keep what does not fit into the socket until it is writable.

        The octets are copied: their source may reuse its buffer. What waited before belongs to
        an older burst and is given up for this one.
        """
        waiting = bool(self._pending)
        self._pending = [bytes(buffer) for buffer in datagrams]
        if not waiting:
            self._hub.watch_writable(self, True)


@implementer(IReadWriteDescriptor)
class _Doorstep:
    """The first socket of a link that has gone on to a connected one: strangers come here."""

    def __init__(self, sock: socket.socket, link: UDPLink) -> None:
        self._sock = sock
        self._link = link

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped; the session closes the link."""

    def doRead(self) -> None:
        """Read some datagrams: strangers', and those of the peer that came before."""
        self.drain()

    def doWrite(self) -> None:
        """Do nothing: strangers are answered or not, but not waited for."""

    def drain(self) -> None:
        """Read what waits."""
        _drain(self._sock, self._link)

    def close(self) -> None:
        """Close the socket; the link has left the hub for it."""
        try:
            self._link._hub.remove(self)
        finally:
            self._sock.close()


def _drain(sock: socket.socket, link: UDPLink) -> None:
    """Read some datagrams that may be the peer's or a stranger's."""
    for _ in range(READS_PER_TURN):
        if link.closed:
            return
        try:
            datagram, address = sock.recvfrom(MAX_ANSWER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            continue  # an ICMP error about something sent earlier
        link._deliver(sock, datagram, address)


class LinkOpener:
    """Open a socket for each transfer, all in one hub."""

    def __init__(
        self,
        reactor: Any,
        port_range: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.strangers = Strangers()
        self._hub: Hub | None = None
        self._reactor = reactor
        self._port_range = port_range
        self._clock = clock
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    def open(self, peer: SocketAddress, local: SocketAddress | None) -> Link:
        """Return a link to `peer` that leaves from the host of `local`.

        @raise OSError: there is no socket or port left.
        """
        if self._hub is None:
            self._hub = make_hub(self._reactor)
        sock = open_socket(peer, local, self._port_range)
        return UDPLink(sock, peer, self._hub, self.strangers, self._buffer, self._clock)

    def close(self) -> None:
        """Close the hub, after the links."""
        if self._hub is not None:
            self._hub.close()
            self._hub = None
