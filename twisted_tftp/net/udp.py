"""Open UDP sockets, receive with the local address, and send bursts of datagrams.

`RequestPort` is the port that clients ask: it tells which local address a request reached, so
that on a host with several addresses the answer leaves from the one asked (RFC 1123 section
4.2.3.4 speaks of the peer's side of this). `UDPLink` is the socket of one transfer;
`SharedLink` stands in for it where all transfers answer from the request port.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet import udp
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.context import Endpoint
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.strangers import Strangers

Buffer = bytes | memoryview
#: What is called for each datagram of a transfer: (datagram, now). The datagram is only valid
#: during the call.
Receive = Callable[[Buffer, float], None]
#: A socket address as Python has it: (host, port) or (host, port, flow, scope).
SocketAddress = Any

#: The largest UDP payload, and so the largest datagram that can come.
MAX_DATAGRAM = 65535

#: Datagrams read from one socket before others have their turn.
READS_PER_TURN = 64

_LINUX = sys.platform == "linux"
# Named in the socket module from Python 3.14 on.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_IN_PKTINFO = struct.Struct("@i4s4s")
_IN6_PKTINFO = struct.Struct("@16si")
_ANCILLARY_SIZE = socket.CMSG_SPACE(_IN6_PKTINFO.size) + socket.CMSG_SPACE(_IN_PKTINFO.size)


def endpoint(address: SocketAddress) -> Endpoint:
    """Return a socket address in the form that people and backends see."""
    if len(address) == 4 and address[3]:
        return Endpoint(f"{address[0]}%{address[3]}", address[1])
    return Endpoint(address[0], address[1])


class Link(Protocol):
    """A path to the peer of one transfer."""

    def attach(self, receive: Receive, greedy: bool) -> None:
        """Give each of the peer's datagrams to `receive`; read several in a turn if `greedy`."""

    def expect(self, octets: int) -> None:
        """Make room for windows of `octets`."""

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send a burst: header, octets, header, octets, ...; a lost datagram is nobody's fault."""

    def drain(self) -> None:
        """Read what waits in the socket now."""

    def close(self) -> None:
        """Release the path; nothing is received after that."""


class RequestPort(udp.Port):
    """A listening port that says which of its addresses each datagram reached.

    Its protocol has `received(datagram, peer, local)`: the socket address it came from, and the
    one it reached (None where the system does not tell).
    """

    _log = Logger()

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of one address family that asks for packet information."""
        sock: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if _LINUX:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif _LINUX:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        return sock

    def doRead(self) -> None:
        """Read some datagrams and hand them to the protocol."""
        for _ in range(READS_PER_TURN):
            if not self.read_one():
                return

    def read_one(self) -> bool:
        """Read one datagram; return whether there was one."""
        try:
            datagram, ancillary, _, peer = self.socket.recvmsg(MAX_DATAGRAM, _ANCILLARY_SIZE)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True  # an ICMP error about something sent earlier
        local, unicast = self._arrival(ancillary)
        if unicast:
            try:
                self.protocol.received(datagram, peer, local)
            except Exception:
                self._log.failure("a request failed")
        return bool(self.connected)

    def send(self, datagram: Buffer, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Send from the address that the request reached; what can't be sent counts as lost."""
        ancillary: list[tuple[int, int, bytes]] = []
        if local is not None and _LINUX:
            if self.addressFamily == socket.AF_INET6:
                info = _IN6_PKTINFO.pack(
                    socket.inet_pton(socket.AF_INET6, local[0]), local[3] if len(local) > 3 else 0
                )
                ancillary = [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)]
            else:
                info = _IN_PKTINFO.pack(0, socket.inet_aton(local[0]), bytes(4))
                ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
        with contextlib.suppress(OSError):
            self.socket.sendmsg([datagram], ancillary, 0, peer)

    def _arrival(
        self, ancillary: list[tuple[int, int, bytes]]
    ) -> tuple[SocketAddress | None, bool]:
        """Return the address that a datagram reached and whether it was sent to it alone.

        A request to a broadcast address is ignored (RFC 1123 section 4.2.3.5).
        """
        port = self._realPortNumber
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                _, local, destination = _IN_PKTINFO.unpack(data)
                return (socket.inet_ntoa(local), port), local == destination
            if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                destination, interface = _IN6_PKTINFO.unpack(data)
                host = socket.inet_ntop(socket.AF_INET6, destination)
                scope = interface if destination[:2] == b"\xfe\x80" else 0
                return (host, port, 0, scope), destination[0] != 0xFF
        return None, True


