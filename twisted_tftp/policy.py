"""Say what a server grants and how long it waits: one immutable object, checked when made."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

#: Addresses that have a prefix in common.
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The smallest block size, in octets (RFC 2348).
MIN_BLKSIZE = 8

#: The largest block size, in octets (RFC 2348).
MAX_BLKSIZE = 65464

#: The block size where none was negotiated (RFC 1350 section 2).
DEFAULT_BLKSIZE = 512

#: A window and the one before it must differ by their 16-bit block numbers.
LARGEST_WINDOWSIZE = 32767


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
        _within("timeout", self.timeout, 0.01, 255)
        _within("retries", self.retries, 1, 1000)
        _within("max-blksize", self.max_blksize, MIN_BLKSIZE, MAX_BLKSIZE)
        _within("max-windowsize", self.max_windowsize, 1, LARGEST_WINDOWSIZE)
        _within("max-transfers", self.max_transfers, 1, 1_000_000)
        if self.max_per_client is not None:
            _within("max-per-client", self.max_per_client, 1, 1_000_000)
        if self.rate is not None:
            _within("rate", self.rate, 0.001, 1_000_000)
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


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")
