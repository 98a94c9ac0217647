"""Rules for some clients, selected by network or by MAC address, and the settings that they give.

For each key, the rule for the MAC address of the client decides if it has the key, otherwise the
rule with the longest prefix of those that have it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted_tftp.context import unknown_mac
from twisted_tftp.net.host_cache import Entry
from twisted_tftp.policy import (
    BLKSIZE_RANGE,
    MAX_RATE_RANGE,
    NEGOTIATED_OPTIONS,
    RATE_RANGE,
    TIMEOUT_RANGE,
    WINDOWSIZE_RANGE,
    Network,
    Policy,
    Range,
    UploadSettings,
    WriteMode,
)
from twisted_tftp.server.addresses import parse_address

_Key = TypeVar("_Key", int, str)

#: Returns the backend of the clients whose rules have these keys: (`root`, `max_rate`). A key that
#: no rule has is None.
BackendFor = Callable[[str | None, int | None], Any]

#: How long the rules of a client are cached if there are rules for MAC addresses, in seconds.
MAC_RULES_SECONDS = 1.0

#: The allowed values of the keys that are numbers.
_RANGES: dict[str, Range[int] | Range[float]] = {
    "max_blksize": BLKSIZE_RANGE,
    "max_windowsize": WINDOWSIZE_RANGE,
    "timeout": TIMEOUT_RANGE,
    "rate": RATE_RANGE,
    "max_rate": MAX_RATE_RANGE,
}

#: A MAC address with the usual separators, or without: `52:54:00:12:34:56`, `5254.0012.3456`.
_MAC = re.compile(
    r"(?i:[0-9a-f]{12}|([0-9a-f]{2}[:-]){5}[0-9a-f]{2}|([0-9a-f]{4}\.){2}[0-9a-f]{4})"
)


@dataclass(frozen=True)
class ClientSettings:
    """The settings of some clients. None stands for the setting of all clients.

    @ivar refuse: the options that are never granted: names out of `NEGOTIATED_OPTIONS`.
    @ivar max_blksize: the largest block size that is granted, in octets.
    @ivar max_windowsize: the largest window that is granted, in blocks.
    @ivar timeout: seconds until the first retransmission: see L{Policy}.
    @ivar root: the directory, a prefix inside the mounts, in which names start.
    @ivar write: which files may be written; with `never`, no mount can allow it.
    @ivar rate: new requests per second of one source: see L{Policy}.
    @ivar max_rate: octets per second of each transfer.
    """

    refuse: frozenset[str] | None = None
    max_blksize: int | None = None
    max_windowsize: int | None = None
    timeout: float | None = None
    root: str | None = None
    write: WriteMode | None = None
    rate: float | None = None
    max_rate: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        @raise ValueError: one is not valid; the message begins with its key.
        """
        for key, allowed in _RANGES.items():
            value = getattr(self, key)
            if value is None:
                continue
            try:
                allowed.check(value)
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
        unknown = (self.refuse or frozenset()).difference(NEGOTIATED_OPTIONS)
        if unknown:
            names = ", ".join(NEGOTIATED_OPTIONS)
            raise ValueError(f"refuse must be one of {names}, not {min(unknown)!r}")

    @property
    def needs_backend(self) -> bool:
        """Whether these clients have a backend of their own."""
        return self.root is not None or self.max_rate is not None

    def policy(self, common: Policy) -> Policy:
        """Return the policy for these clients.

        @param common: the policy for the other clients.
        """
        return dataclasses.replace(common, **dict(_given(self, _POLICY_KEYS)))

    def uploads(self, common: UploadSettings | None) -> UploadSettings | None:
        """Return the rules for the uploads of these clients.

        @param common: the rules for the other clients; None for those of the backend.
        """
        if self.write is None:
            return common
        return dataclasses.replace(common or UploadSettings(), write=self.write)


#: The keys of a rule.
KEYS = tuple(field.name for field in dataclasses.fields(ClientSettings))

#: The keys that are attributes of the policy too.
_POLICY_KEYS = tuple(
    key for key in KEYS if key in {field.name for field in dataclasses.fields(Policy)}
)


