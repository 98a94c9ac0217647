"""Run one transfer: a machine, a link, a reader or a writer, and one alarm.

A session is there from the moment a request comes until nothing more is expected from its
peer. It asks the backend for the file, negotiates, and then carries datagrams to the machine
and the machine's wishes to the reader or writer and to the link.

    request --> open --> transfer --> ended
                  \\__________\\_____> (ERROR to the peer) ended

The alarm is set again only when it goes off, or when the machine's deadline comes before it; a
packet costs none.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.context import Direction, Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import (
    AccessViolation,
    DiskFull,
    ErrorCode,
    TFTPError,
    TransferTimedOut,
    from_os_error,
    from_wire,
)
from twisted_tftp.net.udp import Buffer, Link, ReceiveTrain, SocketAddress
from twisted_tftp.policy import Policy, Retransmit
from twisted_tftp.protocol import options, wire
from twisted_tftp.session.deadlines import Alarm, Alarms
from twisted_tftp.session.netascii_files import NetasciiReader, NetasciiWriter
from twisted_tftp.session.window_budget import WindowBudget
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
from twisted_tftp.transfer.sender import Sender, SenderState
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import Timing

#: Where a request came from, and which local address it reached (None where that is not known).
Key = tuple[SocketAddress, SocketAddress | None]

#: Seconds by which a retransmission may be late, so that the alarm is not moved for nothing.
SLACK = 0.005

# Ten times as fast to look up.
_BURST, _WAIT = Step.BURST, Step.WAIT

#: Octets after which an observer is told of the progress, at the next deadline.
PROGRESS = 32 * 1024 * 1024


@dataclass
class Wiring:
    """What all sessions of a server have in common.

    @ivar backend: an L{IFileBackend}.
    @ivar observer: an L{ITransferObserver}.
    @ivar clock: seconds of a clock that only grows.
    @ivar on_scarcity: called when no descriptor is left, to free some.
    @ivar on_finished: called when a session's `finished` becomes true.
    @ivar on_ended: called when nothing is left of it: the link, the alarm and the file are
        released.
    @ivar may_write: whether a peer's host may write.
    @ivar windows: the memory of all windows.
    """

    backend: Any
    policy: Policy
    observer: Any
    clock: Callable[[], float]
    alarms: Alarms
    on_scarcity: Callable[[], None]
    on_finished: Callable[[Session], None]
    on_ended: Callable[[Session], None]
    may_write: Callable[[str], bool] = lambda host: True
    windows: WindowBudget = field(default_factory=WindowBudget)


class Session:
    """What reads and writes share: opening, the alarm, and an end that happens once.

    Whatever a backend or an observer raises ends its transfer at most; SystemExit too, which some
    libraries raise, and which would otherwise reach the reactor and cost it the hub.

    @ivar context: what was asked, and by whom.
    @ivar key: where the request came from and reached.
    @ivar request: the request's octets, to tell a repeated one.
    @ivar statistics: what observers see.
    @ivar offered_at: when the peer was sent something first; infinite before.
    @ivar failure: why it ended, where it did not complete.
    @ivar finished: the file's part is over (a write may still dally).
    @ivar ended: all is over for the peer; the link is closed.
    """

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_asked_at",
        "_clock",
        "_file",
        "_link",
        "_machine",
        "_opening",
        "_policy",
        "_read_ahead",
        "_refusals",
        "_told_octets",
        "_waiting",
        "_window",
        "_wiring",
        "context",
        "ended",
        "failure",
        "finished",
        "key",
        "offered_at",
        "request",
        "statistics",
    )

    _log = Logger()

    #: What takes datagrams that came in one piece; None to have them one by one.
    receive_train: ReceiveTrain | None = None

    def __init__(
        self,
        context: TransferContext,
        *,
        key: Key,
        request: bytes,
        link: Link,
        read_ahead: int,
        wiring: Wiring,
    ) -> None:
        """Prepare a transfer; `start` begins it.

        @param read_ahead: octets that a read may keep at hand.
        """
        self.context = context
        self.key = key
        self.request = request
        clock = wiring.clock
        self.statistics = TransferStatistics(context, clock())
        self.failure: TFTPError | None = None
        self.offered_at = float("inf")
        self.finished = False
        self.ended = False
        self._link = link
        self._wiring = wiring
        self._policy = wiring.policy
        self._clock = clock
        self._read_ahead = read_ahead
        self._opening: Deferred[Any] | None = None
        self._file: Any = None  # the reader or the writer, once it is open
        self._waiting: Deferred[Any] | None = None  # for a read or a commit that takes its time
        self._machine: Any = None
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self._told_octets = 0
        self._window = 0  # octets of a window, once that is negotiated
        self._refusals = 0  # how often ICMP has said that the peer's port is closed
        # The peer shows that it waits by asking again until the file is open.
        self._asked_at = self.statistics.started

    # -- what a subclass fills in ---------------------------------------------------------

    def _open(self) -> Any:
        raise NotImplementedError

    def _adopt(self, file: Any) -> None:
        """Take the reader or writer."""
        raise NotImplementedError

    def _opened(self) -> Step:
        """Negotiate, build the machine, and return its first step."""
        raise NotImplementedError

    def _perform(self, step: Step, now: float) -> None:
        """Do what the machine wants."""
        raise NotImplementedError

    def _release(self) -> Any:
        """Close the reader or drop an unfinished file; a Deferred fires when that is done."""
        raise NotImplementedError

    # -- the beginning --------------------------------------------------------------------

    def start(self) -> None:
        """Ask the backend for the file."""
        self._observe("started")
        try:
            file = self._open()
            if not isinstance(file, Deferred):
                self._on_open(file)
                return
        except BaseException:  # see Session
            self._fail(Failure())
            return
        self._opening = file
        file.addCallbacks(self._on_open, self._on_open_failed)
        file.addErrback(self._fail)
        if self._machine is None:
            self._arm(self._asked_at + self._patience())

    def repeated(self) -> None:
        """The same request came again: repeat the first answer while it is due."""
        now = self._clock()
        self._asked_at = now
        if self._machine is not None and not self.finished:
            self._perform(self._machine.repeat(now), now)

    @property
    def answered(self) -> bool:
        """Whether the peer has shown that it is there, by more than its request."""
        return self._machine is not None and self._machine.answered

    @property
    def repeats_first_answer(self) -> bool:
        """Whether what it sends next may pass for the first answer to another request."""
        if self.finished:
            return False
        return self._machine is None or bool(self._machine.repeats_first_answer)

    def refused(self, now: float) -> None:
        """Take ICMP's word that the peer's port is closed.

        The first time the answer is sent once more at once: one message may be forged, or be a
        firewall's mistake. The second one ends a transfer that was never answered, whichever
        datagram it is about. Mostly that is the repeat, and a closed port is known after two
        round trips. From then on the next owner of the port is sent nothing that it could take
        for the answer to a request of its own. A transfer that was answered goes on: such
        messages are lost datagrams then.
        """
        machine = self._machine
        if machine is None or machine.answered or self.finished:
            return
        self._refusals += 1
        if self._refusals == 1:
            self._perform(machine.repeat(now), now)
        else:
            reason = TransferTimedOut("the client's port is closed")
            self._end(Outcome.UNREACHABLE, reason, tell=False)

    def catch_up(self) -> None:
        """Read what the peer has sent so far."""
        if self._machine is not None:
            self._link.drain()

    def _on_open(self, file: Any) -> None:
        self._opening = None
        if self.ended:  # the backend did not heed the cancellation
            self._adopt(file)
            self._release()
            return
        self._adopt(file)
        step = self._opened()
        self._attach()
        self.offered_at = now = self._clock()
        self._perform(step, now)

    def _attach(self) -> None:
        """Start to receive."""
        self._link.attach(self.receive, self.receive_train)
        self._link.watch_refusals(self.refused)

    def _on_open_failed(self, failure: Failure) -> None:
        self._opening = None
        if self.ended and failure.check(CancelledError):
            return
        self._fail(failure)

    def _grant(self, tsize: int | None, room: int | None = None) -> options.Grant:
        """Negotiate; a window has the memory that is left for it, and `room` in the socket."""
        windows = self._wiring.windows
        self._give_window_back()
        if "windowsize" in self.context.options:
            room = windows.room if room is None else min(room, windows.room)
        grant = options.negotiate(self.context.options, self._policy, tsize=tsize, room=room)
        self._window = grant.windowsize * grant.blksize
        windows.take(self._window)
        self.statistics.granted = grant.accepted
        return grant

    def _give_window_back(self) -> None:
        octets, self._window = self._window, 0
        self._wiring.windows.give_back(octets)

    def _timing(self, timeout: float | None) -> Timing:
        """Return the waits where `timeout` seconds were negotiated, or None."""
        policy = self._policy
        return Timing(
            first=policy.timeout,
            longest=timeout or policy.timeout,
            retries=policy.retries,
            adaptive=policy.retransmit is Retransmit.ADAPTIVE,
        )

    def _patience(self) -> float:
        return self._policy.retries * self._policy.timeout

    # -- packets and time -----------------------------------------------------------------

    def receive(self, datagram: Buffer, now: float) -> None:
        """Take a datagram from the peer's address and port."""
        if self._machine is None:
            return  # nothing was sent yet, so this answers nothing
        machine = self._machine
        step = machine.receive(datagram, now)
        if step is _BURST:
            self._link.send(machine.datagrams)
        elif step is not _WAIT:
            self._perform(step, now)
            return
        if machine.deadline + SLACK < self._alarm_at:
            self._arm(machine.deadline)

    def _arm(self, deadline: float) -> None:
        """See to it that the alarm goes off at `deadline`, a little later, or before it."""
        if self.ended:
            return
        if self._alarm is not None:
            if self._alarm_at <= deadline + SLACK:
                return
            self._wiring.alarms.cancel(self._alarm)
            self._alarm = None
        if deadline == float("inf"):
            return
        self._alarm_at = deadline
        self._alarm = self._wiring.alarms.set(deadline, self._fired)

    def _fired(self) -> None:
        try:
            self._act_on_alarm()
        except Exception:
            self._fail(Failure())  # without its alarm it would never end

    def _act_on_alarm(self) -> None:
        alarm, self._alarm = self._alarm, None
        machine = self._machine
        if machine is None:
            deadline = self._asked_at + self._patience()
            if self._clock() >= deadline:
                self._end(Outcome.TIMED_OUT, TransferTimedOut())
            else:
                self._arm(deadline)
            return
        # If the loop was late, the answer may be waiting: read it before acting on its absence.
        if self._clock() >= machine.deadline:
            self._link.drain()
            machine = self._machine  # what was read may have put another one in its place
            if self.ended or machine is None:
                return
            now = self._clock()
            if now >= machine.deadline:
                self._perform(machine.expire(now), now)
            self._arm(machine.deadline)
        elif machine.deadline != float("inf"):
            # What a busy server does most: the deadline has moved on meanwhile.
            self._alarm, self._alarm_at = alarm, machine.deadline
            self._wiring.alarms.again(alarm, machine.deadline, self._fired)  # type: ignore[arg-type]
        if machine.octets - self._told_octets >= PROGRESS and not self.finished:
            self._told_octets = machine.octets
            self.update_statistics()
            self._observe("progressed")

    # -- the end --------------------------------------------------------------------------

    def cancel(self, message: str = "") -> None:
        """End the transfer; with a `message` the peer is told."""
        if not self.finished:
            failure = TFTPError(message or "the transfer was cancelled")
            self._end(Outcome.CANCELLED, failure, tell=bool(message))
        else:
            self._close()

    def give_way(self) -> None:
        """End the transfer to make room for another one; send no ERROR, as nobody has answered."""
        reason = TransferTimedOut("no answer, and another transfer needed its place")
        self._end(Outcome.TIMED_OUT, reason, tell=False)

    def replace(self) -> None:
        """End the transfer, which was not answered: the peer's port asks for something else.

        The peer is not told: it could take an ERROR for the answer to its new request.
        """
        reason = TransferTimedOut("the client asked for something else")
        self._end(Outcome.REPLACED, reason, tell=False)

    def _fail(self, failure: Failure) -> None:
        """End the transfer with what went wrong on our side."""
        if self.ended:
            return  # what a file does that was given up is of no interest
        error = failure.value
        outcome = Outcome.FAILED if self._machine is not None else Outcome.REFUSED
        if isinstance(error, OSError):
            if self._machine is None and error.errno in (errno.EMFILE, errno.ENFILE):
                # No descriptor is left: silence, so that the client asks again.
                self._wiring.on_scarcity()
                self._end(outcome, TFTPError("too many open files"), tell=False)
                return
            error = from_os_error(error)
        if not isinstance(error, TFTPError):
            self._log.failure("a transfer broke", failure=failure)
            error = TFTPError("internal error")
        self._end(outcome, error)

    def _end_of_machine(self) -> None:
        """End the transfer as the machine did, where it did not complete."""
        machine = self._machine
        if machine.peer_error is not None:
            code, message = machine.peer_error
            probe = (
                self.context.direction is Direction.READ
                and bool(self.statistics.granted)
                and not machine.answered
                and code in (ErrorCode.NOT_DEFINED, ErrorCode.OPTION_REFUSED)
            )
            outcome = Outcome.SIZE_PROBE if probe else Outcome.ABORTED
            self._end(outcome, from_wire(code, message or f"error {code}"), tell=False)
        elif isinstance(machine.failure, TransferTimedOut):
            # An address that has never answered may be forged: it gets no more.
            self._end(Outcome.TIMED_OUT, machine.failure, tell=machine.answered)
        else:
            self._end(Outcome.FAILED, machine.failure)

    def _end(self, outcome: Outcome, error: TFTPError, tell: bool = True) -> None:
        if self.finished:
            self._close()
            return
        if tell:
            try:
                self._link.send((wire.error(error),))
            except Exception:
                self._log.failure("an ERROR could not be sent")
        self.failure = error
        self.statistics.error = error.message
        self._finish(outcome)
        self._close()

    def _finish(self, outcome: Outcome) -> None:
        """Tell the observer; the file's part is over."""
        self.finished = True
        self._give_window_back()
        self.statistics.outcome = outcome
        self.statistics.ended = self._clock()
        self.update_statistics()
        self._observe("finished")
        self._wiring.on_finished(self)

    def _close(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._alarm is not None:
            self._wiring.alarms.cancel(self._alarm)
            self._alarm = None
        try:
            self._link.close()
        except Exception:
            self._log.failure("a transfer's socket could not be closed")
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        try:
            released = self._release()
        except BaseException:  # see Session
            self._release_failed(Failure())
            released = None
        if isinstance(released, Deferred):
            released.addErrback(self._release_failed)
            released.addCallback(lambda _: self._wiring.on_ended(self))
        else:
            self._wiring.on_ended(self)

    def _release_failed(self, failure: Failure) -> None:
        self._log.failure("a file could not be released", failure=failure)

    def update_statistics(self) -> None:
        """Bring `statistics` up to date."""
        if self._machine is not None:
            self.statistics.octets = self._machine.octets
            self.statistics.retransmissions = self._machine.retransmissions

    def _observe(self, event: str) -> None:
        try:
            getattr(self._wiring.observer, event)(self.statistics)
        except BaseException:  # see Session
            self._log.failure("an observer failed")


class ReadSession(Session):
    """Send a file to the client that asked for it."""

    __slots__ = ()

    _machine: Sender

    def _open(self) -> Any:
        return self._wiring.backend.open_reader(self.context.path, self.context)

    def _adopt(self, file: Any) -> None:
        self._file = NetasciiReader(file) if self.context.mode == wire.NETASCII else file

    def _opened(self) -> Step:
        size: int | None = self._file.size
        # curl takes `tsize=0` for an error, so an empty file's size is left out.
        grant = self._grant(size or None)
        self._machine = Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=size,
            oack=grant.oack,
            timing=self._timing(grant.timeout),
            rollover=grant.rollover,
            read_ahead=self._read_ahead,
        )
        return self._machine.start(self._clock())

    def _perform(self, step: Step, now: float) -> None:
        machine = self._machine
        if step is Step.READ:
            self._read(now)
        elif step is Step.BURST:
            self._link.send(machine.datagrams)
        elif step is Step.SEND:
            self._link.send((machine.reply,))
        elif step is Step.END:
            if machine.state is SenderState.DONE:
                self._finish(Outcome.COMPLETED)
                self._close()
            else:
                self._end_of_machine()
            return
        if machine.deadline < self._alarm_at or self._alarm is None:
            self._arm(machine.deadline)

    def _read(self, now: float) -> None:
        """Get the octets that the machine wants and send them."""
        if self._waiting is not None:
            return  # the read under way looks at what is wanted then
        machine = self._machine
        offset, length = machine.offset, machine.length
        try:
            data = self._file.read(offset, length) if length else b""
        except BaseException:  # see Session
            self._fail(Failure())
            return
        if isinstance(data, Deferred):
            self._waiting = data
            data.addCallbacks(self._on_read, self._on_read_failed, (offset, length))
            data.addErrback(self._fail)
        else:
            self._send(data, length, now)

    def _on_read(self, data: Any, offset: int, length: int) -> None:
        self._waiting = None
        if self.ended:
            return
        now = self._clock()
        if (offset, length) == (self._machine.offset, self._machine.length):
            self._send(data, length, now)
        else:
            self._read(now)
        self._arm(self._machine.deadline)

    def _on_read_failed(self, failure: Failure) -> None:
        self._waiting = None
        if not self.ended:
            self._fail(failure)

    def _send(self, data: Buffer, length: int, now: float) -> None:
        if len(data) != length and (len(data) > length or self._file.size is not None):
            self._fail(Failure(TFTPError("the file changed while it was read")))
            return
        burst = self._machine.burst(data, now)
        if burst:
            self._link.send(burst)
        else:
            self._end_of_machine()

    def _release(self) -> None:
        reader, self._file = self._file, None
        if reader is not None:
            reader.close()


