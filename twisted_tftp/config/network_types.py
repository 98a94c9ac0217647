"""The types of option values that are addresses, networks, interfaces or ports."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar

from twisted_tftp.policy import Network
from twisted_tftp.server.client_rules import parse_mac

#: Two ports, the lowest and the highest.
_PORT_RANGE = re.compile(r"([0-9]{1,5}):([0-9]{1,5})\Z")

#: The name of a network interface.
_INTERFACE_NAME = re.compile(r"[^\s/:%]{1,15}\Z")

#: The prefix length, in bits, of all IPv4-mapped addresses (`::ffff:0:0/96`, RFC 4291).
_IPV4_MAPPED_PREFIX = 96


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
    """Convert a network of IPv4-mapped addresses to an IPv4 network; return others unchanged."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _IPV4_MAPPED_PREFIX:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _IPV4_MAPPED_PREFIX))


@dataclass(frozen=True)
class MacAddress:
    """A MAC address, in lower case and with colons."""

    placeholder: ClassVar[str] = "MAC"
    syntax: ClassVar[str] = "a MAC address, such as `52:54:00:12:34:56`"

    def parse(self, text: str) -> str:
        try:
            return parse_mac(text)
        except ValueError:
            text = f"must be a MAC address such as 52:54:00:12:34:56, not {text!r}"
            raise ValueError(text) from None

    def format(self, value: str) -> str:
        return value
