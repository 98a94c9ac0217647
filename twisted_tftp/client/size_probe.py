"""Ask for the size of a file: the OACK is the result, and no file is transferred."""

from __future__ import annotations

from typing import Any

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.client.job import Rewind
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import OptionRefused, TFTPError
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import Grant
from twisted_tftp.session.receiving import ReceivingSession
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.transfer.timing import Timing


class _NoFile:
    """The local file of a size probe: nothing is written to it."""

    def abort(self) -> None:
        """Do nothing."""


class SizeProbe:
    """The L{Job} of a read request of which only the options of the answer matter."""

    is_read = True
    is_committing = False

    def make_session(
        self,
        context: TransferContext,
        link: ClientLink,
        services: SessionServices,
        owner: SessionOwner,
    ) -> ReceivingSession:
        """Return a session, which ends before it receives anything."""
        self._session = ReceivingSession(context, link, services, owner)
        return self._session

    def open_file(self) -> Any:
        """Return a file without a place."""
        return _NoFile()

    def announced_size(self) -> int:
        """Return 0, which asks the server for the size (RFC 2349)."""
        return 0

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Keep the doubt about the answer."""
        self._doubt = doubt

    def proceed(self) -> None:
        """End the server's transfer and take the result, or wait for the end of the doubt."""
        if self._doubt.is_open and not self._doubt.can_compare:
            return  # `settled` continues
        # Before the second request, because a server may serve only one client at a time.
        self._end_server_transfer()
        if self._doubt.is_open:
            self._doubt.compare()
        else:
            self._session.complete()

    def receive(self, datagram: Buffer, now: float) -> None:
        """Ignore what the server sends before it has read our ERROR."""

    def settled(self) -> None:
        """Take the result."""
        if not self._doubt.can_compare:
            self._end_server_transfer()
        self._session.complete()

    def cancel(self, message: str) -> None:
        """End the request; with a `message` the server is told."""
        self._session.cancel(message)

    @property
    def believes_errors(self) -> bool:
        """Whether an ERROR ends the request although the answer is in doubt.

        It may answer our own ERROR, which some small servers do not understand. If there is a
        second request, its answer decides.
        """
        return not self._doubt.can_compare

    def rewind(self) -> Rewind:
        """Return that the request can be sent again."""
        return Rewind.DONE

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return `reason`: there is no local file."""
        return reason

    def _end_server_transfer(self) -> None:
        self._session.send(wire.error(OptionRefused("only the size was wanted")))
