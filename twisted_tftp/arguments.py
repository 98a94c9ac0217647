"""Turn the words of the command line of `txtftp` into checked values."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a whole number from `low` to `high`."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return number


#: Reads a UDP port.
udp_port = whole_number(1, 65535)


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return what reads seconds from `low` to `high`."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not low <= found <= high:
            raise ArgumentTypeError(f"must be seconds from {low:g} to {high:g}")
        return found

    return number
