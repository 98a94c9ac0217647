"""Decide which addresses may send requests, and how many each of them may send per second."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from twisted_tftp.net.addresses import SocketAddress, endpoint
from twisted_tftp.net.host_cache import Entry, HostCache
from twisted_tftp.policy import Network, Policy
from twisted_tftp.server.addresses import parse_address
from twisted_tftp.server.client_rules import ClientRules
from twisted_tftp.server.recent_requests import RecentRequests

#: The most addresses whose look-up result is cached. The result for an address never changes.
MAX_CACHED_ADDRESSES = 4096

#: The most token buckets, of about 200 octets each: a flood of requests from forged addresses must
#: not fill the memory.
MAX_BUCKETS = 65536


class Networks:
    """A table of allowed and denied networks; the longest prefix that matches an address decides.

    An address that matches no network is allowed only if the table has no allowed networks.
    """

    def __init__(self, allow: Iterable[Network] = (), deny: Iterable[Network] = ()) -> None:
        """Make a table. No network may be both allowed and denied."""
        rules = dict.fromkeys(allow, True)
        self._default = not rules
        rules.update(dict.fromkeys(deny, False))
        self._rules = sorted(rules.items(), key=lambda rule: -rule[0].prefixlen)
        self.allows = lru_cache(MAX_CACHED_ADDRESSES)(self._allows) if rules else _always
        self.has_rule_for = lru_cache(MAX_CACHED_ADDRESSES)(self._has_rule_for)

    def _allows(self, host: str) -> bool:
        """Return whether the address `host` is allowed."""
        is_allowed = self._rule_for(host)
        return self._default if is_allowed is None else is_allowed

    def _has_rule_for(self, host: str) -> bool:
        """Return whether a network contains the address `host`."""
        return self._rule_for(host) is not None

    def _rule_for(self, host: str) -> bool | None:
        """Return whether the network that decides is an allowed one; None if there is none."""
        address = parse_address(host)
        for network, is_allowed in self._rules:
            if address in network:
                return is_allowed
        return None


def _always(host: str) -> bool:
    """Return true: each address is allowed."""
    return True


def source_prefix(host: str) -> str:
    """Return the source for which requests of `host` are counted: an IPv4 address or IPv6 /64.

    A host with one IPv6 address can usually take any other address of its /64.
    """
    if ":" not in host:
        return host
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class RateLimit:
    """A limit on the rate of each source: a table with a token bucket for each one.

    A bucket that was not used for `period` seconds is full, so it can be removed. All buckets that
    are kept were used in the last two periods. If there are too many buckets, some are removed
    before they are full; their sources may then send a few more requests than `rate` allows.

    @ivar period: the time in which an empty bucket becomes full, in seconds.
    """

    def __init__(
        self, rate: float, max_buckets: int = MAX_BUCKETS, burst: float | None = None
    ) -> None:
        """Set up, without buckets.

        @param rate: tokens per second, more than 0: one for each request, or one for each octet.
        @param max_buckets: the most buckets that are kept.
        @param burst: how many tokens a full bucket has; None for those of one second, but at least
            one.
        """
        self._max_buckets = max_buckets
        self._rate = rate
        self._capacity = max(1.0, rate) if burst is None else burst
        self.period = self._capacity / rate
        self._recent: dict[str, tuple[float, float]] = {}  # source to (tokens, time of last use)
        self._older: dict[str, tuple[float, float]] = {}
        self._period_ends = 0.0

    def __len__(self) -> int:
        """Return the number of buckets."""
        return len(self._recent) + len(self._older)

    def has_tokens(self, source: str, now: float, count: float) -> bool:
        """Return whether the bucket of `source` has `count` tokens."""
        tokens, at = self._recent.get(source) or self._older.get(source) or (self._capacity, now)
        return min(self._capacity, tokens + (now - at) * self._rate) >= count

    def take_token(self, source: str, now: float, count: float = 1, kept: float = 0) -> bool:
        """Take tokens from the bucket of `source`, if it has enough; return whether it had.

        @param count: how many.
        @param kept: how many more must be left in the bucket.
        """
        if now >= self._period_ends or len(self._recent) >= self._max_buckets // 2:
            self._older, self._recent = self._recent, {}
            self._period_ends = now + self.period
        found = self._recent.get(source) or self._older.pop(source, None)
        tokens, at = found or (self._capacity, now)
        tokens = min(self._capacity, tokens + (now - at) * self._rate)
        allowed = tokens >= count + kept
        self._recent[source] = (tokens - count if allowed else tokens, now)
        return allowed


class Access:
    """The rules of a server about which hosts may send requests, and how often.

    All request ports of a server share them.

    @ivar limits_hosts: whether there is a rule about which hosts may send requests.
    @ivar limits_rate: whether the requests per second of a source are limited.
    @ivar allows: returns whether a host may send requests.
    @ivar has_rule_for: returns whether a network of the rules contains a host.
    @ivar may_write: returns whether a host may write files.
    @ivar recent_hosts: the hosts that have sent requests in the current flood.
    """

    def __init__(
        self, policy: Policy, client_rules: ClientRules, earlier: Access | None = None
    ) -> None:
        """Set up.

        @param client_rules: the rules of which some may have a rate for some clients.
        @param earlier: the access of the server before a reload; None at its start. What was
            counted for a rate that is still a limit stays counted.
        """
        self.limits_hosts = bool(policy.allow or policy.deny)
        networks = Networks(policy.allow, policy.deny)
        self.allows, self.has_rule_for = networks.allows, networks.has_rule_for
        self.may_write = Networks(policy.allow_write).allows
        self.recent_hosts: RecentRequests = (
            RecentRequests() if earlier is None else earlier.recent_hosts
        )
        self._client_rules = client_rules
        self._common_rate = policy.rate
        known: dict[float, RateLimit] = {} if earlier is None else earlier._limits
        rates = client_rules.rates
        if policy.rate is not None:
            rates |= {policy.rate}
        self._limits: dict[float, RateLimit] = {
            rate: known[rate] if rate in known else RateLimit(rate) for rate in rates
        }
        self._common_limit = None if policy.rate is None else self._limits[policy.rate]
        self._client_limits = HostCache(self._look_up_limit) if client_rules.rates else None
        self.limits_rate = bool(rates)

    def take_token(self, peer: SocketAddress, now: float) -> bool:
        """Count a request from `peer`; return whether the rate limit allows it."""
        if self._client_limits is None:
            limit = self._common_limit
        else:
            limit = self._client_limits.get(endpoint(peer).host, now)
        return limit is None or limit.take_token(source_prefix(peer[0]), now)

    def _look_up_limit(self, host: str, now: float) -> Entry[RateLimit | None]:
        """Return the limit for the requests of a host."""
        found = self._client_rules.look_up(host, now)
        rate = self._common_rate if found.value.rate is None else found.value.rate
        return Entry(None if rate is None else self._limits[rate], found.valid_until)
