"""The types of option values that are sizes, durations or rates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from twisted_tftp.policy import Range

#: A size: digits, and a unit such as `k`, `M` or `GiB`.
_SIZE = re.compile(r"([0-9]{1,20})\s*(?:([kmgt])i?)?b?\Z", re.IGNORECASE)

#: The units of sizes, each with its power of 2, the largest first.
_SIZE_UNITS = {"T": 40, "G": 30, "M": 20, "k": 10}

#: A number of events per second.
_RATE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?)(?:/s)?\Z")


@dataclass(frozen=True)
class Seconds:
    """A duration in seconds.

    @ivar allowed: the range of valid durations; None for all finite ones from 0.
    """

    allowed: Range[float] | None = None
    placeholder: ClassVar[str] = "S"

    @property
    def syntax(self) -> str:
        if self.allowed is None:
            return "seconds, 0 or more"
        return f"seconds, {self.allowed.low:g} to {self.allowed.high:g}"

    def parse(self, text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            raise ValueError(f"must be a number of seconds, not {text!r}") from None
        if self.allowed is not None:
            self.allowed.check(seconds)
        elif not 0 <= seconds < float("inf"):
            raise ValueError("must be a number of seconds, 0 or more")
        return seconds

    def format(self, value: float) -> str:
        return f"{value:.15g}"


@dataclass(frozen=True)
class Size:
    """A number of octets, with an optional unit (a power of 1024)."""

    placeholder: ClassVar[str] = "SIZE"
    syntax: ClassVar[str] = (
        "a size, such as `100000`, `64k`, `20M` or `4G`; k, M and G are powers of 1024"
    )

    #: What the help adds to each option with a size.
    units: ClassVar[str] = "k, M, G: powers of 1024"

    def parse(self, text: str) -> int:
        match = _SIZE.match(text)
        if not match:
            raise ValueError(
                f"must be a size such as 100000, 64k, 20M or 4G ({self.units}), not {text!r}"
            )
        digits, unit = match.groups()
        powers = {letter.lower(): power for letter, power in _SIZE_UNITS.items()}
        return int(digits) << powers.get((unit or "").lower(), 0)

    def format(self, value: int) -> str:
        for letter, power in _SIZE_UNITS.items():
            if value and value % (1 << power) == 0:
                return f"{value >> power}{letter}"
        return str(value)


@dataclass(frozen=True)
class SizePerSecond:
    """A number of octets per second, with an optional unit (a power of 1024).

    @ivar allowed: the range of valid numbers; None for all.
    """

    allowed: Range[int] | None = None
    placeholder: ClassVar[str] = "SIZE/s"
    syntax: ClassVar[str] = "a size per second, such as `20k/s` or `1M`"

    def parse(self, text: str) -> int:
        try:
            rate = Size().parse(text.removesuffix("/s"))
        except ValueError:
            raise ValueError(f"must be a size per second such as 20k/s, not {text!r}") from None
        if self.allowed is not None:
            self.allowed.check(rate)
        return rate

    def format(self, value: int) -> str:
        return f"{Size().format(value)}/s" if value else "0"


@dataclass(frozen=True)
class Rate:
    """A number of events per second.

    @ivar allowed: the range of valid rates.
    """

    allowed: Range[float]
    placeholder: ClassVar[str] = "N/s"

    @property
    def syntax(self) -> str:
        return f"{self.allowed.low:g} to {self.allowed.high}, such as `20` or `0.5/s`"

    def parse(self, text: str) -> float:
        match = _RATE.match(text)
        if not match:
            raise ValueError(
                f"must be a number of requests per second such as 20 or 0.5/s, not {text!r}"
            )
        rate = float(match[1])
        self.allowed.check(rate)
        return rate

    def format(self, value: float) -> str:
        return f"{value:.15g}/s"
