"""The interface of what a client does with one file: download it, upload it, or ask its size."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

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
    """The result of going back to the start of a file, to send the request again."""

    #: The file is in the same state as before the request.
    DONE = "done"
    #: The file is a path, which must be opened again.
    REOPEN = "reopen"
    #: Octets of another file were written, or octets were read that can't be read again.
    IMPOSSIBLE = "impossible"


class Job(Protocol):
    """What a `ClientTransfer` is for; the methods are in the order in which they are called.

    @ivar is_read: whether the request is an RRQ.
    """

    is_read: bool

    def make_session(
        self,
        context: TransferContext,
        link: ClientLink,
        services: SessionServices,
        owner: SessionOwner,
    ) -> Session:
        """Return the session that will transfer the file."""

    def open_file(self) -> Any:
        """Return the local file, or a Deferred of it."""

    def announced_size(self) -> int | None:
        """Return the octets to announce with tsize (0 for a read); None if they are not known."""

    def prepare(self, answer: bytes, grant: Grant, timing: Timing, doubt: Doubt) -> None:
        """Get ready to continue from the server's answer; it may still be in doubt.

        @raise TFTPError: the answer does not fit.
        """

    def proceed(self) -> None:
        """Continue from the answer."""

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram after the answer."""

    def settled(self) -> None:
        """Do what had to wait for the end of the doubt."""

    @property
    def believes_errors(self) -> bool:
        """Whether an ERROR ends the transfer although the answer is in doubt."""

    @property
    def is_committing(self) -> bool:
        """Whether the local file is being committed, so that the transfer can't go back."""

    def rewind(self) -> Rewind:
        """Go back to the start of the file, if possible."""

    def cancel(self, message: str) -> None:
        """End the transfer; with a `message` the server is told."""

    def explain(self, reason: TFTPError) -> TFTPError:
        """Return the failure `reason`, with what the local file has to do with it."""
