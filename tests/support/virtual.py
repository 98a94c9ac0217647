"""Connect our client and our server by a network with faults, in memory and in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock, deferLater

from tests.support.faults import Faults, OneWayPath
from twisted_tftp.backends.memory import MemoryBackend, MemoryReader, MemoryWriter
from twisted_tftp.client import TFTPClient
from twisted_tftp.net.request_port import RequestPort
from twisted_tftp.net.strangers import StrangerResponder
from twisted_tftp.policy import Policy
from twisted_tftp.testing import MemoryLink, MemoryNetwork
from twisted_tftp.transfer.machine import Buffer

#: A host and a port.
Address = tuple[str, int]

#: The address of the server's request port.
SERVER: Address = ("192.0.2.69", 69)

#: The host of the clients.
CLIENT = "192.0.2.1"

#: The virtual time in seconds in which all transfers must end.
MAX_SECONDS = 20_000.0

#: The number of steps of virtual time in which all transfers must end.
MAX_STEPS = 500_000


class Store(MemoryBackend):
    """Files in memory whose calls take `seconds`, as on a disk; only `abort` takes no time."""

    def __init__(self, clock: Clock, seconds: float, write: str) -> None:
        super().__init__({}, write)
        self.may_replace = write == "overwrite"
        self._clock = clock
        self._seconds = seconds

    def after(self, call: Callable[..., Any], *args: Any) -> Any:
        """Return what `call` returns; or, if calls take time, a Deferred of it."""
        if not self._seconds:
            return call(*args)
        return deferLater(self._clock, self._seconds, call, *args)

    def open_reader(self, path: str, context: Any) -> Any:
        def opened() -> StoreReader:
            super(Store, self).open_reader(path, context)
            return StoreReader(self, self.files[path])

        return self.after(opened)

    def open_writer(self, path: str, context: Any) -> Any:
        def opened() -> StoreWriter:
            super(Store, self).open_writer(path, context)
            return StoreWriter(self, path)

        return self.after(opened)


class StoreReader(MemoryReader):
    """A reader of a file of a store."""

    def __init__(self, store: Store, data: bytes) -> None:
        super().__init__(data)
        self._after = store.after

    def read(self, offset: int, length: int) -> Any:
        return self._after(super().read, offset, length)


class StoreWriter(MemoryWriter):
    """A writer of a file of a store."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name, store.may_replace)
        self._after = store.after

    def write(self, data: bytes) -> Any:
        return self._after(super().write, data)

    def commit(self) -> Any:
        return self._after(super().commit)


class Network(MemoryNetwork):
    """A server, and a network that carries datagrams between it and its clients.

    @ivar served: the server's files.
    @ivar sockets: for each address with a socket, the function that receives its datagrams; it is
        called with a datagram and the address of its sender.
    @ivar client_port: the port of the next transfer of a client.
    @ivar responder: answers the datagrams of strangers.
    """

    def __init__(
        self,
        policy: Policy,
        up: Faults,
        down: Faults,
        *,
        seed: object,
        delay: float,
        disk: float,
        write: str,
    ) -> None:
        """Run a server.

        @param up: the faults of datagrams to the server.
        @param down: the faults of datagrams from the server.
        @param seed: the seed of the faults.
        @param delay: how long each datagram is under way, in seconds.
        @param disk: how long each call of the server's files takes, in seconds.
        @param write: as for a L{MemoryBackend}.
        """
        super().__init__(None, policy)
        self.served = self.server.backend = Store(self.clock, disk, write)
        self.sockets: dict[Address, Callable[[bytes, Address], None]] = {SERVER: self._asked}
        self.client_port = 30000
        self.responder = StrangerResponder()
        self._server_port = 40000
        # The way of a datagram, by the host that sends it.
        self._paths = {
            CLIENT: OneWayPath(up, f"{seed} up"),
            SERVER[0]: OneWayPath(down, f"{seed} down"),
        }
        self._delay = delay
        self._steps = 0
        if policy.single_port:
            self.server.makeConnection(SharedPort(self))

    def send(self, source: Address, destination: Address, datagram: bytes) -> None:
        """Carry a datagram; it is lost if there is no socket at its destination."""

        def deliver(out: bytes) -> None:
            receive = self.sockets.get(destination)
            if receive is not None:
                receive(out, source)

        for late, where, out in self._paths[source[0]].carry(datagram, deliver):
            self.clock.callLater(self._delay + late, where, out)

    def open(self, peer: Any, local: Any, is_read: bool) -> NetworkLink:
        """Open the server's link of a transfer, with a port of its own."""
        self._server_port += 1
        return NetworkLink(self, (local[0], self._server_port), peer)

    def run(self) -> None:
        """Let time pass until no delayed call is left."""
        while self.clock.getDelayedCalls():
            self.step()

    def step(self) -> None:
        """Let time pass until the next delayed call; check that the transfers end in time."""
        calls = self.clock.getDelayedCalls()
        assert calls, "no delayed call is left"
        self.clock.advance(max(0.0, calls[0].getTime() - self.clock.seconds()))
        self._steps += 1
        assert self.clock.seconds() < MAX_SECONDS, "the transfers do not end"
        assert self._steps < MAX_STEPS, "the transfers do not end"

    def _asked(self, datagram: bytes, source: Address) -> None:
        self.server.received(datagram, source, SERVER)


