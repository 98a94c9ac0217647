"""The request port: it knows the local address of each request, and answers from that address.

On a host with several addresses, the source of an answer must be the address that the request was
sent to. Otherwise the client would treat the answer as a packet of a stranger.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import Any

from twisted.internet import udp
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.hub import Hub
from twisted_tftp.net.packet_info import (
    ANCILLARY_SIZE,
    Ancillary,
    Arrivals,
    ask_for_packet_info,
    source,
)
from twisted_tftp.net.scoped_hosts import host_of, socket_address_of
from twisted_tftp.net.socket_options import SocketOptions
from twisted_tftp.net.udp import MAX_DATAGRAM, allow_fragmentation
from twisted_tftp.transfer.machine import Buffer

#: The most octets that are read of a request (RFC 2347 allows 512); the rest is cut off.
MAX_REQUEST = 4096

#: The most datagrams that are read before the hub serves other sockets. A request takes twenty
#: times as long as an ACK.
REQUESTS_PER_CALL = 16

#: The size of the socket's buffers, in octets. Without root, the system may allow less.
BUFFER_SIZE = 8 * 1024 * 1024

#: The most datagrams that wait until the socket is writable; further ones are discarded.
MAX_WAITING = 4096

#: The option for a send buffer above net.core.wmem_max; it needs CAP_NET_ADMIN.
_SO_SNDBUFFORCE = 32

#: The option for a receive buffer above net.core.rmem_max; it needs CAP_NET_ADMIN.
_SO_RCVBUFFORCE = 33


class RequestPort(udp.Port):
    """A listening port that tells its protocol the local address of each datagram.

    The protocol has a method `received(datagram, peer, local)`: `peer` is the source, and `local`
    the socket address that the datagram was sent to, or None if the system does not report it. If
    transfers share the port, the protocol also has `port_unreachable(peer, local)`, which is
    called when ICMP reports that the port of `peer` is closed.

    @ivar address: the bound host; a link-local IPv6 address has its scope (`%eth0`).
    @ivar successor: the port that is bound to the same address after this one was closed; None if
        there is none. It sends for the transfers that use this port.
    """

    _log = Logger()

    def __init__(
        self,
        *args: Any,
        hub: Hub | None = None,
        options: SocketOptions | None = None,
        answers_broadcast: bool = False,
    ) -> None:
        """Set up.

        @param args: the arguments of Twisted's `Port`.
        @param hub: waits for datagrams; None for the reactor.
        @param options: options that are set before the socket is bound, or None.
        @param answers_broadcast: whether requests to IPv4 broadcast addresses are served.
        """
        super().__init__(*args)
        self.address = ""
        self.successor: RequestPort | None = None
        self._hub = hub
        self._options = options
        self._answers_broadcast = answers_broadcast
        self._max_octets = MAX_REQUEST
        self._reads_errors = False
        self._waiting: deque[tuple[bytes, Ancillary, SocketAddress]] = deque()
        self._arrivals = Arrivals(0, answers_broadcast)  # replaced by `startListening`

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of one address family for which packet information is enabled."""
        sock: socket.socket = super().createInternetSocket()
        allow_fragmentation(sock)
        if self.addressFamily == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        ask_for_packet_info(sock)
        # All machines of a rack may send their requests at the same moment.
        _enlarge(sock, socket.SO_RCVBUF, _SO_RCVBUFFORCE)
        return sock

    def startListening(self) -> None:
        """Bind the socket, and start to read.

        This replaces Twisted's method, which also writes a log line for each address. The service
        writes its own.

        @raise CannotListenError: the port cannot be bound.
        """
        try:
            sock = self.createInternetSocket()
        except OSError as error:
            raise CannotListenError(self.interface, self.port, error) from error
        try:
            if self._options is not None:
                self._options.apply(sock)
            sock.bind(socket_address_of(self.interface, self.port))
            self.address = host_of(sock)  # its interface may have disappeared
        except OSError as error:
            sock.close()
            raise CannotListenError(self.interface, self.port, error) from error
        self._realPortNumber = sock.getsockname()[1]
        self._arrivals = Arrivals(self._realPortNumber, self._answers_broadcast)
        self.connected = 1
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]
        self._connectToProtocol()

    def startReading(self) -> None:
        """Wait for datagrams in the hub, so that one loop serves requests and transfers."""
        if self._hub is not None:
            self._hub.add(self)
        else:
            super().startReading()

    def stopReading(self) -> None:
        """Stop waiting for datagrams."""
        if self._hub is not None:
            self._hub.remove(self)
        else:
            super().stopReading()

    def doRead(self) -> None:
        """Read some datagrams, and give them to the protocol."""
        hub = self._hub
        if hub is not None:
            hub.gather()
        for _ in range(REQUESTS_PER_CALL):
            if not self.read_one():
                return
            if hub is not None:
                hub.send_overdue()

    def read_one(self) -> bool:
        """Read one datagram; return whether there was one."""
        if not self.connected:
            return False
        try:
            datagram, ancillary, _, peer = self.socket.recvmsg(self._max_octets, ANCILLARY_SIZE)
        except (BlockingIOError, InterruptedError):
            self._read_errors()
            return False
        except OSError:  # an ICMP error about an earlier datagram
            self._read_errors()
            return bool(self.connected)
        local, may_answer = self._arrivals.of(ancillary)
        if may_answer:
            try:
                self.protocol.received(datagram, peer, local)
            except Exception:
                self._log.failure("unexpected exception while a request was handled")
        return bool(self.connected)

    def send(self, datagram: Buffer, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Send a datagram from the address `local`; if that fails, the datagram is lost.

        @param local: the local address of the request; None to let the system choose one.
        """
        if not self.connected:
            if self.successor is not None:
                self.successor.send(datagram, peer, local)
            return  # the service has stopped, or the address is gone
        ancillary = source(local, self.addressFamily)
        if self._waiting or not self._send(datagram, ancillary, peer):
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append((bytes(datagram), ancillary, peer))
            self.startWriting()

    def doWrite(self) -> None:
        """Send the datagrams that have waited until the socket is writable."""
        waiting = self._waiting
        while waiting:
            if not self._send(*waiting[0]):
                return
            waiting.popleft()
        self.stopWriting()

    def prepare_for_transfers(self) -> None:
        """Prepare the port for transfers (single-port mode): large buffers, and ICMP errors."""
        self._max_octets = MAX_DATAGRAM
        _enlarge(self.socket, socket.SO_SNDBUF, _SO_SNDBUFFORCE)
        if self._hub is not None and self._hub.allows_icmp_errors:
            icmp_errors.ask_for_errors(self.socket)
            self._reads_errors = True

    def _read_errors(self) -> None:
        """Tell the protocol about the closed ports that ICMP reports."""
        if not self._reads_errors:
            return
        for error in icmp_errors.read_errors(self.socket):
            if error.is_port_unreachable:
                local, _ = self._arrivals.of(error.ancillary)
                try:
                    self.protocol.port_unreachable(error.peer, local)
                except Exception:
                    self._log.failure("unexpected exception while an ICMP error was handled")
            if not self.connected:
                return

    def receive_capacity(self) -> int:
        """Return how many octets of datagrams fit into the receive buffer; 0 without a socket."""
        if not self.connected:
            return 0
        capacity: int = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        return capacity

    def _send(self, datagram: Buffer, ancillary: Ancillary, peer: SocketAddress) -> bool:
        """Send a datagram; return false if the socket is not writable."""
        for _ in range(2):
            try:
                self.socket.sendmsg([datagram], ancillary, 0, peer)
                return True
            except BlockingIOError:
                return False
            except OSError:
                pass  # maybe an ICMP error for an earlier datagram: try again
        return True  # no route, or a firewall: the datagram counts as lost


def _enlarge(sock: socket.socket, option: int, forced: int) -> None:
    """Set the size of a buffer to `BUFFER_SIZE`, or to the system's limit without privileges."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)
    except OSError:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_SIZE)


def listen(
    reactor: Any,
    port: int,
    protocol: Any,
    interface: str,
    hub: Hub | None = None,
    *,
    options: SocketOptions | None = None,
    answers_broadcast: bool = False,
) -> RequestPort:
    """Bind a request port, and start to read.

    @param interface: an IPv4 or IPv6 address; `0.0.0.0` or `::` for all addresses of a family.
    @param hub: waits for requests; None for the reactor.
    @param options: options that are set before the socket is bound, or None.
    @param answers_broadcast: whether requests to IPv4 broadcast addresses are served.
    @raise CannotListenError: the port is in use or needs privileges, or this host does not have
        the address.
    """
    request_port = RequestPort(
        *(port, protocol, interface, MAX_DATAGRAM, reactor),
        hub=hub,
        options=options,
        answers_broadcast=answers_broadcast,
    )
    try:
        request_port.startListening()
    except OSError as error:  # the system does not support the address family
        raise CannotListenError(interface, port, error) from error
    return request_port
