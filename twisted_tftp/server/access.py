"""Decide who may ask for transfers: from which networks, and how often."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from twisted_tftp.policy import Network, Policy
from twisted_tftp.server.flood_defence import RecentHosts

#: Answers about addresses that are remembered; they are the same for ever.
REMEMBERED = 4096

#: Buckets at most: a flood from forged addresses must not fill the memory. Each takes about 200
#: octets.
MOST_BUCKETS = 65536


class Networks:
    """Which addresses are allowed: the longest prefix that an address is in decides.

    Where none is, an address is allowed unless there is a list of those that are.
    """

    def __init__(self, allow: Iterable[Network] = (), deny: Iterable[Network] = ()) -> None:
        """Make a table; no network is in both."""
        verdicts = dict.fromkeys(allow, True)
        self._default = not verdicts
        verdicts.update(dict.fromkeys(deny, False))
        self._verdicts = sorted(verdicts.items(), key=lambda each: -each[0].prefixlen)
        self.allows = lru_cache(REMEMBERED)(self._allows) if verdicts else _always

    def _allows(self, host: str) -> bool:
        """Return whether the address `host` is allowed."""
        address = parse_address(host)
        for network, verdict in self._verdicts:
            if address in network:
                return verdict
        return self._default


def _always(host: str) -> bool:
    """Allow any address."""
    return True


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address of a socket address's host: without a scope, and IPv4 as such.

    @raise ValueError: it is none.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def source_prefix(host: str) -> str:
    """Return what requests are counted by: an IPv4 address, or the /64 of an IPv6 one.

    Who has an IPv6 address mostly has all of its /64.
    """
    if ":" not in host:
        return host
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class RateLimit:
    """A token bucket for each source: so many requests a second, and as many at once.

    A bucket that nobody has used until it is full again is like none, so those are forgotten: all
    that there are were used in the last two periods of `period` seconds. If there are too many,
    some are forgotten early, which grants their owners a little more.
    """

    def __init__(self, rate: float, most_buckets: int = MOST_BUCKETS) -> None:
        """Allow `rate` requests a second, above 0; below one, one at a time.

        @param most_buckets: buckets that are kept at most.
        """
        self._most_buckets = most_buckets
        self._rate = rate
        self._capacity = max(1.0, rate)
        self.period = self._capacity / rate
        self._recent: dict[str, tuple[float, float]] = {}  # source to (tokens, when)
        self._older: dict[str, tuple[float, float]] = {}
        self._period_ends = 0.0

    def __len__(self) -> int:
        """How many buckets there are."""
        return len(self._recent) + len(self._older)

    def take_token(self, source: str, now: float) -> bool:
        """Take a token of `source` at `now`; return whether there was one."""
        if now >= self._period_ends or len(self._recent) >= self._most_buckets // 2:
            self._older, self._recent = self._recent, {}
            self._period_ends = now + self.period
        found = self._recent.get(source) or self._older.pop(source, None)
        tokens, at = found or (self._capacity, now)
        tokens = min(self._capacity, tokens + (now - at) * self._rate)
        allowed = tokens >= 1
        self._recent[source] = (tokens - 1 if allowed else tokens, now)
        return allowed


class Access:
    """Who may ask, by a policy; what all request ports of a server share.

    @ivar limits_hosts: whether there are hosts that may not ask.
    @ivar limits_rate: whether a host may ask only so often.
    @ivar recent_hosts: who has asked lately, while there is a flood.
    """

    def __init__(self, policy: Policy) -> None:
        self.limits_hosts = bool(policy.allow or policy.deny)
        self.limits_rate = policy.rate is not None
        self.allows = Networks(policy.allow, policy.deny).allows
        self.may_write = Networks(policy.allow_write).allows
        self.recent_hosts = RecentHosts()
        self._rate = RateLimit(policy.rate) if policy.rate is not None else None

    def take_token(self, host: str, now: float) -> bool:
        """Count a request of `host`; return whether it may ask for one more transfer now."""
        return self._rate is None or self._rate.take_token(source_prefix(host), now)
