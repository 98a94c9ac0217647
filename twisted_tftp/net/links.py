"""Give each transfer a path to its peer, from a port of its own.

Opening a socket, binding it, waiting for it and closing it costs as much as three datagrams, and
most files that a machine boots from are that small. So the `TransferPort` of a read that is over
serves another one, of another peer; and only a read that goes on gets a second socket, connected
to the peer, on the same port. A write has a socket that it shares with none before or after it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from random import random
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.net import icmp_errors
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.strangers import Strangers
from twisted_tftp.net.udp import (
    DATAGRAM,
    MAX_DATAGRAM,
    OFFLOAD,
    UDP_GRO,
    Buffer,
    Link,
    Receive,
    ReceiveTrain,
    Refused,
    SocketAddress,
    UDPLink,
    open_socket,
)

#: Datagrams of an upload read before others have their turn, and any read before a timeout is
#: acted on.
READS_PER_TURN = 64
READS_PER_DRAIN = 1024

#: What is read of a datagram from a reading client, an ACK or an ERROR with its text: as much as
#: Python allocates by itself.
MAX_ANSWER = 448

#: Packets of a peer after which it gets a connected socket: a small file is over by then.
CONNECT_AFTER = 32

#: Transfers that one port serves, in turn, and seconds in which it takes new ones.
TRANSFERS, LIFE = 64, 10.0

#: Ports that are kept idle, for how many seconds at least, and how many of them are asked whether
#: they know a peer.
IDLE_PORTS, IDLE, ASKED = 64, 1.0, 4

#: Seconds for which a port of a range does not serve the same peer again.
PAIR_REST = 60.0

#: Ports of a peer, and peers, that are remembered for that.
PAIR_PORTS = 64
PAIR_PEERS = 4096

_GRO_SIZE = struct.Struct("@i")
_GRO_SPACE = socket.CMSG_SPACE(_GRO_SIZE.size)


class _Descriptor:
    """What the reactor asks of those that it reads from."""

    __slots__ = ()

    _sock: socket.socket

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped; the sessions close their links."""


@implementer(IReadWriteDescriptor)
class TransferPort(_Descriptor):
    """A socket whose port is the TID of one read at a time; who is not its peer is a stranger.

    It serves one transfer after the other, but never a second one of the same peer's address and
    port: nothing that is left in the network of a transfer may be taken for a part of another
    one (RFC 1350 section 4 asks that of the TIDs).

    @ivar host: what it is bound to.
    @ivar address: its socket address.
    @ivar spare: it is not to be kept after its first transfer.
    @ivar idle_since: when its last transfer was over.
    """

    __slots__ = (
        "_born",
        "_clock",
        "_hub",
        "_link",
        "_on_left",
        "_peer",
        "_seen",
        "_sock",
        "_strangers",
        "address",
        "host",
        "idle_since",
        "spare",
    )

    def __init__(
        self,
        sock: socket.socket,
        host: Hashable,
        hub: Hub,
        strangers: Strangers,
        clock: Callable[[], float],
        on_left: Callable[[TransferPort, SocketAddress], None],
    ) -> None:
        """Take over `sock`, which is bound to `host`.

        @param on_left: called after each transfer with the port, and the peer that it has served.
        """
        self._sock = sock
        self.host = host
        self._hub = hub
        self._strangers = strangers
        self._clock = clock
        self._on_left = on_left
        self._link: ReadLink | None = None
        self._peer: SocketAddress = None
        self._seen: set[SocketAddress] = set()
        self.address: SocketAddress = sock.getsockname()
        self.spare = False
        self._born = clock()
        self.idle_since = 0.0
        if hub.connects:
            icmp_errors.ask_for_errors(sock)
        hub.add(self)

    def is_spent(self, now: float) -> bool:
        """Whether it may serve no more: it has served many, or for long."""
        return len(self._seen) >= TRANSFERS or now - self._born >= LIFE

    def knows(self, peer: SocketAddress) -> bool:
        """Whether it has served `peer`."""
        return peer in self._seen

    def serve(self, peer: SocketAddress) -> ReadLink:
        """Return the link of a transfer that begins."""
        link = ReadLink(self._sock, peer, self._hub, self, self._clock)
        self._seen.add(peer)
        self._peer = peer
        self._link = link
        return link

    def leave(self) -> None:
        """Be free: the transfer is over."""
        peer = self._peer
        self._link = self._peer = None
        self._on_left(self, peer)

    def close(self) -> None:
        """Close the socket."""
        if self._hub.outbox:
            self._hub.send_outbox()
        self._hub.remove(self)
        self._sock.close()

    def doRead(self) -> None:
        """Read one datagram: in lock step there is no more."""
        self.read_one()

    def read_one(self) -> bool:
        """Read a datagram; return whether there may be more."""
        try:
            datagram, address = self._sock.recvfrom(MAX_ANSWER)
        except (BlockingIOError, InterruptedError):
            self._read_errors()
            return False
        except OSError:  # an ICMP error about something sent earlier
            self._read_errors()
            return True
        now = self._clock()
        if address == self._peer:
            self._link.received(datagram, now)  # type: ignore[union-attr]
        elif address not in self._seen:
            self._strangers.received(self._sock, address, datagram, now)
        return self._link is not None

    def _read_errors(self) -> None:
        """Tell the transfer that its peer's port is closed, where ICMP says so."""
        if not self._hub.connects:
            return
        for error in icmp_errors.read_errors(self._sock):
            # What was sent to an earlier peer concerns nobody any more.
            if error.is_refusal and error.peer == self._peer:
                self._link.refused(self._clock())  # type: ignore[union-attr]

    def doWrite(self) -> None:
        """Send what had to wait."""
        if self._link is None or self._link.send_pending():
            self._hub.watch_writable(self, False)


