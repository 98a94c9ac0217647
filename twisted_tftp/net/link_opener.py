"""Open the links of a server's transfers, and keep the ports of ended downloads for new ones."""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from random import random
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from twisted_tftp.net import udp
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.path_mtu import RouteMtus
from twisted_tftp.net.socket_options import SocketOptions
from twisted_tftp.net.strangers import MayAnswer, StrangerResponder
from twisted_tftp.net.transfer_port import TransferPort
from twisted_tftp.net.udp import MAX_DATAGRAM, Link
from twisted_tftp.net.upload_link import UploadLink

#: How many idle ports are kept at most.
MAX_IDLE_PORTS = 64

#: How long an idle port is kept, in seconds; it is closed within twice this time.
IDLE_TIME = 1.0

#: How many idle ports are tried at most, in random order, for a new download.
MAX_IDLE_PORTS_TRIED = 4

#: How long a port of a range does not serve the same peer again, in seconds.
PAIR_REUSE_DELAY = 60.0

#: The most ports that are remembered for one peer.
MAX_PORTS_PER_PEER = 64

#: The most peers whose ports are remembered.
MAX_PEERS = 4096

#: Opens the socket of a link: see `twisted_tftp.net.udp.open_socket`.
OpenSocket = Callable[
    [SocketAddress, SocketAddress | None, tuple[int, int] | None, Collection[int]], socket.socket
]


