"""Be the port that clients ask: say which local address a request reached, and answer from it.

On a host with several addresses the answer must leave from the one asked, or the client takes
it for a stranger's.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet import udp
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.udp import (
    MAX_DATAGRAM,
    READS_PER_DRAIN,
    Buffer,
    Receive,
    ReceiveTrain,
    Refused,
    SocketAddress,
)

#: The longest request that is read; RFC 2347 has 512. Longer ones come cut short.
MAX_REQUEST = 4096

#: Datagrams read before others have their turn. A request is twenty times the work of an ACK.
READS_PER_TURN = 16

#: Octets of the socket's buffers; the system may allow less to who is not root.
BUFFER = 8 * 1024 * 1024

#: Datagrams that wait for room in the socket; more are lost, as in any queue.
MAX_WAITING = 4096

_LINUX = sys.platform == "linux"
# Named in the socket module from Python 3.14 on.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)
_IN_PKTINFO = struct.Struct("@i4s4s")
_UNSPECIFIED = bytes(4)
_IN6_PKTINFO = struct.Struct("@16si")
# Linux: with CAP_NET_ADMIN, above net.core.rmem_max and wmem_max.
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
#: Control messages: (level, kind, octets).
Ancillary = list[tuple[int, int, bytes]]
_ANCILLARY_SIZE = socket.CMSG_SPACE(_IN6_PKTINFO.size) + socket.CMSG_SPACE(_IN_PKTINFO.size)


class RequestPort(udp.Port):
    """A listening port that says which of its addresses each datagram reached.

    Its protocol has `received(datagram, peer, local)`: the socket address it came from, and the
    one it reached (None where the system does not tell). Where transfers share the port it has
    `refused(peer, local)` too: ICMP says that the port of `peer` is closed.
    """

    _log = Logger()

    def __init__(self, *args: Any, hub: Hub | None = None) -> None:
        """Make a port as Twisted does; `hub` is where to wait, the reactor if None."""
        super().__init__(*args)
        self._hub = hub
        self._longest = MAX_REQUEST
        self._reads_errors = False
        self._waiting: deque[tuple[bytes, Ancillary, SocketAddress]] = deque()

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of one address family that asks for packet information."""
        sock: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if _LINUX:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif _LINUX:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        # A rack that is switched on asks all at once.
        _enlarge(sock, socket.SO_RCVBUF, _SO_RCVBUFFORCE)
        return sock

    def startListening(self) -> None:
        """Bind the socket, and begin to read.

        This replaces Twisted's own method, which also writes a log line for each address: the
        service logs a better one.

        @raise CannotListenError: the port can't be bound.
        """
        try:
            sock = self.createInternetSocket()
        except OSError as error:
            raise CannotListenError(self.interface, self.port, error) from error
        try:
            sock.bind((self.interface, self.port))
        except OSError as error:
            sock.close()
            raise CannotListenError(self.interface, self.port, error) from error
        self._realPortNumber = sock.getsockname()[1]
        self.connected = 1
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]
        self._connectToProtocol()

    def startReading(self) -> None:
        """Wait for requests where the transfers wait, so that one loop serves them all."""
        if self._hub is not None:
            self._hub.add(self)
        else:
            super().startReading()

    def stopReading(self) -> None:
        """Wait no longer."""
        if self._hub is not None:
            self._hub.remove(self)
        else:
            super().stopReading()

    def doRead(self) -> None:
        """Read some datagrams and hand them to the protocol."""
        hub = self._hub
        if hub is not None:
            hub.gather()
        for _ in range(READS_PER_TURN):
            if not self.read_one():
                return
            if hub is not None:
                hub.send_overdue()

    def read_one(self) -> bool:
        """Read one datagram; return whether there was one."""
        if not self.connected:
            return False
        try:
            datagram, ancillary, _, peer = self.socket.recvmsg(self._longest, _ANCILLARY_SIZE)
        except (BlockingIOError, InterruptedError):
            self._read_errors()
            return False
        except OSError:  # an ICMP error about something sent earlier
            self._read_errors()
            return bool(self.connected)
        local, unicast = self._arrival(ancillary)
        if unicast:
            try:
                self.protocol.received(datagram, peer, local)
            except Exception:
                self._log.failure("a request failed")
        return bool(self.connected)

    def send(self, datagram: Buffer, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Send from the address that the request reached; what can't be sent counts as lost."""
        if not self.connected:
            return  # the service has stopped
        ancillary: Ancillary = []
        if local is not None and _LINUX:
            if self.addressFamily == socket.AF_INET6:
                info = _IN6_PKTINFO.pack(
                    socket.inet_pton(socket.AF_INET6, local[0]), local[3] if len(local) > 3 else 0
                )
                ancillary = [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)]
            else:
                info = _IN_PKTINFO.pack(0, socket.inet_aton(local[0]), bytes(4))
                ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
        if self._waiting or not self._send(datagram, ancillary, peer):
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((bytes(datagram), ancillary, peer))
            self.startWriting()

    def doWrite(self) -> None:
        """Send what had to wait."""
        waiting = self._waiting
        while waiting:
            if not self._send(*waiting[0]):
                return
            waiting.popleft()
        self.stopWriting()

    def share(self) -> None:
        """Make room for all transfers, as far as the system allows; hear of closed ports."""
        self._longest = MAX_DATAGRAM
        _enlarge(self.socket, socket.SO_SNDBUF, _SO_SNDBUFFORCE)
        if self._hub is not None and self._hub.connects:
            icmp_errors.ask_for_errors(self.socket)
            self._reads_errors = True

    def _read_errors(self) -> None:
        """Tell the protocol which peers' ports are closed, where ICMP says so."""
        if not self._reads_errors:
            return
        for error in icmp_errors.read_errors(self.socket):
            if error.is_refusal:
                local, _ = self._arrival(error.ancillary)
                try:
                    self.protocol.refused(error.peer, local)
                except Exception:
                    self._log.failure("unexpected exception while an ICMP error was handled")
            if not self.connected:
                return

    def room(self) -> int:
        """Return the octets of datagrams that can wait to be read."""
        room: int = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        return room

    def _send(self, datagram: Buffer, ancillary: Ancillary, peer: SocketAddress) -> bool:
        """Send; return whether there was room."""
        for _ in range(2):
            try:
                self.socket.sendmsg([datagram], ancillary, 0, peer)
                return True
            except BlockingIOError:
                return False
            except OSError:
                pass  # the first one may be ICMP's word on an earlier datagram
        return True  # no route, a firewall: the datagram is lost, as others may be

    def _arrival(self, ancillary: Ancillary) -> tuple[SocketAddress | None, bool]:
        """Return the address that a datagram reached and whether it was sent to it alone.

        A request to a broadcast address is ignored (RFC 1123 section 4.2.3.5).
        """
        port = self._realPortNumber
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                _, local, destination = _IN_PKTINFO.unpack(data)
                if local == _UNSPECIFIED:  # it is an ICMP error that has come
                    local = destination
                return (socket.inet_ntoa(local), port), local == destination
            if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                destination, interface = _IN6_PKTINFO.unpack(data)
                host = socket.inet_ntop(socket.AF_INET6, destination)
                scope = interface if destination[:2] == b"\xfe\x80" else 0
                return (host, port, 0, scope), destination[0] != 0xFF
        return None, True


