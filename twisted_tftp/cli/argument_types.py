"""Parse and check argument values of `txtftp`: functions for the `type` of argparse arguments."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable

from twisted_tftp.client.resolve import numeric_address
from twisted_tftp.policy import Range

_DECIMAL = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:/s)?\Z")


def whole_number(allowed: Range[int]) -> Callable[[str], int]:
    """Return a function that parses a whole number in a range."""
    low, high = allowed.low, allowed.high

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


#: Parses a UDP port.
udp_port = whole_number(Range(1, 65535))


def seconds(allowed: Range[float]) -> Callable[[str], float]:
    """Return a function that parses a number of seconds in a range."""
    low, high = allowed.low, allowed.high

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ArgumentTypeError(f"must be a number of seconds from {low:g} to {high:g}")
        return number

    return parse


def decimal(text: str) -> float:
    """Parse a decimal number, 0 or more; `/s` (per second) may follow it."""
    match = _DECIMAL.match(text)
    if not match:
        raise ArgumentTypeError("must be a number such as 20 or 0.5")
    return float(match[1])


def fraction(highest: float) -> Callable[[str], float]:
    """Return a function that parses a number from 0 to `highest`."""

    def parse(text: str) -> float:
        number = decimal(text)
        if number > highest:
            raise ArgumentTypeError(f"must be from 0 to {highest:g}")
        return number

    return parse


def server_name(text: str) -> tuple[str, int | None]:
    """Parse HOST, HOST:PORT or [ADDR]:PORT into a host and a port; None if there is no port."""
    host, port = _split_port(text)
    if not host or "[" in host or "]" in host or "/" in host:
        raise ArgumentTypeError(f"{text!r} is not HOST, HOST:PORT or [ADDR]:PORT")
    return host, None if port is None else _port_in(text, port)


def _port_in(text: str, port: str) -> int:
    try:
        return udp_port(port)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"the port in {text!r} {error}") from None


def _split_port(text: str) -> tuple[str, str | None]:
    """Split HOST:PORT and [ADDR]:PORT; an IPv6 address without brackets has no port."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", text)
    if bracketed:
        return bracketed[1], bracketed[2]
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def local_address(text: str) -> tuple[str, int]:
    """Parse ADDR, ADDR:PORT or [ADDR]:PORT into an address and a port; the default port is 0."""
    host, port = _split_port(text)
    try:
        numeric_address(host, 0)
    except (OSError, ValueError):
        raise ArgumentTypeError(f"{text!r} is not ADDR, ADDR:PORT or [ADDR]:PORT") from None
    return host, 0 if port is None else udp_port(port)
