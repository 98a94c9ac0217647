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


def test_question_changes_nothing() -> None:
    """`has` notes no request; the table can remember longer or shorter."""
    sources = RecentRequests(seconds=60)
    assert not sources.has(("192.0.2.1", 4000), 0.0)
    assert not sources.add(("192.0.2.1", 4000), 0.0)
    assert sources.has(("192.0.2.1", 4000), 60.0)
    assert not sources.has(("192.0.2.1", 4001), 60.0)
    assert not sources.has(("192.0.2.1", 4000), 61.0)
