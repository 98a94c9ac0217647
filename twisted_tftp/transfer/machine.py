"""The interface of the state machines, and the actions that they request from a session."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from twisted_tftp.errors import TFTPError

#: Octets of a datagram or of a file.
Buffer = bytes | memoryview


class Step(Enum):
    """What the session must do after a call of a machine."""

    #: Nothing: the machine waits for a datagram or its deadline.
    WAIT = "wait"
    #: Send `datagrams`.
    SEND = "send"
    #: Sender: read `length` octets from `offset`, and pass them to `supply`.
    READ = "read"
    #: Receiver: store the octets that `take` returns, then call `stored`.
    STORE = "store"
    #: Nothing: the machine has ended; see its `state`, `failure` and `peer_error`.
    END = "end"


# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
WAIT = Step.WAIT
SEND = Step.SEND
READ = Step.READ
STORE = Step.STORE
END = Step.END


class Machine(Protocol):
    """A state machine that exchanges packets with a peer; it has no socket and no timer.

    `now` is the time in seconds of a monotonic clock.

    @ivar deadline: when to call `expire`; infinite if there is no deadline.
    @ivar datagrams: what to send after a `Step.SEND`: one datagram, or a window of DATA packets as
        header, octets, header, octets, ... (each header and the octets after it are one datagram).
    @ivar failure: the failure to report to the peer after a `Step.END`, or None.
    @ivar peer_error: code and message of the ERROR that has ended the exchange, or None.
    @ivar retransmissions: how many datagrams were sent again.
    """

    deadline: float
    datagrams: Sequence[Buffer]
    failure: TFTPError | None
    peer_error: tuple[int, str] | None
    retransmissions: int

    def start(self, now: float) -> Step:
        """Begin."""

    def receive(self, datagram: Buffer, now: float) -> Step:
        """Process a datagram of the peer."""

    def expire(self, now: float) -> Step:
        """Handle the deadline: send again, or give up."""


class TransferMachine(Machine, Protocol):
    """A machine that transfers the blocks of a file."""

    @property
    def has_answered(self) -> bool:
        """Whether the peer has answered, which a forged address can't do."""

    @property
    def answered_at(self) -> float:
        """When the peer's first packet came; infinite before that."""

    @property
    def octets(self) -> int:
        """Octets of the file that were transferred so far."""

    @property
    def repeats_first_answer(self) -> bool:
        """Whether its next datagram could be mistaken for the answer to a request."""

    def repeat(self, now: float) -> Step:
        """Handle a repeated request: send the first answer again, unless it was answered."""

    def is_overdue(self, now: float) -> bool:
        """Return whether a peer that had never answered would be given up after this silence."""

    def note_port_unreachable(self) -> None:
        """Note that the peer's port seems to be closed: wait less, until its next packet."""
