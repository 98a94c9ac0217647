"""Read numbers and octets from the input of a fuzzer, which is a list of events for a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Input:
    """The octets of an input, which are read from the front; after their end come zeros."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def left(self) -> int:
        """How many octets are left."""
        return max(0, len(self._octets) - self._at)

    def byte(self) -> int:
        """Return the next octet."""
        self._at += 1
        return self._octets[self._at - 1] if self._at <= len(self._octets) else 0

    def number(self) -> int:
        """Return the next two octets as a number in network order."""
        return self.byte() << 8 | self.byte()

    def octets(self, count: int) -> bytes:
        """Return the next `count` octets, or as many as are left."""
        octets = self._octets[self._at : self._at + count]
        self._at += count
        return octets

    def rest(self) -> bytes:
        """Return all octets that are left."""
        return self.octets(self.left)

    def choice(self, choices: Sequence[T]) -> T:
        """Return the element of `choices` that the next octet selects."""
        return choices[self.byte() % len(choices)]
