"""The states of the machines; each comment says what the machine waits for.

The docstrings of `sender` and `receiver` show which state follows which.
"""

from __future__ import annotations

from enum import Enum


class AskerState(Enum):
    """The state of an asker."""

    #: The server's first answer.
    ASKING = "asking"
    #: Nothing: the server has answered, see `answer`.
    ANSWERED = "answered"
    #: Nothing: the request has failed, see `failure` or `peer_error`.
    FAILED = "failed"


class SenderState(Enum):
    """The state of a sender."""

    #: The ACK 0 that accepts the OACK.
    OFFERING = "offering"
    #: An ACK of the window that was sent, or octets of the next window from the source.
    SENDING = "sending"
    #: Nothing: the last block was acknowledged.
    DONE = "done"
    #: Nothing: the transfer has failed, see `failure` or `peer_error`.
    FAILED = "failed"


class ReceiverState(Enum):
    """The state of a receiver."""

    #: The next block.
    RECEIVING = "receiving"
    #: The session's call of `stored`, after it has stored what `take` returned.
    STORING = "storing"
    #: A repeated last block, which comes if its ACK was lost.
    DALLYING = "dallying"
    #: Nothing: the file is complete.
    DONE = "done"
    #: Nothing: the transfer has failed, see `failure` or `peer_error`.
    FAILED = "failed"
