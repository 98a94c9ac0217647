"""Run one transfer of a client: ask the server, and then be the other side of its session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_tftp import wire
from twisted_tftp.context import Outcome, TransferContext
from twisted_tftp.errors import (
    AnswersFromElsewhere,
    NoAnswer,
    OptionRefused,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.net.links import ClientLink
from twisted_tftp.options import Grant, accept
from twisted_tftp.session import ReadSession, Session, WriteSession
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import Timing

#: Seconds for which the last block is acknowledged again, should the ACK have been lost.
DALLY = 2.0

#: Returns the options of a request, in the order to ask for them, from its context, the octets of
#: the file (0 for a fetch, None where they are not known) and the link.
ChooseOptions = Callable[[TransferContext, int | None, ClientLink], Mapping[str, str]]


class Exchange(Session):
    """What fetching and storing share: the request and its answer, before the file goes."""

    _link: ClientLink
    _machine: Any
    #: Whether the file comes to us.
    fetching: bool

    def __init__(self, choose: ChooseOptions, *args: Any, **kwargs: Any) -> None:
        """Prepare a transfer, as every session.

        @param choose: what returns the options to ask for.
        """
        super().__init__(*args, **kwargs)
        self._choose = choose
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
        options = self._choose(self.context, size, self._link)
        opcode = wire.Opcode.RRQ if self.fetching else wire.Opcode.WRQ
        request = wire.Request(opcode, self.context.filename, self.context.mode, options)
        self.context = self.context._replace(options=request.options)
        self._machine = Asker(wire.encode_request(request), self.fetching, self._timing(None))
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
        grant = accept(self.context.options, oack)
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
        if step is not Step.END or not isinstance(machine, Asker) or machine.answer is None:
            super()._perform(step, now)
            return
        answer = machine.answer
        self._link.lock()
        self._error_of_path = None
        try:
            step = self._answered(answer, now)
        except Exception:
            self._fail(Failure())
            return
        super()._perform(step, now)
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self.receive(answer, now)

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

    @property
    def reason(self) -> TFTPError:
        """Why the transfer has failed; the server may have waited too long for our sink."""
        reason = super().reason
        if self._storing is None:
            return reason
        return self._given_up(reason, "while the sink took nothing")

    def _store(self) -> None:
        """Acknowledge what the machine has in hand, and write it.

        In this order, but for the end of the file: while we write, the server makes the next
        window (1.2 to 1.4 times as fast). A sink that takes its time is a window behind, and no
        more. A failure to write is told the server a window later.
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

    def _answered(self, answer: bytes, now: float) -> Step:
        self._granted(answer)
        self._link.send((wire.error(OptionRefused("only the size was wanted")),))
        self._finish(Outcome.COMPLETED)
        self._close()
        return Step.WAIT


class Store(Exchange, ReadSession):
    """Send a file to a server: a WRQ, and then what a server does for an RRQ."""

    fetching = False

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
        machine = self._machine = Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=self._file.size,
            oack=None,
            timing=self._timing_after(asker, grant),
            rollover=grant.rollover,
            # What comes from a pipe goes out when it fills a window, not later.
            read_ahead=0 if self._file.size is None else self._read_ahead,
        )
        machine.answered = True
        return machine.start(now)
