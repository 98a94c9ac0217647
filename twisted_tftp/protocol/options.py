"""Option negotiation: `negotiate` grants options as a server, `accept` checks an OACK as a client.

The options are those of RFC 2347 (the mechanism), 2348 (blksize), 2349 (timeout, tsize) and 7440
(windowsize), and tftp-hpa's blksize2 (a power of two), utimeout (microseconds) and rollover.

The option `xid` is our own: a random number in hexadecimal digits that a client chooses. The
server grants it unchanged, so that the client can tell that the OACK answers its own request.

The server grants an option as requested, grants a lower value, or ignores it. No option makes a
transfer fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from twisted_tftp.errors import OptionRefused
from twisted_tftp.policy import (
    DEFAULT_BLKSIZE,
    MAX_BLKSIZE,
    MIN_BLKSIZE,
    Policy,
    Rollover,
)
from twisted_tftp.protocol import wire

#: The option by which a client recognises the answer to its own request.
XID = "xid"

#: The valid values of `XID`.
_XID_VALUE = re.compile(r"[0-9a-f]{1,16}\Z")

#: The largest number of options in a request whose negotiation is cached: one of each kind.
MAX_CACHED_OPTIONS = 8

#: Decimal numbers of up to 20 digits: TFTP needs no longer ones, and int() is slow on them.
_DECIMAL = re.compile(r"[0-9]{1,20}\Z")


@dataclass(frozen=True)
class Grant:
    """The negotiated parameters of one transfer.

    @ivar timeout: the negotiated timeout in seconds, or None.
    @ivar accepted: the options of the OACK except `xid`, (name, value), in the order of the
        request.
    @ivar oack: the OACK, or None if no option was granted (RFC 2347 section 3).
    """

    blksize: int
    windowsize: int
    timeout: float | None
    rollover: Rollover
    accepted: tuple[tuple[str, str], ...]
    oack: bytes | None


def announced_size(options: Mapping[str, str]) -> int | None:
    """Return the file size in octets that the tsize of a write request announces, or None."""
    return _number(options, "tsize", 0, 2**64 - 1)


def negotiate(
    options: Mapping[str, str],
    policy: Policy,
    *,
    tsize: int | None = None,
    room: int | None = None,
) -> Grant:
    """Return what a server grants of the `options` of a request.

    @param options: name (lower case) to value, in the order of the request.
    @param tsize: the value to answer `tsize` with: the file's size on a read, the announced
        size on a write; None to leave `tsize` out.
    @param room: octets of datagrams that the socket's receive buffer holds: the end of a larger
        window would be lost each time. None for no limit.
    """
    if XID in options:
        return _with_xid(options, policy, tsize, room)
    # Booting machines send the same options again and again, so the result is cached. Requests
    # with many options are not cached: real clients do not send them.
    decide = _negotiate_cached if len(options) <= MAX_CACHED_OPTIONS else _negotiate
    # Single values of the policy are the cache's key: hashing the whole policy would take longer
    # than everything else.
    return decide(
        tuple(options.items()),
        policy.max_blksize,
        policy.max_windowsize,
        policy.rollover,
        tsize,
        room,
    )


def _with_xid(
    options: Mapping[str, str], policy: Policy, tsize: int | None, room: int | None
) -> Grant:
    """Negotiate the other options, then add the xid to the OACK.

    Each request has a different xid, so it must not become part of the cache's key.
    """
    others = {name: value for name, value in options.items() if name != XID}
    grant = negotiate(others, policy, tsize=tsize, room=room)
    if not _XID_VALUE.match(options[XID]):
        return grant
    return replace(grant, oack=wire.oack((*grant.accepted, (XID, options[XID]))))


def _negotiate(
    asked_options: tuple[tuple[str, str], ...],
    max_blksize: int,
    max_windowsize: int,
    rollover: Rollover,
    tsize: int | None,
    room: int | None,
) -> Grant:
    options = dict(asked_options)
    blksize, windowsize = DEFAULT_BLKSIZE, 1
    timeout: float | None = None
    accepted: dict[str, int] = {}
    for name in options:
        if name in ("blksize", "blksize2") and not accepted.keys() & {"blksize", "blksize2"}:
            asked = _number(options, name, MIN_BLKSIZE, MAX_BLKSIZE)
            if asked is None:
                continue
            blksize = min(asked, max_blksize)
            if name == "blksize2":
                blksize = 1 << (blksize.bit_length() - 1)
            accepted[name] = blksize
        elif name == "windowsize":
            asked = _number(options, name, 1, 65535)
            if asked is None:
                continue
            windowsize = accepted[name] = min(asked, max_windowsize)
        elif name in ("timeout", "utimeout") and timeout is None:
            low, high, unit = (1, 255, 1.0) if name == "timeout" else (10_000, 255_000_000, 1e-6)
            asked = _number(options, name, low, high)
            if asked is None:
                continue
            timeout = asked * unit
            accepted[name] = asked
        elif name == "rollover":
            asked = _number(options, name, 0, 1)
            if asked is None:
                continue
            rollover = Rollover.ONE if asked else Rollover.ZERO
            accepted[name] = asked
        elif name == "tsize" and tsize is not None and announced_size(options) is not None:
            accepted[name] = tsize
    if room is not None and "windowsize" in accepted:
        fitting = max(1, room // (blksize + wire.HEADER_SIZE))
        windowsize = accepted["windowsize"] = min(windowsize, fitting)
    pairs = tuple((name, str(value)) for name, value in accepted.items())
    oack = wire.oack(pairs) if pairs else None
    return Grant(blksize, windowsize, timeout, rollover, pairs, oack)


_negotiate_cached = lru_cache(maxsize=1024)(_negotiate)


def accept(asked: Mapping[str, str], granted: Mapping[str, str]) -> Grant:
    """Check an OACK against the options that a client `asked` for (RFC 2347, 2348, 2349, 7440).

    @return: the parameters of the transfer; `accepted` has all granted options as they were sent,
        and `oack` is None.
    @raise OptionRefused: an option was not asked for, or its value is not valid as an answer to
        the requested value.
    """
    blksize, windowsize, timeout, rollover = DEFAULT_BLKSIZE, 1, None, Rollover.ZERO
    wanted = {name.lower(): value for name, value in asked.items()}
    for name, value in granted.items():
        if name not in wanted:
            raise OptionRefused(f"the server grants {name[:20]!a}, which was not asked for")
        if not _DECIMAL.match(wanted[name]):
            continue  # no number: an option that only the caller knows
        highest = int(wanted[name])
        if name == "tsize":
            low, highest = 0, 2**64 - 1
        elif name in ("blksize", "blksize2"):
            low = MIN_BLKSIZE
        elif name == "windowsize":
            low = 1
        else:  # timeout, utimeout and rollover are granted as asked
            low = highest
        number = _number(granted, name, low, highest)
        if number is None:
            raise OptionRefused(f"the server answers {name}={wanted[name]} with {value[:20]!a}")
        if name in ("blksize", "blksize2"):
            blksize = number
        elif name == "windowsize":
            windowsize = number
        elif name == "timeout":
            timeout = float(number)
        elif name == "utimeout":
            timeout = number * 1e-6
        elif name == "rollover":
            rollover = Rollover.ONE if number else Rollover.ZERO
    return Grant(blksize, windowsize, timeout, rollover, tuple(granted.items()), None)


def _number(options: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    """Return the option's value, or None if it is absent, not a number, or out of range."""
    text = options.get(name, "")
    if not _DECIMAL.match(text):
        return None
    value = int(text)
    return value if low <= value <= high else None