@implementer(IReadWriteDescriptor)
class ReadLink(UDPLink, _Descriptor):
    """The path of a client that reads, at first through a `TransferPort`'s socket.

    An address on each packet costs the kernel and Python a fifth of a packet in lock step. So a
    read that goes on for a while gets a second socket on the same port, connected to its peer;
    strangers, and what the peer sent before, still come to the first.
    """

    __slots__ = ("_clock", "_port", "_receive", "_refused", "_until_connected")

    def __init__(
        self,
        sock: socket.socket,
        peer: SocketAddress,
        hub: Hub,
        port: TransferPort,
        clock: Callable[[], float],
    ) -> None:
        """Make the link of a transfer that `port` serves."""
        super().__init__(sock, peer, hub)
        self._port = port
        self._clock = clock
        self._receive: Receive | None = None
        self._refused: Refused | None = None
        self._until_connected = CONNECT_AFTER

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        """Start to receive; what came before answers nothing."""
        self._receive = receive

    def expect(self, octets: int) -> int:
        """Return what is asked for: answers are small."""
        return octets

    def watch_refusals(self, refused: Refused) -> None:
        """Call `refused` when ICMP says that the peer's port is closed."""
        self._refused = refused

    def refused(self, now: float) -> None:
        """Take it from the port that the peer's port is closed."""
        if self._refused is not None:
            self._refused(now)

    def received(self, datagram: bytes, now: float) -> None:
        """Take a datagram of the peer from the port."""
        if self._receive is None:
            return
        self._receive(datagram, now)
        if self._until_connected:
            self._until_connected -= 1
            # What waits to be sent waits for the first socket.
            if not self._until_connected and not self.closed and not self._pending:
                self._connect()

    def drain(self) -> None:
        """Read what waits, and no more than a socket's buffer may hold, whatever floods in."""
        readers = [self._port.read_one] + [self._read] * (self._to is None)
        for read in readers:
            for _ in range(READS_PER_DRAIN):
                if self.closed or not read():
                    break

    def close(self) -> None:
        """Free the port, and close the socket that is not the port's."""
        if self.closed:
            return
        self.closed = True
        self._receive = self._refused = None
        try:
            if self._to is None:
                if self._hub.outbox:
                    self._hub.send_outbox()
                self._hub.remove(self)
                self._sock.close()
        finally:
            self._port.leave()

    def doRead(self) -> None:
        """Read one datagram: in lock step there is no more."""
        try:
            datagram = self._sock.recv(MAX_ANSWER)
        except OSError:
            return  # nothing there, or an ICMP error about something sent earlier
        self._receive(datagram, self._clock())  # type: ignore[misc]

    def doWrite(self) -> None:
        """Send what had to wait."""
        if self.send_pending():
            self._hub.watch_writable(self, False)

    def _read(self) -> bool:
        """Read a datagram from the connected socket; return whether there may be more."""
        try:
            datagram = self._sock.recv(MAX_ANSWER)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        self._receive(datagram, self._clock())  # type: ignore[misc]
        return True

    def _watch_writable(self) -> None:
        self._hub.watch_writable(self if self._to is None else self._port, True)

    def _connect(self) -> None:
        """Go on with a connected socket; where that can't be had, with the one there is."""
        if not self._hub.connects:
            return
        first = self._sock
        try:
            second = socket.socket(first.family, DATAGRAM)
        except OSError:
            return
        try:
            if second.fileno() > _descriptors() * 3 // 4:
                raise OSError  # what is left is for files
            # Two sockets on one port: for the moment of the bind, and not for other processes.
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            second.bind(self._port.address)
            second.connect(self._peer)
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            second.close()
            with contextlib.suppress(OSError):
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            return
        second.setblocking(False)
        if self._hub.outbox:
            self._hub.send_outbox()
        self._sock, self._to = second, None
        self._hub.add(self)
        # What came between the bind and the connect may be anybody's.
        for _ in range(READS_PER_TURN):
            try:
                datagram, address = second.recvfrom(MAX_ANSWER)
            except OSError:
                return
            if address == self._peer:
                self._receive(datagram, self._clock())  # type: ignore[misc]
            if self.closed:
                return


