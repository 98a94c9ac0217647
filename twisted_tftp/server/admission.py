"""Decide which requests are served and which are dropped, by an ordered list of checks.

A dropped request is not answered: firmware that gets no answer asks again, but firmware that gets
an ERROR gives up. Dropped requests are counted, and logged once a minute (`drop_log`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted_tftp.context import Direction
from twisted_tftp.net.addresses import SocketAddress, endpoint
from twisted_tftp.policy import DEFAULT_BLKSIZE, TFTP_PORT, Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server import reasons
from twisted_tftp.server.access import Access
from twisted_tftp.server.flood_defence import MIN_SILENT_IN_FLOOD, FloodDefence
from twisted_tftp.server.port_mode import PortMode
from twisted_tftp.server.request_cache import has_options, is_well_formed
from twisted_tftp.server.session import ServerSession
from twisted_tftp.server.transfers import Transfers
from twisted_tftp.server.unproven_rate import Allowance, UnprovenRate

#: The time from the peer's first answer in which the same request from the same address and port
#: is a repeated one, even if the transfer has ended, in seconds. The peer sent it before its
#: answer, but to another socket, so the server may read it after the answer.
REPEATED_WITHIN = 1.0

# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
_READ = Direction.READ

#: The size of the first DATA packet of a file of at least one block, without options, in octets.
FIRST_DATA_SIZE = wire.HEADER_SIZE + DEFAULT_BLKSIZE


@dataclass
class Counters:
    """How many packets to the request port started no transfer, and how many transfers they ended.

    @ivar not_client_requests: packets that are not the request of a client.
    @ivar repeated: repeated requests.
    @ivar malformed: malformed requests.
    @ivar denied: requests from addresses that `--allow` and `--deny` exclude.
    @ivar over_rate: requests above `--rate`.
    @ivar over_max_per_client: requests above `--max-per-client`.
    @ivar first_in_flood: requests dropped in a flood, because their host had not asked before.
    @ivar over_unproven_rate: requests above `--unproven-rate`, from hosts that have not answered.
    @ivar no_room: requests dropped because `--max-transfers` was reached, or no socket was left.
    @ivar transfers_replaced: transfers that ended because their peer's port has sent another
        request, before an answer or after a long silence.
    @ivar transfers_ended_for_room: transfers without an answer that ended to make room for a
        request.
    """

    not_client_requests: int = 0
    repeated: int = 0
    malformed: int = 0
    denied: int = 0
    over_rate: int = 0
    over_max_per_client: int = 0
    first_in_flood: int = 0
    over_unproven_rate: int = 0
    no_room: int = 0
    transfers_replaced: int = 0
    transfers_ended_for_room: int = 0


@dataclass(frozen=True, eq=False)
class Verdict:
    """Why a packet to the request port starts no transfer.

    @ivar counter: the field of L{Counters} that counts the packet; None if it is not counted.
    @ivar reason: the text for the log; None if the packet is not logged.
    @ivar limit: the attribute of the L{Policy} whose value the log adds to the reason; None for
        none.
    """

    counter: str | None
    reason: str | None
    limit: str | None = None


NOT_A_REQUEST = Verdict("not_client_requests", reasons.NOT_A_REQUEST)
FROM_A_SERVER = Verdict("not_client_requests", reasons.FROM_A_SERVER)
STOPPING = Verdict(None, None)
DENIED = Verdict("denied", reasons.IN_DENY)
NOT_ALLOWED = Verdict("denied", reasons.NOT_IN_ALLOW)
OVERTAKEN = Verdict("repeated", None)
REPEATED = Verdict("repeated", None)
FIRST_IN_FLOOD = Verdict("first_in_flood", reasons.FIRST_IN_FLOOD)
OVER_RATE = Verdict("over_rate", reasons.OVER_RATE, "rate")
OVER_MAX_PER_CLIENT = Verdict("over_max_per_client", reasons.OVER_MAX_PER_CLIENT, "max_per_client")
OVER_UNPROVEN_RATE = Verdict("over_unproven_rate", reasons.OVER_UNPROVEN_RATE, "unproven_rate")
NO_ROOM = Verdict("no_room", reasons.OVER_MAX_TRANSFERS, "max_transfers")
MALFORMED = Verdict("malformed", reasons.MALFORMED)


def no_socket(error: OSError) -> Verdict:
    """Return the verdict on a request for whose transfer no socket could be opened."""
    return Verdict("no_room", reasons.no_socket(error))


@dataclass(slots=True, eq=False)
class Arrival:
    """A datagram that has arrived at the request port and has the opcode of a request.

    @ivar datagram: its octets.
    @ivar peer: the socket address of its sender.
    @ivar local: the socket address that it was sent to; None if unknown.
    @ivar direction: whether it asks to read or to write.
    @ivar now: when it was read from the port, in seconds of the server's clock.
    @ivar allowance: what may be sent until the peer has answered; None for no limit.
    """

    datagram: bytes
    peer: SocketAddress
    local: SocketAddress | None
    direction: Direction
    now: float
    allowance: Allowance | None = None


#: Returns why a request is not served, or None.
Check = Callable[[Arrival], Verdict | None]


class Admission:
    """The checks that a request to one port must pass to be served.

    The checks named `_check_...` change nothing; the names of the others say what they change.

    @ivar is_accepting: whether new requests are served; false while the server stops.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        transfers: Transfers,
        access: Access,
        port_mode: PortMode,
        counters: Counters,
        unproven_rate: UnprovenRate,
    ) -> None:
        """Set up the checks that `policy` and `access` need.

        @param port_mode: which ports the transfers use.
        @param counters: counts the transfers that end because of a new request.
        @param unproven_rate: limits what is sent to addresses that have not answered.
        """
        self.is_accepting = True
        self._transfers = transfers
        self._access = access
        self._port_mode = port_mode
        self._counters = counters
        self._unproven_rate = unproven_rate
        self._flood = FloodDefence(policy, transfers.unanswered, port_mode.receive_waiting)
        self._max_transfers = policy.max_transfers
        self._max_per_client = policy.max_per_client
        # The most running transfers with which there is neither a flood nor a lack of room.
        self._usual_running = min(MIN_SILENT_IN_FLOOD, policy.max_transfers - 1)
        checks = self._choose_checks()
        self._checks = tuple(check for check, _ in checks)
        self._usual_checks = tuple(check for check, is_usual in checks if is_usual)

    def _choose_checks(self) -> list[tuple[Check, bool]]:
        """Return the checks that the policy needs, the cheap ones first.

        For each check, the result says whether a usual request needs it (see `admit`).
        """
        # Check, whether the policy needs it, whether a usual request needs it.
        checks = (
            (self._check_source_port, not self._port_mode.allows_server_ports, True),
            (self._check_accepting, True, False),
            (self._check_network, self._access.limits_hosts, True),
            (self._check_overtaken, True, False),
            # Before the limits, because a request that they drop ends earlier transfers too: a new
            # program may use the port, and could mistake their repeated answers for its own.
            (self._handle_earlier, True, False),
            (self._defend_from_flood, True, False),
            (self._take_from_rate, self._access.limits_rate, True),
            (self._check_client_limit, self._max_per_client is not None, True),
            (self._limit_unproven, self._unproven_rate.is_limited, True),
            (self._make_room, True, False),
        )
        return [(check, is_usual) for check, is_needed, is_usual in checks if is_needed]

    def admit(self, arrival: Arrival) -> Verdict | None:
        """Check a request; a repeated one is answered here, and a new one may end earlier ones.

        A request is usual if the port that sent it has no transfer and no replaced request, and
        few transfers run. Half of the checks have no effect on it, so they are not called.

        @return: why the request is not served; None if it must be served.
        """
        transfers, peer = self._transfers, arrival.peer
        is_usual = (
            transfers.running <= self._usual_running
            and self.is_accepting
            and peer not in transfers.by_peer
            and (peer, arrival.local) not in transfers.replaced_requests.until
        )
        for check in self._usual_checks if is_usual else self._checks:
            verdict = check(arrival)
            if verdict is not None:
                return verdict
        return None

    def _check_source_port(self, arrival: Arrival) -> Verdict | None:
        """Drop a request from the port of a server: its address is probably forged."""
        local = arrival.local
        if local is not None and arrival.peer[1] in (TFTP_PORT, local[1]):
            return FROM_A_SERVER
        return None

    def _check_accepting(self, arrival: Arrival) -> Verdict | None:
        """Drop all requests while the server stops."""
        return None if self.is_accepting else STOPPING

    def _check_network(self, arrival: Arrival) -> Verdict | None:
        """Drop a request from a network that is not allowed."""
        host = arrival.peer[0]
        if self._access.allows(host):
            return None
        return DENIED if self._access.has_rule_for(host) else NOT_ALLOWED

    def _check_overtaken(self, arrival: Arrival) -> Verdict | None:
        """Drop an overtaken request: it was replaced, and arrives again after the newer one."""
        replaced = self._transfers.replaced_requests
        is_overtaken = replaced.has((arrival.peer, arrival.local), arrival.datagram, arrival.now)
        return OVERTAKEN if is_overtaken else None

    def _handle_earlier(self, arrival: Arrival) -> Verdict | None:
        """Repeat the answer to a repeated request; let a new request end unanswered transfers.

        A client whose timeout is shorter than the round trip asks again, and then accepts the
        first answer. A second transfer would send the whole file twice.
        """
        earlier = self._transfers.sessions_of_peer(arrival.peer)
        if not earlier:
            return None
        for session in earlier:
            self._port_mode.receive_waiting(session)
            if session.is_closed or session.key[1] != arrival.local:
                continue
            if session.request != arrival.datagram:
                continue
            if not session.peer_has_answered and not session.is_finished:
                session.repeat_answer()
                return REPEATED
            if arrival.now - session.answered_at < REPEATED_WITHIN:
                return REPEATED
        if is_well_formed(arrival.datagram):
            self._replace(earlier, arrival.now)
        return None

    def _defend_from_flood(self, arrival: Arrival) -> Verdict | None:
        """In a flood, note each host that asks, and drop the first request of a host.

        To drop a request costs much less than a transfer. If all were served, requests would wait
        in the request port's buffer until their clients give up.
        """
        if self._transfers.running <= MIN_SILENT_IN_FLOOD:
            return None
        now = arrival.now
        self._flood.review(now)
        if not self._flood.is_flood or self._access.recent_hosts.add(arrival.peer[0], now):
            return None
        return FIRST_IN_FLOOD

    def _take_from_rate(self, arrival: Arrival) -> Verdict | None:
        """Count the request of a source, and drop it if the source exceeds its rate."""
        return None if self._access.take_token(arrival.peer, arrival.now) else OVER_RATE

    def _check_client_limit(self, arrival: Arrival) -> Verdict | None:
        """Drop a request from a host that has reached `max_per_client`."""
        limit = self._max_per_client
        if (
            limit is not None
            and self._transfers.running_of_host(endpoint(arrival.peer).host) >= limit
        ):
            return OVER_MAX_PER_CLIENT
        return None

    def _limit_unproven(self, arrival: Arrival) -> Verdict | None:
        """Limit what is sent until the peer has answered, or drop a request above the limit.

        A request without options to read a file is dropped here. The other answers are about as
        short as their requests; the link drops one that is not.
        """
        rate = self._unproven_rate
        if rate.is_proven(arrival.peer[0], arrival.now):
            return None
        datagram = arrival.datagram
        size = FIRST_DATA_SIZE if arrival.direction is _READ and not has_options(datagram) else 0
        arrival.allowance = rate.allow(arrival.peer, len(datagram), size, arrival.now)
        return OVER_UNPROVEN_RATE if arrival.allowance is None else None

    def _make_room(self, arrival: Arrival) -> Verdict | None:
        """Drop a request if `max_transfers` is reached and no transfer can be ended for it."""
        transfers = self._transfers
        if transfers.running < self._max_transfers:
            return None
        self._counters.transfers_ended_for_room += self._flood.make_room(arrival.now)
        return NO_ROOM if transfers.running >= self._max_transfers else None

    def _replace(self, earlier: list[ServerSession], now: float) -> None:
        """End the transfers of a port whose peer has not answered, or is silent for too long.

        The peer could mistake what they send next for the answer to its new request. A peer that
        was silent for so long has probably started again: it must not get the rest of the old
        file.
        """
        for session in earlier:
            if session.repeats_first_answer:
                self._transfers.replaced_requests.add(session.key, session.request, now)
                session.replace()
                self._counters.transfers_replaced += 1
            elif session.is_overdue(now):
                session.replace(reasons.NEW_REQUEST)
                self._counters.transfers_replaced += 1