@dataclass(frozen=True)
class ClientRule:
    """The settings for the clients of a network, or for the client with a MAC address.

    @ivar network: the network; None if the rule has a MAC address.
    @ivar mac: the MAC address, as L{parse_mac} returns it; None if the rule has a network.
    @ivar settings: the settings.
    """

    settings: ClientSettings
    network: Network | None = None
    mac: str | None = None

    def __post_init__(self) -> None:
        """Check that the rule selects clients in one way.

        @raise ValueError: it has no network and no MAC address, or both.
        """
        if (self.network is None) == (self.mac is None):
            raise ValueError("a client rule needs either a network or a mac")
        if self.mac is not None and parse_mac(self.mac) != self.mac:
            raise ValueError(f"mac must be written as {parse_mac(self.mac)}, not {self.mac}")

    def __str__(self) -> str:
        """Return what the rule selects: `network 192.0.2.0/24` or `mac 52:54:00:12:34:56`."""
        return f"mac {self.mac}" if self.network is None else f"network {self.network}"


class ClientRules:
    """The rules of a server.

    @ivar rules: the rules.
    @ivar rates: the values of `rate` in the rules.
    """

    def __init__(
        self,
        rules: Iterable[ClientRule] = (),
        find_mac: Callable[[str], str | None] = unknown_mac,
    ) -> None:
        """Set up.

        @param find_mac: returns the MAC address of a host, or None.
        @raise ValueError: two rules are for the same network or MAC address.
        """
        self.rules = tuple(rules)
        given = (rule.settings.rate for rule in self.rules)
        self.rates = frozenset(rate for rate in given if rate is not None)
        self._find_mac = find_mac
        self._by_mac: dict[str, ClientRule] = {}
        networks: dict[tuple[int, int], dict[int, ClientRule]] = {}
        for rule in self.rules:
            if rule.network is None:
                assert rule.mac is not None
                self._add(self._by_mac, rule.mac, rule)
            else:
                network = rule.network
                shift = network.max_prefixlen - network.prefixlen
                table = networks.setdefault((network.version, shift), {})
                self._add(table, int(network.network_address) >> shift, rule)
        # For each IP version: the rules of each prefix length by their prefix, the longest first.
        self._by_prefix = {
            version: [(shift, networks[v, shift]) for v, shift in sorted(networks) if v == version]
            for version in (4, 6)
        }

    @staticmethod
    def _add(table: dict[_Key, ClientRule], key: _Key, rule: ClientRule) -> None:
        if key in table:
            raise ValueError(f"there are two client rules for {rule}")
        table[key] = rule

    def look_up(self, host: str, now: float) -> Entry[ClientSettings]:
        """Return the settings for a host; they are valid for ever if no rule has a MAC address.

        @param host: an IP address; an IPv6 link-local one has its scope.
        @param now: the time in seconds of a monotonic clock.
        """
        values = {key: value for key, value, _ in self._decide(host)}
        valid_until = now + MAC_RULES_SECONDS if self._by_mac else float("inf")
        return Entry(ClientSettings(**values), valid_until)

    def describe(self, host: str) -> list[str]:
        """Return a line for each key that a rule sets for a host: rule, key and value."""
        return [
            f"client rule for {rule}: {key} = {_shown(value)}"
            for key, value, rule in self._decide(host)
        ]

    def _decide(self, host: str) -> Iterator[tuple[str, Any, ClientRule]]:
        """Return the keys that have a value for `host`, each with the value and its rule."""
        rules = self._rules_for(host)
        for key in KEYS if rules else ():
            for rule in rules:
                value = getattr(rule.settings, key)
                if value is not None:
                    yield key, value, rule
                    break

    def _rules_for(self, host: str) -> Sequence[ClientRule]:
        """Return the rules that match a host; those that decide first are first."""
        found = []
        if self._by_mac:
            by_mac = self._by_mac.get(self._find_mac(host) or "")
            if by_mac is not None:
                found.append(by_mac)
        address = parse_address(host)
        number = int(address)
        for shift, table in self._by_prefix[address.version]:
            rule = table.get(number >> shift)
            if rule is not None:
                found.append(rule)
        return found


def parse_mac(text: str) -> str:
    """Return a MAC address in lower case and with colons.

    @raise ValueError: `text` is no MAC address of six octets.
    """
    if not _MAC.fullmatch(text):
        raise ValueError(f"mac must be an address such as 52:54:00:12:34:56, not {text!r}")
    return bytes.fromhex(re.sub("[-:.]", "", text)).hex(":")


def _given(settings: ClientSettings, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Return those of `keys` that have a value, with the value."""
    for key in keys:
        value = getattr(settings, key)
        if value is not None:
            yield key, value


def _shown(value: object) -> str:
    """Return a value as the operator writes it."""
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value.value if isinstance(value, WriteMode) else value)