def _descriptors() -> int:
    """Return how many descriptors the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31


@implementer(IReadWriteDescriptor)
class WriteLink(UDPLink, _Descriptor):
    """The path of a client that writes: a socket of its own, with receive offload.

    It is not connected: a stranger's packet must reach us to be answered.

    @ivar on_closed: called with the local port when the socket is closed, or None.
    """

    __slots__ = (
        "_buffer",
        "_clock",
        "_receive",
        "_receive_train",
        "_refused",
        "_strangers",
        "on_closed",
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
        super().__init__(sock, peer, hub)
        self._strangers = strangers
        self._buffer = buffer
        self._clock = clock
        self._receive: Receive | None = None
        self._receive_train: ReceiveTrain | None = None
        self._refused: Refused | None = None
        self.on_closed: Callable[[int], None] | None = None

    def watch_refusals(self, refused: Refused) -> None:
        """Call `refused` when ICMP says that the peer's port is closed."""
        if self._hub.connects:
            icmp_errors.ask_for_errors(self._sock)
            self._refused = refused

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        """Start to receive."""
        self._hub.add(self)
        self._receive = receive
        self._receive_train = receive_train

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

    def drain(self) -> None:
        """Read what waits, and no more than a socket's buffer may hold, whatever floods in."""
        self._read(READS_PER_DRAIN)

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
        self._read(READS_PER_TURN)

    def doWrite(self) -> None:
        """Send what had to wait."""
        if self.send_pending():
            self._hub.watch_writable(self, False)

    def _read(self, count: int) -> None:
        for _ in range(count):
            if self.closed or not self._read_one():
                return

    def _read_one(self) -> bool:
        """Read what the system hands over in one piece; return whether there may be more.

        With receive offload these are several datagrams, all of one size but for the last.
        """
        buffer = self._buffer
        try:
            size, ancillary, _, address = self._sock.recvmsg_into((buffer,), _GRO_SPACE)
        except (BlockingIOError, InterruptedError):
            self._read_errors()
            return False
        except OSError:  # an ICMP error about something sent earlier
            self._read_errors()
            return not self.closed
        now = self._clock()
        segment = _GRO_SIZE.unpack(ancillary[0][2])[0] if ancillary else size
        if not self._is_peer(address):
            self._received_from_elsewhere(address, buffer[:segment], now)
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
        """Tell the transfer that its peer's port is closed, where ICMP says so."""
        if self._refused is None:
            return
        for error in icmp_errors.read_errors(self._sock):
            if error.is_refusal and error.peer == self._peer:
                self._refused(self._clock())
            if self.closed:
                return

    def _received_from_elsewhere(
        self, address: SocketAddress, datagram: memoryview, now: float
    ) -> None:
        self._strangers.received(self._sock, address, datagram, now)

    def _is_peer(self, address: SocketAddress) -> bool:
        return bool(address == self._peer)

    def _watch_writable(self) -> None:
        self._hub.watch_writable(self, True)


