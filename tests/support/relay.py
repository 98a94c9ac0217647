"""Relay between TFTP clients and a server as a NAT does, over a path with faults, in a reactor.

A client is known by its address. For each there is one socket towards the server, so the server
sees one peer; and for each port of the server that answers (TID) one towards the client, but for
the request port itself: what comes from there, comes from the relay's own. A client that asks for
something else from an address that is known already is another one: a NAT has forgotten the old
one by then, and no replayed datagram of its can be taken for one of the new.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import DatagramProtocol

from tests.support.faults import Deliver, Faults, Way
from twisted_tftp.net.udp import MAX_DATAGRAM
from twisted_tftp.protocol import wire

Address = tuple[str, int]

_REQUESTS = (wire.Opcode.RRQ, wire.Opcode.WRQ)


class _Socket(DatagramProtocol):
    """A socket of the relay."""

    noisy = False

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        raise NotImplementedError


class _Front(_Socket):
    """The port that clients ask."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        flow = self._relay.flow_of(addr, datagram)
        flow.up(datagram, flow.socket, self._relay.server)


class _Flow(_Socket):
    """A client: its socket towards the server."""

    def __init__(self, relay: Relay, client: Address, request: bytes, number: int) -> None:
        self.client = client
        self.request = request
        self.socket: Any = relay.listen(self)
        self._relay = relay
        self._tids: dict[Address, Any] = {relay.server: relay.front}
        self._up = Way(relay.upwards, f"{relay.seed} {number} up")
        self._down = Way(relay.downwards, f"{relay.seed} {number} down")

    @property
    def ways(self) -> tuple[Way, Way]:
        return self._up, self._down

    def up(self, datagram: bytes, socket: Any, tid: Address) -> None:
        self._relay.carry(self._up, datagram, lambda out: socket.write(out, tid))

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        if addr[0] != self._relay.server[0]:
            return
        if addr not in self._tids:
            self._tids[addr] = self._relay.listen(_Back(self, addr))
        socket, client = self._tids[addr], self.client
        self._relay.carry(self._down, datagram, lambda out: socket.write(out, client))


class _Back(_Socket):
    """A TID of the server, as its client sees it."""

    def __init__(self, flow: _Flow, tid: Address) -> None:
        self._flow = flow
        self._tid = tid

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        if addr == self._flow.client:
            self._flow.up(datagram, self._flow.socket, self._tid)


class Relay:
    """A relay to one server, on an address of the same host.

    @ivar address: where clients ask it.
    """

    def __init__(
        self, reactor: Any, server: Address, up: Faults, down: Faults, seed: object
    ) -> None:
        """Begin to relay.

        @param up: what is done to what goes to the server; `down`: to what comes from it.
        """
        self.server = server
        self.upwards, self.downwards, self.seed = up, down, seed
        self._reactor = reactor
        self._held: set[Any] = set()
        self._sockets: list[Any] = []
        self._flows: list[_Flow] = []
        self._by_client: dict[Address, _Flow] = {}
        self.front: Any = self.listen(_Front(self))
        self.address: Address = (server[0], self.front.getHost().port)

    @property
    def done(self) -> Counter[str]:
        """How many datagrams came, and what was done to how many."""
        return sum((way.done for flow in self._flows for way in flow.ways), Counter())

    def close(self) -> Deferred[Any]:
        """Drop what is held back, and close all sockets."""
        for call in self._held:
            call.cancel()
        self._held.clear()
        return DeferredList([maybeDeferred(each.stopListening) for each in self._sockets])

    def listen(self, protocol: DatagramProtocol) -> Any:
        """Return a new socket's port."""
        host, size = self.server[0], MAX_DATAGRAM
        self._sockets.append(self._reactor.listenUDP(0, protocol, host, size))
        return self._sockets[-1]

    def flow_of(self, client: Address, datagram: bytes) -> _Flow:
        """Return the flow of a client that has sent `datagram` to the request port."""
        flow = self._by_client.get(client)
        asks = wire.opcode_of(datagram) in _REQUESTS
        if flow is None or (asks and flow.request != datagram):
            flow = _Flow(self, client, datagram, len(self._flows))
            self._by_client[client] = flow
            self._flows.append(flow)
        return flow

    def carry(self, way: Way, datagram: bytes, deliver: Deliver) -> None:
        """Send on what comes out of `way` for `datagram`, now or when its time has come."""
        for late, where, out in way.carry(datagram, deliver):
            if late:
                self._hold(late, where, out)
            else:
                where(out)

    def _hold(self, late: float, where: Deliver, datagram: bytes) -> None:
        def release() -> None:
            self._held.discard(call)
            where(datagram)

        call = self._reactor.callLater(late, release)
        self._held.add(call)
