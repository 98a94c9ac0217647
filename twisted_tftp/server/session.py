"""One transfer of the server: open the file, negotiate options, react to later requests.

The blocks themselves are exchanged by a `SendingSession` or a `ReceivingSession`
(`twisted_tftp.session`), which a client uses too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted_tftp.context import Direction, Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import TransferTimedOut
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.udp import Link
from twisted_tftp.policy import Policy, UploadSettings
from twisted_tftp.protocol import options, wire
from twisted_tftp.server import reasons
from twisted_tftp.server.negotiation import Negotiation
from twisted_tftp.server.unproven_link import UnprovenLink
from twisted_tftp.server.unproven_rate import Allowance
from twisted_tftp.server.upload_access import UploadAccess
from twisted_tftp.session.receiving import ReceivingSession
from twisted_tftp.session.sending import SendingSession
from twisted_tftp.session.services import SessionServices
from twisted_tftp.session.window_budget import WindowBudget, largest_window
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.timing import Timing

#: The two addresses of a request: the peer's socket address, and the local socket address that the
#: request reached (None if unknown).
SessionKey = tuple[SocketAddress, SocketAddress | None]

_READ = Direction.READ


@dataclass
class ServerServices:
    """What all sessions of a request port share, or those of the clients with the same rules.

    @ivar backend: an L{IFileBackend}.
    @ivar policy: the limits and timeouts.
    @ivar negotiation: decides which options are granted.
    @ivar session_services: the services that the sending and receiving sessions need.
    @ivar upload_access: decides who may write files.
    @ivar find_mac: returns the MAC address of a host, or None.
    @ivar window_budget: the memory that is left for the windows of all transfers.
    @ivar on_finished: called when the outcome of a transfer is known.
    @ivar on_released: called when a transfer has released its link and its file.
    @ivar uploads: the rules for uploads; None for those of the backend.
    @ivar max_rate: the most octets per second of one transfer, which `backend` does not exceed;
        None for no limit.
    """

    backend: Any  # backends need not declare the interface
    policy: Policy
    negotiation: Negotiation
    session_services: SessionServices
    upload_access: UploadAccess
    find_mac: Callable[[str], str | None]
    window_budget: WindowBudget
    on_finished: Callable[[ServerSession], None]
    on_released: Callable[[ServerSession], None]
    uploads: UploadSettings | None = None
    max_rate: int | None = None


class ServerSession:
    """One transfer of the server, from its request to its end.

    It owns a `SendingSession` (for a read) or a `ReceivingSession` (for a write). It opens the
    file, negotiates the options, makes the machine, and is told of the end (`SessionOwner`).

    @ivar context: the contents of the request.
    @ivar key: the two addresses of the request.
    @ivar request: the octets of the request; the same octets again are a repeated request.
    @ivar first_answer_at: when the server sent its first answer, in seconds of the server's clock;
        infinite before that.
    """

    __slots__ = (
        "_allowance",
        "_link",
        "_read_ahead",
        "_services",
        "_session",
        "_unreachable_reports",
        "_window_size",
        "context",
        "first_answer_at",
        "key",
        "request",
    )

    #: The peer can be sent an ERROR at any time: the request tells its address and port.
    can_send_error = True

    def __init__(
        self,
        context: TransferContext,
        *,
        key: SessionKey,
        request: bytes,
        link: Link,
        read_ahead: int,
        services: ServerServices,
        allowance: Allowance | None = None,
    ) -> None:
        """Set up the transfer; `start` begins it.

        @param context: the contents of the request.
        @param key: the two addresses of the request.
        @param request: the octets of the request.
        @param link: the link to the peer.
        @param read_ahead: octets that a download may read before they are needed.
        @param services: what all sessions of the request port share.
        @param allowance: what may be sent until the peer has answered; None for no limit.
        """
        if allowance is not None:
            link = UnprovenLink(link, allowance, self)
        self.context = context
        self.key = key
        self.request = request
        self.first_answer_at = float("inf")
        self._allowance = allowance
        self._link = link
        self._read_ahead = read_ahead
        self._services = services
        self._window_size = 0  # what this transfer has taken of the window budget
        self._unreachable_reports = 0  # ICMP errors about the peer's port
        self._session: SendingSession | ReceivingSession
        if context.direction is _READ:
            self._session = SendingSession(context, link, services.session_services, self)
        else:
            check = services.upload_access.size_check
            self._session = ReceivingSession(
                context, link, services.session_services, self, check_size=check
            )

    # -- questions -------------------------------------------------------------------------

    @property
    def statistics(self) -> TransferStatistics:
        """The statistics that observers get."""
        return self._session.statistics

    @property
    def is_finished(self) -> bool:
        """Whether the outcome of the transfer is known; a complete write may still dally."""
        return self._session.is_finished

    @property
    def is_closed(self) -> bool:
        """Whether the link is closed."""
        return self._session.is_closed

    @property
    def peer_has_answered(self) -> bool:
        """Whether the peer has answered the server, so that its address can't be forged."""
        machine = self._session.machine
        return machine is not None and machine.has_answered

    @property
    def answered_at(self) -> float:
        """When the peer's first answer came; infinite before that."""
        machine = self._session.machine
        return float("inf") if machine is None else machine.answered_at

    @property
    def repeats_first_answer(self) -> bool:
        """Whether the next packet looks like the first answer to any request of the peer."""
        if self._session.is_finished:
            return False
        machine = self._session.machine
        return machine is None or machine.repeats_first_answer

    def is_overdue(self, now: float) -> bool:
        """Return whether the peer is silent for so long that it may have started again."""
        machine = self._session.machine
        return machine is not None and not self._session.is_finished and machine.is_overdue(now)

    # -- events ----------------------------------------------------------------------------

    def start(self) -> None:
        """Open the file, and then negotiate and send the first answer."""
        self._session.start(self._open_file)

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that has reached the request port, in single-port mode."""
        if self._session.machine is not None:  # otherwise the peer has nothing to answer yet
            self._session.receive(datagram, now)

    def repeat_answer(self) -> None:
        """Handle a repeated request: send the first answer again.

        If the file is still being opened, the time limit for that starts again.
        """
        if self._allowance is not None:
            self._allowance.note_repeat(len(self.request))
        session = self._session
        session.extend_opening()
        machine = session.take_machine()
        if machine is not None and not session.is_finished:
            now = self._services.session_services.clock()
            session.perform(machine.repeat(now), now)

    def handle_port_unreachable(self, now: float) -> None:
        """Handle an ICMP error that reports that the peer's port is unreachable (closed).

        If the peer has answered before, the error counts as a lost datagram, and the peer is not
        waited for longer than one that has never answered: another program may open its port.
        Otherwise the first error only repeats the server's answer at once, because the error may
        be forged, or a mistake of a firewall. The second error ends the transfer. It is usually
        about the repeated answer, so a closed port is detected after two round trips. The server
        then sends nothing more to that port: another program may open it next, and could mistake
        our packet for the answer to its own request.
        """
        session = self._session
        machine = session.take_machine()
        if machine is None or session.is_finished:
            return
        if machine.has_answered:
            machine.note_port_unreachable()
            return
        self._unreachable_reports += 1
        if self._unreachable_reports == 1:
            session.perform(machine.repeat(now), now)
        else:
            reason = TransferTimedOut(reasons.PORT_CLOSED)
            session.end(Outcome.UNREACHABLE, reason, send_error=False)

    def receive_waiting(self) -> None:
        """Process the datagrams that have arrived at the socket of the transfer."""
        if self._session.machine is not None:
            self._link.receive_waiting()

    def cancel(self, message: str = "", detail: str = "") -> None:
        """End the transfer; the peer gets an ERROR with `message`, unless it is empty.

        @param detail: the reason for the log; empty if the message says everything.
        """
        self._session.cancel(message, detail)

    def end_for_room(self) -> None:
        """End this transfer, which the peer has not answered, to make room for another one."""
        reason = TransferTimedOut(reasons.ENDED_FOR_ROOM)
        self._session.end(Outcome.TIMED_OUT, reason, send_error=False)

    def replace(self, reason: str = reasons.DIFFERENT_REQUEST) -> None:
        """End this transfer because of the peer's new request.

        The peer gets no ERROR: it could mistake the ERROR for the answer to its new request.
        """
        self._session.end(Outcome.REPLACED, TransferTimedOut(reason), send_error=False)

    # -- called by the sending or receiving session (SessionOwner) -------------------------

    def on_open(self) -> None:
        """Negotiate the options, and send the first answer: the file is open."""
        session = self._session
        if self.context.direction is _READ:
            machine: Sender | Receiver = self._make_sender(session.file.size)
        else:
            machine = self._make_receiver()
        self._link.attach(session.receive, session.receive_train, session.offerer)
        self._link.watch_port_unreachable(self.handle_port_unreachable)
        self.first_answer_at = self._services.session_services.clock()
        session.begin(machine)

    def on_finished(self) -> None:
        """Give the window's memory back, and tell the server that the outcome is known."""
        size, self._window_size = self._window_size, 0
        self._services.window_budget.release(size)
        if self._allowance is not None:
            machine = self._session.machine
            # An ERROR proves the address too, although the machine does not count it as an answer.
            if machine is not None and (machine.has_answered or machine.peer_error is not None):
                self._allowance.note_answer()
        self._services.on_finished(self)

    def on_released(self) -> None:
        """Tell the server that the link and the file are released."""
        self._services.on_released(self)

    # -- the file and the negotiation ------------------------------------------------------

    def _open_file(self) -> Any:
        """Open the file of the request; return a reader, a writer, or a Deferred of one.

        @raise AccessViolation: the peer may not write.
        @raise DiskFull: the announced size is too large.
        """
        context, services = self.context, self._services
        if context.direction is _READ:
            return services.backend.open_reader(context.path, context)
        services.upload_access.check(context)
        return services.backend.open_writer(context.path, context)

    def _make_sender(self, size: int | None) -> Sender:
        # The size of an empty file is left out, because curl treats `tsize=0` as an error.
        grant = self._negotiate(size or None)
        return Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=size,
            oack=grant.oack,
            timing=Timing.of(self._services.policy, grant.timeout),
            rollover=grant.rollover,
            # With a limited rate, each window waits for its own octets.
            read_ahead=0 if self._services.max_rate else self._read_ahead,
        )

    def _make_receiver(self) -> Receiver:
        announced = self.context.announced_size
        # The first call shows which window would be granted. The second call limits it to the
        # receive buffer that the socket then gets.
        grant = self._negotiate(announced)
        if grant.windowsize > 1:
            window = grant.windowsize * (grant.blksize + wire.HEADER_SIZE)
            grant = self._negotiate(announced, self._link.enlarge_buffer(window))
        return Receiver(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            first_answer=grant.oack or wire.ack(0),
            timing=Timing.of(self._services.policy, grant.timeout),
            rollover=grant.rollover,
        )

    def _negotiate(self, tsize: int | None, capacity: int | None = None) -> options.Grant:
        """Decide which options are granted, and take the window's memory from the budget.

        The window is limited to what is left of the budget. A second call replaces the result of
        the first one.

        @param tsize: the size to put into the OACK, or None.
        @param capacity: the octets that fit into the socket's receive buffer; None for no limit.
        """
        services = self._services
        budget = services.window_budget
        if self._window_size:
            budget.release(self._window_size)
            self._window_size = 0
        requested = self.context.options
        if "windowsize" in requested:
            limit = budget.window_limit
            if services.max_rate is not None:
                limit = min(limit, largest_window(services.max_rate))
            capacity = limit if capacity is None else min(capacity, limit)
        peer, local = self.key
        # Positional arguments are faster, and this runs for each request.
        grant = services.negotiation.negotiate(requested, peer, local, tsize, capacity)
        self._window_size = size = grant.windowsize * grant.blksize
        budget.reserve(size)
        self._session.statistics.granted = grant.accepted
        return grant
