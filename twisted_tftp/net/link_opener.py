"""Open the links of a server's transfers, and keep the ports of past downloads for new ones."""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from functools import partial
from random import random
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from twisted_tftp.net.download_links import TransferPort
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.strangers import Strangers
from twisted_tftp.net.udp import MAX_DATAGRAM, Link, SocketAddress, open_socket
from twisted_tftp.net.upload_link import WriteLink

#: Idle ports that are kept at most.
IDLE_PORTS = 64

#: Seconds for which an idle port is kept at least.
IDLE_LIFE = 1.0

#: Idle ports that are tried, by chance, for a new download.
IDLE_PORTS_TRIED = 4

#: Seconds for which a port of a range does not serve the same peer again.
PAIR_REST = 60.0

#: Ports that are remembered for each peer.
PAIR_PORTS = 64

#: Peers whose ports are remembered.
PAIR_PEERS = 4096

#: Opens the socket of a link: see `twisted_tftp.net.udp.open_socket`.
OpenSocket = Callable[
    [SocketAddress, SocketAddress | None, tuple[int, int] | None, Collection[int]], socket.socket
]


class RecentPairs:
    """The local ports that have served each peer lately, where a range leaves few to choose from.

    Packets of one transfer that are still in the network must not reach another transfer between
    the same two ports. The system chooses one of some 28,000 ports by chance; a range may have
    ten. The last `PAIR_PORTS` ports of a peer are remembered, and the last `PAIR_PEERS` peers.
    With more of them, the oldest pair may come again before `PAIR_REST`.
    """

    def __init__(self, clock: Callable[[], float], wanted: bool) -> None:
        """Remember pairs of ports if `wanted`, otherwise nothing."""
        self._clock = clock
        self._wanted = wanted
        self._ports: OrderedDict[SocketAddress, dict[int, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of peers whose ports are remembered."""
        return len(self._ports)

    def ports_of(self, peer: SocketAddress) -> list[int]:
        """Return the ports that have served `peer` lately, the oldest first."""
        if not self._wanted:
            return []
        long_ago = self._clock() - PAIR_REST
        ports = self._ports.get(peer, {})
        return [port for port, at in ports.items() if at > long_ago]

    def add(self, peer: SocketAddress, port: int) -> None:
        """Note that `port` serves `peer` now, or has served it until now."""
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
    """Open the links of all transfers of a server, in one hub.

    @ivar strangers: what answers packets that are of no transfer.
    """

    def __init__(
        self,
        reactor: Any,
        port_range: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        open_socket: OpenSocket = open_socket,
        chance: Callable[[], float] = random,
    ) -> None:
        """Set up; nothing is opened.

        @param port_range: lowest and highest port of transfers; None for any port.
        @param clock: seconds of a clock that never goes back.
        @param open_socket: what opens the socket of a link.
        @param chance: returns a random number from 0 to less than 1, which chooses an idle port.
        """
        self.strangers = Strangers()
        self._hub: Hub | None = None
        self._idle: list[TransferPort] = []  # the one that is idle for longest is the first
        self._sweep: IDelayedCall | None = None
        self._reactor = reactor
        self._port_range = port_range
        self._pairs = RecentPairs(clock, port_range is not None)
        self._clock = clock
        self._socket_opener = open_socket
        self._chance = chance
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    @property
    def hub(self) -> Hub:
        """The hub; made when it is first asked for."""
        if self._hub is None:
            self._hub = make_hub(self._reactor)
        return self._hub

    def open(self, peer: SocketAddress, local: SocketAddress | None, reading: bool) -> Link:
        """Return a link to `peer`, a client, from the host of `local`.

        @param local: the local address that the request reached; None where it is not known.
        @param reading: whether the client reads, or writes.
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
            # A client that always asks from the same port must not fill the list of idle ports.
            port.is_single_use = any(idle.host == host for idle in self._idle)
            return port.serve(peer)
        link = WriteLink(sock, peer, self.hub, self.strangers, self._buffer, self._clock)
        if self._port_range is not None:
            link.on_closed = partial(self._pairs.add, peer)
        return link

    def close(self) -> None:
        """Close the idle ports and the hub; the links are closed before."""
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
        """Return an idle port at `host` that may serve `peer` and is not in `avoid`, or None.

        It is chosen by chance, since nobody should guess the port of a transfer (RFC 1350
        section 4).
        """
        idle = self._idle
        for _ in range(min(IDLE_PORTS_TRIED, len(idle))):
            index = int(self._chance() * len(idle))
            port = idle[index]
            if port.host == host and not port.knows(peer) and port.address[1] not in avoid:
                del idle[index]
                return port
        return None

    def _open_socket(
        self, peer: SocketAddress, local: SocketAddress | None, avoid: list[int]
    ) -> socket.socket:
        """Return a socket, if possible on a port that is not in `avoid`.

        Idle ports are closed where that may give a better port, or one at all.

        @raise OSError: there is no socket or port left.
        """
        try:
            sock = self._socket_opener(peer, local, self._port_range, avoid)
            if not avoid or sock.getsockname()[1] not in avoid:
                return sock
            if all(port.address[1] in avoid for port in self._idle):
                return sock  # to close them would give no better port
            sock.close()
        except OSError:
            if not self._idle:
                raise
        self.close_idle()
        return self._socket_opener(peer, local, self._port_range, avoid)

    def _left(self, port: TransferPort, peer: SocketAddress) -> None:
        """Keep a port that has served `peer` for another download, for a while."""
        self._pairs.add(peer, port.address[1])
        now = self._clock()
        idle = self._idle
        if (
            self._hub is None
            or port.is_single_use
            or port.is_spent(now)
            or len(idle) >= IDLE_PORTS
        ):
            port.close()
            return
        port.idle_since = now
        idle.append(port)
        if self._sweep is None:
            self._sweep = self._reactor.callLater(IDLE_LIFE, self._swept)

    def _swept(self) -> None:
        """Close the ports that were idle for long, and look again later while there are others."""
        self._sweep = None
        idle, long_ago = self._idle, self._clock() - IDLE_LIFE
        while idle and idle[0].idle_since <= long_ago:
            idle.pop(0).close()
        if idle:
            self._sweep = self._reactor.callLater(IDLE_LIFE, self._swept)

    def close_idle(self) -> None:
        """Close the idle ports, to free their descriptors and port numbers."""
        idle, self._idle = self._idle, []
        for port in idle:
            port.close()
