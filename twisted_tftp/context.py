"""Record one transfer: who asks for what, and how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address: `host` in text form (with `%scope` where it is link-local) and UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Direction(Enum):
    """Which way the file goes, in the client's words."""

    READ = "read"
    WRITE = "write"


class TransferContext(NamedTuple):
    """What a request says, for backends, sessions and observers.

    @ivar peer: the client's address and port.
    @ivar local: the address and port that the request reached; None where it can't be told.
    @ivar direction: a read or a write.
    @ivar filename: the name's octets as sent. Backends get the same name as text beside it.
    @ivar mode: "octet" or "netascii".
    @ivar options: what was asked: lower-case name to value as sent.
    @ivar announced_size: octets that a write announces with tsize, or None.
    """

    peer: Endpoint
    local: Endpoint | None
    direction: Direction
    filename: bytes
    mode: str
    options: Mapping[str, str]
    announced_size: int | None = None

    @property
    def path(self) -> str:
        """The name as text: UTF-8, other octets as surrogate escapes (PEP 383)."""
        return self.filename.decode("utf-8", "surrogateescape")


class Outcome(Enum):
    """How a transfer ended."""

    #: The last block was acknowledged; a written file is in its place.
    COMPLETED = "completed"
    #: The client only wanted the OACK: it sent ERROR 8 or 0 in answer to it.
    SIZE_PROBE = "size-probe"
    #: The client ended it with an ERROR.
    ABORTED = "aborted"
    #: The request was refused, before anything was sent.
    REFUSED = "refused"
    #: The client fell silent.
    TIMED_OUT = "timed-out"
    #: The client's host said that its port is closed, before the client had answered.
    UNREACHABLE = "unreachable"
    #: The client had not answered, and asked for something else from the same port.
    REPLACED = "replaced"
    #: It broke on our side.
    FAILED = "failed"
    #: The server was stopped, or the client began anew from the same port.
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class TransferStatistics:
    """How one transfer went; the same object from its start to its end.

    @ivar granted: the options granted, (name, value).
    @ivar octets: octets of the file that arrived: acknowledged on a read, stored on a write.
    @ivar retransmissions: datagrams that were sent again.
    @ivar started: when the request came, in seconds of a monotonic clock.
    @ivar ended: when it ended, or None while it runs.
    @ivar error: the text of what went wrong, for people; the peer's words where they are its.
    """

    context: TransferContext
    started: float
    granted: tuple[tuple[str, str], ...] = ()
    octets: int = 0
    retransmissions: int = 0
    ended: float | None = None
    outcome: Outcome | None = None
    error: str = ""

    @property
    def seconds(self) -> float:
        """Seconds from the request to the end; 0 while it runs."""
        return 0.0 if self.ended is None else self.ended - self.started
