"""The interface of what a client does with one file: download, upload, or ask for its size."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.context import TransferContext
from twisted_tftp.errors import TFTPError
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer
from twisted_tftp.protocol.options import Grant
from twisted_tftp.session.base import Session
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.transfer.timing import Timing


class Rewind(Enum):
    """Whether a transfer can begin again at the start of its file, to send the request again."""

    #: It can: the file is in the same state as before the request.
    DONE = "done"
    #: It can, after the file is opened again.
    REOPEN = "reopen"
    #: It can't: octets were written that can't be removed, or read that can't be read again.
    IMPOSSIBLE = "impossible"


class Job(Protocol):
    """What one L{ClientTransfer} does with its file, apart from the request and its answer.

    The transfer calls the first six methods in the order in which they are here.

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
        """Return the octets to send as tsize (RFC 2349): 0 for a read, None if unknown."""

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Prepare to continue from the server's answer.

        @param grant: the parameters of the transfer.
        @param timing: the timeouts of the transfer.
        @param doubt: whether the answer can be trusted yet.
        @raise TFTPError: the answer does not fit the request.
        """

    def proceed(self) -> None:
        """Continue from the answer."""

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that follows the answer."""

    def on_settled(self) -> None:
        """Do what had to wait, because the answer can be trusted now."""

    @property
    def is_error_final(self) -> bool:
        """Whether an ERROR ends the transfer although the answer is in doubt."""

    @property
    def is_committing(self) -> bool:
        """Whether the local file is being committed, so that no other answer can be accepted."""

    def rewind(self) -> Rewind:
        """Go back to the start of the file, if possible, because the request is sent again."""

    def cancel(self, message: str) -> None:
        """End the transfer; with a `message` the server is told."""

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return the failure `reason`, with a note in its text if the local file was the cause."""
