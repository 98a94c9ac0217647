"""The reasons in the log, as texts."""

from __future__ import annotations

import pytest

from twisted_tftp.server import reasons


@pytest.mark.parametrize(
    ("limit", "shown"),
    [(5.0, "5"), (0.001, "0.001"), (1_000_000.0, "1000000"), (999_999.5, "999999.5"), (4, "4")],
)
def test_limit_is_shown_as_the_operator_writes_it(limit: float, shown: str) -> None:
    """A reason has the value of its option without an exponent, and with all digits."""
    assert reasons.with_limit("over --rate", limit) == f"over --rate {shown}"


def test_reason_without_a_limit_is_shown_as_it_is() -> None:
    """Nothing is added to a reason that names no value."""
    assert reasons.with_limit("not a request", None) == "not a request"


def test_long_drain_time_is_shown_without_an_exponent() -> None:
    """The reason has all digits of `--drain`."""
    assert reasons.drain_ended(1_000_000) == "the drain time of 1000000 s ran out"