def _enlarge(sock: socket.socket, option: int, forced: int) -> None:
    """Ask for a large buffer: above the system's bound, and where that is refused, up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
    except OSError:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)


def listen(
    reactor: Any, port: int, protocol: Any, interface: str, hub: Hub | None = None
) -> RequestPort:
    """Bind a request port.

    @param interface: an IPv4 or IPv6 address; `0.0.0.0` or `::` for all of its family.
    @param hub: where to wait for requests; None for the reactor.
    @raise CannotListenError: the port is taken or needs privileges, or there is no such address.
    """
    request_port = RequestPort(port, protocol, interface, MAX_DATAGRAM, reactor, hub=hub)
    try:
        request_port.startListening()
    except OSError as error:  # the address family itself is missing
        raise CannotListenError(interface, port, error) from error
    return request_port


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

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        """Do nothing: the request port's protocol knows whose each datagram is."""

    def watch_refusals(self, refused: Refused) -> None:
        """Do nothing: the request port's protocol is told."""

    def expect(self, octets: int) -> int:
        """Return the room of the port's buffer, which belongs to all transfers."""
        return self._port.room()

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Send each header and its octets as one datagram from the request port."""
        for index in range(0, len(datagrams), 2):
            datagram = b"".join(datagrams[index : index + 2])
            self._port.send(datagram, self._peer, self._local)

    def drain(self) -> None:
        """Read what waits in the request port, for whomever it is."""
        for _ in range(READS_PER_DRAIN):
            if not self._port.read_one():
                return

    def close(self) -> None:
        """Leave the request port as it is."""
