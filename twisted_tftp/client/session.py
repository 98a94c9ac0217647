"""The transfers of a client: each sends a request, then receives or sends the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from twisted_tftp.client.held_writer import HeldWriter, Hold
from twisted_tftp.client.second_opinion import Opinion, SecondOpinion
from twisted_tftp.context import Outcome, TransferContext
from twisted_tftp.errors import (
    AnswerNotConfirmed,
    AnswersContradict,
    AnswersFromElsewhere,
    NoAnswer,
    OptionRefused,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
    from_wire,
)
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer, ReceiveTrain
from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID, Grant, accept
from twisted_tftp.session.base import ReadSession, Session, WriteSession
from twisted_tftp.session.deadlines import Alarm
from twisted_tftp.transfer.asker import UNLIKELY_ERRORS, Asker
from twisted_tftp.transfer.first_answer import (
    IN_DOUBT,
    FirstAnswer,
    KnownServer,
    Standing,
    XidSupport,
)
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import Timing

#: How long the last block is acknowledged again if its ACK was lost, in seconds.
DALLY = 2.0

#: How many times a request is sent from another port, after contradicting answers.
MAX_PORT_CHANGES = 3

#: Requests without an answer after which a server that granted an xid need not grant one again:
#: another program may use its port now.
XID_RETRIES = 2

#: A function that returns the options of a request, in the order to send them. Its arguments are
#: the context of the request, the octets of the file (0 for a fetch, None if unknown) and the
#: link.
ChooseOptions = Callable[[TransferContext, int | None, ClientLink], Mapping[str, str]]


class Rewind(Enum):
    """The result of going back to the start of a file, to send the request again."""

    #: The file is in the same state as before the request.
    DONE = "done"
    #: The file is a path, which must be opened again.
    REOPEN = "reopen"
    #: Octets of another file were written, or octets were read that can't be read again.
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class ClientServices:
    """What a transfer uses of its client.

    @ivar choose: returns the options of a request.
    @ivar known: what is known about the server.
    @ivar open_link: returns a link with another port; None if the user has chosen the port, so
        that no other port may be used.
    @ivar tell: called with a line of text for the user.
    """

    choose: ChooseOptions
    known: KnownServer
    open_link: Callable[[], ClientLink] | None
    tell: Callable[[str], None]


class Exchange(Session):
    """The base class of the client's transfers: the request, and the check of its answer."""

    _link: ClientLink
    _machine: Any
    #: Whether the transfer receives a file.
    fetching: bool
    #: The assessment of the answers to the request.
    _first: FirstAnswer

    def __init__(self, services: ClientServices, *args: Any, **kwargs: Any) -> None:
        """Set up a transfer; all arguments except the first are those of L{Session}."""
        super().__init__(*args, **kwargs)
        self._services = services
        self._known_server = services.known
        self._doubt_alarm: Alarm | None = None  # the next step to end the doubt about the answer
        self._opinion: SecondOpinion | None = None
        self._request = b""
        self._other_answers: set[bytes] = set()  # the answers to other ports of this transfer
        self._asked_twice = False
        self._round_trip: float | None = None  # from the request to its answer, in seconds
        self._ports_used = 1
        self._cause: BaseException | None = None
        self._unreachable_error: OSError | None = None

    @property
    def dallies(self) -> bool:
        """Whether the file is complete, and only a repeated last block is waited for."""
        machine = self._machine
        return isinstance(machine, Receiver) and machine.state is ReceiverState.DALLYING

    @property
    def wait(self) -> float:
        """The present retransmission timeout in seconds."""
        return float(self._machine.wait)

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed, as precisely as known."""
        failure = self.failure
        elsewhere, error = self._link.elsewhere, self._unreachable_error
        if isinstance(failure, NoAnswer) and elsewhere is not None:
            return AnswersFromElsewhere(f"the answers come from {elsewhere}, which was not asked")
        if isinstance(failure, TransferTimedOut) and error is not None:
            refused = isinstance(error, ConnectionRefusedError)
            kind = PortUnreachable if refused else ServerUnreachable
            return kind(error.strerror or "")
        failure = failure or TFTPError()
        if self._cause is not failure:
            failure.__cause__ = self._cause
        return failure

    def _fail(self, failure: Failure) -> None:
        if not self.ended:
            self._cause = failure.value
        super()._fail(failure)

    def _explain_timeout(self, reason: TFTPError, words: str) -> TFTPError:
        """Return `reason` with `words` added if the transfer timed out or the server ended it."""
        if self.statistics.outcome not in (Outcome.TIMED_OUT, Outcome.ABORTED):
            return reason
        given_up = type(reason)(f"{reason.message}, {words}")
        given_up.from_peer = reason.from_peer
        return given_up

    def _send_request(self, size: int | None) -> Step:
        """Make the request and its `Asker`, and return the first step of the asker."""
        options = self._services.choose(self.context, size, self._link)
        opcode = wire.Opcode.RRQ if self.fetching else wire.Opcode.WRQ
        request = wire.Request(opcode, self.context.filename, self.context.mode, options)
        asked = {name: value for name, value in options.items() if name != XID}
        self.context = self.context._replace(options=asked)
        self._first = FirstAnswer(
            reading=self.fetching, has_options=bool(options), xid=options.get(XID)
        )
        self._link.discard()
        self._request = wire.encode_request(request)
        self._machine = Asker(self._request, self.fetching, self._timing(None))
        self._link.on_unreachable = self._unreachable
        return Step.WAIT if self.ended else self._machine.start(self._clock())

    def _unreachable(self, error: OSError) -> None:
        """Note the error of the system. The request is sent on, as the server may be starting."""
        self._unreachable_error = error

    def _continue_from(self, answer: bytes, now: float) -> Step:
        """Make the machine that continues from the server's answer; return its first step."""
        raise NotImplementedError

    def _check_oack(self, answer: bytes) -> Grant:
        """Return the parameters of the transfer after `answer`."""
        oack = wire.parse_oack(answer) if wire.opcode_of(answer) == wire.Opcode.OACK else {}
        granted = {name: value for name, value in oack.items() if name != XID}
        grant = accept(self.context.options, granted)
        self.statistics.granted = grant.accepted
        return grant

    def _timing_after(self, asker: Asker, grant: Grant) -> Timing:
        """Return the timeouts after the request; its round-trip time is the first measurement."""
        timing = self._timing(grant.timeout)
        if asker.round_trip is not None:
            timing.measured(asker.round_trip)
        return timing

    def _perform(self, step: Step, now: float) -> None:
        machine = self._machine
        if isinstance(machine, Asker):
            if step is Step.END and machine.answer is not None:
                self._accept_answer(machine, machine.answer, now)
                return
            if machine.peer_error is not None and self._may_be_stale(machine.peer_error[0]):
                self._change_port(from_wire(*machine.peer_error))
                return
            if step is Step.SEND and machine.retransmissions and self._link.is_unbound:
                self._bind_to_route()
            if isinstance(machine.failure, NoAnswer):
                self._known_server.xid = XidSupport.UNKNOWN
        super()._perform(step, now)

    def _may_be_stale(self, code: int) -> bool:
        """Return whether an ERROR is unlikely for this request, and another port can be used.

        If the port's last user has sent malformed packets, several such ERRORs may come.
        """
        is_first = self._ports_used == 1 and self._services.open_link is not None
        return is_first and code in UNLIKELY_ERRORS

    def _bind_to_route(self) -> None:
        """Continue with another socket, if there is a route to the server now."""
        if self._services.open_link is None:
            return
        link = self._services.open_link()
        if link.is_unbound:
            link.close()
        else:
            self._change_link(link)
            self._attach()

    def _change_link(self, link: ClientLink) -> None:
        link.on_unreachable = self._unreachable
        link.elsewhere = self._link.elsewhere
        self._link.close()
        self._link = link

    def _accept_answer(self, asker: Asker, answer: bytes, now: float) -> None:
        """Accept the server's answer, and continue from it."""
        first, known = self._first, self._known_server
        self._link.lock()
        self._unreachable_error = None
        self._asked_twice = asker.retransmissions > 0
        self._round_trip = asker.round_trip
        first.take(answer, now, known)
        if first.standing in IN_DOUBT and self.fetching and answer in self._other_answers:
            self._confirm()  # another port has got the same answer
        if first.standing is Standing.PROVEN:
            known.xid = XidSupport.GRANTED
            known.round_trip = asker.round_trip or known.round_trip
            self._link.attach(self.receive, self.receive_train)
        else:
            self._link.attach(self._receive_guarded, self._train_of_transfer(answer))
            self._link.on_rival = self._receive_from_other_port
            if first.standing is not Standing.SETTLED and not self._will_compare:
                self._set_doubt_alarm(first.settled_at, self._settled)
        try:
            step = self._continue_from(answer, now)
        except TFTPError as error:
            if first.standing is Standing.UNPROVEN and answer not in self._other_answers:
                self._change_port(error)  # it may belong to a request of the port's last user
            else:
                self._fail(Failure())
            return
        except Exception:
            self._fail(Failure())
            return
        super()._perform(step, now)
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self.receive(answer, now)

    # -- answers to other requests ---------------------------------------------------------

    def _attach(self) -> None:
        self._link.attach(self._receive_guarded)

    def _train_of_transfer(self, answer: bytes) -> ReceiveTrain | None:
        """Return what receives several datagrams at once; None if one may be another answer."""
        return self.receive_train if wire.opcode_of(answer) == wire.Opcode.OACK else None

    def _receive_guarded(self, datagram: Buffer, now: float) -> None:
        """Process a datagram while there is no proof that the server answers this request."""
        first, machine = self._first, self._machine
        if first.standing is Standing.NONE:
            grants_xid = self._known_server.xid is XidSupport.GRANTED
            requires_xid = grants_xid and machine.retransmissions < XID_RETRIES
            if first.is_foreign(datagram, requires_xid):
                self._link.refuse(datagram, now)
                return
        elif self._may_contradict(datagram) and self._is_contradicted(
            datagram, now, same_port=True
        ):
            self._contradicted(datagram)
            return
        elif first.standing in IN_DOUBT and wire.opcode_of(datagram) == wire.Opcode.ERROR:
            # From a server with a single port it may be the real answer, even if all octets of the
            # doubtful answer have arrived. A complete machine would ignore it.
            self._refused_in_doubt(datagram)
            return
        self.receive(datagram, now)

    def _may_contradict(self, datagram: Buffer) -> bool:
        """Return whether a datagram from the server's port may be another answer.

        A block after the first one is not.
        """
        is_data = wire.opcode_of(datagram) == wire.Opcode.DATA
        return not is_data or self._machine.octets <= DEFAULT_BLKSIZE

    def _refused_in_doubt(self, datagram: Buffer) -> None:
        code, message = wire.parse_error(datagram)
        if not self._is_committing():
            error = from_wire(code, message or f"error {code}")
            self._end(Outcome.ABORTED, error, tell=False)

    def _receive_from_other_port(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that the server's host has sent from another port."""
        if self._is_contradicted(datagram, now, same_port=False):
            self._contradicted(datagram)

    def _is_contradicted(self, datagram: Buffer, now: float, *, same_port: bool) -> bool:
        return self._first.is_contradicted(
            datagram, now, same_port=same_port, asked_twice=self._asked_twice
        )

    # -- how a doubt ends ------------------------------------------------------------------

    @property
    def _can_compare(self) -> bool:
        """Whether the request can be sent from a second port, to compare the answers.

        A second write request could create a second file, or damage the first one.
        """
        return self.fetching and self._services.open_link is not None

    @property
    def _will_compare(self) -> bool:
        """Whether a second request ends the doubt, and not a timeout."""
        return self._can_compare and self._first.standing in IN_DOUBT

    def _compare(self) -> None:
        """Send the request from a second port, once: the file must wait until the doubt ends."""
        if self._can_compare and self._doubt_alarm is None and self._opinion is None:
            # Not at once, because the caller may be in the middle of a change.
            self._set_doubt_alarm(self._clock(), self._ask_for_opinion)

    def _ask_for_opinion(self) -> None:
        if self._opinion is not None:
            return
        assert self._services.open_link is not None
        self._opinion = SecondOpinion(
            self._services.open_link(),
            self._request,
            self._first,
            self._timing(None),
            alarms=self._wiring.alarms,
            clock=self._clock,
            on_opinion=self._on_opinion,
        )
        self._opinion.start()

    def _on_opinion(self, opinion: Opinion) -> None:
        try:
            self._handle_opinion(opinion)
        except Exception:
            self._fail(Failure())  # otherwise the held octets would wait for ever

    def _handle_opinion(self, opinion: Opinion) -> None:
        answer = self._opinion.answer if self._opinion is not None else None
        if opinion is Opinion.SAME:
            if self._drain():
                self._confirm()
                self._settled()
        elif opinion is Opinion.NONE:
            self._end(Outcome.TIMED_OUT, AnswerNotConfirmed())
        else:
            if answer is not None:
                self._other_answers.add(answer)
            self._contradicted(answer)

    def _drain(self) -> bool:
        """Read what waits in the socket; return whether the answer is still accepted then."""
        ports_used = self._ports_used
        self._link.drain()
        return not self.ended and self._ports_used == ports_used

    def _confirm(self) -> None:
        """Accept an answer that two ports have got, and note that the server grants no xid."""
        if self._first.asks_for_xid:
            self._known_server.xid = XidSupport.LACKING
        self._first.settle()

    def _set_doubt_alarm(self, at: float, act: Callable[[], None]) -> None:
        def acted() -> None:
            self._doubt_alarm = None
            try:
                # If the reactor was late, another answer may have arrived in time.
                if self._drain():
                    act()
            except Exception:
                self._fail(Failure())  # otherwise the held octets would wait for ever

        self._doubt_alarm = self._wiring.alarms.set(at, acted)

    def _settled(self) -> None:
        """Stop doubting the answer: it was confirmed, or not contradicted in time."""
        known = self._known_server
        known.round_trip = self._round_trip or known.round_trip
        if self._first.standing is Standing.UNPROVEN:
            known.xid = XidSupport.LACKING
        self._first.settle()

    def _contradicted(self, answer: Buffer | None) -> None:
        """Give up the accepted answer, and send the request from another port if possible.

        @param answer: the answer that contradicts it, if it is known.
        """
        if answer is not None and self._first.is_proof(answer):
            self._known_server.xid = XidSupport.GRANTED
        if not self.finished and not self._is_committing():
            self._change_port(AnswersContradict())

    def _change_port(self, reason: TFTPError) -> None:
        """Send the request from another port because of `reason`, or fail with `reason`."""
        self._stop_doubting()
        open_link = self._services.open_link
        rewind = self._rewind()
        if open_link is None or self._ports_used > MAX_PORT_CHANGES or rewind is Rewind.IMPOSSIBLE:
            self._end(Outcome.FAILED, reason)
            return
        try:
            link = open_link()
        except OSError:
            self._fail(Failure())
            return
        self._other_answers.add(self._first.taken)
        self._services.tell(
            f"{self.context.path}: {reason.message}; sending the request again from port "
            f"{link.local[1]} instead of {self._link.local[1]}"
        )
        if self._link.locked:
            self._link.send((wire.error(reason),))
        self._change_link(link)
        self._ports_used += 1
        self.statistics.granted = ()
        if rewind is Rewind.DONE:
            step = self._opened()
            self._attach()
            self._perform(step, self._clock())
            return
        self._machine = None
        self._asked_at = self._clock()
        self._arm(self._asked_at + self._patience())
        released = maybeDeferred(self._release)
        released.addCallback(lambda _: self._open_again())
        released.addErrback(self._fail)

    def _open_again(self) -> None:
        """Open the path again: the octets transferred so far belong to another file."""
        if not self.ended:
            opening = self._opening = maybeDeferred(self._open)
            opening.addCallbacks(self._on_open, self._on_open_failed)
            opening.addErrback(self._fail)

    def _is_committing(self) -> bool:
        """Return whether the file is being committed, so that the transfer can't go back."""
        return False

    def _rewind(self) -> Rewind:
        """Go back to the start of the file, if possible."""
        raise NotImplementedError

    def _stop_doubting(self) -> None:
        alarm, self._doubt_alarm = self._doubt_alarm, None
        if alarm is not None:
            self._wiring.alarms.cancel(alarm)
        opinion, self._opinion = self._opinion, None
        if opinion is not None:
            opinion.cancel()

    def _close(self) -> None:
        self._stop_doubting()
        super()._close()

    def _end(self, outcome: Outcome, error: TFTPError, tell: bool = True) -> None:
        # Before its answer the server has no port for this transfer, and it ignores an ERROR to
        # its request port.
        super()._end(outcome, error, tell and self._link.locked)


class Fetch(Exchange, WriteSession):
    """A download: an RRQ, and then the same session as for a WRQ on the server."""

    fetching = True

    #: The write that is under way, or None.
    _storing: Deferred[Any] | None = None
    #: Whether there is more to write after that.
    _has_more: bool

    #: The octets of the file that the server has announced with tsize; 0 if unknown.
    _announced_size: int

    def _opened(self) -> Step:
        self._has_more = False
        return self._send_request(0)

    def _continue_from(self, answer: bytes, now: float) -> Step:
        asker: Asker = self._machine
        grant = self._check_oack(answer)
        # Some servers answer 0 if they do not know the size; netascii has another length.
        octet = self.context.mode == wire.OCTET
        self._announced_size = int(dict(grant.accepted).get("tsize", "0")) if octet else 0
        data = wire.opcode_of(answer) == wire.Opcode.DATA
        if self._first.standing in IN_DOUBT:
            # A file with a path can be dropped if the answer was wrong; a stream can't.
            hold = Hold.END if self._wiring.backend.has_path else Hold.FILE
            self._file = HeldWriter(self._file, hold, self._compare)
        machine = self._machine = Receiver(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            first_reply=None if data else wire.ack(0),
            timing=self._timing_after(asker, grant),
            rollover=grant.rollover,
            dally=DALLY,
        )
        machine.answered = True
        return machine.start(now)

    def _settled(self) -> None:
        super()._settled()
        if isinstance(self._file, HeldWriter):
            self._file.let_through()

    def _compare(self) -> None:
        self._release_server()
        super()._compare()

    def _release_server(self) -> None:
        """Send the last ACK, if all blocks have arrived, although the file is not committed yet.

        Many servers serve one client at a time: they read the second request after this ACK.
        """
        machine = self._machine
        if machine is not None and machine.complete and self._will_compare:
            self._link.send((machine.ack,))

    def _receive_guarded(self, datagram: Buffer, now: float) -> None:
        was_complete = isinstance(self._machine, Receiver) and self._machine.complete
        super()._receive_guarded(datagram, now)
        if was_complete and not self.ended and wire.opcode_of(datagram) == wire.Opcode.DATA:
            self._release_server()  # the last ACK was lost

    def cancel(self, message: str = "") -> None:
        """End the transfer, even if it only waits for the end of the doubt about its answer."""
        if not self._is_committing():
            self._waiting = None
        super().cancel(message)

    def _is_committing(self) -> bool:
        if isinstance(self._file, HeldWriter):
            return self._file.committing
        return self._waiting is not None

    def _rewind(self) -> Rewind:
        if self._cancelled:
            return Rewind.IMPOSSIBLE
        if isinstance(self._file, HeldWriter) and self._file.untouched:
            self._file = self._file.writer
            self._storing = self._waiting = None
            return Rewind.DONE
        if not self._machine.octets:
            return Rewind.DONE  # nothing was written
        if self._wiring.backend.has_path and self._storing is None:
            self._waiting = None
            return Rewind.REOPEN
        return Rewind.IMPOSSIBLE

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed; the server may have waited too long for our output."""
        reason = super().reason
        if self._storing is None or self._first.standing in IN_DOUBT:
            return reason
        return self._explain_timeout(reason, "while the local output accepted no data")

    def _store(self) -> None:
        """Acknowledge the blocks that the machine has received, and then write them.

        Except at the end of the file (see `_release_server`), the ACK is sent first: the server
        sends the next window while we write (1.2 to 1.4 times as fast). A slow output is never
        more than one window behind. The server learns of a failed write one window later.
        """
        if self._storing is not None:
            self._has_more = True
            return
        machine = self._machine
        complete = machine.complete
        announced = self._announced_size
        if announced and (machine.octets > announced or (complete and machine.octets < announced)):
            text = f"the server announced {announced} octets and sent {machine.octets}"
            self._fail(Failure(TFTPError(text)))
            return
        if not complete:
            self._acknowledge()
        data = machine.take()
        try:
            written = self._file.write(data) if data else None
        except Exception:
            self._fail(Failure())
            return
        if isinstance(written, Deferred):
            self._storing = written
            written.addCallbacks(self._stored, self._fail, (complete,))
            written.addErrback(self._fail)
        else:
            self._stored(None, complete)

    def _stored(self, _: object, complete: bool) -> None:
        self._storing = None
        if complete:
            self._written()
        elif self._has_more and not self.ended:
            self._has_more = False
            self._store()


class Probe(Fetch):
    """A request for the size of a file: the OACK is its result, and no file is transferred."""

    def _refused_in_doubt(self, datagram: Buffer) -> None:
        # It may answer our ERROR, which some small servers do not understand. The answer to the
        # second request decides.
        if not self._can_compare:
            super()._refused_in_doubt(datagram)

    def _continue_from(self, answer: bytes, now: float) -> Step:
        self._check_oack(answer)
        in_doubt = self._first.standing in IN_DOUBT
        if in_doubt and not self._can_compare:
            return Step.WAIT  # `_settled` continues
        # Before the second request, because a server may serve only one client at a time.
        self._end_server_transfer()
        if in_doubt:
            self._set_doubt_alarm(now, self._ask_for_opinion)
        else:
            self._conclude()
        return Step.WAIT

    def _settled(self) -> None:
        super()._settled()
        if not self._can_compare:
            self._end_server_transfer()
        self._conclude()

    def _rewind(self) -> Rewind:
        return Rewind.DONE

    def _end_server_transfer(self) -> None:
        self._link.send((wire.error(OptionRefused("only the size was wanted")),))

    def _conclude(self) -> None:
        self._finish(Outcome.COMPLETED)
        self._close()


class Store(Exchange, ReadSession):
    """An upload: a WRQ, and then the same session as for an RRQ on the server."""

    fetching = False

    #: Continues a step that waits while the answer is in doubt.
    _go_on: Callable[[], None] | None = None
    #: The offset of the last window that was sent.
    _offset = 0
    #: Whether the end of the file was sent: the server may have stored the file then.
    _has_sent_end = False

    def _read(self, now: float) -> None:
        """Read a window. While the answer is in doubt, a source that can't go back must wait."""
        is_lost = bool(self._machine.offset) and not self._wiring.backend.has_path
        if is_lost and self._first.standing in IN_DOUBT and self._waiting is None:
            self._wait_until_settled(self._read_after_wait)
        else:
            super()._read(now)

    def _read_after_wait(self) -> None:
        self._waiting = None
        self._read(self._clock())
        self._arm(self._machine.deadline)

    def _wait_until_settled(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        self._waiting = Deferred()

    def _send(self, data: Buffer, length: int, now: float) -> None:
        """Send a window. While the answer is in doubt, the end of the file must wait."""
        offset = self._offset = self._machine.offset
        size = self._file.size
        ends = len(data) < length or (size is not None and offset + length >= size)
        if ends and self._first.standing in IN_DOUBT:
            self._wait_until_settled(partial(self._on_read, data, offset, length))
        else:
            self._has_sent_end = self._has_sent_end or ends
            super()._send(data, length, now)

    def _settled(self) -> None:
        super()._settled()
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on()

    def _rewind(self) -> Rewind:
        is_reading = self._go_on is None and self._waiting is not None
        if is_reading or self._has_sent_end:
            return Rewind.IMPOSSIBLE
        self._go_on = self._waiting = None
        offset, self._offset = self._offset, 0
        if not offset:
            return Rewind.DONE  # octets from the last offset on can be read again
        return Rewind.REOPEN if self._wiring.backend.has_path else Rewind.IMPOSSIBLE

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed; the server may have waited too long for our input."""
        reason = super().reason
        if self._waiting is None:
            return reason
        return self._explain_timeout(reason, "while the local input supplied too little data")

    def _opened(self) -> Step:
        return self._send_request(self._file.size)

    def _continue_from(self, answer: bytes, now: float) -> Step:
        asker: Asker = self._machine
        grant = self._check_oack(answer)
        doubtful = self._first.standing is Standing.DOUBTFUL
        machine = self._machine = Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=self._file.size,
            oack=None,
            timing=self._timing_after(asker, grant),
            rollover=grant.rollover,
            # Octets from a pipe are sent as soon as they fill a window. In doubt, the end of the
            # file must wait; without read-ahead that is the last window only.
            read_ahead=0 if self._file.size is None or doubtful else self._read_ahead,
        )
        machine.answered = True
        return machine.start(now)
