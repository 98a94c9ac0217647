"""Relay datagrams between TFTP clients and a server as a NAT does, over a path with faults.

A client is identified by its address. For each client the relay has one socket towards the server,
so the server sees one peer. For each port of the server that answers (TID) it has one socket
towards the client; answers from the request port leave from the relay's own request port. If
another request comes from a known address, it counts as a new client: a NAT would have forgotten
the old one, and replayed datagrams of the old one can't reach the new one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import DatagramProtocol

from tests.support.faults import Deliver, Faults, OneWayPath
from twisted_tftp.net.udp import MAX_DATAGRAM
from twisted_tftp.protocol import wire

Address = tuple[str, int]

_REQUESTS = (wire.Opcode.RRQ, wire.Opcode.WRQ)


class _Socket(DatagramProtocol):
    """A protocol of one socket of the relay."""

    noisy = False

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        raise NotImplementedError


class _Front(_Socket):
    """The port that receives the requests of clients."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        flow = self._relay.flow_of(addr, datagram)
        flow.up(datagram, flow.socket, self._relay.server)


class _Flow(_Socket):
    """One client: its socket towards the server, and one for each TID towards the client."""

    def __init__(self, relay: Relay, client: Address, request: bytes, number: int) -> None:
        self.client = client
        self.request = request
        self.socket: Any = relay.listen(self)
        self._relay = relay
        self._tids: dict[Address, Any] = {relay.server: relay.front}
        self._up = OneWayPath(relay.upwards, f"{relay.seed} {number} up")
        self._down = OneWayPath(relay.downwards, f"{relay.seed} {number} down")

    @property
    def paths(self) -> tuple[OneWayPath, OneWayPath]:
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
    """The socket that stands for a TID of the server."""

    def __init__(self, flow: _Flow, tid: Address) -> None:
        self._flow = flow
        self._tid = tid

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        if addr == self._flow.client:
            self._flow.up(datagram, self._flow.socket, self._tid)


class Relay:
    """A relay to one server, on the address of that server.

    @ivar address: the address and port that clients send their requests to.
    """

    def __init__(
        self, reactor: Any, server: Address, up: Faults, down: Faults, seed: object
    ) -> None:
        """Start to relay.

        @param up: the faults of datagrams to the server.
        @param down: the faults of datagrams from the server.
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
        """How many datagrams were sent, and how many had each fault."""
        return sum((path.done for flow in self._flows for path in flow.paths), Counter())

    def close(self) -> Deferred[Any]:
        """Drop the delayed datagrams, and close all sockets."""
        for call in self._held:
            call.cancel()
        self._held.clear()
        return DeferredList([maybeDeferred(each.stopListening) for each in self._sockets])

    def listen(self, protocol: DatagramProtocol) -> Any:
        """Open a socket for `protocol`, and return its port."""
        host, size = self.server[0], MAX_DATAGRAM
        self._sockets.append(self._reactor.listenUDP(0, protocol, host, size))
        return self._sockets[-1]

    def flow_of(self, client: Address, datagram: bytes) -> _Flow:
        """Return the flow of the client that has sent `datagram`; create it for a new client."""
        flow = self._by_client.get(client)
        asks = wire.opcode_of(datagram) in _REQUESTS
        if flow is None or (asks and flow.request != datagram):
            flow = _Flow(self, client, datagram, len(self._flows))
            self._by_client[client] = flow
            self._flows.append(flow)
        return flow

    def carry(self, path: OneWayPath, datagram: bytes, deliver: Deliver) -> None:
        """Deliver the datagrams that `path` returns for `datagram`, now or after their delay."""
        for late, where, out in path.carry(datagram, deliver):
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
