"""Test the look-up of MAC addresses; `tests/process/test_neighbours.py` has other hosts."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_tftp.net import neighbours, netlink
from twisted_tftp.net.neighbours import KNOWN_SECONDS, UNKNOWN_SECONDS, Neighbours


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%nosuch", "fe80::1%99999", "fe80::1"]
)
def test_own_and_unreachable_addresses_have_no_mac(host: str) -> None:
    """This host itself is no neighbour, and an interface may be gone."""
    assert Neighbours().mac_of(host) is None


@pytest.mark.parametrize("host", ["", "client", "1.2.3", "::x", "10.0.0.1\0", "fe80::1%\0"])
def test_text_that_is_no_address_has_no_mac(host: str) -> None:
    """A look-up never fails."""
    assert Neighbours().mac_of(host) is None


def test_missing_interface_has_no_neighbours() -> None:
    """The interface of the server may come later."""
    assert Neighbours("nosuch").mac_of("192.0.2.1") is None


def test_system_without_netlink_knows_no_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is None, as for an unknown host."""
    monkeypatch.setattr(netlink, "AF_NETLINK", None)
    assert Neighbours().mac_of("192.0.2.1") is None


def test_answers_of_the_kernel_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is asked again after some seconds; earlier if it did not know the address."""
    macs: list[bytes] = [b"\x52\x54\0\x12\x34\x56", b"", b"\x52\x54\0\x12\x34\x57"]

    def answer(sock: socket.socket, question: int, kind: int, body: bytes) -> Any:
        if question == 26:  # a route through interface 7
            return bytes(7) + b"\1" + bytes(4) + netlink.attribute(4, b"\7\0\0\0")
        assert question == 30
        return bytes(8) + b"\2\0\0\0" + netlink.attribute(2, macs.pop(0))

    monkeypatch.setattr(neighbours, "_ask", answer)
    clock = Clock()
    table = Neighbours(clock=clock.seconds)
    found = []
    for seconds in (0.0, KNOWN_SECONDS * 0.9, KNOWN_SECONDS * 0.2, 0.0, UNKNOWN_SECONDS * 1.1):
        clock.advance(seconds)
        found.append(table.mac_of("192.0.2.1"))
    known = "52:54:00:12:34:56"
    assert found == [known, known, None, None, "52:54:00:12:34:57"]


def test_look_up_leaves_no_socket_open() -> None:
    """A server asks for thousands of hosts."""
    table = Neighbours()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        table.mac_of(f"192.0.2.{number}")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("body", [b"", bytes(7) + b"\1", bytes(7) + b"\1" + bytes(4) + b"\0" * 8])
def test_incomplete_answer_has_no_mac(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """The body or an attribute may be cut off, and an attribute may have the length 0."""
    monkeypatch.setattr(neighbours, "_ask", lambda *arguments: body)
    assert Neighbours().mac_of("192.0.2.1") is None


def test_incomplete_attributes_are_left_out() -> None:
    """Those before them are found."""
    whole = netlink.attribute(2, b"value")
    for rest in (b"\0", bytes(8), whole[:8]):
        assert netlink.attributes_of(whole + rest) == {2: b"value"}
