"""Say what a server grants and how long it waits: one immutable object, checked when made."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

#: Addresses that have a prefix in common.
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The UDP port on which servers listen for requests (RFC 1350 section 4).
TFTP_PORT = 69

#: The smallest block size, in octets (RFC 2348).
MIN_BLKSIZE = 8

#: The largest block size, in octets (RFC 2348).
MAX_BLKSIZE = 65464

#: The block size where none was negotiated (RFC 1350 section 2).
DEFAULT_BLKSIZE = 512

#: A window and the one before it must differ by their 16-bit block numbers.
LARGEST_WINDOWSIZE = 32767

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Range(Generic[_Number]):
    """The lowest and the highest value that a number may have; both are allowed."""

    low: _Number
    high: _Number

    def check(self, value: float) -> None:
        """Check a number.

        @raise ValueError: it is outside; the message continues the name of the number.
        """
        if not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}, not {value}")


#: Seconds between two retransmissions.
TIMEOUT_RANGE = Range(0.01, 255)

#: Timeouts without an answer after which the peer is given up.
RETRIES_RANGE = Range(1, 1000)

#: Octets of a block.
BLKSIZE_RANGE = Range(MIN_BLKSIZE, MAX_BLKSIZE)

#: Blocks of a window that a server may grant.
WINDOWSIZE_RANGE = Range(1, LARGEST_WINDOWSIZE)

#: Transfers at once, in total or of one client.
TRANSFERS_RANGE = Range(1, 1_000_000)

#: New requests a second.
RATE_RANGE = Range(0.001, 1_000_000)


class Retransmit(Enum):
    """How long to wait before a datagram is sent again."""

    #: As measured: the round trip's estimate, doubled at each try (RFC 6298).
    ADAPTIVE = "adaptive"
    #: The configured or negotiated timeout each time (RFC 2349).
    FIXED = "fixed"


class Rollover(Enum):
    """Which block number follows 65535."""

    ZERO = "0"
    ONE = "1"
    #: None does: a transfer of more than 65,535 blocks fails.
    NONE = "none"


@dataclass(frozen=True)
class Policy:
    """What a server grants and how long it waits; the names are those of the command line.

    @ivar timeout: seconds until the first retransmission, and the longest wait between two
        where the client negotiated none.
    @ivar retries: a client is given up after this many timeouts of silence.
    @ivar retransmit: adaptive or fixed waits.
    @ivar max_blksize: octets of a block at most.
    @ivar max_windowsize: blocks of a window at most.
    @ivar rollover: which block follows 65535 where the client does not ask.
    @ivar port_range: lowest and highest local port of a transfer; None leaves it to the system.
    @ivar single_port: all transfers answer from the request port.
    @ivar max_upload: octets of a written file at most; None for no bound.
    @ivar max_transfers: transfers at once; requests above it are not answered.
    @ivar max_per_client: transfers at once of one address; None for no bound.
    @ivar rate: new requests a second of one source (an IPv4 address, an IPv6 /64); None for no
        bound.
    @ivar allow: networks that may ask; none for all.
    @ivar deny: networks that may not. Of the networks that an address is in, the one with the
        longest prefix decides.
    @ivar allow_write: networks that may write; none for all that may ask.
    """

    timeout: float = 1.0
    retries: int = 10
    retransmit: Retransmit = Retransmit.ADAPTIVE
    max_blksize: int = MAX_BLKSIZE
    max_windowsize: int = 64
    rollover: Rollover = Rollover.ZERO
    port_range: tuple[int, int] | None = None
    single_port: bool = False
    max_upload: int | None = None
    max_transfers: int = 10000
    max_per_client: int | None = None
    rate: float | None = None
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    allow_write: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        """Check every value.

        @raise ValueError: one is out of its range; the message names it.
        """
        _check("timeout", self.timeout, TIMEOUT_RANGE)
        _check("retries", self.retries, RETRIES_RANGE)
        _check("max-blksize", self.max_blksize, BLKSIZE_RANGE)
        _check("max-windowsize", self.max_windowsize, WINDOWSIZE_RANGE)
        _check("max-transfers", self.max_transfers, TRANSFERS_RANGE)
        _check("max-per-client", self.max_per_client, TRANSFERS_RANGE)
        _check("rate", self.rate, RATE_RANGE)
        both = set(self.allow) & set(self.deny)
        if both:
            raise ValueError(f"{min(map(str, both))} is both allowed and denied")
        if self.max_upload is not None and self.max_upload < 0:
            raise ValueError("max-upload must not be negative")
        if self.port_range is not None:
            low, high = self.port_range
            if not 1 <= low <= high <= 65535:
                raise ValueError("port-range must be LO:HI with 1 <= LO <= HI <= 65535")
            if self.single_port:
                raise ValueError("port-range and single-port exclude each other")


def _check(name: str, value: float | None, allowed: Range[int] | Range[float]) -> None:
    """Check a number that may be None, for no limit."""
    if value is None:
        return
    try:
        allowed.check(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
