"""Block numbers go around as the rollover says, and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.policy import Rollover
from twisted_tftp.transfer.blocks import LAST_NUMBER, Numbering

#: More than three times around.
MANY = 200_100


def counted(first: int) -> Iterator[int]:
    """Count block numbers as a person would, with `first` after 65535."""
    number = 0
    while True:
        yield number
        number = first if number == 65535 else number + 1


@pytest.mark.parametrize(
    ("rollover", "first"), [(Rollover.ZERO, 0), (Rollover.ONE, 1), (Rollover.NONE, 0)]
)
def test_numbers_are_those_of_counting(rollover: Rollover, first: int) -> None:
    """Over 200,000 blocks each number is the one after the number before."""
    numbering = Numbering(rollover)
    numbers = [numbering.number(block) for block in range(MANY)]
    assert numbers == list(islice(counted(first), MANY))


@pytest.mark.parametrize(
    ("rollover", "around"),
    [
        (Rollover.ZERO, [65534, 65535, 0, 1, 2]),
        (Rollover.ONE, [65534, 65535, 1, 2, 3]),
    ],
)
def test_the_number_after_65535_is_the_rollovers(rollover: Rollover, around: list[int]) -> None:
    """0 or 1, as negotiated."""
    numbering = Numbering(rollover)
    assert [numbering.number(block) for block in range(65534, 65539)] == around


def test_only_no_rollover_has_a_last_block() -> None:
    """Where nothing follows 65535 a transfer ends there."""
    assert Numbering(Rollover.NONE).limit == LAST_NUMBER == 65535
    assert Numbering(Rollover.ZERO).limit is None
    assert Numbering(Rollover.ONE).limit is None


@pytest.mark.parametrize("rollover", list(Rollover))
@pytest.mark.parametrize("distance", [0, 1, 2, 64, 32767, 65534])
def test_ahead_undoes_number_at_every_block(rollover: Rollover, distance: int) -> None:
    """From each of 200,000 blocks, the number of one further on says how far on it is."""
    numbering = Numbering(rollover)
    number, ahead = numbering.number, numbering.ahead
    wrong = [block for block in range(MANY) if ahead(number(block + distance), block) != distance]
    assert wrong == []


@given(st.sampled_from(Rollover), st.integers(0, 10**7), st.integers(0, 65534))
def test_ahead_undoes_number(rollover: Rollover, block: int, distance: int) -> None:
    """The same from any block over any distance."""
    numbering = Numbering(rollover)
    assert numbering.ahead(numbering.number(block + distance), block) == distance


@given(st.sampled_from(Rollover), st.integers(1, 10**7), st.integers(1, 32767))
def test_what_lies_behind_looks_far_ahead(rollover: Rollover, block: int, on: int) -> None:
    """A number of the last half turn is never taken for one within a window."""
    numbering = Numbering(rollover)
    assert numbering.ahead(numbering.number(block), block + on) >= 32768


@pytest.mark.parametrize("rollover", list(Rollover))
@pytest.mark.parametrize("block", [0, 1, 2, 65534, 65535, 65536, 65537, 131070, 131071, 131072])
def test_ahead_has_an_answer_for_each_number(rollover: Rollover, block: int) -> None:
    """Whatever number comes, the answer is within a turn and says which block that would be."""
    numbering = Numbering(rollover)
    for number in range(65536):
        ahead = numbering.ahead(number, block)
        assert 0 <= ahead <= 65535
        if number or rollover is not Rollover.ONE:
            assert numbering.number(block + ahead) == number


@pytest.mark.parametrize("block", [1, 2, 65534, 65535, 65536, 131070])
def test_number_0_is_never_a_next_block_where_1_follows_65535(block: int) -> None:
    """Under rollover 1 only the request has number 0, so it is far from every block."""
    assert Numbering(Rollover.ONE).ahead(0, block) >= 32768


@pytest.mark.parametrize("rollover", list(Rollover))
def test_at_the_request_number_0_is_the_request(rollover: Rollover) -> None:
    """ACK 0 answers the OACK."""
    assert Numbering(rollover).ahead(0, 0) == 0
