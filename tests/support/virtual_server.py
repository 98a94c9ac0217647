"""A server in virtual time that does what the test says: silent, slow or particular servers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from tests.support.faults import Faults
from tests.support.virtual import SERVER, Address, Network, NetworkClient
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire

#: The port of the server's transfers.
TRANSFER_PORT: Address = (SERVER[0], 50000)


class VirtualServer:
    """A server whose answer to each request is chosen by a function of the test.

    @ivar network: the network in memory, with its clock.
    @ivar requests: the requests that have arrived, each with its time.
    @ivar datagrams: the other datagrams that have arrived at the transfer port.
    @ivar notices: the lines for the user of the client.
    """

    def __init__(self, conduct: Callable[[wire.Request], bytes | None]) -> None:
        """Set up a server.

        @param conduct: returns the answer to a request; None for none.
        """
        self.network = Network(
            Policy(), Faults(), Faults(), seed=0, delay=0.001, disk=0.0, write="create"
        )
        self.requests: list[tuple[float, wire.Request]] = []
        self.datagrams: list[bytes] = []
        self.notices: list[str] = []
        self.sink = io.BytesIO()
        self._conduct = conduct
        self.network.sockets[SERVER] = self._asked
        self.network.sockets[TRANSFER_PORT] = lambda datagram, _: self.datagrams.append(datagram)

    def client(self, **settings: Any) -> NetworkClient:
        """Return a client of this server."""
        return NetworkClient(self.network, on_notice=self.notices.append, **settings)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        clock = self.network.clock
        end = clock.seconds() + seconds
        while (calls := clock.getDelayedCalls()) and calls[0].getTime() <= end:
            clock.advance(max(0.0, calls[0].getTime() - clock.seconds()))
        clock.advance(end - clock.seconds())

    def say(self, datagram: bytes, client: Address) -> None:
        """Send a datagram from the transfer port."""
        self.network.send(TRANSFER_PORT, client, datagram)

    def _asked(self, datagram: bytes, source: Address) -> None:
        if wire.opcode_of(datagram) not in (wire.Opcode.RRQ, wire.Opcode.WRQ):
            return
        request = wire.parse_request(bytes(datagram))
        self.requests.append((self.network.clock.seconds(), request))
        answer = self._conduct(request)
        if answer is not None:
            self.say(answer, source)
