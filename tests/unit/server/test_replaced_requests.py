"""Tests of requests that a newer request from the same port has replaced."""

from __future__ import annotations

from twisted_tftp.server.replaced_requests import (
    MAX_KEYS,
    MAX_REQUESTS,
    REMEMBERED_FOR,
    ReplacedRequests,
)

#: The socket address that requests reach.
LOCAL = ("192.0.2.69", 69)

#: The key of a transfer: the addresses of a client and of the server.
PEER = (("192.0.2.1", 4000), LOCAL)


def test_request_is_remembered_for_a_while() -> None:
    """The time starts again when the request is replaced again; other ports are not affected."""
    replaced = ReplacedRequests()
    replaced.add(PEER, b"a", 0.0)
    replaced.add(PEER, b"a", 5.0)
    assert replaced.has(PEER, b"a", 5.0 + REMEMBERED_FOR / 2)
    assert not replaced.has(PEER, b"a", 5.0 + REMEMBERED_FOR)
    assert not replaced.has(PEER, b"b", 5.0)
    assert not replaced.has((("192.0.2.1", 4001), LOCAL), b"a", 5.0)


def test_memory_is_bounded() -> None:
    """The oldest requests are forgotten, among those of one port and among all ports."""
    replaced = ReplacedRequests()
    for number in range(MAX_REQUESTS + 1):
        replaced.add(PEER, b"%d" % number, 0.0)
    known = [replaced.has(PEER, b"%d" % number, 0.1) for number in range(MAX_REQUESTS + 1)]
    assert known == [False] + [True] * MAX_REQUESTS
    for number in range(MAX_KEYS):
        replaced.add((("192.0.2.2", number), LOCAL), b"a", 0.0)
    assert not replaced.has(PEER, b"1", 0.1)
    assert replaced.has((("192.0.2.2", 0), LOCAL), b"a", 0.1)
