"""Negotiate: what was asked and our policy in, what is granted and the OACK out.

And from the other side, `accept`: what we asked and the OACK in, what holds out.

RFC 2347 (the mechanism), 2348 (blksize), 2349 (timeout, tsize), 7440 (windowsize), and
tftp-hpa's blksize2 (a power of two), utimeout (microseconds) and rollover.

One option is ours: `xid`, a number in hexadecimal digits that a client chooses by chance. It is
granted as it is, so that the client knows the OACK for an answer to its own request.

An option is granted as asked or lowered, or it is dropped: it never fails a transfer.
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

#: The option by which a client knows the answer to its request, and the values that it may have.
XID = "xid"
_XID_VALUE = re.compile(r"[0-9a-f]{1,16}\Z")

#: Options of a request that is remembered, at most: one of each kind.
REMEMBERED_OPTIONS = 8

#: Up to 20 digits: no number of TFTP needs more, and int() takes its time on long ones.
_DECIMAL = re.compile(r"[0-9]{1,20}\Z")


@dataclass(frozen=True)
class Grant:
    """What holds for one transfer.

    @ivar timeout: seconds negotiated by the client, or None.
    @ivar accepted: the options of the OACK but `xid`, (name, value), in the order asked.
    @ivar oack: the OACK, or None where no option was granted (RFC 2347 section 3).
    """

    blksize: int
    windowsize: int
    timeout: float | None
    rollover: Rollover
    accepted: tuple[tuple[str, str], ...]
    oack: bytes | None


def announced_size(options: Mapping[str, str]) -> int | None:
    """Return the octets that a write request's tsize announces, None where it does not."""
    return _number(options, "tsize", 0, 2**64 - 1)


def negotiate(
    options: Mapping[str, str],
    policy: Policy,
    *,
    tsize: int | None = None,
    room: int | None = None,
) -> Grant:
    """Decide on the `options` of a request, name (lower case) to value, in the order asked.

    @param tsize: the value to answer `tsize` with: the file's size on a read, what was
        announced on a write; None leaves it out.
    @param room: octets of datagrams that can be received at once; a window that does not fit
        would lose its end each time. None for no bound.
    """
    if XID in options:
        return _with_xid(options, policy, tsize, room)
    # Machines that boot ask for the same again and again; but nobody asks for many options.
    decide = _remembered if len(options) <= REMEMBERED_OPTIONS else _negotiate
    # The policy's parts, and not the policy: that takes longer to hash than all the rest.
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
    """Negotiate as if there were no xid, and add it to the OACK: each request has another one."""
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


_remembered = lru_cache(maxsize=1024)(_negotiate)


def accept(asked: Mapping[str, str], granted: Mapping[str, str]) -> Grant:
    """Check what a server grants of what we `asked` (RFC 2347, 2348, 2349, 7440).

    @return: what holds; `accepted` has everything granted, as it was sent, and no `oack`.
    @raise OptionRefused: an option was not asked for, or its value is not one that may answer
        what was asked.
    """
    blksize, windowsize, timeout, rollover = DEFAULT_BLKSIZE, 1, None, Rollover.ZERO
    wanted = {name.lower(): value for name, value in asked.items()}
    for name, value in granted.items():
        if name not in wanted:
            raise OptionRefused(f"the server grants {name[:20]!a}, which was not asked for")
        if not _DECIMAL.match(wanted[name]):
            continue  # an option that the caller knows
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
    """Return the option's value, or None where it is absent, no number or out of range."""
    text = options.get(name, "")
    if not _DECIMAL.match(text):
        return None
    value = int(text)
    return value if low <= value <= high else None
