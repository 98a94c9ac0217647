"""Run one transfer of a client: ask the server, and then be the other side of its session."""

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

#: Seconds for which the last block is acknowledged again, should the ACK have been lost.
DALLY = 2.0

#: How often a request is sent from another port, after answers that contradict each other.
MOST_PORTS = 3

#: Requests without an answer after which a server that granted an xid need not do so any more:
#: another program may serve there now.
INSISTING = 2

#: Returns the options of a request, in the order to ask for them, from its context, the octets of
#: the file (0 for a fetch, None where they are not known) and the link.
ChooseOptions = Callable[[TransferContext, int | None, ClientLink], Mapping[str, str]]


class Rewind(Enum):
    """What became of going back to the beginning of a file."""

    #: The file is as it was before the request.
    DONE = "done"
    #: The path can be opened again.
    REOPEN = "reopen"
    #: Octets of another file were written, or ours were read and are gone.
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class Surroundings:
    """What a transfer needs of its client.

    @ivar choose: returns the options to ask for.
    @ivar known: what is known of the server.
    @ivar open_link: returns a link from another port; None where the user has chosen the port, so
        that there is no other one.
    @ivar tell: called with a line for people.
    """

    choose: ChooseOptions
    known: KnownServer
    open_link: Callable[[], ClientLink] | None
    tell: Callable[[str], None]


