"""Answer the request port: check a request, ask the backend, start a session.

Only RRQ and WRQ are answered, and always from the transfer's own port; everything else gets
silence and is counted. An ERROR sent in answer to an ERROR would set two servers to talk to each
other for ever (CVE-2024-2169).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from twisted_tftp.context import Direction, TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.net.link_opener import LinkOpener
from twisted_tftp.net.request_port import MAX_REQUEST
from twisted_tftp.net.udp import Link, SocketAddress, endpoint
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import announced_size
from twisted_tftp.server.access import Access
from twisted_tftp.server.admission import (
    MALFORMED,
    NOT_A_REQUEST,
    Admission,
    Arrival,
    Counters,
    Verdict,
    no_socket,
    parse_request,
)
from twisted_tftp.server.drop_log import Drops
from twisted_tftp.server.port_mode import choose_port_mode
from twisted_tftp.server.session import ServerServices, ServerSession
from twisted_tftp.server.transfer_log import TransferLog
from twisted_tftp.server.transfers import Transfers
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.services import SessionServices

#: Octets that a read keeps at hand at most.
MAX_READ_AHEAD = 64 * 1024

#: Octets that all reads together keep at hand: with very many transfers each of them reads its
#: blocks one by one.
MAX_TOTAL_READ_AHEAD = 16 * 1024 * 1024

#: Of the first octets of a request: which way the file is to go.
_DIRECTIONS = {b"\0\1": Direction.READ, b"\0\2": Direction.WRITE}

# A member of an Enum takes twenty times as long to look up.
_READ = Direction.READ

# A server has few addresses of its own.
_own_endpoint = lru_cache(maxsize=64)(endpoint)


class TFTPServer(DatagramProtocol):
    """Serve a backend: the protocol of a request port, and the factory of its sessions.

    Several ports (addresses) of one server share its `transfers` and `opener`.

    @ivar counters: what was not answered.
    @ivar admission: the checks of each request.
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
        self.transfers = Transfers() if transfers is None else transfers
        if policy is None:
            policy = Policy()
        if opener is None:
            opener = LinkOpener(reactor, policy.port_range, clock)
        self.opener = opener
        access = Access(policy) if access is None else access
        self._port_mode = choose_port_mode(policy, opener, self.transfers)
        self.admission = Admission(
            policy,
            transfers=self.transfers,
            access=access,
            port_mode=self._port_mode,
            counters=self.counters,
        )
        self._owns_drops = drops is None
        self._drops = Drops(reactor) if drops is None else drops
        self._services = ServerServices(
            backend=backend,
            policy=policy,
            sessions=SessionServices(
                observer=TransferLog(reactor=reactor) if observer is None else observer,
                clock=clock,
                alarms=Alarms(reactor, clock) if alarms is None else alarms,
                opening_time=policy.retries * policy.timeout,
                on_no_descriptors=opener.close_idle,
            ),
            may_write=access.may_write,
            windows=self.transfers.windows,
            on_finished=self.transfers.finished,
            on_ended=self.transfers.remove,
        )

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken."""
        return self.admission.accepting

    @accepting.setter
    def accepting(self, accepting: bool) -> None:
        self.admission.accepting = accepting

    @property
    def backend(self) -> Any:
        """The backend that new transfers ask; it may be exchanged."""
        return self._services.backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._services.backend = backend

    @property
    def policy(self) -> Policy:
        """What is granted."""
        return self._services.policy

    @property
    def observer(self) -> Any:
        """The L{ITransferObserver} that is told of transfers; it may be exchanged."""
        return self._services.sessions.observer

    @observer.setter
    def observer(self, observer: Any) -> None:
        self._services.sessions.observer = observer

    def datagramReceived(self, datagram: bytes, addr: SocketAddress) -> None:
        """Take a datagram from a plain Twisted port, which can't tell which address it reached."""
        self.received(datagram, addr, None)

    def startProtocol(self) -> None:
        """Check that the port can do what the policy asks for.

        @raise TypeError: all transfers are to answer from a port that is no L{RequestPort}.
        """
        self._port_mode.start(self.transport)

    def stopProtocol(self) -> None:
        """Tell what was dropped, where nobody else does."""
        if self._owns_drops:
            self._drops.flush()

    def received(self, datagram: bytes, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Take a datagram that reached the request port.

        @param peer: the socket address that it came from.
        @param local: the socket address that it reached, or None.
        """
        direction = _DIRECTIONS.get(datagram[:2])
        if direction is None:
            owner = self._port_mode.owner((peer, local))
            if owner is not None:
                owner.receive(datagram, self.clock())
            else:
                self._drop(NOT_A_REQUEST, peer)
            return
        # The request port reads longer ones where it is the port of transfers too.
        datagram = datagram[:MAX_REQUEST]
        arrival = Arrival(datagram, peer, local, direction, self.clock())
        verdict = self.admission.admit(arrival)
        if verdict is not None:
            self._drop(verdict, peer)
            return
        try:
            request = parse_request(datagram)
        except TFTPError as failure:
            self._answer_malformed(arrival, failure)
            return
        link = self._open_link(arrival)
        if link is None:
            return
        try:
            self._begin(arrival, request, link)
        except BaseException:
            link.close()
            raise

    def refused(self, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Take ICMP's word that a datagram from `local` met a closed port at `peer`."""
        session = self.transfers.find((peer, local))
        if session is not None:
            session.refused(self.clock())

    def build_session(self, context: TransferContext, **parts: Any) -> ServerSession:
        """Return the session of a request; override this to change how transfers are made.

        @param parts: the keyword arguments of L{ServerSession}; pass them on.
        """
        return ServerSession(context, **parts)

    def _open_link(self, arrival: Arrival) -> Link | None:
        """Return the link of a transfer; drop the request and return None if no socket is left."""
        try:
            reading = arrival.direction is _READ
            return self._port_mode.open_link(arrival.peer, arrival.local, reading)
        except OSError as error:
            self._drop(no_socket(error), arrival.peer)
            return None

    def _answer_malformed(self, arrival: Arrival, failure: TFTPError) -> None:
        """Answer a malformed request with an ERROR, from the port that its transfer would have."""
        link = self._open_link(arrival)
        if link is None:
            return
        try:
            self._drop(MALFORMED, arrival.peer)
            # On a single port it may be a damaged packet of a transfer, which an ERROR would end.
            if self._port_mode.owner((arrival.peer, arrival.local)) is None:
                link.send((wire.error(failure),))
        finally:
            link.close()

    def _begin(self, arrival: Arrival, request: wire.Request, link: Link) -> None:
        """Start the session of a request that was admitted."""
        peer, local, direction = arrival.peer, arrival.local, arrival.direction
        key = (peer, local)
        context = TransferContext(
            peer=endpoint(peer),
            local=_own_endpoint(local) if local else None,
            direction=direction,
            filename=request.filename,
            mode=request.mode,
            options=request.options,
            announced_size=None if direction is _READ else announced_size(request.options),
        )
        transfers = self.transfers
        session = self.build_session(
            context,
            key=key,
            request=arrival.datagram,
            link=link,
            read_ahead=min(MAX_READ_AHEAD, MAX_TOTAL_READ_AHEAD // (transfers.running + 1)),
            services=self._services,
        )
        replaced = self._port_mode.owner(key)
        if replaced is not None:
            replaced.cancel()  # on a single port the packets of two could not be told apart
        transfers.add(session)
        session.start()

    def _drop(self, verdict: Verdict, peer: SocketAddress) -> None:
        """Count a packet that starts no transfer, and add it to the log of drops."""
        counter, reason = verdict.counter, verdict.reason
        if counter is not None:
            setattr(self.counters, counter, getattr(self.counters, counter) + 1)
        if reason is not None:
            self._drops.add(reason, peer[0])
