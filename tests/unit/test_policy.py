"""Tests of the policy: its values are checked when it is made."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from twisted_tftp.policy import NEGOTIATED_OPTIONS, Policy, WriteMode

#: Setting, attribute, smallest value, largest value, and the values just outside.
BOUNDS: list[tuple[str, str, Any, Any, Any, Any]] = [
    ("timeout", "timeout", 0.01, 255, 0.0099, 255.01),
    ("patience", "patience", 0.01, 3600, 0.0099, 3600.01),
    ("retries", "retries", 1, 1000, 0, 1001),
    ("max-blksize", "max_blksize", 8, 65464, 7, 65465),
    ("max-windowsize", "max_windowsize", 1, 32767, 0, 32768),
    ("max-transfers", "max_transfers", 1, 1_000_000, 0, 1_000_001),
]


@pytest.mark.parametrize(("name", "attribute", "low", "high", "below", "above"), BOUNDS)
def test_number_outside_its_bounds_is_refused(
    name: str, attribute: str, low: float, high: float, below: float, above: float
) -> None:
    """Both bounds are allowed, and the message names the setting."""
    for good in (low, high):
        assert getattr(Policy(**{attribute: good}), attribute) == good
    for bad in (below, above, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"^{name} must be from"):
            Policy(**{attribute: bad})


def test_unproven_rate_may_be_zero_but_not_negative() -> None:
    """0 means no limit."""
    assert Policy(unproven_rate=0).unproven_rate == 0
    with pytest.raises(ValueError, match="unproven-rate"):
        Policy(unproven_rate=-1)


def test_max_upload_may_be_zero_but_not_negative() -> None:
    """None means that there is no limit."""
    assert Policy(max_upload=0).max_upload == 0
    assert Policy(max_upload=2**50).max_upload == 2**50
    assert Policy(max_upload=None).max_upload is None
    with pytest.raises(ValueError, match="max-upload"):
        Policy(max_upload=-1)


def test_refuse_takes_known_options_only() -> None:
    """The names are in lower case; the message has the first unknown one."""
    assert Policy(refuse=frozenset(NEGOTIATED_OPTIONS)).refuse == set(NEGOTIATED_OPTIONS)
    for unknown in ("multicast", "TSIZE", ""):
        with pytest.raises(
            ValueError, match=f"^refuse must be one of blksize, .*, not '{unknown}'$"
        ):
            Policy(refuse=frozenset({unknown, "tsize"}))


@pytest.mark.parametrize("ports", [(1, 1), (1, 65535), (65535, 65535), (40000, 40999)])
def test_port_range_is_accepted(ports: tuple[int, int]) -> None:
    """A range may have one port."""
    assert Policy(port_range=ports).port_range == ports


@pytest.mark.parametrize("ports", [(0, 1), (2, 1), (1, 65536), (-1, 5), (0, 0), (65536, 65536)])
def test_invalid_port_range_is_refused(ports: tuple[int, int]) -> None:
    """Ports are from 1 to 65535, and the lower one comes first."""
    with pytest.raises(ValueError, match="port-range"):
        Policy(port_range=ports)


def test_port_range_with_single_port_is_refused() -> None:
    """Transfers use ports of the range or the request port, not both."""
    assert Policy(single_port=True).single_port
    with pytest.raises(ValueError, match=r"port-range.*single-port"):
        Policy(port_range=(40000, 40999), single_port=True)


def test_policy_is_immutable() -> None:
    """All sessions of a server share it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().retries = 1  # type: ignore[misc]


def test_write_modes_are_the_values_of_the_command_line() -> None:
    """Any other word is a ValueError."""
    assert [mode.value for mode in WriteMode] == ["never", "create", "overwrite", "version"]
    with pytest.raises(ValueError, match="always"):
        WriteMode("always")