class SharedPort(RequestPort):
    """The request port of a server with a single port, in a network instead of a socket."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def send(self, datagram: Buffer, peer: Address, local: Address | None) -> None:
        self._network.send(SERVER, peer, bytes(datagram))

    def prepare_for_transfers(self) -> None:
        """Do nothing: there is no socket."""

    def receive_capacity(self) -> int:
        return 1 << 20

    def read_one(self) -> bool:
        return False


class NetworkLink(MemoryLink):
    """The link of a transfer of the server, in a network instead of a socket."""

    def __init__(self, network: Network, address: Address, peer: Address) -> None:
        super().__init__(network.clock.seconds)
        assert address not in network.sockets, "the port is taken"
        network.sockets[address] = self._arrived
        self._network = network
        self._address = address
        self._peer = peer

    def send(self, datagrams: Sequence[Buffer]) -> None:
        super().send(datagrams)
        for datagram in self.take():
            self._network.send(self._address, self._peer, datagram)

    def sendto(self, datagram: bytes, address: Address) -> None:
        """Send a datagram to an address other than that of the peer."""
        self._network.send(self._address, address, datagram)

    def close(self) -> None:
        if not self.closed:
            del self._network.sockets[self._address]
        super().close()

    def _arrived(self, datagram: bytes, source: Address) -> None:
        if self._is_peer(source):
            self.deliver(datagram)
        else:
            responder: Any = self._network.responder
            responder.answer(self, source, datagram, self._clock())

    def deliver(self, datagram: bytes) -> None:
        """Receive a datagram in a buffer that is used again, so that octets must be copied."""
        buffer = bytearray(datagram)
        super().deliver(memoryview(buffer))  # type: ignore[arg-type]
        buffer[:] = bytes(len(buffer))

    def _is_peer(self, source: Address) -> bool:
        return source == self._peer


class ClientNetworkLink(NetworkLink):
    """The link of a transfer of a client: like `ClientLink`, in a network instead of a socket."""

    other_host = None
    is_unbound = False
    knows_server_port = False
    on_other_port: Any = None
    on_unreachable: Any = None

    @property
    def local(self) -> Address:
        return self._address

    @property
    def server(self) -> Address:
        return self._peer

    def answer_stranger(self, datagram: bytes, now: float) -> None:
        if self._from != self._peer:
            responder: Any = self._network.responder
            responder.answer(self, self._from, datagram, now)

    def discard_waiting(self) -> None:
        """Do nothing: no datagrams wait, because the transfer gets each of them at once."""

    def _arrived(self, datagram: bytes, source: Address) -> None:
        super()._arrived(datagram, source)
        rival = self.knows_server_port and source != self._peer and source[0] == self._peer[0]
        if rival and self.on_other_port is not None and not self.closed:
            self.on_other_port(datagram, self._clock())

    def report_errors(self, is_wanted: bool) -> None:
        """Do nothing: this network has no ICMP."""

    def learn_server_port(self) -> None:
        self._peer = self._from
        self.knows_server_port = True

    def _is_peer(self, source: Address) -> bool:
        if self.knows_server_port:
            return super()._is_peer(source)
        self._from = source
        return source[0] == self._peer[0]


class NetworkClient(TFTPClient):
    """A client in a network, whose transfers use the ports from `client_port` on."""

    def __init__(self, network: Network, **settings: Any) -> None:
        self._network = network
        clock = network.clock
        super().__init__(clock, *SERVER, in_thread=maybeDeferred, clock=clock.seconds, **settings)

    def open_link(self, server: Any) -> Any:
        port = self._network.client_port
        while (CLIENT, port) in self._network.sockets:
            port += 1  # it sends the request again from another port
        own = (CLIENT, port)
        return ClientNetworkLink(self._network, own, server)
