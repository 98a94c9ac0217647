"""The policy of a server: its limits, timeouts and access rules, in one immutable object."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

#: An IP network: the addresses with a common prefix.
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The UDP port on which servers listen for requests (RFC 1350 section 4).
TFTP_PORT = 69

#: The smallest block size, in octets (RFC 2348).
MIN_BLKSIZE = 8

#: The largest block size, in octets (RFC 2348).
MAX_BLKSIZE = 65464

#: The block size if none was negotiated, in octets (RFC 1350 section 2).
DEFAULT_BLKSIZE = 512

#: The largest window, in blocks: the 16-bit block numbers of two consecutive windows must differ.
MAX_WINDOWSIZE = 32767

#: The options of a request that a server can grant (RFC 2348, 2349 and 7440; the others are those
#: of tftp-hpa, and our own `xid`).
NEGOTIATED_OPTIONS = (
    "blksize",
    "blksize2",
    "windowsize",
    "timeout",
    "utimeout",
    "rollover",
    "tsize",
    "xid",
)

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Range(Generic[_Number]):
    """A range of allowed numbers.

    @ivar low: the lowest allowed number.
    @ivar high: the highest allowed number.
    """

    low: _Number
    high: _Number

    def check(self, value: float) -> None:
        """Check a number.

        @raise ValueError: it is out of range. The text continues the name: "must be from ...".
        """
        if not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}, not {value}")


#: The allowed timeouts, in seconds.
TIMEOUT_RANGE = Range(0.01, 255)

#: The allowed numbers of consecutive timeouts after which a transfer is given up.
RETRIES_RANGE = Range(1, 1000)

#: How many timeouts a peer that has never answered may be silent, if `retries` is not given. A
#: backend gets the same time to open a file.
DEFAULT_RETRIES = 10

#: How long a peer that has answered may be silent by default, in seconds: longer than firmware
#: needs to erase its flash memory.
DEFAULT_PATIENCE = 60.0

#: The allowed times of silence after which a transfer is given up, in seconds.
PATIENCE_RANGE = Range(0.01, 3600)

#: The allowed block sizes, in octets.
BLKSIZE_RANGE = Range(MIN_BLKSIZE, MAX_BLKSIZE)

#: The allowed windows, in blocks.
WINDOWSIZE_RANGE = Range(1, MAX_WINDOWSIZE)

#: The allowed numbers of simultaneous transfers, in total or of one client.
TRANSFERS_RANGE = Range(1, 1_000_000)

#: The allowed limits of octets per second.
MAX_RATE_RANGE = Range(1, 1 << 40)

#: The allowed numbers of new requests per second.
RATE_RANGE = Range(0.001, 1_000_000)


class Retransmit(Enum):
    """How the retransmission timeout is chosen."""

    #: From the measured round-trip time, doubled at each retransmission (RFC 6298).
    ADAPTIVE = "adaptive"
    #: The configured or negotiated timeout each time (RFC 2349).
    FIXED = "fixed"


class MtuFit(Enum):
    """Which block sizes are lowered to fit the MTU of the route to the client."""

    #: Those that fit an Ethernet frame. A client that asks for larger blocks accepts fragments.
    AUTO = "auto"
    #: All.
    ALWAYS = "always"
    #: None: the MTU of the route is ignored.
    NEVER = "never"


class Rollover(Enum):
    """The block number that follows 65535."""

    __hash__ = object.__hash__  # that of Enum is written in Python: three times as slow

    #: Block 0 follows, as in most servers.
    ZERO = "0"
    #: Block 1 follows.
    ONE = "1"
    #: No number may follow: a transfer of more than 65,535 blocks fails.
    NONE = "none"


class WriteMode(Enum):
    """Which files a client may write."""

    #: None.
    NEVER = "never"
    #: New files; existing files are not replaced.
    CREATE = "create"
    #: New files and existing ones.
    OVERWRITE = "overwrite"
    #: Each upload is kept as a file of its own, with its time in its name.
    VERSION = "version"


@dataclass(frozen=True)
class UploadSettings:
    """What a client may write, and what becomes of an upload.

    @ivar write: which files may be written.
    @ivar keep: with `WriteMode.VERSION`, how many versions of a file are kept; None for all.
    @ivar make_dirs: whether an upload makes the directories that are missing in its path.
    """

    write: WriteMode = WriteMode.NEVER
    keep: int | None = None
    make_dirs: bool = False


@dataclass(frozen=True)
class Policy:
    """The limits, timeouts and access rules of a server. The names are those of the command line.

    @ivar timeout: seconds until the first retransmission; also the longest retransmission timeout
        in the first ten seconds of silence, if the client negotiated no other one.
    @ivar patience: a peer that has answered is given up if it sends nothing for so many seconds.
    @ivar retries: if it is not None, it replaces `patience`: a peer is given up if it sends
        nothing for `retries` times the longest timeout.
    @ivar retransmit: whether the retransmission timeouts are adaptive or fixed.
    @ivar max_blksize: the largest block size that is granted, in octets.
    @ivar mtu_fit: which block sizes are lowered to fit the MTU of the route to the client, but
        not below 512 octets.
    @ivar max_windowsize: the largest window that is granted, in blocks.
    @ivar rollover: the block number that follows 65535 if the client does not negotiate it.
    @ivar refuse: the options that are never granted: names out of `NEGOTIATED_OPTIONS`.
    @ivar port_range: lowest and highest local port of a transfer; None lets the system choose.
    @ivar single_port: whether all transfers use the request port.
    @ivar interface: the only interface that all sockets use; None for all interfaces.
    @ivar freebind: whether the server may listen on addresses that this host does not have yet.
    @ivar broadcast: whether requests to IPv4 broadcast addresses are answered.
    @ivar max_upload: the largest size of a written file, in octets; None for no limit.
    @ivar max_transfers: simultaneous transfers; requests above this number are not answered.
    @ivar max_per_client: simultaneous transfers of one address; None for no limit.
    @ivar rate: new requests per second of one source (an IPv4 address, an IPv6 /64); None for no
        limit.
    @ivar unproven_rate: octets per second for the addresses of one network (an IPv4 /24, an IPv6
        /56) that have not answered; 0 for no limit.
    @ivar allow: networks that may send requests; empty for all.
    @ivar deny: networks that may not. If an address is in several networks, the one with the
        longest prefix decides.
    @ivar allow_write: networks that may write; empty for all that may send requests.
    """

    timeout: float = 1.0
    patience: float = DEFAULT_PATIENCE
    retries: int | None = None
    retransmit: Retransmit = Retransmit.ADAPTIVE
    max_blksize: int = MAX_BLKSIZE
    mtu_fit: MtuFit = MtuFit.AUTO
    max_windowsize: int = 64
    rollover: Rollover = Rollover.ZERO
    refuse: frozenset[str] = frozenset()
    port_range: tuple[int, int] | None = None
    single_port: bool = False
    interface: str | None = None
    freebind: bool = False
    broadcast: bool = False
    max_upload: int | None = None
    max_transfers: int = 10000
    max_per_client: int | None = None
    rate: float | None = None
    unproven_rate: int = 20 * 1024
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    allow_write: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        """Check every value.

        @raise ValueError: a value is out of range; the message names it.
        """
        _check("timeout", self.timeout, TIMEOUT_RANGE)
        _check("patience", self.patience, PATIENCE_RANGE)
        _check("retries", self.retries, RETRIES_RANGE)
        _check("max-blksize", self.max_blksize, BLKSIZE_RANGE)
        _check("max-windowsize", self.max_windowsize, WINDOWSIZE_RANGE)
        _check("max-transfers", self.max_transfers, TRANSFERS_RANGE)
        _check("max-per-client", self.max_per_client, TRANSFERS_RANGE)
        _check("rate", self.rate, RATE_RANGE)
        unknown = self.refuse.difference(NEGOTIATED_OPTIONS)
        if unknown:
            raise ValueError(
                f"refuse must be one of {', '.join(NEGOTIATED_OPTIONS)}, not {min(unknown)!r}"
            )
        if self.unproven_rate < 0:
            raise ValueError("unproven-rate must not be negative")
        both = set(self.allow) & set(self.deny)
        if both:
            raise ValueError(f"allow and deny: {min(map(str, both))} is both allowed and denied")
        if self.max_upload is not None and self.max_upload < 0:
            raise ValueError("max-upload must not be negative")
        if self.port_range is not None:
            low, high = self.port_range
            if not 1 <= low <= high <= 65535:
                raise ValueError("port-range must be LO:HI with 1 <= LO <= HI <= 65535")
            if self.single_port:
                raise ValueError("port-range and single-port exclude each other")

    @property
    def opening_time(self) -> float:
        """How long to wait for a backend that opens a file, in seconds.

        The time starts again when the client repeats its request.
        """
        return (self.retries or DEFAULT_RETRIES) * self.timeout


def _check(name: str, value: float | None, allowed: Range[int] | Range[float]) -> None:
    """Check that a number is in a range; None, for no limit, is always valid."""
    if value is None:
        return
    try:
        allowed.check(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