@implementer(IReadWriteDescriptor)
class ClientLink(WriteLink):
    """The path of our own transfer with a server: its answer tells its port.

    @ivar elsewhere: the last host that something came from before the answer, and was not asked;
        or None.
    @ivar on_unreachable: called with the error when the system says that nobody is there, or that
        there is no way; None once somebody has answered.
    @ivar on_rival: called with each datagram (and the time) that the server's host sends from
        another port than the transfer's, once that is known; None where nobody cares.
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

    def __init__(self, *args: Any) -> None:
        """Take over a socket, as a `WriteLink`; the peer is the server's request port."""
        super().__init__(*args)
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
        """Whether it receives at any local address, since there was no route to the server."""
        return self.local[0] in ("0.0.0.0", "::")

    @property
    def server(self) -> SocketAddress:
        """The socket address that the transfer is with."""
        return self._peer

    def lock(self) -> None:
        """Take who sent the datagram that is being received for the server of this transfer."""
        self._peer = self._to = self._from
        self.locked = True
        self.on_unreachable = None
        if icmp_errors.AVAILABLE:
            icmp_errors.ask_for_errors(self._sock, False)  # this empties the queue too

    def _is_peer(self, address: SocketAddress) -> bool:
        """Whether the datagram is of this transfer: before the lock, from the server's host."""
        if self.locked:
            return bool(address == self._peer)
        self._from = address
        if self._is_of_server(address):
            return True
        self.elsewhere = address[0]
        return False

    def _is_of_server(self, address: SocketAddress) -> bool:
        return bool(address[0] == self._peer[0] and address[3:] == self._peer[3:])

    def _received_from_elsewhere(
        self, address: SocketAddress, datagram: memoryview, now: float
    ) -> None:
        super()._received_from_elsewhere(address, datagram, now)
        if self.locked and self.on_rival is not None and self._is_of_server(address):
            self.on_rival(datagram, now)

    def refuse(self, datagram: Buffer, now: float) -> None:
        """Tell who sent `datagram`, which is being received, that it is not for this transfer.

        Not the port that was asked: a server that answers from there would end the transfer that
        it is about to begin for us.
        """
        if self._from != self._peer:
            self._strangers.received(self._sock, self._from, datagram, now)

    def discard(self) -> None:
        """Drop what waits in the socket: it came before the request, so it answers nothing."""
        for _ in range(READS_PER_DRAIN):
            try:
                self._sock.recv(1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                pass  # an ICMP error, of another socket that had this port

    def _lost(self, error: OSError) -> None:
        if self.on_unreachable is not None:
            self.on_unreachable(error)

    def _read_errors(self) -> None:
        """Note what ICMP says before the first answer."""
        if self.locked or not icmp_errors.AVAILABLE:
            return
        for error in icmp_errors.read_errors(self._sock):
            if self.on_unreachable is not None and error.peer == self._peer:
                self.on_unreachable(OSError(error.number, os.strerror(error.number)))


class RecentPairs:
    """Which local ports have served each peer lately, where there are few to choose from.

    What is left in the network of a transfer must not reach another one between the same two
    ports. The system chooses from some 28,000 ports by chance; a range may have ten. Of a peer
    the last `PAIR_PORTS` ports are remembered, and of all peers the last `PAIR_PEERS`: with more
    than these the one of longest ago may come again before `PAIR_REST`.
    """

    def __init__(self, clock: Callable[[], float], wanted: bool) -> None:
        """Remember pairs of ports if that is `wanted`."""
        self._clock = clock
        self._wanted = wanted
        self._ports: OrderedDict[SocketAddress, dict[int, float]] = OrderedDict()

    def ports_of(self, peer: SocketAddress) -> list[int]:
        """Return the ports that have served `peer`, the one of longest ago first."""
        if not self._wanted:
            return []
        long_ago = self._clock() - PAIR_REST
        ports = self._ports.get(peer, {})
        return [port for port, at in ports.items() if at > long_ago]

    def add(self, peer: SocketAddress, port: int) -> None:
        """Note that `port` serves `peer` now, or has done so until now."""
        if not self._wanted:
            return
        ports = self._ports.pop(peer, {})
        ports.pop(port, None)
        ports[port] = self._clock()
        if len(ports) > PAIR_PORTS:
            del ports[next(iter(ports))]
        self._ports[peer] = ports
        if len(self._ports) > PAIR_PEERS:
            self._ports.popitem(last=False)


class LinkOpener:
    """Open the links of all transfers, in one hub."""

    def __init__(
        self,
        reactor: Any,
        port_range: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.strangers = Strangers()
        self._hub: Hub | None = None
        self._idle: list[TransferPort] = []  # the one that was used first is the first
        self._sweep: IDelayedCall | None = None
        self._reactor = reactor
        self._port_range = port_range
        self._pairs = RecentPairs(clock, port_range is not None)
        self._clock = clock
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    @property
    def hub(self) -> Hub:
        """The hub; made when it is first asked for."""
        if self._hub is None:
            self._hub = make_hub(self._reactor)
        return self._hub

    def open(self, peer: SocketAddress, local: SocketAddress | None, reading: bool) -> Link:
        """Return a link to `peer`, a client that reads or writes, from the host of `local`.

        @raise OSError: there is no socket or port left.
        """
        # Where the answers leave from; without a local address, the family.
        host = (local[0], local[2:]) if local else len(peer)
        avoid = self._pairs.ports_of(peer)
        if reading:
            port = self._idle_port(peer, host, avoid)
            if port is not None:
                self._pairs.add(peer, port.address[1])
                return port.serve(peer)
        sock = self._open_socket(peer, local, avoid)
        self._pairs.add(peer, sock.getsockname()[1])
        if reading:
            port = TransferPort(sock, host, self.hub, self.strangers, self._clock, self._left)
            # One client that always asks from the same port must not fill the store of ports.
            port.spare = any(idle.host == host for idle in self._idle)
            return port.serve(peer)
        link = WriteLink(sock, peer, self.hub, self.strangers, self._buffer, self._clock)
        if self._port_range is not None:
            link.on_closed = partial(self._pairs.add, peer)
        return link

    def close(self) -> None:
        """Close everything, after the links."""
        self.close_idle()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._hub is not None:
            self._hub.close()
            self._hub = None

    def _idle_port(
        self, peer: SocketAddress, host: Hashable, avoid: list[int]
    ) -> TransferPort | None:
        """Return an idle port that may serve `peer` from `host`, and whose port is not in `avoid`.

        By chance, since a transfer's port should not be guessed (RFC 1350 section 4).
        """
        idle = self._idle
        for _ in range(min(ASKED, len(idle))):
            index = int(random() * len(idle))
            port = idle[index]
            if port.host == host and not port.knows(peer) and port.address[1] not in avoid:
                del idle[index]
                return port
        return None

    def _open_socket(
        self, peer: SocketAddress, local: SocketAddress | None, avoid: list[int]
    ) -> socket.socket:
        """Return a socket on none of the ports to `avoid`, if possible; idle ones give way to it.

        @raise OSError: there is no socket or port left.
        """
        try:
            sock = open_socket(peer, local, self._port_range, avoid)
            if not avoid or sock.getsockname()[1] not in avoid:
                return sock
            if all(port.address[1] in avoid for port in self._idle):
                return sock  # to close them would give no better port
            sock.close()
        except OSError:
            if not self._idle:
                raise
        self.close_idle()
        return open_socket(peer, local, self._port_range, avoid)

    def _left(self, port: TransferPort, peer: SocketAddress) -> None:
        """Keep a port that has served `peer` for another transfer, for a while."""
        self._pairs.add(peer, port.address[1])
        now = self._clock()
        idle = self._idle
        if self._hub is None or port.spare or port.is_spent(now) or len(idle) >= IDLE_PORTS:
            port.close()
            return
        port.idle_since = now
        idle.append(port)
        if self._sweep is None:
            self._sweep = self._reactor.callLater(IDLE, self._swept)

    def _swept(self) -> None:
        """Close the ports that nobody has needed, and look again while there are others."""
        self._sweep = None
        idle, long_ago = self._idle, self._clock() - IDLE
        while idle and idle[0].idle_since <= long_ago:
            idle.pop(0).close()
        if idle:
            self._sweep = self._reactor.callLater(IDLE, self._swept)

    def close_idle(self) -> None:
        """Close the ports that wait for another transfer: their descriptors are needed."""
        idle, self._idle = self._idle, []
        for port in idle:
            port.close()
