"""The interface of what a client does with one file: download, upload, or ask for its size."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol.options import Grant
from twisted_tftp.session.base import Session
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.timing import Timing


class Restart(Enum):
    """Whether a transfer can start again from its request, at the beginning of its file."""

    #: It can: the file is as it was before the request.
    READY = "ready"
    #: It can, after the file is opened again.
    AFTER_REOPENING = "after reopening"
    #: It can't: octets were written that can't be removed, or read that can't be read again.
    IMPOSSIBLE = "impossible"


class Job(Protocol):
    """What one L{ClientTransfer} does with its file; the transfer itself handles the request.

    The transfer calls the methods from `make_session` to `receive` in this order.

    @ivar is_read: whether the request is an RRQ.
    @ivar has_blocks: whether blocks of a file follow the answer.
    """

    is_read: bool
    has_blocks: bool

    def make_session(
        self,
        context: TransferContext,
        link: ClientLink,
        services: SessionServices,
        owner: SessionOwner,
    ) -> Session:
        """Return the session that will transfer the file."""

    def open_file(self) -> object:
        """Return an L{IFileReader} or an L{IFileWriter} of the local file, or a Deferred of it."""

    def announced_size(self) -> int | None:
        """Return the size in octets to send as tsize (RFC 2349): 0 for a read, None if unknown."""

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Prepare to continue from the server's answer.

        @param grant: the parameters of the transfer.
        @param timing: the timeouts of the transfer.
        @param doubt: the doubt about the answer, which tells whether a file may be committed.
        @raise TFTPError: the answer does not fit the request.
        """

    def proceed(self) -> None:
        """Continue from the answer."""

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that follows the answer."""

    def on_settled(self) -> None:
        """Continue with what had to wait, because the answer can be trusted now."""

    @property
    def is_error_final(self) -> bool:
        """Whether an ERROR ends the transfer although the answer is in doubt."""

    @property
    def is_committing(self) -> bool:
        """Whether the local file is being committed, so that the answer can't be given up."""

    def prepare_restart(self) -> Restart:
        """Undo what was done with the file, if possible, so that the request can be sent again."""

    def cancel(self, message: str) -> None:
        """End the transfer; with a `message` the server is told."""

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return the failure `reason`, with a note in its text if the local file was the cause."""
