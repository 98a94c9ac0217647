"""Tests of block numbers: their rollover on the wire, and the blocks that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.policy import Rollover
from twisted_tftp.transfer.blocks import MAX_NUMBER, Numbering

#: How many blocks are checked: more than three rollovers.
MANY = 200_100


def counted(first: int) -> Iterator[int]:
    """Generate the block numbers from 0 on, with `first` after 65535."""
    number = 0
    while True:
        yield number
        number = first if number == 65535 else number + 1


@pytest.mark.parametrize(
    ("rollover", "first"), [(Rollover.ZERO, 0), (Rollover.ONE, 1), (Rollover.NONE, 0)]
)
def test_numbers_continue_over_three_rollovers(rollover: Rollover, first: int) -> None:
    """Over 200,000 blocks, each number follows the one before, and `first` follows 65535."""
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
def test_rollover_decides_which_number_follows_65535(
    rollover: Rollover, around: list[int]
) -> None:
    """The next number is 0 or 1, as negotiated."""
    numbering = Numbering(rollover)
    assert [numbering.number(block) for block in range(65534, 65539)] == around


def test_only_a_transfer_without_rollover_has_a_last_block() -> None:
    """Without rollover, block 65,535 is the last one; otherwise there is no limit."""
    assert Numbering(Rollover.NONE).limit == MAX_NUMBER == 65535
    assert Numbering(Rollover.ZERO).limit is None
    assert Numbering(Rollover.ONE).limit is None


@pytest.mark.parametrize("rollover", list(Rollover))
@pytest.mark.parametrize("distance", [0, 1, 2, 64, 32767, 65534])
def test_ahead_returns_the_distance_at_every_block(rollover: Rollover, distance: int) -> None:
    """For 200,000 blocks, `blocks_ahead` computes the distance to a later block."""
    numbering = Numbering(rollover)
    number, ahead = numbering.number, numbering.blocks_ahead
    wrong = [block for block in range(MANY) if ahead(number(block + distance), block) != distance]
    assert wrong == []


@given(st.sampled_from(Rollover), st.integers(0, 10**7), st.integers(0, 65534))
def test_ahead_returns_the_distance_at_any_block(
    rollover: Rollover, block: int, distance: int
) -> None:
    """`blocks_ahead` is the inverse of `number`, for any block and any distance up to 65,534."""
    numbering = Numbering(rollover)
    assert numbering.blocks_ahead(numbering.number(block + distance), block) == distance


@given(st.sampled_from(Rollover), st.integers(1, 10**7), st.integers(1, 32767))
def test_number_of_an_earlier_block_is_far_ahead(rollover: Rollover, block: int, on: int) -> None:
    """A block up to 32,767 back is at least 32,768 ahead, so it is never within a window."""
    numbering = Numbering(rollover)
    assert numbering.blocks_ahead(numbering.number(block), block + on) >= 32768


@pytest.mark.parametrize("rollover", list(Rollover))
@pytest.mark.parametrize("block", [0, 1, 2, 65534, 65535, 65536, 65537, 131070, 131071, 131072])
def test_ahead_accepts_every_number(rollover: Rollover, block: int) -> None:
    """For each 16-bit number, `blocks_ahead` returns the distance to a block with that number."""
    numbering = Numbering(rollover)
    for number in range(65536):
        ahead = numbering.blocks_ahead(number, block)
        assert 0 <= ahead <= 65535
        if number or rollover is not Rollover.ONE:
            assert numbering.number(block + ahead) == number


@pytest.mark.parametrize("block", [1, 2, 65534, 65535, 65536, 131070])
def test_number_0_is_far_ahead_if_1_follows_65535(block: int) -> None:
    """With rollover 1 no block after block 0 has the number 0, so it is within no window."""
    assert Numbering(Rollover.ONE).blocks_ahead(0, block) >= 32768


@pytest.mark.parametrize("rollover", list(Rollover))
def test_number_0_is_block_0_before_the_first_block(rollover: Rollover) -> None:
    """Before the first block, number 0 stands for block 0: ACK 0 acknowledges the OACK."""
    assert Numbering(rollover).blocks_ahead(0, 0) == 0
