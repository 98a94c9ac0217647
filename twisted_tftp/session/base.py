"""Run one transfer: a machine, a link, a reader or a writer, and one alarm.

A session passes datagrams from the link to the machine. It then sends, reads or writes what the
machine requests. Its owner opens the file and makes the machine (see `SessionOwner`). The table
in `session.state` shows which state may follow which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.context import Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import TFTPError, TransferTimedOut
from twisted_tftp.net.udp import Link, ReceiveTrain
from twisted_tftp.protocol import wire
from twisted_tftp.session import failures
from twisted_tftp.session.deadlines import SLACK, LazyAlarm
from twisted_tftp.session.pending_file import PendingFile
from twisted_tftp.session.services import PROGRESS_SIZE, SessionOwner, SessionServices
from twisted_tftp.session.state import (
    CANCELLED_IN_FINISH,
    CLOSED,
    FINISHED,
    FINISHING,
    NEGOTIATING,
    OPENING,
    STATES_WITH_OUTCOME,
    TRANSFERRING,
    TRANSITIONS,
    SessionState,
)
from twisted_tftp.transfer.flow import Offerer
from twisted_tftp.transfer.machine import SEND, WAIT, Buffer, Step, TransferMachine


class Session:
    """The base class of `SendingSession` and `ReceivingSession`: opening, the alarm and the end.

    An exception of a backend or an observer ends only the transfer in which it was raised.
    SystemExit is caught too: some libraries raise it, and it would stop the reactor.

    @ivar state: a `SessionState`.
    @ivar statistics: what observers see.
    @ivar failure: why the transfer has failed, or None.
    @ivar file: the reader or the writer; None before it is open and after it was released.
    """

    __slots__ = (
        "_alarm",
        "_link",
        "_machine",
        "_opening",
        "_owner",
        "_reported_octets",
        "_services",
        "failure",
        "file",
        "state",
        "statistics",
    )

    _log = Logger()

    #: Processes several datagrams in one buffer; None to get them one by one.
    receive_train: ReceiveTrain | None = None

    def __init__(
        self, context: TransferContext, link: Link, services: SessionServices, owner: SessionOwner
    ) -> None:
        """Set up a transfer; `start` begins it."""
        self.state = OPENING
        self.statistics = TransferStatistics(context, services.clock())
        self.failure: TFTPError | None = None
        self.file: Any = None  # an IFileReader or an IFileWriter
        self._link = link
        self._services = services
        self._owner = owner
        self._opening: PendingFile | None = None
        self._machine: Any = None  # from `begin` on, of the type that the subclass declares
        self._alarm = LazyAlarm(services.alarms, self._on_alarm)
        self._reported_octets = 0

    @property
    def offerer(self) -> Offerer | None:
        """What the link may offer to a flow; None for a session without flows."""
        return None

    def _convert_netascii(self, file: Any) -> Any:
        """Return the file to use for an opened file: a netascii file is converted."""
        raise NotImplementedError

    def perform(self, step: Step, now: float) -> None:
        """Do what the machine asks for."""
        raise NotImplementedError

    def _may_deadline_shrink(self) -> bool:
        """Return whether the progress of the flow, once known, may make the deadline earlier."""
        return False

    def _forget_pending(self) -> None:
        """Ignore the results of the reads and writes that are under way."""
        raise NotImplementedError

    def _outcome_of_peer_error(self, code: int) -> Outcome:
        """Return the outcome of a transfer that the peer has ended with an ERROR."""
        return Outcome.ABORTED

    def _release(self) -> Any:
        """Close the reader or abort the writer; a Deferred fires when that is done."""
        raise NotImplementedError

    def start(self, open_file: Callable[[], Any]) -> None:
        """Open the file: `open_file` returns a reader or a writer, or a Deferred of one."""
        self._services.observe("started", self.statistics)
        if not self.is_closed:  # the observer may have cancelled the session
            self._open(open_file)

    def extend_opening(self) -> None:
        """Restart the time limit for opening the file: the peer has shown that it still waits."""
        if self._opening is not None:
            self._opening.extend()

    def note_options(self, granted: tuple[tuple[str, str], ...]) -> None:
        """Note the granted options, (name, value), in the statistics."""
        self.statistics.granted = granted

    def note_retransmissions(self, count: int) -> None:
        """Note in the statistics how many times the request was sent again."""
        self.statistics.retransmissions = count

    def begin(self, machine: TransferMachine) -> None:
        """Transfer the file with `machine`."""
        self._machine = machine
        self._move(TRANSFERRING)
        now = self._services.clock()
        self.perform(machine.start(now), now)

    def restart_negotiation(self) -> None:
        """Go back to NEGOTIATING: the open file is used again from its start."""
        if self.state is not NEGOTIATING:
            self._move(NEGOTIATING)
        self._forget_machine()

    def restart_opening(self, open_file: Callable[[], Any]) -> None:
        """Go back to OPENING: release the file, and open it again."""
        self._move(OPENING)
        self._forget_machine()
        self._open(lambda: maybeDeferred(self._release).addCallback(lambda _: open_file()))

    def replace_file(self, file: Any) -> None:
        """Use another reader or writer from now on, such as one that wraps the current one."""
        self.file = file

    def replace_link(self, link: Link) -> None:
        """Use another link from now on, and close the current one."""
        self._link.close()
        self._link = link

    def _open(self, open_file: Callable[[], Any]) -> None:
        try:
            file = open_file()
            if not isinstance(file, Deferred):
                self._on_open(file)
                return
        except BaseException:  # see Session
            self.fail(Failure())
            return
        self._opening = PendingFile(
            file,
            self._services,
            self._on_open,
            self._on_open_failed,
            lambda: self.end(Outcome.TIMED_OUT, TransferTimedOut(detail=failures.NOT_OPENED)),
        )
        self._opening.wait()

    def _on_open(self, file: Any) -> None:
        self._opening = None
        self.file = self._convert_netascii(file)
        if self.is_closed:
            return  # the backend has answered `cancel` with a file: `_close` releases it
        self._move(NEGOTIATING)
        self._owner.on_open()

    def _on_open_failed(self, failure: Failure) -> None:
        self._opening = None
        if not (self.is_closed and failure.check(CancelledError)):
            self.fail(failure)

    def _forget_machine(self) -> None:
        self._machine = None
        self.statistics.granted = ()
        self.statistics.octets = self.statistics.retransmissions = 0
        self._forget_pending()

    def _move(self, state: SessionState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} to {state}"
        self.state = state

    @property
    def machine(self) -> TransferMachine | None:
        """The machine, for reading its state only; None before `begin`. Its flow continues."""
        machine: TransferMachine | None = self._machine
        if machine is not None:
            self._link.follow_flow()
        return machine

    def take_machine(self) -> TransferMachine | None:
        """End the flow and return the machine, whose state may be changed; None before `begin`."""
        self._link.end_flow()
        machine: TransferMachine | None = self._machine
        return machine

    @property
    def is_finished(self) -> bool:
        """Whether the outcome of the transfer is known."""
        return self.state in STATES_WITH_OUTCOME

    @property
    def is_closed(self) -> bool:
        """Whether the link is closed."""
        return self.state is CLOSED

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram of the peer; call this only after `begin`."""
        machine = self._machine
        step = machine.receive(datagram, now)
        if step is SEND:
            self._link.send(machine.datagrams)
        elif step is not WAIT:
            self.perform(step, now)
            return
        if machine.deadline + SLACK < self._alarm.at:
            self._alarm.arm(machine.deadline)

    def send(self, datagram: bytes) -> None:
        """Send a datagram that the machine has not requested."""
        self._link.send((datagram,))

    def _on_alarm(self) -> None:
        try:
            if self._machine is not None:
                self._handle_deadline()
        except Exception:
            self.fail(Failure())  # without its alarm the session would never end

    def _handle_deadline(self) -> None:
        """Handle the machine's deadline, if it has passed, and set the alarm again."""
        machine, clock = self._machine, self._services.clock
        delay = self._link.flow_delay()
        if delay is not None:
            due = machine.deadline + delay
            if clock() < due and not self._may_deadline_shrink():
                self._alarm.arm(due)
                self._report_progress(machine)
                return
            self._link.follow_flow()
        # The reactor may be late: read the socket before deciding that no answer has come.
        if clock() >= machine.deadline:
            self._link.receive_waiting()
            if self.is_closed or machine is not self._machine:
                return
            now = clock()
            if now >= machine.deadline:
                self.perform(machine.expire(now), now)
        self._alarm.arm(machine.deadline)
        self._report_progress(machine)

    def _report_progress(self, machine: TransferMachine) -> None:
        """Notify the observer if `machine` has transferred many octets since the last report."""
        octets = machine.octets
        if octets - self._reported_octets >= PROGRESS_SIZE and not self.is_finished:
            self._reported_octets = octets
            self.update_statistics()
            self._services.observe("progressed", self.statistics)

    def cancel(self, message: str = "", detail: str = "") -> None:
        """End the transfer; with a `message`, the peer gets an ERROR. The log has the `detail`."""
        if not self.is_finished:
            failure = TFTPError(message or "the transfer was cancelled", detail)
            self.end(Outcome.CANCELLED, failure, send_error=bool(message))
        else:
            self._close()

    def fail(self, failure: Failure, outcome: Outcome | None = None) -> None:
        """End the transfer after a local exception; before `begin`, the outcome is REFUSED."""
        if self.is_closed:
            return  # the file is not needed any more
        has_begun = self._machine is not None
        error = failures.failure_of_transfer(failure)
        send_error = has_begun or not isinstance(error, failures.NoDescriptors)
        if not send_error:  # the peer repeats its request: a descriptor may then be free
            self._services.on_no_descriptors()
        self.end(outcome or (Outcome.FAILED if has_begun else Outcome.REFUSED), error, send_error)

    def end(self, outcome: Outcome, error: TFTPError, send_error: bool = True) -> None:
        """End a transfer that has failed; with `send_error`, the peer gets an ERROR."""
        if self.is_finished:
            self._close()
            return
        if send_error and self._owner.can_send_error:
            try:
                self._link.send((wire.error(error),))
            except Exception:
                self._log.failure("an ERROR could not be sent")
        self.failure = error
        self.statistics.error, self.statistics.detail = error.message, error.detail
        self._finish(outcome)
        self._close()

    def complete(self) -> None:
        """End a transfer that was successful."""
        self._finish(Outcome.COMPLETED)
        self._close()

    def _end_with_machine_failure(self) -> None:
        """End the transfer because the machine has failed."""
        machine = self._machine
        if machine.peer_error is not None:
            outcome = self._outcome_of_peer_error(machine.peer_error[0])
            self.end(outcome, failures.error_of_peer(*machine.peer_error), send_error=False)
        elif isinstance(machine.failure, TransferTimedOut):
            # An address that has never answered may be forged: send no more to it.
            self.end(Outcome.TIMED_OUT, failures.explain_silence(machine), machine.has_answered)
        else:
            self.end(Outcome.FAILED, machine.failure)

    def _finish(self, outcome: Outcome) -> None:
        """Note the outcome, and notify the observer and the owner."""
        self._move(FINISHING)
        self.statistics.outcome = outcome
        self.statistics.ended = self._services.clock()
        self.update_statistics()
        self._services.observe("finished", self.statistics)
        was_cancelled = self.state is CANCELLED_IN_FINISH
        self._move(FINISHED)
        self._owner.on_finished()
        if was_cancelled:
            self._close()

    def _close(self) -> None:
        """Close the link, and release the file."""
        if self.state is FINISHING:
            self._move(CANCELLED_IN_FINISH)
        if self.state in (CANCELLED_IN_FINISH, CLOSED):
            return
        self._move(CLOSED)
        self._alarm.stop()
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
            failures.log_release_failure(Failure())
            released = None
        # After a read it is None. (isinstance is slow for a Deferred: its class is abstract.)
        if released is not None and isinstance(released, Deferred):
            released.addErrback(failures.log_release_failure)
            released.addCallback(lambda _: self._notify_owner())
        else:
            self._notify_owner()

    def _notify_owner(self) -> None:
        self._owner.on_released()
        del self._owner  # a cycle of references would wait for the garbage collector

    def update_statistics(self) -> None:
        """Copy the counters of the machine to `statistics`."""
        if self._machine is not None:
            self._link.follow_flow()
            self.statistics.octets = self._machine.octets
            self.statistics.retransmissions = self._machine.retransmissions
