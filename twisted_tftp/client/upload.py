"""Upload a file: send a WRQ, then send the local file as DATA."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.failure_reasons import with_local_cause
from twisted_tftp.client.held_reader import HeldReader
from twisted_tftp.client.job import Restart
from twisted_tftp.client.local_file import LocalFile
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.interfaces import IFileReader
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol.options import Grant
from twisted_tftp.session.sending import SendingSession
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.transfer.first_answer import Standing
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.timing import Timing

#: How far an upload reads ahead of the window that it sends, in octets.
READ_AHEAD = 64 * 1024


class Upload:
    """The L{Job} of an upload."""

    is_read = False
    has_blocks = True
    is_error_final = True
    #: The client commits nothing: the server stores the file.
    is_committing = False

    def __init__(self, local: LocalFile) -> None:
        """Set up an upload of `local`."""
        self._local = local
        self._held: HeldReader | None = None

    def make_session(
        self,
        context: TransferContext,
        link: ClientLink,
        services: SessionServices,
        owner: SessionOwner,
    ) -> SendingSession:
        """Return the session that sends the file."""
        self._context = context
        self._session = SendingSession(context, link, services, owner)
        return self._session

    def open_file(self) -> IFileReader | Deferred[Any]:
        """Return the reader of the local file."""
        return self._local.open_reader(self._context)

    def announced_size(self) -> int | None:
        """Return the size of the local file in octets; None if it is unknown."""
        size: int | None = self._session.file.size
        return size

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Make the sender, and a reader that holds the end back while the answer is in doubt."""
        standing = doubt.first_answer.standing
        if standing is not Standing.PROVEN:
            self._held = HeldReader(
                self._session.file, can_reread=self._local.has_path, is_held=doubt.is_open
            )
            self._session.replace_file(self._held)
        size = self._session.file.size
        # Octets from a pipe are sent as soon as they fill a window, so nothing is read ahead. If
        # options are missing, the read that returns the end of the file has to wait. Without
        # read-ahead, only the last window waits for it.
        is_immediate = size is None or standing is Standing.OPTIONS_MISSING
        self._machine = Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=size,
            oack=None,
            timing=timing,
            rollover=grant.rollover,
            read_ahead=0 if is_immediate else READ_AHEAD,
            has_answered=True,
        )

    def proceed(self) -> None:
        """Begin to send."""
        self._session.begin(self._machine)

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram of the transfer."""
        self._session.receive(datagram, now)

    def on_settled(self) -> None:
        """Send the data that was held back."""
        if self._held is not None:
            self._held.stop_holding()

    def cancel(self, message: str) -> None:
        """End the transfer; with a `message` the server is told."""
        self._session.cancel(message)

    def prepare_restart(self) -> Restart:
        """Use the file from its start again, if possible."""
        held = self._held
        if held is None:
            return Restart.READY  # nothing was read
        if held.is_reading or held.has_returned_end:
            return Restart.IMPOSSIBLE  # the server may have stored the file
        if held.offset and not self._local.has_path:
            return Restart.IMPOSSIBLE
        self._held = None
        self._session.replace_file(held.reader)
        # The offsets of a reader never decrease, so the file is opened again to start from 0.
        return Restart.AFTER_REOPENING if held.offset else Restart.READY

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return `reason`, with a note if the server had to wait too long for the local input."""
        outcome = self._session.statistics.outcome
        held = self._held
        is_waiting = self._session.is_reading and (held is None or held.is_reading)
        return with_local_cause(
            reason, outcome, is_waiting, "local input supplied too little data"
        )
