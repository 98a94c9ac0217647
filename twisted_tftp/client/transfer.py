"""Run one transfer of a client: open the file, ask the server, check its answer, go on from it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.failure_reasons import error_of_server, network_reason
from twisted_tftp.client.job import Job, Rewind
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
    """The owner of a client's session: until the answer it asks, after it the session transfers.

    It implements L{SessionOwner} and L{DoubtOwner}.

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
        on_ended: Callable[[ClientTransfer], None],
    ) -> None:
        """Set up a transfer; `start` begins it.

        @param on_finished: called when the outcome is known.
        @param on_ended: called when everything of the transfer is released.
        """
        self.context = context
        self._job = job
        self._link = link
        self._services = services
        self._on_finished = on_finished
        self._on_ended = on_ended
        self._session = job.make_session(context, link, services.sessions, self)
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
    def can_tell_peer(self) -> bool:
        """Whether the server has a port for this transfer.

        Before its answer it has none, and it ignores an ERROR to its request port.
        """
        return self._link.locked

    @property
    def dallies(self) -> bool:
        """Whether the file is complete, and only a repeated last block is waited for."""
        machine = self._session.machine
        return isinstance(machine, Receiver) and machine.state is ReceiverState.DALLYING

    @property
    def wait(self) -> float:
        """The present retransmission timeout in seconds."""
        return self._timing.wait

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed, as precisely as known."""
        failure = self._session.failure
        precise = network_reason(failure, self._link.elsewhere, self._unreachable_error)
        return precise or self._job.explain(failure or TFTPError())

    def update_statistics(self) -> None:
        """Bring `statistics` up to date."""
        self._session.update_statistics()

    # -- beginning and end -----------------------------------------------------------------

    def start(self) -> None:
        """Open the local file, and then ask the server."""
        self._session.start(self._job.open_file)

    def cancel(self, message: str = "") -> None:
        """End the transfer; with a `message` the server is told."""
        self._job.cancel(message)

    def on_open(self) -> None:
        """Send the request."""
        options = self._services.choose(self.context, self._job.announced_size(), self._link)
        opcode = wire.Opcode.RRQ if self._job.is_read else wire.Opcode.WRQ
        request = wire.encode_request(
            wire.Request(opcode, self.context.filename, self.context.mode, options)
        )
        asked = {name: value for name, value in options.items() if name != XID}
        self.context = self.context._replace(options=asked)
        self._doubt = Doubt(
            FirstAnswer(
                reading=self._job.is_read, has_options=bool(options), xid=options.get(XID)
            ),
            request,
            self._services.known,
            self._services.sessions,
            self,
            open_link=self._services.open_link if self._job.is_read else None,
            make_timing=lambda: Timing.of(self._services.policy, None),
        )
        self._link.discard()
        self._link.attach(self._receive)
        self._link.on_unreachable = self._unreachable
        self._asker = Asker(request, self._job.is_read, Timing.of(self._services.policy, None))
        self._requester = Requester(
            self._asker,
            self._link,
            self._services.sessions,
            on_end=self._asked,
            on_broken=self.on_broken,
            before_resend=self._bind_to_route,
        )
        self._requester.start()

    def on_finished(self) -> None:
        """Tell the client."""
        if self._session.failure is not None:
            self._stop_asking()
        self._on_finished(self)

    def on_ended(self) -> None:
        """Tell the client."""
        self._stop_asking()
        self._on_ended(self)

    def on_broken(self, failure: Failure) -> None:
        """End the transfer because of an exception of our own code."""
        self._session.fail(failure)

    def _stop_asking(self) -> None:
        if self._requester is not None:
            self._requester.stop()
            self._doubt.stop()

    # -- the request -----------------------------------------------------------------------

    def _unreachable(self, error: OSError) -> None:
        """Note the error of the system. The request is sent on, as the server may be starting."""
        self._unreachable_error = error

    def _bind_to_route(self) -> None:
        """Continue with another socket, if there was no route to the server and is one now."""
        if not self._link.is_unbound or self._services.open_link is None:
            return
        link = self._services.open_link()
        if link.is_unbound:
            link.close()
        else:
            self._change_link(link)
            link.attach(self._receive)

    def _change_link(self, link: ClientLink) -> None:
        link.on_unreachable = self._unreachable
        link.elsewhere = self._link.elsewhere
        self._session.replace_link(link)
        if self._requester is not None:
            self._requester.replace_link(link)
        self._link = link

    def _asked(self) -> None:
        """Handle the end of the request: an answer, an ERROR, or no answer."""
        asker = self._asker
        if asker.answer is not None:
            self._accept_answer(asker.answer)
        elif asker.peer_error is not None:
            error = error_of_server(*asker.peer_error)
            if self._ports.is_unlikely(asker.peer_error[0]):
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
        now = self._services.sessions.clock()
        self._link.lock()
        self._unreachable_error = None
        doubt.accept(answer, now, asker, self._ports.has_seen(answer))
        if doubt.first_answer.standing is Standing.PROVEN:
            self._link.attach(self._session.receive, self._session.receive_train)
        else:
            self._link.attach(self._receive, self._train_of_transfer(answer))
            self._link.on_rival = self._receive_from_other_port
        try:
            grant = self._check_oack(answer)
            self._timing = Timing.of(self._services.policy, grant.timeout)
            if asker.round_trip is not None:
                self._timing.measured(asker.round_trip)
            self._job.prepare(answer, grant, self._timing, doubt)
        except TFTPError as error:
            is_unproven = doubt.first_answer.standing is Standing.UNPROVEN
            if is_unproven and not self._ports.has_seen(answer):
                self._change_port(error)  # it may belong to a request of the port's last user
            else:
                self._session.fail(Failure())
            return
        except Exception:
            self._session.fail(Failure())
            return
        self._job.proceed()
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self._receive(answer, now)

    def _check_oack(self, answer: bytes) -> Grant:
        """Return the parameters of the transfer after `answer`."""
        oack = wire.parse_oack(answer) if wire.opcode_of(answer) == wire.Opcode.OACK else {}
        granted = {name: value for name, value in oack.items() if name != XID}
        grant = accept(self.context.options, granted)
        self._session.note_options(grant.accepted)
        return grant

    def _train_of_transfer(self, answer: bytes) -> ReceiveTrain | None:
        """Return what receives several datagrams at once; None if one may be another answer."""
        is_oack = wire.opcode_of(answer) == wire.Opcode.OACK
        return self._session.receive_train if is_oack else None

    # -- datagrams while there is no proof that the server answers this request ---------------

    def _receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram from the server's port for this transfer."""
        doubt = self._doubt
        if doubt.first_answer.standing is Standing.NONE:
            if doubt.is_foreign(datagram, self._asker.retransmissions):
                self._link.refuse(datagram, now)
            elif self._requester is not None:
                self._requester.receive(datagram, now)
        elif self._may_contradict(datagram) and doubt.is_contradicted(
            datagram, now, same_port=True
        ):
            self._contradicted(datagram)
        elif doubt.is_open and wire.opcode_of(datagram) == wire.Opcode.ERROR:
            # From a server with a single port it may be the real answer, even if all octets of the
            # doubtful answer have arrived. A complete machine would ignore it.
            self._refused_in_doubt(datagram)
        else:
            self._job.receive(datagram, now)

    def _may_contradict(self, datagram: Buffer) -> bool:
        """Return whether a datagram from the server's port may be another answer.

        A block after the first one is not.
        """
        machine = self._session.machine
        is_later = machine is not None and machine.octets > DEFAULT_BLKSIZE
        return not is_later or wire.opcode_of(datagram) != wire.Opcode.DATA

    def _refused_in_doubt(self, datagram: Buffer) -> None:
        if self._job.believes_errors and not self._job.is_committing:
            error = error_of_server(*wire.parse_error(datagram))
            self._session.end(Outcome.ABORTED, error, tell=False)

    def _receive_from_other_port(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that the server's host has sent from another port."""
        if self._doubt.is_contradicted(datagram, now, same_port=False):
            self._contradicted(datagram)

    # -- the doubt about the answer: DoubtOwner ----------------------------------------------

    def drain(self) -> None:
        """Process the datagrams that wait in the socket; one may contradict the answer."""
        self._link.drain()

    def relies_on(self, doubt: Doubt) -> bool:
        """Return whether the transfer has not ended, and still uses the answer of `doubt`."""
        return not self._session.is_ended and self._doubt is doubt

    def on_settled(self) -> None:
        """Continue with what had to wait."""
        self._job.settled()

    def on_not_confirmed(self) -> None:
        """Fail: the server has not answered the second request."""
        self._session.end(Outcome.TIMED_OUT, AnswerNotConfirmed())

    def on_contradicted(self, answer: bytes | None) -> None:
        """Give the answer up: a second request got another one, or an ERROR (None)."""
        if answer is not None:
            self._ports.note_answer(answer)
        self._contradicted(answer)

    def _contradicted(self, answer: Buffer | None) -> None:
        """Give up the accepted answer, and send the request from another port if possible.

        @param answer: the answer that contradicts it, if it is known.
        """
        if answer is not None:
            self._doubt.note_contradiction(answer)
        if not self._session.is_finished and not self._job.is_committing:
            self._change_port(AnswersContradict())

    def _change_port(self, reason: TFTPError) -> None:
        """Send the request from another port because of `reason`, or fail with `reason`."""
        self._stop_asking()
        rewind = self._job.rewind()
        if not self._ports.can_change or rewind is Rewind.IMPOSSIBLE:
            self._session.end(Outcome.FAILED, reason)
            return
        try:
            link = self._ports.open_next(self._doubt.first_answer.taken)
        except OSError:
            self._session.fail(Failure())
            return
        self._services.tell(
            f"{self.context.path}: {reason.message}; sending the request again from port "
            f"{link.local[1]} instead of {self._link.local[1]}"
        )
        if self._link.locked:
            self._session.send(wire.error(reason))
        self._change_link(link)
        if rewind is Rewind.REOPEN:
            self._session.reopen(self._job.open_file)
        else:
            self._session.rewind()
            self.on_open()