class RecentPairs:
    """The local ports that have served each peer recently, for servers with a range of ports.

    Delayed packets of one transfer must not reach another transfer between the same two ports.
    Without a range, that is unlikely: the system chooses one of about 28,000 ports at random. But
    a range may have ten ports. `MAX_PORTS_PER_PEER` ports of `MAX_PEERS` peers are remembered;
    if there are more, the oldest pair may be used again before `PAIR_REUSE_DELAY`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Set up, with no pairs."""
        self._clock = clock
        self._ports: OrderedDict[SocketAddress, dict[int, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of peers whose ports are remembered."""
        return len(self._ports)

    def ports_of(self, peer: SocketAddress) -> list[int]:
        """Return the ports that have served `peer` recently, the oldest first."""
        oldest = self._clock() - PAIR_REUSE_DELAY
        ports = self._ports.get(peer, {})
        return [port for port, at in ports.items() if at > oldest]

    def add(self, peer: SocketAddress, port: int) -> None:
        """Note that `port` serves `peer` now, or did until now."""
        ports = self._ports.pop(peer, {})
        ports.pop(port, None)
        ports[port] = self._clock()
        if len(ports) > MAX_PORTS_PER_PEER:
            del ports[next(iter(ports))]
        self._ports[peer] = ports
        if len(self._ports) > MAX_PEERS:
            self._ports.popitem(last=False)


class LinkOpener:
    """The opener of all links of a server; they share one hub.

    @ivar responder: answers the packets of strangers.
    @ivar routes: the MTUs of the routes to clients.
    """

    def __init__(
        self,
        reactor: Any,
        port_range: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        options: SocketOptions | None = None,
        open_socket: OpenSocket | None = None,
        random_number: Callable[[], float] = random,
        may_answer: MayAnswer | None = None,
    ) -> None:
        """Set up, without opening a socket.

        @param port_range: lowest and highest port of transfers; None for any port.
        @param clock: seconds of a monotonic clock.
        @param options: options that are set before a socket is bound, or None.
        @param open_socket: opens the socket of a link; None for `twisted_tftp.net.udp.open_socket`
            with these options.
        @param random_number: returns a random number from 0 to below 1, to select an idle port.
        @param may_answer: see L{StrangerResponder}.
        """
        self.responder = StrangerResponder(may_answer)
        self.routes = RouteMtus(clock, options)
        self._hub: Hub | None = None
        self._idle: list[TransferPort] = []  # the first one has been idle for the longest time
        self._idle_timer: IDelayedCall | None = None
        self._reactor = reactor
        self._port_range = port_range
        self._pairs = None if port_range is None else RecentPairs(clock)
        self._clock = clock
        self._socket_opener = open_socket or partial(udp.open_socket, options=options)
        self._random_number = random_number
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    @property
    def hub(self) -> Hub:
        """The hub of all links; it is made at the first use."""
        if self._hub is None:
            self._hub = make_hub(self._reactor, transfer_clock=self._clock)
        return self._hub

    def open(self, peer: SocketAddress, local: SocketAddress | None, is_read: bool) -> Link:
        """Return a link to the client `peer` that sends from the address `local`.

        @param local: the local address that the request reached; None if unknown.
        @param is_read: whether the client reads a file; otherwise it writes one.
        @raise OSError: no socket can be opened, or all ports of the range are in use.
        """
        # The local address that a port must have; without one, the address family.
        host = local or len(peer)
        pairs = self._pairs
        avoid = () if pairs is None else pairs.ports_of(peer)
        if is_read:
            port = self._idle_port(peer, host, avoid)
            if port is not None:
                if pairs is not None:
                    pairs.add(peer, port.address[1])
                return port.serve(peer)
        sock = self._open_socket(peer, local, avoid)
        if pairs is not None:
            pairs.add(peer, sock.getsockname()[1])
        if is_read:
            port = TransferPort(
                sock, host, self.hub, self.responder, self._clock, self._keep_or_close
            )
            # A client that always uses the same port must not fill the list of idle ports.
            port.is_single_use = any(idle.host == host for idle in self._idle)
            return port.serve(peer)
        link = UploadLink(sock, peer, self.hub, self.responder, self._buffer, self._clock)
        if pairs is not None:
            link.on_closed = partial(pairs.add, peer)
        return link

    def close(self) -> None:
        """Close all sockets and the hub; call this when all links are closed."""
        self.close_idle()
        self.routes.close()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._hub is not None:
            self._hub.close()
            self._hub = None

    def _idle_port(
        self, peer: SocketAddress, host: Hashable, avoid: Sequence[int]
    ) -> TransferPort | None:
        """Return an idle port at `host` that may serve `peer` and is not in `avoid`, or None.

        It is chosen at random, because the port of a transfer should be hard to guess (RFC 1350
        section 4).
        """
        idle = self._idle
        count = len(idle)
        for _ in range(count if count < MAX_IDLE_PORTS_TRIED else MAX_IDLE_PORTS_TRIED):
            index = int(self._random_number() * count)
            port = idle[index]
            if port.host == host and not port.has_served(peer) and port.address[1] not in avoid:
                del idle[index]
                return port
        return None

    def _open_socket(
        self, peer: SocketAddress, local: SocketAddress | None, avoid: Sequence[int]
    ) -> socket.socket:
        """Return a socket, if possible on a port that is not in `avoid`.

        If there is no such port, or none at all, idle ports are closed to free theirs.

        @raise OSError: no socket can be opened, or all ports of the range are in use.
        """
        try:
            sock = self._socket_opener(peer, local, self._port_range, avoid)
            if not avoid or sock.getsockname()[1] not in avoid:
                return sock
            if all(port.address[1] in avoid for port in self._idle):
                return sock  # closing the idle ports would not free a better one
            sock.close()
        except OSError:
            if not self._idle:
                raise
        self.close_idle()
        return self._socket_opener(peer, local, self._port_range, avoid)

    def _keep_or_close(self, port: TransferPort, peer: SocketAddress) -> None:
        """Keep the port of an ended download for another one, or close it."""
        if self._pairs is not None:
            self._pairs.add(peer, port.address[1])
        now = self._clock()
        idle = self._idle
        if (
            self._hub is None
            or port.is_single_use
            or port.is_used_up(now)
            or len(idle) >= MAX_IDLE_PORTS
        ):
            port.close()
            return
        port.idle_since = now
        idle.append(port)
        if self._idle_timer is None:
            self._idle_timer = self._reactor.callLater(IDLE_TIME, self._close_old_ports)

    def _close_old_ports(self) -> None:
        """Close the ports that were idle for `IDLE_TIME`; run again later if others are left."""
        self._idle_timer = None
        idle, oldest = self._idle, self._clock() - IDLE_TIME
        while idle and idle[0].idle_since <= oldest:
            idle.pop(0).close()
        if idle:
            self._idle_timer = self._reactor.callLater(IDLE_TIME, self._close_old_ports)

    def close_idle(self) -> None:
        """Close the idle ports, to free their descriptors and port numbers."""
        idle, self._idle = self._idle, []
        for port in idle:
            port.close()
