"""The context of a transfer (the contents of its request), its outcome and its statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from twisted_tftp.policy import UploadSettings


class Endpoint(NamedTuple):
    """An IP address and a UDP port.

    @ivar host: the IP address as text, with `%scope` if it is an IPv6 link-local address.
    @ivar port: the UDP port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host, port = self  # unpacking is faster than two look-ups
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Direction(Enum):
    """The direction of a transfer, as the client sees it."""

    __hash__ = object.__hash__  # that of Enum is written in Python: three times as slow

    #: The server sends a file to the client (RRQ).
    READ = "read"
    #: The client sends a file to the server (WRQ).
    WRITE = "write"


def unknown_mac(host: str) -> None:
    """Return None: the MAC address of no host is known."""


class TransferContext(NamedTuple):
    """The contents of a request, for backends, sessions and observers.

    @ivar peer: the client's address and port.
    @ivar local: the address and port that the request was sent to; None if unknown.
    @ivar direction: a read or a write.
    @ivar filename: the octets of the file name as sent; L{path} is the same as text.
    @ivar mode: "octet" or "netascii".
    @ivar options: the requested options: the name of each in lower case, and its value as sent.
    @ivar announced_size: the size of the file in octets that a write announces with the option
        `tsize`; None if it announces none.
    @ivar uploads: the rules for this upload; None for those of the backend itself. A backend that
        provides L{IWriteModes<twisted_tftp.interfaces.IWriteModes>} obeys them.
    @ivar find_mac: returns the MAC address of a host; see L{mac}.
    """

    peer: Endpoint
    local: Endpoint | None
    direction: Direction
    filename: bytes
    mode: str
    options: Mapping[str, str]
    announced_size: int | None = None
    uploads: UploadSettings | None = None
    find_mac: Callable[[str], str | None] = unknown_mac

    @property
    def mac(self) -> str | None:
        """The MAC address of the client, such as `52:54:00:12:34:56`; None if it is unknown.

        It comes from the kernel's neighbour table, so it is known only if no router is between
        the client and the server. Each use looks it up.
        """
        return self.find_mac(self.peer.host)

    @property
    def path(self) -> str:
        """The file name as text: UTF-8, other octets as surrogate escapes (PEP 383)."""
        return self.filename.decode("utf-8", "surrogateescape")


class StoredFile(NamedTuple):
    """What a writer's `commit` may return: where the file is on the disk.

    @ivar path: the absolute path of the file.
    """

    path: bytes


class Outcome(Enum):
    """How a transfer ended."""

    #: The last block was acknowledged; a written file is visible under its name.
    COMPLETED = "completed"
    #: The client wanted only the size of the file: it answered the OACK with ERROR 8 or 0.
    SIZE_PROBE = "size-probe"
    #: The client ended the transfer with an ERROR.
    ABORTED = "aborted"
    #: The request was refused with an ERROR, before the transfer began.
    REFUSED = "refused"
    #: The client stopped answering.
    TIMED_OUT = "timed-out"
    #: The client had not answered, and ICMP reported that its port is closed (port unreachable).
    UNREACHABLE = "unreachable"
    #: The client had not answered, and sent a different request from the same port.
    REPLACED = "replaced"
    #: The transfer failed on our side.
    FAILED = "failed"
    #: The server was stopped; or, in single-port mode, the client sent another request although it
    #: had answered.
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class TransferStatistics:
    """The statistics of one transfer, in one object from its start to its end.

    @ivar context: the request of the transfer.
    @ivar granted: the granted options, (name, value).
    @ivar octets: the octets of the file that were transferred: acknowledged in a read, stored in
        a write.
    @ivar retransmissions: datagrams that were sent again.
    @ivar started: when the request arrived, in seconds of a monotonic clock.
    @ivar ended: when the transfer ended, in seconds of the same clock; None while it runs.
    @ivar outcome: how the transfer ended; None while it runs.
    @ivar error: the text of the error; empty if there was none. It may come from the peer: escape
        it before it is written to a log or a page.
    @ivar detail: the reason of a failure for the operator, if `error` does not say everything;
        otherwise empty. Escape it too.
    @ivar stored_path: the path of a complete upload on the disk; None if the backend did not tell
        it. The name in it may come from the peer.
    """

    context: TransferContext
    started: float
    granted: tuple[tuple[str, str], ...] = ()
    octets: int = 0
    retransmissions: int = 0
    ended: float | None = None
    outcome: Outcome | None = None
    error: str = ""
    detail: str = ""
    stored_path: bytes | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the request to the end; 0 while it runs."""
        return 0.0 if self.ended is None else self.ended - self.started
