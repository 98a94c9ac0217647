"""A transfer's record says who, what and how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.context import Direction, Endpoint, TransferContext, TransferStatistics


def context(filename: bytes = b"f") -> TransferContext:
    """Return the context of a read of `filename`."""
    peer = Endpoint("192.0.2.7", 2000)
    return TransferContext(peer, None, Direction.READ, filename, "octet", {})


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint("192.0.2.7", 69), "192.0.2.7:69"),
        (Endpoint("2001:db8::7", 1069), "[2001:db8::7]:1069"),
        (Endpoint("fe80::1%eth0", 5), "[fe80::1%eth0]:5"),
        (Endpoint("::", 0), "[::]:0"),
    ],
)
def test_an_endpoint_is_written_as_people_write_it(endpoint: Endpoint, text: str) -> None:
    """An IPv6 address is in brackets, so that the port can be told from it."""
    assert str(endpoint) == text
    assert f"{endpoint}" == text


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        (b"boot/grub.cfg", "boot/grub.cfg"),
        ("größe".encode(), "größe"),
        (b"caf\xe9", "caf\udce9"),
        (b"../\x01\x7f", "../\x01\x7f"),
    ],
)
def test_the_path_is_the_name_as_text(filename: bytes, path: str) -> None:
    """UTF-8 is read as such, and other octets are escaped, not lost."""
    assert context(filename).path == path


@given(st.binary(max_size=60))
def test_any_name_can_be_turned_back_into_its_octets(filename: bytes) -> None:
    """The text stands for exactly one name."""
    assert context(filename).path.encode("utf-8", "surrogateescape") == filename


def test_a_transfer_takes_the_seconds_from_its_start_to_its_end() -> None:
    """While it runs it has taken none."""
    statistics = TransferStatistics(context(), started=100.5)
    assert statistics.seconds == 0.0
    statistics.ended = 103.0
    assert statistics.seconds == 2.5


def test_a_transfer_that_starts_with_the_clock_is_measured_too() -> None:
    """An end at the clock's zero is an end."""
    statistics = TransferStatistics(context(), started=-1.5, ended=0.0)
    assert statistics.seconds == 1.5