def listen(reactor: Any, port: int, protocol: Any, interface: str) -> RequestPort:
    """Bind a request port.

    @param interface: an IPv4 or IPv6 address; `0.0.0.0` or `::` for all of its family.
    @raise CannotListenError: the port is taken or needs privileges, or there is no such address.
    """
    request_port = RequestPort(port, protocol, interface, MAX_DATAGRAM, reactor)
    try:
        request_port.startListening()
    except OSError as error:  # the address family itself is missing
        raise CannotListenError(interface, port, error) from error
    return request_port


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
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if port_range is None:
            sock.bind((host, 0, *scope))
            return sock
        low, high = port_range
        count = high - low + 1
        start = random.randrange(count)
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

    It is not connected: a stranger's packet must reach us to be answered.
    """

    __slots__ = (
        "_buffer",
        "_clock",
        "_greedy",
        "_hub",
        "_peer",
        "_pending",
        "_receive",
        "_sock",
        "_strangers",
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
        self._greedy = False
        self._pending: list[bytes] = []
        self._receive: Receive | None = None
        self.closed = False

    def attach(self, receive: Receive, greedy: bool) -> None:
        """Start to receive."""
        self._receive = receive
        self._greedy = greedy
        self._hub.add(self)

    def expect(self, octets: int) -> None:
        """Make room in the socket for a window of `octets`, as far as the system allows."""
        if octets > self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 4:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * octets)

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram."""
        send, peer = self._sock.sendmsg, self._peer
        for index in range(0, len(datagrams), 2):
            try:
                send(datagrams[index : index + 2], (), 0, peer)
            except BlockingIOError:
                self._wait(datagrams[index:])
                return
            except OSError:
                # No buffers, a firewall, no route: the datagram is lost, as others may be.
                continue

    def drain(self) -> None:
        """Read all that waits."""
        while self._read_one():
            pass

    def close(self) -> None:
        """Leave the hub and close the socket."""
        if not self.closed:
            self.closed = True
            if self._receive is not None:
                self._hub.remove(self)
            self._sock.close()

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
                if not self._read_one():
                    return
        else:
            self._read_one()

    def doWrite(self) -> None:
        """Send what had to wait."""
        pending, self._pending = self._pending, []
        self.send(pending)
        if not self._pending:
            self._hub.watch_writable(self, False)

    def _read_one(self) -> bool:
        if self.closed:
            return False
        try:
            size, address = self._sock.recvfrom_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True  # an ICMP error about something sent earlier
        now = self._clock()
        if address == self._peer:
            assert self._receive is not None
            self._receive(self._buffer[:size], now)
        else:
            self._strangers.received(self._sock, address, self._buffer[:size], now)
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


class SharedLink:
    """A transfer's share of the request port, which receives for it."""

    def __init__(
        self,
        port: RequestPort,
        peer: SocketAddress,
        local: SocketAddress | None,
    ) -> None:
        self._port = port
        self._peer = peer
        self._local = local

    def attach(self, receive: Receive, greedy: bool) -> None:
        """Do nothing: the request port's protocol knows whose each datagram is."""

    def expect(self, octets: int) -> None:
        """Leave the port's buffer as it is: it belongs to all transfers."""

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram from the request port."""
        for index in range(0, len(datagrams), 2):
            datagram = b"".join(datagrams[index : index + 2])
            self._port.send(datagram, self._peer, self._local)

    def drain(self) -> None:
        """Read what waits in the request port, for whomever it is."""
        for _ in range(READS_PER_TURN):
            if not self._port.read_one():
                return

    def close(self) -> None:
        """Leave the request port as it is."""
