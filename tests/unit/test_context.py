"""Tests of the context and the statistics of a transfer."""

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
def test_endpoint_is_written_as_host_and_port(endpoint: Endpoint, text: str) -> None:
    """An IPv6 address is in brackets, to separate it from the port."""
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
def test_path_is_the_file_name_as_text(filename: bytes, path: str) -> None:
    """UTF-8 is decoded; other octets are escaped and not lost."""
    assert context(filename).path == path


@given(st.binary(max_size=60))
def test_path_can_be_encoded_to_the_file_name(filename: bytes) -> None:
    """Each path stands for exactly one file name."""
    assert context(filename).path.encode("utf-8", "surrogateescape") == filename


def test_duration_is_from_the_start_to_the_end() -> None:
    """While a transfer runs its duration is 0."""
    statistics = TransferStatistics(context(), started=100.5)
    assert statistics.seconds == 0.0
    statistics.ended = 103.0
    assert statistics.seconds == 2.5


def test_duration_is_right_at_time_zero() -> None:
    """An end at the clock's 0.0 is an end too."""
    statistics = TransferStatistics(context(), started=-1.5, ended=0.0)
    assert statistics.seconds == 1.5