class WriteSession(Session):
    """Receive a file from a client and store it."""

    __slots__ = ("_cancelled",)

    _machine: Receiver

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Prepare a transfer, as every session."""
        super().__init__(*args, **kwargs)
        self._cancelled = False

    def cancel(self, message: str = "") -> None:
        """End the transfer, unless its file is whole: then once that is in its place.

        The client is told what became of the file, and not that it was given up.
        """
        if self._waiting is not None:
            self._cancelled = True
        else:
            super().cancel(message)

    def receive_train(self, train: memoryview, size: int, now: float) -> None:
        """Take datagrams of `size` octets, the last one maybe shorter, that came in one piece."""
        at = 0
        while at < len(train) and not self.ended:
            if self._machine is not None:
                at += size * self._machine.receive_train(train[at:], size, now)
            if at < len(train):
                self.receive(train[at : at + size], now)
                at += size

    def _open(self) -> Any:
        if not self._wiring.may_write(self.context.peer.host):
            raise AccessViolation("your address may not write here")
        policy, announced = self._policy, self.context.announced_size
        if policy.max_upload is not None and (announced or 0) > policy.max_upload:
            raise DiskFull("the file is larger than what is accepted here")
        return self._wiring.backend.open_writer(self.context.path, self.context)

    def _adopt(self, file: Any) -> None:
        self._file = NetasciiWriter(file) if self.context.mode == wire.NETASCII else file

    def _opened(self) -> Step:
        announced = self.context.announced_size
        grant = self._grant(announced)
        if grant.windowsize > 1:
            window = grant.windowsize * (grant.blksize + wire.HEADER_SIZE)
            grant = self._grant(announced, self._link.expect(window))
        self._machine = Receiver(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            first_reply=grant.oack or wire.ack(0),
            timing=self._timing(grant.timeout),
            rollover=grant.rollover,
        )
        return self._machine.start(self._clock())

    def _perform(self, step: Step, now: float) -> None:
        machine = self._machine
        if step is Step.STORE:
            self._store()
        elif step is Step.SEND:
            self._link.send((machine.reply,))
        elif step is Step.END:
            if machine.state is ReceiverState.DONE:
                self._close()
            else:
                self._end_of_machine()
            return
        if machine.deadline < self._alarm_at or self._alarm is None:
            self._arm(machine.deadline)

    def _store(self) -> None:
        """Write what the machine has in hand; when that is done, acknowledge it."""
        machine, policy = self._machine, self._policy
        data = machine.take()
        if policy.max_upload is not None and machine.octets > policy.max_upload:
            self._fail(Failure(DiskFull("the file is larger than what is accepted here")))
            return
        try:
            written = self._file.write(data) if data else None
        except BaseException:  # see Session
            self._fail(Failure())
            return
        if isinstance(written, Deferred):
            written.addCallbacks(lambda _: self._written(), self._fail)
            written.addErrback(self._fail)
        else:
            self._written()

    def _written(self) -> None:
        if self.ended:
            return
        if not self._machine.complete:
            self._acknowledge()
            return
        committing = self._waiting = maybeDeferred(self._file.commit)
        committing.addCallbacks(self._committed, self._commit_failed)
        committing.addErrback(self._fail)

    def _committed(self, _: object) -> None:
        self._waiting = self._file = None
        try:
            self._acknowledge()
        finally:
            self._finish(Outcome.COMPLETED)
        if self._cancelled:
            self._close()

    def _commit_failed(self, failure: Failure) -> None:
        self._waiting = None
        self._fail(failure)

    def _acknowledge(self) -> None:
        now = self._clock()
        self._perform(self._machine.stored(now), now)

    def _release(self) -> Any:
        writer, self._file = self._file, None
        return writer.abort() if writer is not None else None
