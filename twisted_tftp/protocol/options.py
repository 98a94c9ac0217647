"""Negotiate options: `negotiate` grants them as a server, `accept` checks an OACK as a client.

The options are those of RFC 2347 (the mechanism), 2348 (blksize), 2349 (timeout, tsize) and 7440
(windowsize), and tftp-hpa's blksize2 (a power of two), utimeout (microseconds) and rollover.

The option `xid` is our own: a random number in hexadecimal digits that a client chooses. The
server grants it unchanged, so the client knows that the OACK answers its own request.

The server grants the requested value or a lower one, or ignores the option. An option
never makes a request fail.
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
    Range,
    Rollover,
)
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.printable import printable

#: The name of the option by which a client recognises the answer to its own request.
XID = "xid"

#: The valid values of `XID`.
_XID_VALUE = re.compile(r"[0-9a-f]{1,16}\Z")

#: The largest number of an option: 64 bits.
_MAX_NUMBER = 2**64 - 1

#: The numbers that a request may contain, for each option. The server lowers a block or a window
#: that is too large, also if it is above the limit of its RFC.
_VALID = {
    "blksize": Range(MIN_BLKSIZE, _MAX_NUMBER),
    "blksize2": Range(MIN_BLKSIZE, _MAX_NUMBER),
    "windowsize": Range(1, _MAX_NUMBER),
    "timeout": Range(1, 255),
    "utimeout": Range(10_000, 255_000_000),
    "rollover": Range(0, 1),
    "tsize": Range(0, _MAX_NUMBER),
}

#: Options with the same meaning: once one of the two is granted, the other one is ignored.
_ALTERNATIVES = {
    "blksize": "blksize2",
    "blksize2": "blksize",
    "timeout": "utimeout",
    "utimeout": "timeout",
}

#: The options that an OACK may contain without a value, as if they were not granted.
_MAY_BE_EMPTY = frozenset(("tsize", "timeout", "utimeout"))

#: The largest number of options in a request whose negotiation is cached: one of each kind.
MAX_CACHED_OPTIONS = 8

#: Decimal numbers of up to 20 digits: no valid value has more, and int() is slow on long ones.
_DECIMAL = re.compile(r"[0-9]{1,20}\Z")


@dataclass(frozen=True)
class Grant:
    """The negotiated parameters of one transfer.

    @ivar blksize: octets of file in each DATA packet but the last one.
    @ivar windowsize: blocks that are sent before an ACK is expected.
    @ivar rollover: the block number that follows 65535.
    @ivar timeout: the negotiated timeout in seconds, or None.
    @ivar accepted: the granted options, (name, value), in the order of the request or, on a
        client, of the OACK. On a server, `xid` is left out.
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
    return _number(options, "tsize", _VALID["tsize"])


def negotiate(
    options: Mapping[str, str],
    policy: Policy,
    tsize: int | None = None,
    window_limit: int | None = None,
    blksize_limit: int | None = None,
) -> Grant:
    """Return what a server grants of the `options` of a request.

    @param options: name (lower case) to value, in the order of the request.
    @param tsize: the value to answer `tsize` with: the file's size on a read, the announced
        size on a write; None to leave `tsize` out.
    @param window_limit: the largest size of a window in octets, with the headers of its DATA
        packets; a larger window gets fewer blocks. None for no limit.
    @param blksize_limit: the largest block in octets, if it is below that of the policy; None for
        that of the policy.
    """
    if XID in options:
        return _with_xid(options, policy, tsize, window_limit, blksize_limit)
    # Booting machines send the same options again and again, so the result is cached. Requests
    # with many options are not cached: real clients do not send them.
    decide = _negotiate_cached if len(options) <= MAX_CACHED_OPTIONS else _negotiate
    max_blksize = policy.max_blksize
    if blksize_limit is not None:
        max_blksize = min(max_blksize, blksize_limit)
    # Single values of the policy are the cache's key: hashing the whole policy would take longer
    # than everything else.
    return decide(
        tuple(options.items()),
        max_blksize,
        policy.max_windowsize,
        policy.rollover,
        policy.refuse,
        tsize,
        window_limit,
    )


def _with_xid(
    options: Mapping[str, str],
    policy: Policy,
    tsize: int | None,
    window_limit: int | None,
    blksize_limit: int | None,
) -> Grant:
    """Negotiate the other options, then add the xid to the OACK.

    Each request has a different xid, so it must not become part of the cache's key.
    """
    others = {name: value for name, value in options.items() if name != XID}
    grant = negotiate(others, policy, tsize, window_limit, blksize_limit)
    if XID in policy.refuse or not _XID_VALUE.match(options[XID]):
        return grant
    return replace(grant, oack=wire.oack((*grant.accepted, (XID, options[XID]))))


