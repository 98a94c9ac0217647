"""Read numbers and octets from a fuzzer's input, which is a program of events to a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Input:
    """Octets that are used up from the front; what lies behind their end is zeros."""

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
        """Return all that is left."""
        return self.octets(self.left)

    def choice(self, choices: Sequence[T]) -> T:
        """Return the one of `choices` that the next octet names."""
        return choices[self.byte() % len(choices)]
