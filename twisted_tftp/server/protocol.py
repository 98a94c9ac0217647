"""Answer the request port: check a request, ask the backend, start a session.

Only RRQ and WRQ are answered, and always from the transfer's own port; everything else gets
silence and is counted. An ERROR sent in answer to an ERROR would set two servers to talk to each
other for ever (CVE-2024-2169).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from twisted_tftp.context import Direction, TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.net.links import LinkOpener
from twisted_tftp.net.request_port import MAX_REQUEST, RequestPort, SharedLink
from twisted_tftp.net.udp import Link, SocketAddress, endpoint
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import announced_size
from twisted_tftp.server.access import Access
from twisted_tftp.server.drop_log import Drops
from twisted_tftp.server.transfer_log import TransferLog
from twisted_tftp.server.transfers import Transfers
from twisted_tftp.session.base import ReadSession, Session, Wiring, WriteSession
from twisted_tftp.session.deadlines import Alarms

#: Where servers are asked, which no client asks from (RFC 1350 section 4).
TFTP_PORT = 69

#: Peers at least that do not answer in a flood of requests from forged addresses.
MANY = 100

#: Seconds in which the same request from the same address and port is a repeated one.
YOUNG = 1.0

#: Octets that a read keeps at hand at most, and all reads together: with very many transfers each
#: of them reads its blocks one by one.
READ_AHEAD, READ_AHEAD_IN_ALL = 64 * 1024, 16 * 1024 * 1024


#: Machines that boot ask for the same again and again. Requests up to so many octets are
#: remembered, as all that firmware sends are: longer ones could hold thousands of options.
MEMORABLE = 128
_remembered = lru_cache(maxsize=1024)(wire.parse_request)

#: Of the first octets of a request: whether it is to read.
_READING = {b"\0\1": True, b"\0\2": False}

# Members of an Enum take twenty times as long to look up.
_READ, _WRITE = Direction.READ, Direction.WRITE

# A server has few addresses of its own.
_own_endpoint = lru_cache(maxsize=64)(endpoint)


def _parse(datagram: bytes) -> wire.Request:
    """Return what a request says.

    @raise TFTPError: it is malformed.
    """
    return (_remembered if len(datagram) <= MEMORABLE else wire.parse_request)(datagram)


def _is_request(datagram: bytes) -> bool:
    """Whether `datagram` is a request, and not a damaged packet of a transfer."""
    try:
        _parse(datagram)
    except TFTPError:
        return False
    return True


@dataclass
class Counters:
    """What the request port did not answer.

    @ivar ignored: packets that are no client's request.
    @ivar repeated: requests that came again.
    @ivar replaced: transfers that ended unanswered, since their peer's port asked for something
        else.
    @ivar shed: requests dropped because too many transfers ran, or no socket was left.
    @ivar unproven: requests dropped because many peers did not answer, and this one asked once.
    @ivar displaced: transfers that nobody had answered and that gave way to a request.
    @ivar malformed: requests answered with ERROR 4.
    @ivar denied: requests from addresses that may not ask.
    @ivar limited: requests above `rate`.
    @ivar crowded: requests above `max-per-client`.
    """

    ignored: int = 0
    repeated: int = 0
    replaced: int = 0
    shed: int = 0
    unproven: int = 0
    displaced: int = 0
    malformed: int = 0
    denied: int = 0
    limited: int = 0
    crowded: int = 0


class TFTPServer(DatagramProtocol):
    """Serve a backend: the protocol of a request port, and the factory of its sessions.

    Several ports (addresses) of one server share its `transfers` and `opener`.

    @ivar counters: what was not answered.
    @ivar accepting: whether new requests are taken.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        backend: Any,
        policy: Policy | None = None,
        *,
        observer: Any = None,
        reactor: Any = None,
        clock: Callable[[], float] = time.monotonic,
        transfers: Transfers | None = None,
        opener: Any = None,
        alarms: Alarms | None = None,
        access: Access | None = None,
        drops: Drops | None = None,
    ) -> None:
        """Make a server of one request port.

        @param backend: an L{IFileBackend}.
        @param policy: what is granted; the defaults of `Policy` if None.
        @param observer: an L{ITransferObserver}; None for the log.
        @param reactor: for timers and sockets; None for the global one.
        @param clock: seconds of a clock that only grows.
        @param transfers: shared with the server's other ports.
        @param opener: a `LinkOpener` or what has its `open` and `close_idle`; shared likewise.
        @param alarms: shared likewise.
        @param access: shared likewise.
        @param drops: shared likewise.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        self.clock = clock
        self.counters = Counters()
        self.accepting = True
        self.transfers = Transfers() if transfers is None else transfers
        if policy is None:
            policy = Policy()
        if opener is None:
            opener = LinkOpener(reactor, policy.port_range, clock)
        self.opener = opener
        self._access = Access(policy, clock) if access is None else access
        self._owns_drops = drops is None
        self._drops = Drops(reactor) if drops is None else drops
        self._wiring = Wiring(
            backend=backend,
            policy=policy,
            observer=TransferLog(reactor=reactor) if observer is None else observer,
            clock=clock,
            alarms=Alarms(reactor, clock) if alarms is None else alarms,
            on_scarcity=opener.close_idle,
            on_finished=self.transfers.finished,
            on_ended=self.transfers.remove,
            may_write=self._access.may_write,
            windows=self.transfers.windows,
        )

    @property
    def backend(self) -> Any:
        """The backend that new transfers ask; it may be exchanged."""
        return self._wiring.backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._wiring.backend = backend

    @property
    def policy(self) -> Policy:
        """What is granted."""
        return self._wiring.policy

    @property
    def observer(self) -> Any:
        """The L{ITransferObserver} that is told of transfers; it may be exchanged."""
        return self._wiring.observer

    @observer.setter
    def observer(self, observer: Any) -> None:
        self._wiring.observer = observer

    def datagramReceived(self, datagram: bytes, addr: SocketAddress) -> None:
        """Take a datagram from a plain Twisted port, which can't tell which address it reached."""
        self.received(datagram, addr, None)

    def startProtocol(self) -> None:
        """Check that the port can do what the policy asks for.

        @raise TypeError: all transfers are to answer from a port that is no L{RequestPort}.
        """
        if self.policy.single_port:
            if not isinstance(self.transport, RequestPort):
                raise TypeError("single-port needs a port of twisted_tftp.net.request_port.listen")
            self.transport.share()

    def stopProtocol(self) -> None:
        """Tell what was dropped, where nobody else does."""
        if self._owns_drops:
            self._drops.flush()

    def received(self, datagram: bytes, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Take a datagram that reached the request port.

        @param peer: the socket address that it came from.
        @param local: the socket address that it reached, or None.
        """
        reading = _READING.get(datagram[:2])
        if reading is None:
            running = self.transfers.find((peer, local)) if self.policy.single_port else None
            if running is not None:
                running.receive(datagram, self.clock())
            else:
                self._drop("ignored", "it is no request", peer)
            return
        if self.policy.single_port and local is not None and peer[1] in (TFTP_PORT, local[1]):
            # Another server's port, forged: two servers would take each other for clients.
            self._drop("ignored", "it is from a server's port", peer)
            return
        if not self.accepting:
            return
        if not self._access.allows(peer[0]):
            self._drop("denied", "the address is denied", peer)
            return
        datagram = datagram[:MAX_REQUEST]  # the shared port of single-port reads longer ones
        transfers = self.transfers
        if transfers.overtaken.has(peer, datagram, self.clock()):
            self.counters.repeated += 1
            return
        earlier = transfers.of_peer(peer)
        if earlier:
            if self._is_repeated(earlier, datagram, local):
                self.counters.repeated += 1
                return
            if _is_request(datagram):
                # Before the request is admitted or not: it shows that the port has a new owner,
                # who would take what the earlier transfers repeat for the answer.
                self._replace(earlier)
        if (
            transfers.running > MANY
            and self._is_flooded()
            and not self._access.asks_again(peer[0])
        ):
            self._drop("unproven", "many peers don't answer, and this one asked once", peer)
            return
        if not self._access.takes(peer[0]):
            self._drop("limited", "rate is reached", peer)
            return
        most = self.policy.max_per_client
        if most is not None and transfers.of(endpoint(peer).host) >= most:
            self._drop("crowded", "max-per-client is reached", peer)
            return
        if transfers.running >= self.policy.max_transfers:
            self.counters.displaced += transfers.make_room(self.clock())
            if transfers.running >= self.policy.max_transfers:
                self._drop("shed", "max-transfers is reached", peer)
                return
        try:
            link = self._open_link(peer, local, reading)
        except OSError as error:
            self._drop("shed", f"no socket for a transfer: {error.strerror}", peer)
            return
        try:
            self._begin(datagram, peer, local, link)
        except BaseException:
            link.close()
            raise

    def refused(self, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Take ICMP's word that a datagram from `local` met a closed port at `peer`."""
        session = self.transfers.find((peer, local))
        if session is not None:
            session.refused(self.clock())

    def build_session(self, context: TransferContext, **wiring: Any) -> Session:
        """Return the session of a request; override this to change how transfers are made.

        @param wiring: what every `Session` takes; pass it on.
        """
        kind = ReadSession if context.direction is _READ else WriteSession
        return kind(context, **wiring)

    def _begin(
        self,
        datagram: bytes,
        peer: SocketAddress,
        local: SocketAddress | None,
        link: Link,
    ) -> None:
        """Start a session, or say why not."""
        running = self.transfers.find((peer, local)) if self.policy.single_port else None
        try:
            request = _parse(datagram)
        except TFTPError as failure:
            self._drop("malformed", "a malformed request", peer)
            # On a single port it may be a damaged packet of a transfer, which an ERROR would end.
            if running is None:
                link.send((wire.error(failure),))
            link.close()
            return
        reading = request.opcode is wire.Opcode.RRQ
        context = TransferContext(
            peer=endpoint(peer),
            local=_own_endpoint(local) if local else None,
            direction=_READ if reading else _WRITE,
            filename=request.filename,
            mode=request.mode,
            options=request.options,
            announced_size=None if reading else announced_size(request.options),
        )
        transfers = self.transfers
        session = self.build_session(
            context,
            key=(peer, local),
            request=datagram,
            link=link,
            read_ahead=min(READ_AHEAD, READ_AHEAD_IN_ALL // (transfers.running + 1)),
            wiring=self._wiring,
        )
        if running is not None:
            running.cancel()  # on a single port the packets of two could not be told apart
        transfers.add(session)
        session.start()

    def _drop(self, counter: str, reason: str, peer: SocketAddress) -> None:
        """Count a packet in one of `counters`, and see to it that it is told of."""
        setattr(self.counters, counter, getattr(self.counters, counter) + 1)
        self._drops.add(reason, peer[0])

    def _replace(self, earlier: list[Session]) -> None:
        """End those transfers of a peer's port that were not answered.

        What they would send next may pass for the first answer to the new request.
        """
        for session in earlier:
            if session.repeats_first_answer:
                self.transfers.overtaken.add(session.key[0], session.request, self.clock())
                session.replace()
                self.counters.replaced += 1

    def _is_flooded(self) -> bool:
        """Whether so many peers have not answered that their addresses must be forged.

        Few of those that forge ask twice, and clients do: to tell them apart costs a twentieth of
        what a transfer costs, and otherwise requests would wait longer than those who ask.
        """
        most = max(MANY, self.policy.max_transfers // 10)
        return self.transfers.unanswered(self.clock(), most, self.policy.timeout) > most

    def _is_repeated(
        self, earlier: list[Session], datagram: bytes, local: SocketAddress | None
    ) -> bool:
        """Whether `datagram` is the request of a young transfer again; if so, answer it.

        Clients whose clock is shorter than the way to us ask again and then take the first
        answer. Starting a second transfer would send them everything twice.

        @param earlier: the sessions of the peer's port; those that end here leave the list.
        """
        for session in list(earlier):
            if not self.policy.single_port:
                # The peer's last ACK may wait in the transfer's socket: it was sent before this.
                session.catch_up()
                if session.ended:
                    earlier.remove(session)
                    continue
            if session.request != datagram or session.key[1] != local:
                continue
            if not session.answered and not session.finished:
                session.repeated()
                return True
            if self.clock() - session.statistics.started < YOUNG:
                return True
        return False

    def _open_link(self, peer: SocketAddress, local: SocketAddress | None, reading: bool) -> Link:
        if self.policy.single_port:
            assert isinstance(self.transport, RequestPort)
            return SharedLink(self.transport, peer, local)
        link: Link
        try:
            link = self.opener.open(peer, local, reading)
        except OSError:
            # Writes that are complete hold sockets only to answer a repeated last block.
            if not self.transfers.end_dallying():
                raise
            link = self.opener.open(peer, local, reading)
        return link