class Exchange(Session):
    """What fetching and storing share: the request and its answer, before the file goes."""

    _link: ClientLink
    _machine: Any
    #: Whether the file comes to us.
    fetching: bool
    #: What is known of the answers to the request.
    _first: FirstAnswer

    def __init__(self, surroundings: Surroundings, *args: Any, **kwargs: Any) -> None:
        """Prepare a transfer, as every session."""
        super().__init__(*args, **kwargs)
        self._surroundings = surroundings
        self._known = surroundings.known
        self._settling: Alarm | None = None  # of what is to be done next about a doubt
        self._opinion: SecondOpinion | None = None
        self._request = b""
        self._answers: set[bytes] = set()  # those that other ports of this transfer have had
        self._asked_twice = False
        self._round_trip: float | None = None  # of the request and its answer
        self._ports_used = 1
        self._cause: BaseException | None = None
        self._error_of_path: OSError | None = None

    @property
    def dallies(self) -> bool:
        """Whether it is over but for a server that may miss the last ACK."""
        machine = self._machine
        return isinstance(machine, Receiver) and machine.state is ReceiverState.DALLYING

    @property
    def wait(self) -> float:
        """Seconds to wait for an answer, by the measured round trips."""
        return float(self._machine.wait)

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed, as exactly as is known."""
        failure = self.failure
        elsewhere, error = self._link.elsewhere, self._error_of_path
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

    def _given_up(self, reason: TFTPError, words: str) -> TFTPError:
        """Return `reason` with `words` if it is that somebody has waited for too long."""
        if self.statistics.outcome not in (Outcome.TIMED_OUT, Outcome.ABORTED):
            return reason
        given_up = type(reason)(f"{reason.message}, {words}")
        given_up.from_peer = reason.from_peer
        return given_up

    def _ask(self, size: int | None) -> Step:
        """Build the request and the machine that sends it, and return its first step."""
        options = self._surroundings.choose(self.context, size, self._link)
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
        """Note what the system says; the server may be starting, so asking goes on."""
        self._error_of_path = error

    def _answered(self, answer: bytes, now: float) -> Step:
        """Build the machine that goes on from the server's answer, and return its first step."""
        raise NotImplementedError

    def _granted(self, answer: bytes) -> Grant:
        """Return what holds after `answer`."""
        oack = wire.parse_oack(answer) if wire.opcode_of(answer) == wire.Opcode.OACK else {}
        granted = {name: value for name, value in oack.items() if name != XID}
        grant = accept(self.context.options, granted)
        self.statistics.granted = grant.accepted
        return grant

    def _timing_after(self, asker: Asker, grant: Grant) -> Timing:
        """Return the waits after the request, whose round trip counts where it was measured."""
        timing = self._timing(grant.timeout)
        if asker.round_trip is not None:
            timing.measured(asker.round_trip)
        return timing

    def _perform(self, step: Step, now: float) -> None:
        machine = self._machine
        if isinstance(machine, Asker):
            if step is Step.END and machine.answer is not None:
                self._take(machine, machine.answer, now)
                return
            if machine.peer_error is not None and self._may_be_stale(machine.peer_error[0]):
                self._ask_elsewhere(from_wire(*machine.peer_error))
                return
            if step is Step.SEND and machine.retransmissions and self._link.is_unbound:
                self._bind_to_route()
            if isinstance(machine.failure, NoAnswer):
                self._known.xid = XidSupport.UNKNOWN
        super()._perform(step, now)

    def _may_be_stale(self, code: int) -> bool:
        """Whether an ERROR is hardly the answer to this request, and another port can be asked.

        A port whose last owner has sent nonsense may be sent several.
        """
        is_first = self._ports_used == 1 and self._surroundings.open_link is not None
        return is_first and code in UNLIKELY_ERRORS

    def _bind_to_route(self) -> None:
        """Go on with another socket, if there is a route to the server now."""
        if self._surroundings.open_link is None:
            return
        link = self._surroundings.open_link()
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

    def _take(self, asker: Asker, answer: bytes, now: float) -> None:
        """Go on from the server's answer."""
        first, known = self._first, self._known
        self._link.lock()
        self._error_of_path = None
        self._asked_twice = asker.retransmissions > 0
        self._round_trip = asker.round_trip
        first.take(answer, now, known)
        if first.standing in IN_DOUBT and self.fetching and answer in self._answers:
            self._confirm()  # another port has had the same answer
        if first.standing is Standing.PROVEN:
            known.xid = XidSupport.GRANTED
            known.round_trip = asker.round_trip or known.round_trip
            self._link.attach(self.receive, self.receive_train)
        else:
            self._link.attach(self._receive_guarded, self._train_of_transfer(answer))
            self._link.on_rival = self._rival
            if first.standing is not Standing.SETTLED and not self._will_compare:
                self._settle_at(first.settled_at, self._settled)
        try:
            step = self._answered(answer, now)
        except TFTPError as error:
            if first.standing is Standing.UNPROVEN and answer not in self._answers:
                self._ask_elsewhere(error)  # it may fit the request of the port's last owner
            else:
                self._fail(Failure())
            return
        except Exception:
            self._fail(Failure())
            return
        super()._perform(step, now)
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self.receive(answer, now)

    # -- answers that are not for this request ---------------------------------------------

    def _attach(self) -> None:
        self._link.attach(self._receive_guarded)

    def _train_of_transfer(self, answer: bytes) -> ReceiveTrain | None:
        """Return what takes several datagrams; None while one of them may be another answer."""
        return self.receive_train if wire.opcode_of(answer) == wire.Opcode.OACK else None

    def _receive_guarded(self, datagram: Buffer, now: float) -> None:
        """Take a datagram while there is no proof that the server answers this request."""
        first, machine = self._first, self._machine
        if first.standing is Standing.NONE:
            grants_xid = self._known.xid is XidSupport.GRANTED
            insists = grants_xid and machine.retransmissions < INSISTING
            if first.is_foreign(datagram, insists):
                self._link.refuse(datagram, now)
                return
        elif self._may_contradict(datagram) and self._is_contradicted(
            datagram, now, same_port=True
        ):
            self._contradicted(datagram)
            return
        elif first.standing in IN_DOUBT and wire.opcode_of(datagram) == wire.Opcode.ERROR:
            # Of a server with a single port it may be the true answer, also where all octets of
            # the doubtful one have come: a machine that is complete would ignore it.
            self._refused_in_doubt(datagram)
            return
        self.receive(datagram, now)

    def _may_contradict(self, datagram: Buffer) -> bool:
        """Whether a datagram from the server's port may be another answer: no later block is."""
        is_data = wire.opcode_of(datagram) == wire.Opcode.DATA
        return not is_data or self._machine.octets <= DEFAULT_BLKSIZE

    def _refused_in_doubt(self, datagram: Buffer) -> None:
        code, message = wire.parse_error(datagram)
        if not self._is_committing():
            error = from_wire(code, message or f"error {code}")
            self._end(Outcome.ABORTED, error, tell=False)

    def _rival(self, datagram: Buffer, now: float) -> None:
        """Take a datagram that the server's host has sent from another port."""
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

        A second write request could make a second file, or spoil the first one.
        """
        return self.fetching and self._surroundings.open_link is not None

    @property
    def _will_compare(self) -> bool:
        """Whether a second request, and not time, ends the doubt."""
        return self._can_compare and self._first.standing in IN_DOUBT

    def _compare(self) -> None:
        """Ask from a second port, once: the file can go no further in doubt."""
        if self._can_compare and self._settling is None and self._opinion is None:
            # Not at once: what calls this may be in the middle of something.
            self._settle_at(self._clock(), self._ask_once_more)

    def _ask_once_more(self) -> None:
        if self._opinion is not None:
            return
        assert self._surroundings.open_link is not None
        self._opinion = SecondOpinion(
            self._surroundings.open_link(),
            self._request,
            self._first,
            self._timing(None),
            alarms=self._wiring.alarms,
            clock=self._clock,
            on_opinion=self._judge,
        )
        self._opinion.start()

    def _judge(self, opinion: Opinion) -> None:
        try:
            self._act_on(opinion)
        except Exception:
            self._fail(Failure())  # otherwise what is held would wait for ever

    def _act_on(self, opinion: Opinion) -> None:
        answer = self._opinion.answer if self._opinion is not None else None
        if opinion is Opinion.SAME:
            if self._drain():
                self._confirm()
                self._settled()
        elif opinion is Opinion.NONE:
            self._end(Outcome.TIMED_OUT, AnswerNotConfirmed())
        else:
            if answer is not None:
                self._answers.add(answer)
            self._contradicted(answer)

    def _drain(self) -> bool:
        """Read what waits in the socket; return whether the answer has outlived it."""
        ports_used = self._ports_used
        self._link.drain()
        return not self.ended and self._ports_used == ports_used

    def _confirm(self) -> None:
        """Note that two ports had the same answer, so that the server gives no xid."""
        if self._first.asks_for_xid:
            self._known.xid = XidSupport.LACKING
        self._first.settle()

    def _settle_at(self, at: float, act: Callable[[], None]) -> None:
        def acted() -> None:
            self._settling = None
            try:
                # Where the loop was late, another answer may have come in time.
                if self._drain():
                    act()
            except Exception:
                self._fail(Failure())  # otherwise what is held would wait for ever

        self._settling = self._wiring.alarms.set(at, acted)

    def _settled(self) -> None:
        """Rely on the answer: it was confirmed, or nothing has contradicted it in time."""
        known = self._known
        known.round_trip = self._round_trip or known.round_trip
        if self._first.standing is Standing.UNPROVEN:
            known.xid = XidSupport.LACKING
        self._first.settle()

    def _contradicted(self, answer: Buffer | None) -> None:
        """Give up the answer for another one, and ask from another port if that can be done.

        @param answer: the other one, where it is at hand.
        """
        if answer is not None and self._first.is_proof(answer):
            self._known.xid = XidSupport.GRANTED
        if not self.finished and not self._is_committing():
            self._ask_elsewhere(AnswersContradict())

    def _ask_elsewhere(self, reason: TFTPError) -> None:
        """Give up the answer for `reason`, and ask from another port; or fail with it."""
        self._stop_settling()
        open_link = self._surroundings.open_link
        rewind = self._rewind()
        if open_link is None or self._ports_used > MOST_PORTS or rewind is Rewind.IMPOSSIBLE:
            self._end(Outcome.FAILED, reason)
            return
        try:
            link = open_link()
        except OSError:
            self._fail(Failure())
            return
        self._answers.add(self._first.taken)
        self._surroundings.tell(
            f"{self.context.path}: {reason.message}; asking from port {link.local[1]} "
            f"instead of {self._link.local[1]}"
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
        """Open the path once more: what was done to it belongs to another file."""
        if not self.ended:
            opening = self._opening = maybeDeferred(self._open)
            opening.addCallbacks(self._on_open, self._on_open_failed)
            opening.addErrback(self._fail)

    def _is_committing(self) -> bool:
        """Whether it is too late: the file is being put in its place."""
        return False

    def _rewind(self) -> Rewind:
        """Go back to the file's beginning, if that can be done."""
        raise NotImplementedError

    def _stop_settling(self) -> None:
        settling, self._settling = self._settling, None
        if settling is not None:
            self._wiring.alarms.cancel(settling)
        opinion, self._opinion = self._opinion, None
        if opinion is not None:
            opinion.cancel()

    def _close(self) -> None:
        self._stop_settling()
        super()._close()

    def _end(self, outcome: Outcome, error: TFTPError, tell: bool = True) -> None:
        # Before its answer there is nobody to tell: an ERROR to the request port is ignored.
        super()._end(outcome, error, tell and self._link.locked)


