"""Download a file: send an RRQ, then receive DATA into the local file."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.failure_reasons import with_local_cause
from twisted_tftp.client.held_writer import HeldWriter, Hold
from twisted_tftp.client.job import Restart
from twisted_tftp.client.local_file import LocalFile
from twisted_tftp.context import Outcome, TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IFileWriter
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import Grant
from twisted_tftp.session.receiving import ReceivingSession
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.session.state import SessionState
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.timing import Timing

#: How long a client dallies after a download, in seconds: it acknowledges the last block again if
#: the ACK was lost.
DALLY_TIME = 2.0

#: The states in which the local file is being committed.
_COMMIT_STATES = frozenset((SessionState.COMMITTING, SessionState.CANCELLED_IN_COMMIT))


class Download:
    """The L{Job} of a download."""

    is_read = True
    has_blocks = True
    is_error_final = True

    def __init__(self, local: LocalFile) -> None:
        """Set up a download into `local`."""
        self._local = local
        self._held: HeldWriter | None = None
        self._announced_size = 0  # octets that the server has announced; 0 if unknown

    def make_session(
        self,
        context: TransferContext,
        link: ClientLink,
        services: SessionServices,
        owner: SessionOwner,
    ) -> ReceivingSession:
        """Return the session that receives the file."""
        self._context = context
        self._session = ReceivingSession(
            context, link, services, owner, check_size=self._check_size, acks_before_write=True
        )
        return self._session

    def open_file(self) -> IFileWriter | Deferred[Any]:
        """Return the writer of the local file."""
        return self._local.open_writer(self._context)

    def announced_size(self) -> int:
        """Return 0, which asks the server for the size (RFC 2349)."""
        return 0

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Make the receiver, and a writer that holds data back while the answer is in doubt."""
        # Some servers answer 0 if they do not know the size. In netascii, the size of the local
        # file is not the number of octets on the network.
        granted = dict(grant.accepted) if self._context.mode == wire.OCTET else {}
        self._announced_size = int(granted.get("tsize", "0"))
        self._doubt = doubt
        if doubt.is_open:
            # If the answer is foreign, a file with a path can be removed; data in a stream can't.
            hold = Hold.COMMIT if self._local.has_path else Hold.DATA_AND_COMMIT
            self._held = HeldWriter(self._session.file, hold, self._on_writer_waiting)
            self._session.replace_file(self._held)
        is_data = wire.opcode_of(answer) == wire.Opcode.DATA
        self._machine = Receiver(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            first_answer=None if is_data else wire.ack(0),
            timing=timing,
            rollover=grant.rollover,
            dally=DALLY_TIME,
            has_answered=True,
        )

    def proceed(self) -> None:
        """Begin to receive."""
        self._session.begin(self._machine)

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram of the transfer."""
        was_complete = self._machine.is_complete
        self._session.receive(datagram, now)
        if was_complete and wire.opcode_of(datagram) == wire.Opcode.DATA:
            self._send_last_ack_early()  # the last ACK was lost

    def on_settled(self) -> None:
        """Write the data that was held back."""
        if self._held is not None:
            self._held.stop_holding()

    def cancel(self, message: str) -> None:
        """End the transfer; a commit that waits for the end of the doubt has not begun."""
        if self._session.state is SessionState.COMMITTING and not self.is_committing:
            failure = TFTPError(message or "the transfer was cancelled")
            self._session.end(Outcome.CANCELLED, failure, send_error=bool(message))
        else:
            self._session.cancel(message)

    @property
    def is_committing(self) -> bool:
        """Whether the local file is being committed."""
        if self._held is not None:
            return self._held.is_committing
        return self._session.state in _COMMIT_STATES

    def prepare_restart(self) -> Restart:
        """Undo what was written to the file, if possible."""
        session, held = self._session, self._held
        if session.state is SessionState.CANCELLED_IN_COMMIT:
            return Restart.IMPOSSIBLE
        if held is not None and held.is_untouched:
            session.replace_file(held.writer)
            self._held = None
            return Restart.READY
        if session.machine is None or not session.machine.octets:
            return Restart.READY  # nothing was written
        if self._local.has_path and not session.is_writing:
            self._held = None
            return Restart.AFTER_REOPENING
        return Restart.IMPOSSIBLE

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return `reason`, with a note if the server had to wait too long for the local output."""
        is_waiting = self._session.is_writing and not self._doubt.is_open
        return with_local_cause(
            reason, self._session.statistics.outcome, is_waiting, "local output accepted no data"
        )

    def _check_size(self, octets: int, is_complete: bool) -> None:
        announced = self._announced_size
        if announced and (octets > announced or (is_complete and octets < announced)):
            raise TFTPError(f"the server announced {announced} octets and sent {octets}")

    def _on_writer_waiting(self) -> None:
        self._send_last_ack_early()
        self._doubt.start_comparison()

    def _send_last_ack_early(self) -> None:
        """Send the last ACK before the file is committed, if all blocks have arrived.

        Many servers serve one client at a time: they read the second request only after this ACK.
        """
        if (
            self._machine.is_complete
            and self._doubt.will_compare
            and not self._session.is_finished
        ):
            self._session.send(self._machine.ack)
