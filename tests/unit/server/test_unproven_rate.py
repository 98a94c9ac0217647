"""Tests of the limit of what is sent to addresses that have not answered."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.server.unproven_rate import (
    BURST_SECONDS,
    MAX_ENTRIES,
    PROVEN_SECONDS,
    Allowance,
    RecentTimes,
    UnprovenRate,
    network_of,
)

#: The size of a request without options, in octets.
REQUEST = 13

#: The size of its answer, in octets.
DATA = 516

#: The rate of the tests: the burst is eight answers, and half of it is kept for repeated requests.
RATE = 8 * DATA // BURST_SECONDS


class Server:
    """An `UnprovenRate` and its clock."""

    def __init__(self, rate: int = RATE) -> None:
        self.now = 100.0
        self._ports = count(10_000)
        self.rate = UnprovenRate(rate, lambda: self.now)

    def ask(self, host: str = "192.0.2.1", port: int = 4000, answer: int = DATA) -> bool:
        """Return whether a request is answered."""
        allowance = self.rate.allow((host, port), REQUEST, answer, self.now)
        return allowance is not None and allowance.take(answer)

    def ask_until_dropped(self, host: str = "192.0.2.1") -> int:
        """Send requests, each from a new port, and return how many are answered."""
        return next(done for done in count() if not self.ask(host, next(self._ports)))


def test_first_requests_get_half_of_the_burst() -> None:
    """The other half is kept; each second there are tokens for as many octets as the rate."""
    server = Server()
    assert server.ask_until_dropped() == 4
    server.now += 4 * DATA / RATE
    assert server.ask_until_dropped() == 4


def test_repeated_request_gets_an_answer_from_the_reserve() -> None:
    """It must come from the same host and port as the dropped one."""
    server = Server()
    server.ask_until_dropped()
    assert not server.ask("192.0.2.2", 4000)
    assert not server.ask("192.0.2.2", 4001)
    server.now += 1
    assert server.ask("192.0.2.2", 4000)


def test_reserve_is_used_once_in_five_seconds_by_each_host() -> None:
    """A flood with the address of one host leaves the reserve to its neighbours."""
    server = Server()
    server.ask_until_dropped()
    for _ in range(2):
        repeats = [server.ask("192.0.2.2", port) for port in (1, 2, 3)]
    assert repeats == [True, False, False]
    server.now += 5
    assert server.ask("192.0.2.2", 2)


def test_port_that_did_not_answer_does_not_use_the_reserve_again() -> None:
    """Otherwise forged requests that repeat would use it up; after a minute it may."""
    server = Server()

    def asks(times: int) -> list[bool]:
        server.ask_until_dropped()
        return [server.ask("192.0.2.2", 4000) for _ in range(times)]

    assert asks(3) == [False, True, False]
    server.now += 10
    assert asks(1) == [False]
    server.now += 61
    assert asks(2) == [False, True]


def test_repeated_request_that_the_reserve_cannot_answer_loses_nothing() -> None:
    """When there are tokens again, its next repeat is answered."""
    server = Server()
    server.ask_until_dropped()
    for number in range(4):
        assert server.rate.take("192.0.2.1", DATA, uses_reserve=True), number
    assert [server.ask("192.0.2.2") for _ in range(3)] == [False, False, False]
    server.now += DATA / RATE
    assert server.ask("192.0.2.2")


def test_answer_that_is_no_longer_than_its_request_is_always_sent() -> None:
    """It is sent once for each request; after that it takes tokens."""
    server = Server()
    server.ask_until_dropped()
    allowance = server.rate.allow(("192.0.2.2", 1), REQUEST, 0, server.now)
    assert allowance is not None
    while allowance.take(REQUEST):
        pass
    assert not allowance.take(1000)
    allowance.note_repeat(REQUEST)
    assert allowance.take(REQUEST)
    assert server.rate.withheld > 0


def test_first_repeat_of_a_request_may_use_the_reserve() -> None:
    """The answer to the first request may have been lost."""
    server = Server()
    allowance = server.rate.allow(("192.0.2.2", 1), REQUEST, DATA, server.now)
    assert allowance is not None
    assert allowance.take(DATA)
    server.ask_until_dropped()
    assert not allowance.take(DATA)
    taken = []
    for _ in range(3):
        allowance.note_repeat(REQUEST)
        taken.append(allowance.take(DATA))
    assert taken == [True, False, False]


def test_host_that_has_answered_is_not_limited_for_ten_minutes() -> None:
    """Its neighbours are limited; each answer starts the ten minutes again."""
    server = Server()
    server.rate.note_answer("192.0.2.1")
    server.now += PROVEN_SECONDS - 1
    assert all(server.ask(port=port) for port in range(100))
    assert server.ask_until_dropped("192.0.2.2") == 4
    allowance = server.rate.allow(("192.0.2.1", 1), REQUEST, DATA, server.now)
    assert allowance is not None
    allowance.note_answer()
    assert server.rate.take("192.0.2.1", 60_000)
    server.now += PROVEN_SECONDS - 1
    assert server.ask()
    server.now += 1
    assert server.ask_until_dropped("192.0.2.2") == 4
    assert not server.ask()


def test_host_that_has_answered_lately_needs_no_allowance() -> None:
    """A minute later its next answer is noted again."""
    server = Server()
    assert not server.rate.is_proven("192.0.2.1", server.now)
    server.rate.note_answer("192.0.2.1")
    assert server.rate.is_proven("192.0.2.1", server.now + 59)
    assert not server.rate.is_proven("192.0.2.1", server.now + 61)
    assert not server.rate.is_proven("192.0.2.2", server.now)


@pytest.mark.parametrize("rate", [1, 32])
def test_smallest_rate_allows_one_answer_at_a_time(rate: int) -> None:
    """The burst has room for two first blocks, and for two repeated requests."""
    assert Server(rate).ask_until_dropped() == 2


def test_without_a_rate_nothing_is_limited() -> None:
    """`take` is called for strangers then too."""
    rate = UnprovenRate(0, lambda: 0.0)
    assert not rate.is_limited
    assert all(rate.take("192.0.2.1", 60_000) for _ in range(1000))


def test_hosts_of_a_network_share_a_bucket() -> None:
    """A network is a /24, or an IPv6 /56; a mapped address is an IPv4 address."""
    assert network_of("192.0.2.1") == network_of("192.0.2.255")
    assert network_of("192.0.2.1") != network_of("192.0.3.1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.9")
    assert network_of("2001:db8:0:1ff::1") == network_of("2001:db8:0:100:9::")
    assert network_of("2001:db8:0:1ff::1") != network_of("2001:db8:0:200::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth0")
    server = Server()
    assert server.ask_until_dropped("2001:db8:0:1ff::1") == 4
    assert not server.ask("2001:db8:0:100:9::")
    assert server.ask("2001:db8:0:200::1")


def test_proven_hosts_are_bounded() -> None:
    """The oldest hosts are forgotten; a host that answers again is kept."""
    hosts, chance = RecentTimes(PROVEN_SECONDS), random.Random(1)
    for number in range(2 * MAX_ENTRIES):
        hosts.add(str(chance.random()), number * 1e-4)
        hosts.add("kept", number * 1e-4)
    assert len(hosts) <= MAX_ENTRIES + 1
    assert hosts.has("kept", 14.0)
    assert not hosts.has("other", 14.0)


def test_first_time_counts_too() -> None:
    """A monotonic clock may begin at 0."""
    hosts = RecentTimes(PROVEN_SECONDS)
    hosts.add("192.0.2.1", 0.0)
    assert hosts.has("192.0.2.1", 1.0)
    assert hosts.has_fresh("192.0.2.1", 1.0)


def test_allowance_of_a_proven_host_is_unlimited() -> None:
    """The allowance only notes the next answer."""
    server = Server()
    allowance = Allowance(server.rate, "192.0.2.1", REQUEST, is_limited=False)
    assert all(allowance.take(DATA) for _ in range(100))
    allowance.note_answer()
    assert server.rate.is_proven("192.0.2.1", server.now)


def test_errors_to_strangers_are_limited_too() -> None:
    """They are octets for addresses that may be forged."""
    clock = Clock()
    parts = SharedParts.for_policy(Policy(unproven_rate=RATE), clock, clock.seconds)
    sent: list[bytes] = []

    class Socket:
        def sendto(self, datagram: bytes, address: object) -> None:
            sent.append(datagram)

    sock: Any = Socket()
    for port in range(1000):
        parts.opener.responder.answer(sock, ("192.0.2.1", port), wire.ack(1), 0.0)
    assert 0 < sum(map(len, sent)) <= 4 * DATA
