"""One transfer of a client: open the file, send the request, check the answer, run a session."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from twisted_tftp.client.attempt_plan import AttemptPlan
from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.job import Job, Restart
from twisted_tftp.client.request_attempt import RequestAttempt
from twisted_tftp.client.request_links import RequestLinks
from twisted_tftp.client.services import ClientServices
from twisted_tftp.client.silence_notice import SilenceNotice
from twisted_tftp.context import Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import AnswerNotConfirmed, AnswersContradict, TFTPError, TransferTimedOut
from twisted_tftp.net.addresses import endpoint
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import ReceiveTrain
from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.session.failures import error_of_peer
from twisted_tftp.transfer.first_answer import Standing
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.states import ReceiverState
from twisted_tftp.transfer.timing import Timing


class ClientTransfer:
    """One transfer of a client: it sends the request, checks the answer, and starts a session.

    It is the owner of the session (L{SessionOwner}) and of the doubt about the answer
    (L{DoubtOwner}). What a download, an upload and a size probe do differently is in its L{Job}.

    @ivar context: the contents of the request.
    """

    def __init__(
        self,
        job: Job,
        context: TransferContext,
        link: ClientLink,
        plan: AttemptPlan,
        services: ClientServices,
        *,
        on_finished: Callable[[ClientTransfer], None],
        on_released: Callable[[ClientTransfer], None],
    ) -> None:
        """Set up a transfer; `start` begins it.

        @param job: what to do with the file.
        @param link: an open link to the first address of `plan`.
        @param plan: the addresses of the server.
        @param on_finished: called when the outcome is known.
        @param on_released: called when the link is closed and the file is released.
        """
        self.context = context
        self._job = job
        self._services = services
        self._on_finished = on_finished
        self._on_released = on_released
        self._session = job.make_session(context, link, services.session_services, self)
        self._links = RequestLinks(
            link, plan, services, self._on_unreachable, self._on_server_gone, self._notice
        )
        self._silence = SilenceNotice(self._session, services, self._links)
        self._attempt: RequestAttempt | None = None
        self._timing = Timing.of(services.policy, None)

    # -- questions -------------------------------------------------------------------------

    @property
    def statistics(self) -> TransferStatistics:
        """What observers see."""
        return self._session.statistics

    @property
    def can_send_error(self) -> bool:
        """Whether the server has a port for this transfer; its request port ignores an ERROR."""
        return self._link.knows_server_port

    @property
    def is_dallying(self) -> bool:
        """Whether the file is complete, and the transfer only waits for a repeated last block."""
        machine = self._session.machine
        return isinstance(machine, Receiver) and machine.state is ReceiverState.DALLYING

    @property
    def retransmission_timeout(self) -> float:
        """The current retransmission timeout in seconds."""
        return self._timing.rto

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed, as precisely as known."""
        failure = self._session.failure
        precise = self._links.reason(failure, has_answer=self._link.knows_server_port)
        return precise or self._job.explain(failure or TFTPError())

    def update_statistics(self) -> None:
        """Bring `statistics` up to date."""
        if self._session.machine is None and self._attempt is not None:
            self._session.note_retransmissions(self._attempt.asker.retransmissions)
        self._session.update_statistics()

    # -- beginning and end -----------------------------------------------------------------

    def start(self) -> None:
        """Open the local file, and then send the request."""
        self._session.start(self._job.open_file)

    def cancel(self, message: str = "") -> None:
        """End the transfer; with a `message` the server is told."""
        self._job.cancel(message)

    def on_open(self) -> None:
        """Send the request."""
        if self._attempt is None:
            self._links.plan.start(self._services.session_services.clock())
        self._links.listen_for_errors()
        earlier = self._attempt
        attempt = self._attempt = RequestAttempt(
            self.context,
            self._job.announced_size(),
            self._links,
            self._services,
            self,
            on_end=self._on_request_end,
            before_resend=self._bind_to_route,
        )
        if earlier is not None and not self._services.can_change_port:
            attempt.ignore_errors_of(earlier)
        self.context, self._doubt = attempt.context, attempt.doubt
        self._silence.watch(attempt)
        attempt.start(self._receive)

    def on_finished(self) -> None:
        """Tell the client that the outcome is known."""
        self._silence.stop()
        if self._session.failure is not None:
            self._stop_asking()
        self._on_finished(self)

    def on_released(self) -> None:
        """Tell the client that the link is closed and the file is released."""
        self._stop_asking()
        self._on_released(self)

    def on_exception(self, failure: Failure) -> None:
        """End the transfer because of an unexpected exception."""
        self._session.fail(failure, Outcome.FAILED)

    def _stop_asking(self) -> None:
        if self._attempt is not None:
            self._attempt.stop()

    @property
    def _request(self) -> RequestAttempt:
        """The current request; call this only after `on_open`."""
        assert self._attempt is not None
        return self._attempt

    # -- the request -----------------------------------------------------------------------

    @property
    def _link(self) -> ClientLink:
        return self._links.current

    def _on_unreachable(self, more_tries: int) -> None:
        if self._attempt is not None:
            self._attempt.note_unreachable(more_tries)

    def _on_server_gone(self) -> None:
        """End the transfer: the server's port is closed."""
        if not (self._session.is_finished or self._job.is_committing):
            self._session.end(Outcome.TIMED_OUT, TransferTimedOut(), send_error=False)

    def _notice(self, text: str) -> None:
        """Tell the user; the user may end the transfer in this call."""
        self._services.on_notice(f"{self.context.path}: {text}")

    def _close_if_ended(self, link: ClientLink) -> bool:
        """Close a new link if the transfer has ended already; return whether it has."""
        if self._session.is_finished:
            link.close()
        return self._session.is_finished

    def _bind_to_route(self) -> None:
        """Use a new socket if there was no route to the server, and there is one now."""
        link = self._links.open_after_route_change()
        if link is not None:
            self._use_link(link)
            link.attach(self._receive)

    def _use_link(self, link: ClientLink) -> None:
        self._links.use(link)
        self._session.replace_link(link)
        if self._attempt is not None:
            self._attempt.replace_link(link)

    def _on_request_end(self) -> None:
        """Continue after an answer, an ERROR, or the last timeout."""
        asker = self._request.asker
        self._session.note_retransmissions(asker.retransmissions)
        if asker.answer is not None:
            self._accept_answer(asker.answer)
        elif asker.peer_error is not None:
            error = error_of_peer(*asker.peer_error)
            if self._links.ports.may_be_foreign_error(asker.peer_error[0]):
                self._change_port(error)
            else:
                self._ask_again(self._links.open_without_options(error), Outcome.ABORTED, error)
        elif asker.failure is not None:
            self._doubt.note_no_answer()
            link = self._links.open_next_attempt(asker.failure)
            self._ask_again(link, Outcome.TIMED_OUT, asker.failure)

    def _ask_again(self, link: ClientLink | None, outcome: Outcome, error: TFTPError) -> None:
        """Begin the next attempt through `link`; without one, end the transfer."""
        if link is None:
            self._session.end(outcome, error)
            return
        if self._close_if_ended(link):
            return
        self._stop_asking()
        self.context = self.context._replace(peer=endpoint(self._links.plan.current.address))
        self._use_link(link)
        self._session.restart_negotiation()
        self.on_open()

    # -- the answer ------------------------------------------------------------------------

    def _accept_answer(self, answer: bytes) -> None:
        """Accept the server's answer, and continue from it."""
        asker, doubt = self._request.asker, self._doubt
        now = self._services.session_services.clock()
        self._links.note_answer(answer)
        # All write requests get answers with the same octets, so they confirm nothing.
        is_confirmed = self._job.is_read and self._links.ports.has_seen(answer)
        doubt.accept(answer, now, asker, is_confirmed)
        if doubt.first_answer.standing is Standing.PROVEN:
            self._link.attach(self._session.receive, self._session.receive_train)
        else:
            self._link.attach(self._receive, self._train_of_transfer(answer))
            self._link.on_other_port = self._receive_from_other_port
        try:
            grant = self._request.check_answer(answer)
            self._session.note_options(grant.accepted)
            self._timing = Timing.of(self._services.policy, grant.timeout)
            if asker.round_trip is not None:
                self._timing.add_round_trip(asker.round_trip)
            self._job.prepare(answer, grant, self._timing, doubt)
        except Exception as error:
            is_xid_missing = doubt.first_answer.standing is Standing.XID_MISSING
            may_be_foreign = is_xid_missing and not self._links.ports.has_seen(answer)
            if may_be_foreign and isinstance(error, TFTPError):
                self._change_port(error)  # it may be for a request of the port's previous user
            else:
                self._session.fail(Failure(), Outcome.FAILED)
            return
        self._job.proceed()
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self._receive(answer, now)

    def _train_of_transfer(self, answer: bytes) -> ReceiveTrain | None:
        """Return the function that receives a train; None if a train may contain an answer."""
        is_oack = wire.opcode_of(answer) == wire.Opcode.OACK
        return self._session.receive_train if is_oack and self._job.has_blocks else None

    # -- datagrams before it is proven that the answer is for this request ----------------------

    def _receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram from the server's port for this transfer."""
        doubt = self._doubt
        if doubt.first_answer.standing is Standing.NO_ANSWER:
            self._request.receive(datagram, now)
        elif self._may_contradict(datagram) and doubt.is_contradicted(
            datagram, now, same_port=True
        ):
            self._give_up_answer(datagram)
        elif doubt.is_open and wire.opcode_of(datagram) == wire.Opcode.ERROR:
            # From a server with a single port, this may be the true answer, even if all blocks
            # that belong to the answer in doubt have arrived. A complete machine would ignore it.
            self._receive_error_in_doubt(datagram)
        else:
            self._job.receive(datagram, now)

    def _may_contradict(self, datagram: Buffer) -> bool:
        """Return whether `datagram` may be another answer: DATA after the first block is not."""
        machine = self._session.machine
        is_later = machine is not None and machine.octets > DEFAULT_BLKSIZE
        return not is_later or wire.opcode_of(datagram) != wire.Opcode.DATA

    def _receive_error_in_doubt(self, datagram: Buffer) -> None:
        if self._job.is_error_final and not self._job.is_committing:
            error = error_of_peer(*wire.parse_error(datagram))
            self._session.end(Outcome.ABORTED, error, send_error=False)

    def _receive_from_other_port(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that the server's host has sent from another port."""
        if self._doubt.is_contradicted(datagram, now, same_port=False):
            self._give_up_answer(datagram)

    # -- the doubt about the answer: DoubtOwner ----------------------------------------------

    def receive_waiting(self) -> None:
        """Process the datagrams that wait in the socket; one may contradict the answer."""
        self._link.receive_waiting()

    def relies_on(self, doubt: Doubt) -> bool:
        """Return whether the transfer has not ended, and still uses the answer of `doubt`."""
        return not self._session.is_closed and self._doubt is doubt

    def on_settled(self) -> None:
        """Continue, because the answer can be trusted now."""
        self._job.on_settled()

    def on_not_confirmed(self) -> None:
        """Fail, because the server has not answered the second request."""
        self._session.end(Outcome.TIMED_OUT, AnswerNotConfirmed())

    def on_contradicted(self, answer: bytes | None) -> None:
        """Give up the accepted answer, because the second request got another one or an ERROR."""
        if answer is not None:
            self._links.ports.note_answer(answer)
        self._give_up_answer(answer)

    def _give_up_answer(self, answer: Buffer | None) -> None:
        """Give up the accepted answer, and send the request from another port if possible.

        @param answer: the answer that contradicts it; None if it is not known.
        """
        if answer is not None:
            self._doubt.note_contradiction(answer)
        if not self._session.is_finished and not self._job.is_committing:
            self._change_port(AnswersContradict())

    def _change_port(self, reason: TFTPError) -> None:
        """Send the request from another port because of `reason`, or fail with `reason`."""
        self._stop_asking()
        can_change = self._links.ports.can_change
        restart = self._job.prepare_restart() if can_change else Restart.IMPOSSIBLE
        if restart is Restart.IMPOSSIBLE:
            self._session.end(Outcome.FAILED, reason)
            return
        try:
            link = self._links.ports.open_next(self._doubt.first_answer.accepted)
        except OSError:
            self._session.fail(Failure(), Outcome.FAILED)
            return
        self._notice(
            f"{reason.message}; sending the request again from port "
            f"{link.local[1]} instead of {self._link.local[1]}"
        )
        if self._close_if_ended(link):
            return
        if self._link.knows_server_port:
            self._session.send(wire.error(reason))
        self._use_link(link)
        if restart is Restart.AFTER_REOPENING:
            self._session.restart_opening(self._job.open_file)
        else:
            self._session.restart_negotiation()
            self.on_open()