class Fetch(Exchange, WriteSession):
    """Receive a file from a server: an RRQ, and then what a server does for a WRQ."""

    fetching = True

    #: For a sink that takes its time, or None.
    _storing: Deferred[Any] | None = None
    #: Whether there is more to store when the sink is ready.
    _more: bool

    #: Octets of the file by the server's word; 0 where it has not told.
    _announced: int

    def _opened(self) -> Step:
        self._more = False
        return self._ask(0)

    def _answered(self, answer: bytes, now: float) -> Step:
        asker: Asker = self._machine
        grant = self._granted(answer)
        # 0 is what some servers answer that do not know; netascii has another length.
        octet = self.context.mode == wire.OCTET
        self._announced = int(dict(grant.accepted).get("tsize", "0")) if octet else 0
        data = wire.opcode_of(answer) == wire.Opcode.DATA
        if self._first.standing in IN_DOUBT:
            # What was written to a path is dropped where the doubt was right; a stream keeps it.
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
        """Send the last ACK, if all blocks came, though the file is not in its place yet.

        Many servers serve one client at a time: they read the second request after it.
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
        """End the transfer, also one that only waits until its answer is not in doubt."""
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
        """Why the transfer has failed; the server may have waited too long for our sink."""
        reason = super().reason
        if self._storing is None or self._first.standing in IN_DOUBT:
            return reason
        return self._given_up(reason, "while the sink took nothing")

    def _store(self) -> None:
        """Acknowledge what the machine has in hand, and write it.

        In this order, but for the end of the file (see `_release_server`): while we write, the
        server makes the next window (1.2 to 1.4 times as fast). A sink that takes its time is a
        window behind, and no more. A failure to write is told the server a window later.
        """
        if self._storing is not None:
            self._more = True
            return
        machine = self._machine
        complete = machine.complete
        announced = self._announced
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
        elif self._more and not self.ended:
            self._more = False
            self._store()


class Probe(Fetch):
    """Ask for a file and take the OACK for an answer."""

    def _refused_in_doubt(self, datagram: Buffer) -> None:
        # It answers our ERROR, which some small servers do not know; the second answer decides.
        if not self._can_compare:
            super()._refused_in_doubt(datagram)

    def _answered(self, answer: bytes, now: float) -> Step:
        self._granted(answer)
        in_doubt = self._first.standing in IN_DOUBT
        if in_doubt and not self._can_compare:
            return Step.WAIT  # for `_settled`
        # Before the second request: a server may serve one client at a time.
        self._tell_enough()
        if in_doubt:
            self._settle_at(now, self._ask_once_more)
        else:
            self._conclude()
        return Step.WAIT

    def _settled(self) -> None:
        super()._settled()
        if not self._can_compare:
            self._tell_enough()
        self._conclude()

    def _rewind(self) -> Rewind:
        return Rewind.DONE

    def _tell_enough(self) -> None:
        self._link.send((wire.error(OptionRefused("only the size was wanted")),))

    def _conclude(self) -> None:
        self._finish(Outcome.COMPLETED)
        self._close()


class Store(Exchange, ReadSession):
    """Send a file to a server: a WRQ, and then what a server does for an RRQ."""

    fetching = False

    #: Goes on with what waits while the answer is in doubt.
    _go_on: Callable[[], None] | None = None
    #: The offset that was read last.
    _offset = 0
    #: Whether the end of the file was sent: what was sent before may be stored by now.
    _has_sent_end = False

    def _read(self, now: float) -> None:
        """Read a window; but what could not be read again waits while the answer is in doubt."""
        is_lost = bool(self._machine.offset) and not self._wiring.backend.has_path
        if is_lost and self._first.standing in IN_DOUBT and self._waiting is None:
            self._wait_to(self._read_on)
        else:
            super()._read(now)

    def _read_on(self) -> None:
        self._waiting = None
        self._read(self._clock())
        self._arm(self._machine.deadline)

    def _wait_to(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on
        self._waiting = Deferred()

    def _send(self, data: Buffer, length: int, now: float) -> None:
        """Send a window; but the file's end waits while the answer is in doubt."""
        offset = self._offset = self._machine.offset
        size = self._file.size
        ends = len(data) < length or (size is not None and offset + length >= size)
        if ends and self._first.standing in IN_DOUBT:
            self._wait_to(partial(self._on_read, data, offset, length))
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
            return Rewind.DONE  # the octets from the last offset on can be read again
        return Rewind.REOPEN if self._wiring.backend.has_path else Rewind.IMPOSSIBLE

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed; the server may have waited too long for our source."""
        reason = super().reason
        if self._waiting is None:
            return reason
        return self._given_up(reason, "while too little came from the source")

    def _opened(self) -> Step:
        return self._ask(self._file.size)

    def _answered(self, answer: bytes, now: float) -> Step:
        asker: Asker = self._machine
        grant = self._granted(answer)
        doubtful = self._first.standing is Standing.DOUBTFUL
        machine = self._machine = Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=self._file.size,
            oack=None,
            timing=self._timing_after(asker, grant),
            rollover=grant.rollover,
            # What comes from a pipe goes out when it fills a window, not later; and the end of
            # the file, which may have to wait, is the last window and no more.
            read_ahead=0 if self._file.size is None or doubtful else self._read_ahead,
        )
        machine.answered = True
        return machine.start(now)
