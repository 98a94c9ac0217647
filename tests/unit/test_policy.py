"""A policy is checked when it is made."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from twisted_tftp.policy import Policy

#: Setting, its attribute, the smallest and the largest value, the first ones outside.
BOUNDS: list[tuple[str, str, Any, Any, Any, Any]] = [
    ("timeout", "timeout", 0.01, 255, 0.0099, 255.01),
    ("retries", "retries", 1, 1000, 0, 1001),
    ("max-blksize", "max_blksize", 8, 65464, 7, 65465),
    ("max-windowsize", "max_windowsize", 1, 32767, 0, 32768),
    ("max-transfers", "max_transfers", 1, 1_000_000, 0, 1_000_001),
]


@pytest.mark.parametrize(("name", "attribute", "low", "high", "below", "above"), BOUNDS)
def test_a_number_is_taken_within_its_bounds_only(
    name: str, attribute: str, low: float, high: float, below: float, above: float
) -> None:
    """Both bounds are good, the next values are not, and the message names the setting."""
    for good in (low, high):
        assert getattr(Policy(**{attribute: good}), attribute) == good
    for bad in (below, above, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"^{name} must be from"):
            Policy(**{attribute: bad})


def test_uploads_may_be_bounded_by_zero_but_not_below() -> None:
    """0 octets is a bound too; None is none."""
    assert Policy(max_upload=0).max_upload == 0
    assert Policy(max_upload=2**50).max_upload == 2**50
    assert Policy(max_upload=None).max_upload is None
    with pytest.raises(ValueError, match="max-upload"):
        Policy(max_upload=-1)


@pytest.mark.parametrize("ports", [(1, 1), (1, 65535), (65535, 65535), (40000, 40999)])
def test_a_port_range_goes_upwards(ports: tuple[int, int]) -> None:
    """One port is a range as well."""
    assert Policy(port_range=ports).port_range == ports


@pytest.mark.parametrize("ports", [(0, 1), (2, 1), (1, 65536), (-1, 5), (0, 0), (65536, 65536)])
def test_a_bad_port_range_is_refused(ports: tuple[int, int]) -> None:
    """Ports are from 1 to 65535 and the lower one comes first."""
    with pytest.raises(ValueError, match="port-range"):
        Policy(port_range=ports)


def test_a_port_range_and_a_single_port_exclude_each_other() -> None:
    """Transfers leave from one place or the other."""
    assert Policy(single_port=True).single_port
    with pytest.raises(ValueError, match=r"port-range.*single-port"):
        Policy(port_range=(40000, 40999), single_port=True)


def test_a_policy_does_not_change() -> None:
    """Every session of a server shares it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().retries = 1  # type: ignore[misc]