def _negotiate(
    asked_options: tuple[tuple[str, str], ...],
    max_blksize: int,
    max_windowsize: int,
    rollover: Rollover,
    refuse: frozenset[str],
    tsize: int | None,
    window_limit: int | None,
) -> Grant:
    """Grant options (see L{negotiate}); the arguments are hashable, so that calls are cached."""
    options = dict(asked_options)
    accepted: dict[str, int] = {}
    for name in options:
        allowed = _VALID.get(name)
        asked = None if allowed is None else _number(options, name, allowed)
        if asked is None or name in refuse or _ALTERNATIVES.get(name) in accepted:
            continue
        if name == "tsize":
            if tsize is not None:
                accepted[name] = tsize
        elif name == "blksize":
            accepted[name] = min(asked, max_blksize)
        elif name == "blksize2":  # the largest power of two that is not above both numbers
            accepted[name] = 1 << (min(asked, max_blksize).bit_length() - 1)
        elif name == "windowsize":
            accepted[name] = min(asked, max_windowsize)
        else:  # timeout, utimeout and rollover are granted as requested
            accepted[name] = asked
    if window_limit is not None and "windowsize" in accepted:
        blksize = accepted.get("blksize") or accepted.get("blksize2") or DEFAULT_BLKSIZE
        fitting = max(1, window_limit // (blksize + wire.HEADER_SIZE))
        accepted["windowsize"] = min(accepted["windowsize"], fitting)
    pairs = tuple((name, str(value)) for name, value in accepted.items())
    return _grant(accepted, rollover, pairs, wire.oack(pairs) if pairs else None)


_negotiate_cached = lru_cache(maxsize=1024)(_negotiate)


def accept(asked: Mapping[str, str], granted: Mapping[str, str]) -> Grant:
    """Check an OACK against the options that a client `asked` for (RFC 2347, 2348, 2349, 7440).

    A `tsize`, `timeout` or `utimeout` with an empty value counts as not granted: it changes no
    block.

    @return: the parameters of the transfer; `accepted` has all granted options as they were sent,
        and `oack` is None.
    @raise OptionRefused: an option was not asked for, or its value is not valid as an answer to
        the requested value.
    """
    wanted = {name.lower(): value for name, value in asked.items()}
    granted = {
        name: value
        for name, value in granted.items()
        if value or name not in wanted or name not in _MAY_BE_EMPTY
    }
    numbers: dict[str, int] = {}
    for name, value in granted.items():
        if name not in wanted:
            raise OptionRefused(
                f'the server grants "{printable(name[:20])}", which was not asked for'
            )
        if not _DECIMAL.match(wanted[name]):
            continue  # not a number, so only the caller knows what the option means
        highest = int(wanted[name])
        if name == "tsize":
            allowed = _VALID["tsize"]
        elif name in ("blksize", "blksize2"):
            allowed = Range(MIN_BLKSIZE, min(highest, MAX_BLKSIZE))
        elif name == "windowsize":
            allowed = Range(1, highest)
        else:  # timeout, utimeout and rollover are granted as requested
            allowed = Range(highest, highest)
        number = _number(granted, name, allowed)
        if number is None:
            raise OptionRefused(
                f'the server answers {name}={wanted[name]} with "{printable(value[:20])}"'
            )
        numbers[name] = number
    return _grant(numbers, Rollover.ZERO, tuple(granted.items()), None)


def _grant(
    numbers: Mapping[str, int],
    rollover: Rollover,
    accepted: tuple[tuple[str, str], ...],
    oack: bytes | None,
) -> Grant:
    """Return the parameters of a transfer from its granted options.

    @param numbers: option name to value.
    @param rollover: the rollover if that option is not granted.
    """
    blksize, windowsize, timeout = DEFAULT_BLKSIZE, 1, None
    for name, number in numbers.items():
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
    return Grant(blksize, windowsize, timeout, rollover, accepted, oack)


def _number(options: Mapping[str, str], name: str, allowed: Range[int]) -> int | None:
    """Return the option's value, or None if it is absent, not a number, or out of range."""
    text = options.get(name, "")
    if not _DECIMAL.match(text):
        return None
    value = int(text)
    return value if allowed.low <= value <= allowed.high else None
