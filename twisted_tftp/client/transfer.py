"""One transfer of a client: open the file, send the request, check the answer, run a session."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.failure_reasons import error_of_server, network_reason
from twisted_tftp.client.job import Job, Restart
from twisted_tftp.client.request_ports import RequestPorts
from twisted_tftp.client.requester import Requester
from twisted_tftp.client.services import ClientServices
from twisted_tftp.context import Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import AnswerNotConfirmed, AnswersContradict, TFTPError
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer, ReceiveTrain
from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID, Grant, accept
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.first_answer import FirstAnswer, Standing
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
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
        services: ClientServices,
        *,
        on_finished: Callable[[ClientTransfer], None],
        on_released: Callable[[ClientTransfer], None],
    ) -> None:
        """Set up a transfer; `start` begins it.

        @param job: what to do with the file.
        @param link: an open link to the server.
        @param on_finished: called when the outcome is known.
        @param on_released: called when the link is closed and the file is released.
        """
        self.context = context
        self._job = job
        self._link = link
        self._services = services
        self._on_finished = on_finished
        self._on_released = on_released
        self._session = job.make_session(context, link, services.session_services, self)
        self._requester: Requester | None = None
        self._timing = Timing.of(services.policy, None)
        self._ports = RequestPorts(services.open_link)
        self._unreachable_error: OSError | None = None

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
        precise = network_reason(failure, self._link.other_host, self._unreachable_error)
        return precise or self._job.explain(failure or TFTPError())

    def update_statistics(self) -> None:
        """Bring `statistics` up to date."""
        if self._session.machine is None and self._requester is not None:
            self._session.note_retransmissions(self._asker.retransmissions)
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
        options = self._services.choose_options(
            self.context, self._job.announced_size(), self._link
        )
        opcode = wire.Opcode.RRQ if self._job.is_read else wire.Opcode.WRQ
        request = wire.encode_request(
            wire.Request(opcode, self.context.filename, self.context.mode, options)
        )
        asked = {name: value for name, value in options.items() if name != XID}
        self.context = self.context._replace(options=asked)
        self._doubt = Doubt(
            FirstAnswer(
                is_read=self._job.is_read, has_options=bool(options), xid=options.get(XID)
            ),
            request,
            self._services.known,
            self._services.session_services,
            self,
            open_link=self._services.open_link if self._job.is_read else None,
            make_timing=lambda: Timing.of(self._services.policy, None),
        )
        self._link.discard_waiting()
        self._link.attach(self._receive)
        self._link.on_unreachable = self._on_unreachable
        self._asker = Asker(request, self._job.is_read, Timing.of(self._services.policy, None))
        self._requester = Requester(
            self._asker,
            self._link,
            self._services.session_services,
            on_end=self._on_request_end,
            on_exception=self.on_exception,
            before_resend=self._bind_to_route,
        )
        self._requester.start()

    def on_finished(self) -> None:
        """Tell the client that the outcome is known."""
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
        if self._requester is not None:
            self._requester.stop()
            self._doubt.stop()

    # -- the request -----------------------------------------------------------------------

    def _on_unreachable(self, error: OSError) -> None:
        """Note the error, and keep sending the request: the server may be starting."""
        self._unreachable_error = error

    def _bind_to_route(self) -> None:
        """Use a new socket if there was no route to the server, and there is one now."""
        if not self._link.is_unbound or self._services.open_link is None:
            return
        link = self._services.open_link()
        if link.is_unbound:
            link.close()
        else:
            self._use_link(link)
            link.attach(self._receive)

    def _use_link(self, link: ClientLink) -> None:
        link.on_unreachable = self._on_unreachable
        link.other_host = self._link.other_host
        self._session.replace_link(link)
        if self._requester is not None:
            self._requester.replace_link(link)
        self._link = link

    def _on_request_end(self) -> None:
        """Continue after an answer, an ERROR, or the last timeout."""
        asker = self._asker
        self._session.note_retransmissions(asker.retransmissions)
        if asker.answer is not None:
            self._accept_answer(asker.answer)
        elif asker.peer_error is not None:
            error = error_of_server(*asker.peer_error)
            if self._ports.may_be_foreign_error(asker.peer_error[0]):
                self._change_port(error)
            else:
                self._session.end(Outcome.ABORTED, error)
        elif asker.failure is not None:
            self._doubt.note_no_answer()
            self._session.end(Outcome.TIMED_OUT, asker.failure)

    # -- the answer ------------------------------------------------------------------------

    def _accept_answer(self, answer: bytes) -> None:
        """Accept the server's answer, and continue from it."""
        asker, doubt = self._asker, self._doubt
        now = self._services.session_services.clock()
        self._link.learn_server_port()
        self._unreachable_error = None
        # All write requests get answers with the same octets, so they confirm nothing.
        is_confirmed = self._job.is_read and self._ports.has_seen(answer)
        doubt.accept(answer, now, asker, is_confirmed)
        if doubt.first_answer.standing is Standing.PROVEN:
            self._link.attach(self._session.receive, self._session.receive_train)
        else:
            self._link.attach(self._receive, self._train_of_transfer(answer))
            self._link.on_other_port = self._receive_from_other_port
        try:
            grant = self._check_oack(answer)
            self._timing = Timing.of(self._services.policy, grant.timeout)
            if asker.round_trip is not None:
                self._timing.add_round_trip(asker.round_trip)
            self._job.prepare(answer, grant, self._timing, doubt)
        except Exception as error:
            is_xid_missing = doubt.first_answer.standing is Standing.XID_MISSING
            may_be_foreign = is_xid_missing and not self._ports.has_seen(answer)
            if may_be_foreign and isinstance(error, TFTPError):
                self._change_port(error)  # it may be for a request of the port's previous user
            else:
                self._session.fail(Failure(), Outcome.FAILED)
            return
        self._job.proceed()
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self._receive(answer, now)

    def _check_oack(self, answer: bytes) -> Grant:
        """Return the parameters of the transfer that follow from `answer`."""
        oack = wire.parse_oack(answer) if wire.opcode_of(answer) == wire.Opcode.OACK else {}
        granted = {name: value for name, value in oack.items() if name != XID}
        grant = accept(self.context.options, granted)
        self._session.note_options(grant.accepted)
        return grant

    def _train_of_transfer(self, answer: bytes) -> ReceiveTrain | None:
        """Return the function that receives a train; None if a train may contain an answer."""
        is_oack = wire.opcode_of(answer) == wire.Opcode.OACK
        return self._session.receive_train if is_oack and self._job.has_blocks else None

    # -- datagrams before it is proven that the answer is for this request ----------------------

    def _receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram from the server's port for this transfer."""
        doubt = self._doubt
        if doubt.first_answer.standing is Standing.NO_ANSWER:
            if doubt.is_foreign(datagram, self._asker.retransmissions):
                self._link.answer_as_stranger(datagram, now)
            elif self._requester is not None:
                self._requester.receive(datagram, now)
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
            error = error_of_server(*wire.parse_error(datagram))
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
            self._ports.note_answer(answer)
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
        restart = self._job.prepare_restart() if self._ports.can_change else Restart.IMPOSSIBLE
        if restart is Restart.IMPOSSIBLE:
            self._session.end(Outcome.FAILED, reason)
            return
        try:
            link = self._ports.open_next(self._doubt.first_answer.accepted)
        except OSError:
            self._session.fail(Failure(), Outcome.FAILED)
            return
        self._services.on_notice(
            f"{self.context.path}: {reason.message}; sending the request again from port "
            f"{link.local[1]} instead of {self._link.local[1]}"
        )
        if self._link.knows_server_port:
            self._session.send(wire.error(reason))
        self._use_link(link)
        if restart is Restart.AFTER_REOPENING:
            self._session.restart_opening(self._job.open_file)
        else:
            self._session.restart_negotiation()
            self.on_open()
