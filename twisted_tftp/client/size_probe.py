"""Ask a server for the size of a file, without transferring the file.

The request is an RRQ with the option `tsize` (RFC 2349). The server tells the size in its OACK,
which the client answers with an ERROR.
"""

from __future__ import annotations

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.job import Restart
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import OptionRefused, TFTPError
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import Grant
from twisted_tftp.session.receiving import ReceivingSession
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.timing import Timing


class _NoFile:
    """The writer of a size probe. A session needs one, but nothing is written to it."""

    def abort(self) -> None:
        """Do nothing."""


class SizeProbe:
    """The L{Job} of a request for the size of a file."""

    is_read = True
    has_blocks = False
    is_committing = False

    def make_session(
        self,
        context: TransferContext,
        link: ClientLink,
        services: SessionServices,
        owner: SessionOwner,
    ) -> ReceivingSession:
        """Return a session, which is completed before it receives DATA."""
        self._session = ReceivingSession(context, link, services, owner)
        return self._session

    def open_file(self) -> _NoFile:
        """Return a writer that stores nothing."""
        return _NoFile()

    def announced_size(self) -> int:
        """Return 0, which asks the server for the size (RFC 2349)."""
        return 0

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Note whether the answer can be trusted yet."""
        self._doubt = doubt

    def proceed(self) -> None:
        """End the server's transfer, and complete the request or wait for the end of the doubt."""
        if self._doubt.is_open and not self._doubt.can_compare:
            return  # `on_settled` continues
        # This comes before the second request: the server may serve only one client at a time.
        self._end_server_transfer()
        if self._doubt.is_open:
            self._doubt.start_comparison()
        else:
            self._session.complete()

    def receive(self, datagram: Buffer, now: float) -> None:
        """Ignore a datagram that the server has sent before it has read our ERROR."""

    def on_settled(self) -> None:
        """Complete the request: the options of the answer are the result."""
        if not self._doubt.can_compare:
            self._end_server_transfer()
        self._session.complete()

    def cancel(self, message: str) -> None:
        """End the request; with a `message` the server is told."""
        self._session.cancel(message)

    @property
    def is_error_final(self) -> bool:
        """Whether an ERROR ends the request although the answer is in doubt.

        Some small servers do not understand our own ERROR, and answer it with an ERROR. So if
        there is a second request, its answer decides.
        """
        return not self._doubt.can_compare

    def prepare_restart(self) -> Restart:
        """Return `Restart.READY`: nothing was written, so the request can be sent again."""
        return Restart.READY

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return `reason` unchanged, because there is no local file."""
        return reason

    def _end_server_transfer(self) -> None:
        self._session.send(wire.error(OptionRefused("only the size was wanted")))
