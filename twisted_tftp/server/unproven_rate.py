"""Limit what is sent to addresses that have not answered, because they may be forged.

A request with a forged address makes the server send to a victim. So all octets for the addresses
of one network that have not answered are taken from one token bucket (`--unproven-rate`). Above
the rate nothing is sent. An answer that is no longer than its request is always sent, because it
amplifies nothing (as in RFC 9000 section 8.1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.server.access import RateLimit
from twisted_tftp.server.addresses import parse_address
from twisted_tftp.server.recent_requests import RecentRequests

#: How long an address that has answered is not limited, in seconds.
PROVEN_SECONDS = 600.0

#: If the last answer of an address is older than this, its next transfer is watched for a new one,
#: in seconds.
RENEWED_AFTER = 60.0

#: The most addresses that are remembered because they have answered; also the most ports that are
#: remembered because they got an answer from the reserve.
MAX_ENTRIES = 65536

#: The prefix length of the IPv6 networks whose addresses share a bucket: that of a small site.
IPV6_PREFIX = 56

#: A full bucket has the tokens of this many seconds. With the default rate, half of it is enough
#: for the first blocks of 317 machines that start at once.
BURST_SECONDS = 16

#: A bucket has room for at least this many octets, however small the rate is: two blocks of 512
#: octets for first requests, and two for repeated ones.
MIN_BURST = 4 * 516

#: How many repeated requests of one host per second may use the half of the bucket that is kept
#: for repeated requests.
REPEATS_PER_SECOND = 0.2

#: A port whose repeated request was answered from that half gets no other answer from it for this
#: time, in seconds, unless its host answers. The transfer repeats the answer meanwhile.
NOT_PREFERRED_SECONDS = 60


class RecentTimes:
    """A table of the times at which hosts, or hosts and ports, were last noted.

    The entries are in two tables. The older one is dropped after `seconds`, or if the newer one is
    full.
    """

    def __init__(self, seconds: float) -> None:
        """Set up, without entries.

        @param seconds: how long an entry is kept.
        """
        self._kept_for = seconds
        self._recent: dict[Hashable, float] = {}
        self._older: dict[Hashable, float] = {}
        self._period_ends = 0.0

    def __len__(self) -> int:
        """Return the number of entries in the tables."""
        return len(self._recent) + len(self._older)

    def add(self, source: Hashable, now: float) -> None:
        """Note `source` now."""
        if now >= self._period_ends or len(self._recent) >= MAX_ENTRIES // 2:
            self._older, self._recent = self._recent, {}
            self._period_ends = now + self._kept_for
        self._recent[source] = now

    def has_fresh(self, source: Hashable, now: float) -> bool:
        """Return whether `source` was noted so recently that it need not be noted again."""
        at = self._recent.get(source)
        return at is not None and now - at < RENEWED_AFTER

    def has(self, source: Hashable, now: float) -> bool:
        """Return whether `source` was noted so recently that its entry still counts."""
        at = self._recent.get(source, self._older.get(source))
        return at is not None and now - at < self._kept_for


class Allowance:
    """What may be sent to the peer of one request until the peer answers.

    @ivar may_use_reserve: whether the next answer may be taken from the half of the bucket that
        is kept for repeated requests.
    """

    __slots__ = ("_free_size", "_host", "_is_limited", "_rate", "_repeats", "may_use_reserve")

    def __init__(
        self,
        rate: UnprovenRate,
        host: str,
        request_size: int,
        *,
        is_limited: bool = True,
        may_use_reserve: bool = False,
    ) -> None:
        """Set up the allowance of one request.

        @param request_size: the size of the request, in octets.
        @param is_limited: False if the host has answered not long ago.
        """
        self.may_use_reserve = may_use_reserve
        self._rate = rate
        self._host = host
        self._free_size = request_size
        self._is_limited = is_limited
        self._repeats = 0

    def take(self, size: int) -> bool:
        """Take `size` octets from the allowance; return whether they may be sent."""
        if not self._is_limited:
            return True
        if size <= self._free_size:
            self._free_size = 0
            return True
        uses_reserve, self.may_use_reserve = self.may_use_reserve, False
        return self._rate.take(self._host, size, uses_reserve)

    def note_repeat(self, request_size: int) -> None:
        """Note that the request has arrived again; the first repeat may use the reserve."""
        self._free_size = request_size
        self._repeats += 1
        self.may_use_reserve = self._repeats == 1

    def note_answer(self) -> None:
        """Note that the peer has answered: its address is not forged."""
        self._rate.note_answer(self._host)


class UnprovenRate:
    """The limit on what is sent to hosts that have not answered: a token bucket for each network.

    If tokens are short, repeated requests go first: half of each bucket is kept for them. A host
    that got no answer, and asks again from the same port, is probably not forged. So the honest
    hosts of a network whose addresses are forged are served when they ask again.

    @ivar is_limited: whether there is a limit.
    @ivar is_proven: returns whether a host has answered so recently that nothing must be limited
        or noted: (host, now).
    @ivar withheld: how many datagrams were not sent because of the limit.
    """

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        """Set up, without buckets.

        @param rate: octets per second for the addresses of one network; 0 for no limit.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        self.withheld = 0
        self._clock = clock
        self._set_rate(rate)
        self._asked = RecentRequests()
        # Not a table of hashes: a port that shares a hash would get nothing for a minute.
        self._preferred = RecentTimes(NOT_PREFERRED_SECONDS)
        self._repeats = RateLimit(REPEATS_PER_SECOND)
        self._proven = RecentTimes(PROVEN_SECONDS)
        self.is_proven = self._proven.has_fresh  # each request calls it

    def change_rate(self, rate: int) -> None:
        """Use another rate; if it is another one, each bucket is full at first."""
        if rate != self._rate:
            self._set_rate(rate)

    def _set_rate(self, rate: int) -> None:
        burst = max(BURST_SECONDS * rate, MIN_BURST)
        self.is_limited = rate > 0
        self._rate = rate
        self._buckets = RateLimit(rate or 1, burst=burst)
        self._reserve = burst / 2

    def allow(
        self, peer: SocketAddress, request_size: int, answer_size: int, now: float
    ) -> Allowance | None:
        """Return what may be sent to the peer of a request; None if the request must be dropped.

        A request that is dropped is noted, so that its repeat may use the reserve.

        @param request_size: the size of the request, in octets.
        @param answer_size: the size of the answer that is expected; 0 if it is not longer than the
            request, or unknown.
        """
        host = peer[0]
        if self._proven.has(host, now):
            return Allowance(self, host, request_size, is_limited=False)
        network = network_of(host)
        has_tokens = self._buckets.has_tokens
        if answer_size <= request_size or has_tokens(network, now, answer_size + self._reserve):
            return Allowance(self, host, request_size)
        source = peer[:2]
        if (
            self._asked.add(source, now)
            and not self._preferred.has(source, now)
            and has_tokens(network, now, answer_size)
            and self._repeats.take_token(host, now)
        ):
            self._preferred.add(source, now)
            return Allowance(self, host, request_size, may_use_reserve=True)
        return None

    def take(self, host: str, size: int, uses_reserve: bool = False) -> bool:
        """Take the octets of a datagram for `host`; return whether it may be sent.

        @param uses_reserve: whether they may be taken from what is kept for repeated requests.
        """
        now = self._clock()
        if not self.is_limited or self._proven.has(host, now):
            return True
        kept = 0.0 if uses_reserve else self._reserve
        may_send = self._buckets.take_token(network_of(host), now, size, kept)
        self.withheld += not may_send
        return may_send

    def note_answer(self, host: str) -> None:
        """Note that `host` has answered: its address is not forged."""
        self._proven.add(host, self._clock())


def network_of(host: str) -> str:
    """Return the network whose addresses share the bucket of `host`: a /24, or an IPv6 /56."""
    if ":" not in host:
        return host.rpartition(".")[0]
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address).rpartition(".")[0]
    return (int(address) >> (128 - IPV6_PREFIX)).to_bytes(IPV6_PREFIX // 8, "big").hex()
