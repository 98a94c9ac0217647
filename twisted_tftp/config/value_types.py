"""The types of option values: each one parses texts, formats values and explains errors."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, Protocol, TypeVar

from twisted_tftp.policy import NEGOTIATED_OPTIONS, Network, Range

#: A size: digits, and a unit such as `k`, `M` or `GiB`.
_SIZE = re.compile(r"([0-9]{1,20})\s*(?:([kmgt])i?)?b?\Z", re.IGNORECASE)

#: A whole number; `int` alone would accept `+`, spaces and underscores too.
_INTEGER = re.compile(r"-?[0-9]{1,100}\Z")

#: The permissions of a file; a short number such as `44` would be a mistake.
_FILE_MODE = re.compile(r"0?[0-7]{3}\Z")

#: Two ports, the lowest and the highest.
_PORT_RANGE = re.compile(r"([0-9]{1,5}):([0-9]{1,5})\Z")

#: A number of events per second.
_RATE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?)(?:/s)?\Z")

#: The name of a network interface.
_INTERFACE_NAME = re.compile(r"[^\s/:%]{1,15}\Z")

#: The units of sizes, each with its power of 2, the largest first.
_SIZE_UNITS = {"T": 40, "G": 30, "M": 20, "k": 10}

#: The prefix length, in bits, of all IPv4-mapped addresses (`::ffff:0:0/96`, RFC 4291).
_IPV4_MAPPED_PREFIX = 96

_Value = TypeVar("_Value")
_Member = TypeVar("_Member", bound=Enum)


class ValueType(Protocol[_Value]):
    """The type of an option's value.

    To add a type, write a class with these members; it needs no base class.
    """

    @property
    def placeholder(self) -> str:
        """The word for the value in the help, such as `SIZE`."""

    @property
    def syntax(self) -> str:
        """The valid values, in Markdown, for the reference page."""

    def parse(self, text: str) -> _Value:
        """Convert a text to a value.

        @raise ValueError: the text is not valid. The message continues the option's name: `must be
            ...`.
        """

    def format(self, value: _Value) -> str:
        """Return a text that `parse` converts to this value."""


@dataclass(frozen=True)
class Directory:
    """The path of a directory. The backend checks whether it exists."""

    placeholder: ClassVar[str] = "DIR"
    syntax: ClassVar[str] = "a path"

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError("must not be empty")
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class WholeNumber:
    """A whole number in a range.

    @ivar allowed: the range.
    """

    allowed: Range[int]
    placeholder: ClassVar[str] = "N"

    @property
    def syntax(self) -> str:
        return f"{self.allowed.low} to {self.allowed.high}"

    def parse(self, text: str) -> int:
        if not _INTEGER.match(text):
            raise ValueError(f"must be a whole number, not {text!r}")
        number = int(text)
        self.allowed.check(number)
        return number

    def format(self, value: int) -> str:
        return str(value)


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
class FileMode:
    """The permissions of a file, as an octal number. The bits above 0777 are not allowed."""

    placeholder: ClassVar[str] = "MODE"
    syntax: ClassVar[str] = "an octal number, `0000` to `0777`"

    def parse(self, text: str) -> int:
        if not _FILE_MODE.match(text):
            raise ValueError(f"must be an octal number such as 0644 or 0600, not {text!r}")
        return int(text, 8)

    def format(self, value: int) -> str:
        return f"{value:04o}"


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


@dataclass(frozen=True)
class Choice(Generic[_Member]):
    """One member of an Enum, written as the member's value.

    @ivar members: the Enum.
    """

    members: type[_Member]
    placeholder: str = "MODE"

    @property
    def syntax(self) -> str:
        *others, last = (f"`{member.value}`" for member in self.members)
        return f"{', '.join(others)} or {last}"

    def parse(self, text: str) -> _Member:
        try:
            return self.members(text)
        except ValueError:
            choices = ", ".join(member.value for member in self.members)
            raise ValueError(f"must be one of {choices}, not {text!r}") from None

    def format(self, value: _Member) -> str:
        return str(value.value)


@dataclass(frozen=True)
class OptionName:
    """The name of an option of requests, in upper or lower case."""

    placeholder: ClassVar[str] = "OPTION"

    @property
    def syntax(self) -> str:
        *others, last = (f"`{name}`" for name in NEGOTIATED_OPTIONS)
        return f"{', '.join(others)} or {last}"

    def parse(self, text: str) -> str:
        name = text.lower()
        if name not in NEGOTIATED_OPTIONS:
            raise ValueError(f"must be one of {', '.join(NEGOTIATED_OPTIONS)}, not {text!r}")
        return name

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class PortRange:
    """A range of UDP ports, from the lowest to the highest; `Policy` checks their order."""

    placeholder: ClassVar[str] = "LO:HI"
    syntax: ClassVar[str] = "two ports, such as `40000:40999`"

    def parse(self, text: str) -> tuple[int, int]:
        match = _PORT_RANGE.match(text)
        if not match:
            raise ValueError(f"must be LO:HI, such as 40000:40999, not {text!r}")
        return int(match[1]), int(match[2])

    def format(self, value: tuple[int, int]) -> str:
        return f"{value[0]}:{value[1]}"


@dataclass(frozen=True)
class InterfaceName:
    """The name of a network interface. It is not checked here whether there is one."""

    placeholder: ClassVar[str] = "NAME"
    syntax: ClassVar[str] = "the name of a network interface, such as `eth0`"

    def parse(self, text: str) -> str:
        if not _INTERFACE_NAME.match(text):
            raise ValueError(f"must be the name of a network interface, not {text!r}")
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class ListenAddress:
    """An IPv4 or IPv6 address, with a scope if it is link-local, or the name of an interface."""

    placeholder: ClassVar[str] = "ADDR"
    syntax: ClassVar[str] = (
        "an IPv4 or IPv6 address, such as `192.0.2.1` or `fe80::1%eth0`, or an interface, such as "
        "`eth0`"
    )

    def parse(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            if not _INTERFACE_NAME.match(text) or not text.strip("0123456789."):
                raise ValueError(
                    f"must be an IPv4 or IPv6 address, or an interface, not {text!r}"
                ) from None
            return text
        if address.is_link_local and address.version == 6 and "%" not in text:
            raise ValueError(f"{text} is link-local: add its interface, such as {text}%eth0")
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class NetworkPrefix:
    """A network in CIDR notation, or a single address."""

    placeholder: ClassVar[str] = "CIDR"
    syntax: ClassVar[str] = "a network, such as `192.0.2.0/24`, or an address"

    def parse(self, text: str) -> Network:
        try:
            return _without_mapping(ipaddress.ip_network(text))
        except ValueError as error:
            reason = str(error)
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"must be a network such as 192.0.2.0/24: {reason}") from None
        raise ValueError(f"must be a network: {reason}, did you mean {network}?")

    def format(self, value: Network) -> str:
        return str(value)


def _without_mapping(network: Network) -> Network:
    """Return a network of IPv4-mapped addresses as an IPv4 network, which matches such hosts."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _IPV4_MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _IPV4_MAPPED_PREFIX))
