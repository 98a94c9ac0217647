"""Tests of networks and rates, and of the log of packets that are not served."""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from twisted_tftp.server.access import Networks, RateLimit, source_prefix
from twisted_tftp.server.addresses import parse_address
from twisted_tftp.server.drop_log import DropLog


def networks(*texts: str) -> list[Any]:
    return [ipaddress.ip_network(text) for text in texts]


def test_all_addresses_are_allowed_by_default() -> None:
    """Without rules, IPv4 and IPv6 addresses are allowed."""
    assert Networks().allows("192.0.2.1")
    assert Networks().allows("2001:db8::1")


@pytest.mark.parametrize(
    ("allow", "deny", "host", "allowed"),
    [
        (["192.0.2.0/24"], [], "192.0.2.255", True),
        (["192.0.2.0/24"], [], "192.0.3.0", False),
        (["192.0.2.0/24"], [], "2001:db8::1", False),
        ([], ["192.0.2.0/24"], "192.0.2.1", False),
        ([], ["192.0.2.0/24"], "198.51.100.1", True),
        (["10.0.0.0/8"], ["10.1.0.0/16"], "10.1.2.3", False),
        (["10.0.0.0/8", "10.1.2.0/24"], ["10.1.0.0/16"], "10.1.2.3", True),
        (["10.0.0.0/8", "10.1.2.0/24"], ["10.1.0.0/16"], "10.2.2.3", True),
        (["0.0.0.0/0"], ["192.0.2.1/32"], "192.0.2.1", False),
        (["2001:db8::/32"], ["2001:db8:1::/48"], "2001:db8:1::5", False),
        (["fe80::/10"], [], "fe80::1%eth0", True),
        (["192.0.2.0/24"], [], "::ffff:192.0.2.7", True),
    ],
)
def test_longest_prefix_decides(
    allow: list[str], deny: list[str], host: str, allowed: bool
) -> None:
    """An allow list denies all other addresses; a deny list alone allows them."""
    table = Networks(networks(*allow), networks(*deny))
    assert table.allows(host) is allowed
    assert table.allows(host) is allowed  # now from the cache


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32), st.booleans()), max_size=8),
    st.integers(0, 255),
)
def test_lookup_finds_the_longest_prefix(rules: list[tuple[int, int, bool]], last: int) -> None:
    """The result is that of a search through all prefixes of the address, the longest first."""
    verdicts: dict[Any, bool] = {}
    for octet, length, verdict in rules:
        verdicts[ipaddress.ip_network((f"192.0.2.{octet}", length), strict=False)] = verdict
    host = f"192.0.2.{last}"
    expected = True not in verdicts.values()
    for length in range(32, -1, -1):
        network = ipaddress.ip_network((host, length), strict=False)
        if network in verdicts:
            expected = verdicts[network]
            break
    table = Networks(
        [network for network, verdict in verdicts.items() if verdict],
        [network for network, verdict in verdicts.items() if not verdict],
    )
    assert table.allows(host) is expected


def test_source_is_an_ipv4_address_or_an_ipv6_64() -> None:
    """A host with one IPv6 address can usually use all addresses of its /64."""
    assert source_prefix("192.0.2.1") == "192.0.2.1"
    assert source_prefix("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert source_prefix("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert source_prefix("fe80::1%eth0") == "fe80::/64"
    assert source_prefix("::ffff:192.0.2.1") == "192.0.2.1"
    assert str(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"


def test_rate_limits_each_source() -> None:
    """A source may send a burst of `rate` requests, and then `rate` requests a second."""
    limit = RateLimit(3.0)
    assert [limit.take_token("a", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert limit.take_token("b", 0.0)
    assert [limit.take_token("a", 0.34) for _ in range(2)] == [True, False]
    assert [limit.take_token("a", 10.0) for _ in range(5)] == [True] * 3 + [False] * 2


def test_rate_below_one_allows_single_requests() -> None:
    """The next request is allowed after 1 / rate seconds."""
    limit = RateLimit(0.5)
    assert [limit.take_token("a", at) for at in (0.0, 1.0, 1.9, 2.1, 4.0, 4.2)] == [
        *(True, False, False),
        *(True, False, True),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 96), st.sampled_from("abc")), max_size=60),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_forgotten_buckets_were_full(asked: list[tuple[int, str]], rate: float) -> None:
    """The results are those of buckets that are kept for ever."""
    limit = RateLimit(rate)
    capacity, now = max(1.0, rate), 0.0
    buckets = dict.fromkeys("abc", (capacity, 0.0))
    for wait, source in asked:
        now += wait / 64
        tokens, at = buckets[source]
        tokens = min(capacity, tokens + (now - at) * rate)
        allowed = tokens >= 1
        assert limit.take_token(source, now) is allowed
        buckets[source] = (tokens - allowed, now)


def test_buckets_are_bounded_in_a_flood() -> None:
    """Forged addresses cause at most `max_buckets` buckets; a recent source keeps its bucket."""
    limit, chance = RateLimit(1.0, max_buckets=1000), random.Random(1)
    for number in range(20_000):
        limit.take_token(str(chance.random()), number * 1e-4)
        assert len(limit) <= 1000
    assert limit.take_token("a", 10.0)
    for number in range(400):
        limit.take_token(str(number), 10.0)
    assert not limit.take_token("a", 10.0)


def test_packets_that_are_not_served_are_logged_once_a_minute() -> None:
    """The first packet is logged at once, the others are counted, for each reason separately."""
    clock = Clock()
    drop_log = DropLog(clock)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        for second in range(130):
            drop_log.add("flood", f"192.0.2.{second}")
            clock.advance(1)
        drop_log.add("other", "192.0.2.1")
        clock.pump([60] * 5)
        assert clock.getDelayedCalls() == []
        drop_log.add("other", "192.0.2.2")
        drop_log.add("other", "192.0.2.3")
        drop_log.flush()
        drop_log.flush()
        assert clock.getDelayedCalls() == []
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert {event["log_namespace"] for event in events} == {"twisted_tftp.server.drop_log"}
    lines = [event["log_format"].format(**event) for event in events]
    assert lines == [
        "1 request from 192.0.2.0 ignored: flood",
        "59 requests from 192.0.2.59 and others ignored: flood",
        "60 requests from 192.0.2.119 and others ignored: flood",
        "1 request from 192.0.2.1 ignored: other",
        "10 requests from 192.0.2.129 and others ignored: flood",
        "1 request from 192.0.2.2 ignored: other",
        "1 request from 192.0.2.3 ignored: other",
    ]
