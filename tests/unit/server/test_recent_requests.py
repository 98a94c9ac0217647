"""Tests of the table of recent requests: which hosts asked lately."""

from __future__ import annotations

import random

import pytest

from twisted_tftp.server.recent_requests import RECENT_SECONDS, RecentRequests


@pytest.mark.parametrize("start", [0.0, 250.0, 1e6])
def test_host_that_asked_is_remembered_for_a_while(start: float) -> None:
    """Each request of the host starts that time again."""
    hosts = RecentRequests()
    waits = [0.0, 0.0, 1.0, RECENT_SECONDS, RECENT_SECONDS + 1, 300.0, 1.0]
    now, again = start, []
    for wait in waits:
        now += wait
        again.append(hosts.add("192.0.2.1", now))
    assert again == [False, True, True, True, False, False, True]


def test_flood_of_new_hosts_is_seldom_mistaken_for_known_hosts() -> None:
    """Of 100,000 hosts that ask once, nearly none count as known; the memory does not grow."""
    hosts, chance = RecentRequests(), random.Random(1)
    hosts.add("192.0.2.1", 0.0)
    known = sum(hosts.add(str(chance.random()), number * 5e-5) for number in range(100_000))
    assert known < 100
    assert hosts.add("192.0.2.1", 5.0)


def test_ports_of_a_host_are_told_apart() -> None:
    """A table of hosts and ports does not count the request of another port."""
    sources = RecentRequests()
    assert not sources.add(("192.0.2.1", 4000), 0.0)
    assert sources.add(("192.0.2.1", 4000), 10.0)
    assert not sources.add(("192.0.2.1", 4001), 10.0)
    assert not sources.add(("192.0.2.1", 4000), 11.0 + RECENT_SECONDS)
