"""Tests of parsing several DATA packets in one buffer (a train)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.protocol import wire
from twisted_tftp.transfer.trains import NUMBERS, blocks_of

#: Octets of a block.
BLKSIZE = 8


def packet(number: int) -> bytes:
    return wire.DATA_HEADERS[number % NUMBERS] + (number % NUMBERS).to_bytes(BLKSIZE, "big")


@given(
    first=st.integers(1, 3 * NUMBERS),
    skips=st.lists(st.sampled_from((0, 0, 0, 0, 1, -1)), min_size=1, max_size=40),
    limit=st.integers(0, 50),
)
def test_blocks_are_those_of_the_packets_in_order(
    first: int, skips: list[int], limit: int
) -> None:
    """The result ends at a gap, at a repeated block, after number 65535 and at the limit."""
    numbers = []
    number = first
    for skip in skips:
        number += skip
        numbers.append(number)
        number += 1
    expected = []
    for at, number in enumerate(numbers[:limit]):
        if number != first + at or (at and number % NUMBERS == 0):
            break
        expected.append((number % NUMBERS).to_bytes(BLKSIZE, "big"))
    train = memoryview(b"".join(packet(number) for number in numbers))
    wanted = min(limit, len(numbers))
    assert list(blocks_of(train, first, wanted, BLKSIZE)) == expected


def test_packet_that_is_not_data_ends_the_blocks() -> None:
    """A packet with another opcode, here an ERROR, is not parsed as a block."""
    train = memoryview(packet(1) + b"\x00\x05" + bytes(BLKSIZE + 2) + packet(3))
    assert len(blocks_of(train, 1, 3, BLKSIZE)) == 1
