"""Parse and check argument values of the command line of `txtftp`."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable

from twisted_tftp.client.resolve import numeric_address
from twisted_tftp.policy import Range


def whole_number(allowed: Range[int]) -> Callable[[str], int]:
    """Return a function that parses a whole number in a range."""
    low, high = allowed.low, allowed.high

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return number


#: Parses a UDP port.
udp_port = whole_number(Range(1, 65535))


def seconds(allowed: Range[float]) -> Callable[[str], float]:
    """Return a function that parses a number of seconds in a range."""
    low, high = allowed.low, allowed.high

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not low <= found <= high:
            raise ArgumentTypeError(f"must be seconds from {low:g} to {high:g}")
        return found

    return number


def local_address(text: str) -> tuple[str, int]:
    """Parse ADDR, ADDR:PORT or [ADDR]:PORT into address and port; the default port is 0."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, None
    try:
        numeric_address(host, 0)
    except (OSError, ValueError):
        raise ArgumentTypeError(f"{text!r} is not ADDR, ADDR:PORT or [ADDR]:PORT") from None
    return host, 0 if port is None else udp_port(port)
