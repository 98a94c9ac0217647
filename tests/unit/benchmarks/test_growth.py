"""Tests of how a soak tells numbers that grow from numbers that stay the same."""

from __future__ import annotations

import pytest

from benchmarks.growth import Sample, Watch, judge, rows

#: A number that returns to its start, such as open descriptors.
RETURNS = Watch("n", returns=True, slack=1)

#: A number that may grow a little, such as memory.
STAYS = Watch("n", returns=False, factor=1.1, slack=5)


def samples(*values: float) -> list[Sample]:
    """Return samples of one number."""
    return [{"n": value, "other": 0} for value in values]


def problem(watch: Watch, start: float, values: list[float], end: float) -> str:
    """Return the problem that a series of samples shows, or an empty text."""
    (first,), (last,) = samples(start), samples(end)
    return judge(watch, first, samples(*values), last).problem


@pytest.mark.parametrize(
    ("watch", "start", "values", "end", "said"),
    [
        (RETURNS, 10, [500, 900, 300, 200], 10, ""),
        (RETURNS, 10, [500, 900, 300, 200], 11, ""),
        (RETURNS, 10, [500, 900, 300, 200], 12, "does not return"),
        (RETURNS, 10, [10, 10, 10, 10], 0, ""),
        (STAYS, 1, [100, 100, 100, 100], 100, ""),
        (STAYS, 1, [100, 400, 400, 115], 900, ""),
        (STAYS, 1, [100, 105, 110, 116], 1, "grows"),
        (STAYS, 1, [50, 100, 100, 100, 100, 100, 115, 20], 1, ""),
        (STAYS, 1, [50, 100, 100, 100, 100, 100, 20, 116], 1, "grows"),
        (Watch("n", returns=False, slack=100, most=9), 1, [1, 9, 9, 9], 9, ""),
        (Watch("n", returns=False, slack=100, most=9), 1, [1, 9, 10, 9], 9, "above 9"),
        (Watch("n", returns=False, slack=100, most=9), 1, [1, 9, 9, 9], 10, "above 9"),
    ],
)
def test_growing_number_is_a_complaint(
    watch: Watch, start: float, values: list[float], end: float, said: str
) -> None:
    """A number that does not grow returns to its start, or has equal first and last quarters."""
    assert problem(watch, start, values, end) == said


def test_slow_leak_is_found_among_bursts() -> None:
    """A minimum that rises shows memory that is never freed."""
    bursts = [1000.0 * (number % 10) for number in range(400)]
    assert problem(Watch("n", returns=False, factor=1.1), 0, bursts, 0) == ""
    leak = [burst + 5 * number for number, burst in enumerate(bursts)]
    assert problem(Watch("n", returns=False, factor=1.1), 0, leak, 0) == "grows"


def test_too_few_samples_are_no_verdict() -> None:
    """Three samples can't be divided into four quarters."""
    with pytest.raises(ValueError, match="four"):
        problem(STAYS, 1, [1, 2, 3], 1)


def test_table_has_each_number_in_its_unit() -> None:
    """The columns: start, first quarter, maximum, last quarter, end and verdict."""
    watch = Watch("n", returns=False, unit=10)
    (idle,) = samples(20)
    verdict = judge(watch, idle, samples(30, 90, 40, 50), idle)
    assert rows([verdict])[1] == ["n", "2", "3", "9", "5", "2", "grows"]
