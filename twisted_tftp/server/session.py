"""One transfer of the server: the request, the file of the backend, and the negotiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted_tftp.context import Direction, Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import AccessViolation, DiskFull, TransferTimedOut
from twisted_tftp.net.udp import Buffer, Link, SocketAddress
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import options, wire
from twisted_tftp.session.receiving import ReceivingSession
from twisted_tftp.session.sending import SendingSession
from twisted_tftp.session.services import SessionServices
from twisted_tftp.session.window_budget import WindowBudget
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.timing import Timing

#: The peer's socket address, and the local one that its request has reached (None if unknown).
Key = tuple[SocketAddress, SocketAddress | None]

#: The ERROR text for a file above `max-upload`.
TOO_LARGE = "the file is larger than what is accepted here"

_READ = Direction.READ


@dataclass
class ServerServices:
    """What all sessions of a server share.

    @ivar backend: an L{IFileBackend}.
    @ivar sessions: what the transfers themselves need.
    @ivar may_write: whether a peer's host may write.
    @ivar windows: the memory of all windows.
    @ivar on_finished: called when the outcome of a transfer is known.
    @ivar on_ended: called when everything of a transfer is released.
    """

    backend: Any  # backends need not declare the interface
    policy: Policy
    sessions: SessionServices
    may_write: Callable[[str], bool]
    windows: WindowBudget
    on_finished: Callable[[ServerSession], None]
    on_ended: Callable[[ServerSession], None]


class ServerSession:
    """The transfer of one request, which it runs in a `SendingSession` or a `ReceivingSession`.

    @ivar context: the contents of the request.
    @ivar key: the addresses of the request.
    @ivar request: the octets of the request, to recognise a repeated one.
    @ivar offered_at: when the peer was sent the first answer; infinite before.
    """

    __slots__ = (
        "_link",
        "_read_ahead",
        "_refusals",
        "_services",
        "_transfer",
        "_window",
        "context",
        "key",
        "offered_at",
        "request",
    )

    #: An ERROR goes to the port of the request.
    can_tell_peer = True

    def __init__(
        self,
        context: TransferContext,
        *,
        key: Key,
        request: bytes,
        link: Link,
        read_ahead: int,
        services: ServerServices,
    ) -> None:
        """Set up a transfer; `start` begins it.

        @param read_ahead: octets that a read may buffer.
        """
        self.context = context
        self.key = key
        self.request = request
        self.offered_at = float("inf")
        self._link = link
        self._read_ahead = read_ahead
        self._services = services
        self._window = 0  # octets of a window, once that is negotiated
        self._refusals = 0  # how often ICMP has reported that the peer's port is closed
        self._transfer: SendingSession | ReceivingSession
        if context.direction is _READ:
            self._transfer = SendingSession(context, link, services.sessions, self)
        else:
            check = None if services.policy.max_upload is None else self._check_upload
            self._transfer = ReceivingSession(
                context, link, services.sessions, self, check_size=check
            )

    # -- questions -------------------------------------------------------------------------

    @property
    def statistics(self) -> TransferStatistics:
        """What observers see."""
        return self._transfer.statistics

    @property
    def finished(self) -> bool:
        """Whether the outcome is known; a complete write may still dally."""
        return self._transfer.is_finished

    @property
    def ended(self) -> bool:
        """Whether the link is closed."""
        return self._transfer.is_ended

    @property
    def answered(self) -> bool:
        """Whether the peer has shown by more than its request that it is there."""
        machine = self._transfer.machine
        return machine is not None and machine.answered

    @property
    def repeats_first_answer(self) -> bool:
        """Whether what it sends next could be taken for the first answer to another request."""
        if self._transfer.is_finished:
            return False
        machine = self._transfer.machine
        return machine is None or machine.repeats_first_answer

    # -- events ----------------------------------------------------------------------------

    def start(self) -> None:
        """Ask the backend for the file."""
        self._transfer.start(self._open_file)

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that has come to the request port."""
        if self._transfer.machine is not None:  # otherwise nothing was sent that it could answer
            self._transfer.receive(datagram, now)

    def repeated(self) -> None:
        """Handle the same request again: send the first answer again while it is due."""
        transfer = self._transfer
        transfer.keep_opening()
        if transfer.machine is not None and not transfer.is_finished:
            now = self._services.sessions.clock()
            transfer.perform(transfer.machine.repeat(now), now)

    def refused(self, now: float) -> None:
        """Handle an ICMP error: the peer's port is closed.

        After the first one, the answer is sent again at once: one message may be forged, or be a
        firewall's mistake. The second one ends a transfer that was never answered, whichever
        datagram it is about. Usually it is about the repeated answer, so a closed port is known
        after two round trips. From then on the next owner of the port is sent nothing that it
        could take for the answer to a request of its own. In a transfer that was answered, such
        messages count as lost datagrams.
        """
        transfer = self._transfer
        machine = transfer.machine
        if machine is None or machine.answered or transfer.is_finished:
            return
        self._refusals += 1
        if self._refusals == 1:
            transfer.perform(machine.repeat(now), now)
        else:
            reason = TransferTimedOut("the client's port is closed")
            transfer.end(Outcome.UNREACHABLE, reason, tell=False)

    def catch_up(self) -> None:
        """Read what the peer has sent so far."""
        if self._transfer.machine is not None:
            self._link.drain()

    def cancel(self, message: str = "") -> None:
        """End the transfer; with a `message` the peer is told."""
        self._transfer.cancel(message)

    def give_way(self) -> None:
        """End the transfer, which nobody has answered, to make room for another one."""
        reason = TransferTimedOut("no answer, and another transfer needed its place")
        self._transfer.end(Outcome.TIMED_OUT, reason, tell=False)

    def replace(self) -> None:
        """End the transfer, which was not answered: the peer's port asks for something else.

        The peer is not told: it could take an ERROR for the answer to its new request.
        """
        reason = TransferTimedOut("the client asked for something else")
        self._transfer.end(Outcome.REPLACED, reason, tell=False)

    # -- what its transfer calls: SessionOwner ---------------------------------------------

    def on_open(self) -> None:
        """Negotiate, and send the first answer."""
        transfer = self._transfer
        if self.context.direction is _READ:
            machine: Sender | Receiver = self._make_sender(transfer.file.size)
        else:
            machine = self._make_receiver()
        self._link.attach(transfer.receive, transfer.receive_train)
        self._link.watch_refusals(self.refused)
        self.offered_at = self._services.sessions.clock()
        transfer.begin(machine)

    def on_finished(self) -> None:
        """Release the memory of the window."""
        self._give_window_back()
        self._services.on_finished(self)

    def on_ended(self) -> None:
        """Tell the server that everything is released."""
        self._services.on_ended(self)

    # -- the file and the negotiation ------------------------------------------------------

    def _open_file(self) -> Any:
        context, services = self.context, self._services
        if context.direction is _READ:
            return services.backend.open_reader(context.path, context)
        if not services.may_write(context.peer.host):
            raise AccessViolation("your address may not write here")
        if services.policy.max_upload is not None:
            self._check_upload(context.announced_size or 0, is_complete=False)
        return services.backend.open_writer(context.path, context)

    def _check_upload(self, octets: int, is_complete: bool) -> None:
        limit = self._services.policy.max_upload
        if limit is not None and octets > limit:
            raise DiskFull(TOO_LARGE)

    def _make_sender(self, size: int | None) -> Sender:
        # curl takes `tsize=0` for an error, so an empty file's size is left out.
        grant = self._grant(size or None)
        return Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=size,
            oack=grant.oack,
            timing=Timing.of(self._services.policy, grant.timeout),
            rollover=grant.rollover,
            read_ahead=self._read_ahead,
        )

    def _make_receiver(self) -> Receiver:
        announced = self.context.announced_size
        grant = self._grant(announced)
        if grant.windowsize > 1:
            window = grant.windowsize * (grant.blksize + wire.HEADER_SIZE)
            grant = self._grant(announced, self._link.expect(window))
        return Receiver(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            first_reply=grant.oack or wire.ack(0),
            timing=Timing.of(self._services.policy, grant.timeout),
            rollover=grant.rollover,
        )

    def _grant(self, tsize: int | None, room: int | None = None) -> options.Grant:
        """Negotiate; a window gets the memory that is left, and `room` octets of the socket."""
        services = self._services
        windows = services.windows
        self._give_window_back()
        requested = self.context.options
        if "windowsize" in requested:
            room = windows.room if room is None else min(room, windows.room)
        grant = options.negotiate(requested, services.policy, tsize=tsize, room=room)
        self._window = grant.windowsize * grant.blksize
        windows.take(self._window)
        self._transfer.note_options(grant.accepted)
        return grant

    def _give_window_back(self) -> None:
        octets, self._window = self._window, 0
        self._services.windows.give_back(octets)
