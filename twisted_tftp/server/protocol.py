"""Receive the packets of the request port, and start a session for each admitted request.

Only RRQ and WRQ are answered. Each transfer has a port of its own, unless all use the request
port. Other packets are counted and dropped: two servers that answer an ERROR with an ERROR would
never stop (CVE-2024-2169).
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
from twisted_tftp.net.addresses import SocketAddress, endpoint
from twisted_tftp.net.request_port import MAX_REQUEST
from twisted_tftp.net.udp import Link
from twisted_tftp.policy import Policy, UploadSettings
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import announced_size
from twisted_tftp.server import reasons
from twisted_tftp.server.admission import (
    MALFORMED,
    NOT_A_REQUEST,
    Admission,
    Arrival,
    Counters,
    Verdict,
    no_socket,
)
from twisted_tftp.server.client_rules import BackendFor
from twisted_tftp.server.client_services import ClientServices, make_services
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.port_mode import choose_port_mode
from twisted_tftp.server.request_cache import parse_request
from twisted_tftp.server.session import ServerSession
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.server.transfer_log import TransferLog
from twisted_tftp.transfer.read_ahead import read_ahead_of

#: The direction of a request, by its first two octets.
_DIRECTIONS = {b"\0\1": Direction.READ, b"\0\2": Direction.WRITE}

# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
_READ = Direction.READ

# A server has few addresses of its own.
_own_endpoint = lru_cache(maxsize=64)(endpoint)


class TFTPServer(DatagramProtocol):
    """The protocol of one request port: it checks requests, and serves a backend's files.

    A server with several addresses has one such protocol for each address; they share
    L{SharedParts}.

    @ivar reactor: the reactor, for timers and sockets.
    @ivar clock: returns the time in seconds of a monotonic clock.
    @ivar shared: the parts that the server's other ports use too.
    @ivar transfers: the table of transfers, of all ports of the server.
    @ivar opener: opens the sockets of transfers.
    @ivar counters: how many packets started no transfer, by reason.
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
        uploads: UploadSettings | None = None,
        backend_for: BackendFor | None = None,
        max_rate: int | None = None,
        reactor: Any = None,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedParts | None = None,
    ) -> None:
        """Set up the protocol; the caller opens the port.

        @param backend: an L{IFileBackend}.
        @param policy: limits, timeouts and access rules; None for a L{Policy} with its defaults.
        @param observer: an L{ITransferObserver}; None for a L{TransferLog}.
        @param uploads: the rules for uploads; None for those of the backend.
        @param backend_for: see L{Configuration}, as for `max_rate`.
        @param reactor: for timers and sockets; None for the global one, which is looked up now.
        @param clock: returns the time in seconds of a monotonic clock.
        @param shared: the parts that the server's other ports use too, and the client rules; None
            for new ones.
        """
        if reactor is None:
            from twisted.internet import reactor
        policy = Policy() if policy is None else policy
        self.shared = shared or SharedParts.for_policy(policy, reactor, clock)
        self.reactor = reactor
        self.clock = clock
        self.transfers = self.shared.transfers
        self.opener = self.shared.opener
        self.counters = Counters()
        self._port_mode = choose_port_mode(policy, self.opener, self.transfers)
        if observer is None:
            observer = TransferLog(reactor=reactor)
        self._use(
            Configuration(
                *(backend, policy, observer, uploads), backend_for=backend_for, max_rate=max_rate
            )
        )

    def reconfigure(self, configuration: Configuration, shared: SharedParts) -> None:
        """Use another configuration for new requests; the running transfers keep theirs.

        The counters continue.

        @param configuration: its observer is not None, and its sockets are as they were.
        @param shared: the parts that the server's other ports use too, with the new client rules.
        """
        is_accepting = self.is_accepting
        self.shared = shared
        self._use(configuration)
        self.is_accepting = is_accepting

    def _use(self, configuration: Configuration) -> None:
        """Make the parts that depend on the configuration."""
        self._backend_for = configuration.backend_for
        self._services = make_services(configuration, self.shared, self.clock)
        self._choose_client_services()
        self.admission = Admission(
            configuration.policy,
            transfers=self.transfers,
            access=self.shared.access,
            port_mode=self._port_mode,
            counters=self.counters,
            unproven_rate=self.shared.unproven_rate,
        )

    def _choose_client_services(self) -> None:
        """Choose the services of each client; if there are no client rules, all have the same."""
        shared, rules = self.shared, self.shared.client_rules
        self._client_services: ClientServices | None = None
        if rules.rules:
            self._client_services = ClientServices(
                self._services, rules, find_mtu=shared.find_mtu, backend_for=self._backend_for
            )

    @property
    def is_accepting(self) -> bool:
        """Whether new requests are served; it can be set."""
        return self.admission.is_accepting

    @is_accepting.setter
    def is_accepting(self, is_accepting: bool) -> None:
        self.admission.is_accepting = is_accepting

    @property
    def backend(self) -> Any:
        """The L{IFileBackend} of new transfers; it can be replaced."""
        return self._services.backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._services.backend = backend
        self._choose_client_services()

    @property
    def policy(self) -> Policy:
        """What is granted: a L{Policy}."""
        return self._services.policy

    @property
    def observer(self) -> Any:
        """The L{ITransferObserver} of all transfers; it can be replaced.

        The running transfers of a client with a client rule keep the one that they have.
        """
        return self._services.session_services.observer

    @observer.setter
    def observer(self, observer: Any) -> None:
        self._services.session_services.observer = observer
        self._choose_client_services()

    def datagramReceived(self, datagram: bytes, addr: SocketAddress) -> None:
        """Process a datagram of a plain Twisted port, which does not report the local address."""
        self.received(datagram, addr, None)

    def startProtocol(self) -> None:
        """Check that the port supports what the policy asks for.

        @raise TypeError: the policy asks for a single port, and this port is not a
            L{RequestPort}.
        """
        self._port_mode.start(self.transport)

    def stopProtocol(self) -> None:
        """Log the packets that were not served and only counted so far."""
        self.shared.drop_log.flush()

    def received(self, datagram: bytes, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Process a datagram that has reached the request port.

        @param peer: the socket address of its sender.
        @param local: the socket address that it was sent to; None if unknown.
        """
        direction = _DIRECTIONS.get(datagram[:2])
        if direction is None:
            session = self._port_mode.find_session((peer, local))
            if session is not None:
                session.receive(datagram, self.clock())
            else:
                self._count_unserved(NOT_A_REQUEST, peer)
            return
        # A single port reads longer datagrams, because it is the port of the transfers too.
        datagram = datagram[:MAX_REQUEST]
        arrival = Arrival(datagram, peer, local, direction, self.clock())
        verdict = self.admission.admit(arrival)
        if verdict is not None:
            self._count_unserved(verdict, peer)
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
            self._start_session(arrival, request, link)
        except BaseException:
            link.close()
            raise

    def port_unreachable(self, peer: SocketAddress, local: SocketAddress | None) -> None:
        """Process an ICMP error: a datagram from `local` has reached a closed port of `peer`."""
        session = self.transfers.find((peer, local))
        if session is not None:
            session.handle_port_unreachable(self.clock())

    def build_session(self, context: TransferContext, **parts: Any) -> ServerSession:
        """Return the session of a request; override this to change how transfers are made.

        @param parts: the keyword arguments of L{ServerSession}; pass them on.
        """
        return ServerSession(context, **parts)

    def _open_link(self, arrival: Arrival) -> Link | None:
        """Return a link for a transfer; if no socket is left, drop the request and return None."""
        try:
            is_read = arrival.direction is _READ
            return self._port_mode.open_link(arrival.peer, arrival.local, is_read)
        except OSError as error:
            self._count_unserved(no_socket(error), arrival.peer)
            return None

    def _answer_malformed(self, arrival: Arrival, failure: TFTPError) -> None:
        """Answer a malformed request with an ERROR, from the port that its transfer would have."""
        link = self._open_link(arrival)
        if link is None:
            return
        try:
            self._count(MALFORMED)
            # On a single port it may be a damaged packet of a transfer. An ERROR would end that.
            is_free = self._port_mode.find_session((arrival.peer, arrival.local)) is None
            error = wire.error(failure)
            is_answered = is_free and (
                arrival.allowance is None or arrival.allowance.take(len(error))
            )
            self.shared.drop_log.add(
                f"{reasons.MALFORMED}: {failure.message}",
                arrival.peer[0],
                is_answered=is_answered,
                contents=reasons.contents_of(arrival.datagram),
            )
            if is_answered:
                link.send((error,))
        finally:
            link.close()

    def _start_session(self, arrival: Arrival, request: wire.Request, link: Link) -> None:
        """Start the session of a request that was admitted."""
        peer, local, direction = arrival.peer, arrival.local, arrival.direction
        key = (peer, local)
        client = endpoint(peer)
        services = self._services
        if self._client_services is not None:
            services = self._client_services.of_host(client.host, arrival.now)
        context = TransferContext(  # positional arguments take a third of the time
            client,
            _own_endpoint(local) if local else None,
            direction,
            request.filename,
            request.mode,
            request.options,
            None if direction is _READ else announced_size(request.options),
            services.uploads,
            services.find_mac,
        )
        transfers = self.transfers
        session = self.build_session(
            context,
            key=key,
            request=arrival.datagram,
            link=link,
            read_ahead=read_ahead_of(transfers.running + 1),
            services=services,
            allowance=arrival.allowance,
        )
        replaced = self._port_mode.find_session(key)
        if replaced is not None:
            # On a single port, the packets of both would look the same.
            replaced.cancel(detail=reasons.NEW_REQUEST)
        transfers.add(session)
        session.start()

    def _count_unserved(self, verdict: Verdict, peer: SocketAddress) -> None:
        """Count and log a packet that starts no transfer."""
        self._count(verdict)
        reason = verdict.reason
        if reason is not None:
            limit = (
                None if verdict.limit is None else getattr(self._policy_for(peer), verdict.limit)
            )
            self.shared.drop_log.add(reasons.with_limit(reason, limit), peer[0])

    def _policy_for(self, peer: SocketAddress) -> Policy:
        """Return the policy for a client."""
        if self._client_services is None:
            return self.policy
        return self._client_services.of_host(endpoint(peer).host, self.clock()).policy

    def _count(self, verdict: Verdict) -> None:
        """Count a packet that starts no transfer."""
        counter = verdict.counter
        if counter is not None:
            setattr(self.counters, counter, getattr(self.counters, counter) + 1)
