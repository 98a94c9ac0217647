"""Turn the settings that people write into the objects that a service is made of.

A setting has one name everywhere: on the command line, as a key here, and in the docs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted_tftp.backends.filesystem.backend import CACHE
from twisted_tftp.backends.naming import WriteMode
from twisted_tftp.policy import Network, Policy, Retransmit, Rollover

_SIZE = re.compile(r"([0-9]{1,20})\s*(?:([kmgt])i?)?b?\Z", re.IGNORECASE)
_INTEGER = re.compile(r"[0-9]{1,20}\Z")
_PORT_RANGE = re.compile(r"([0-9]{1,5}):([0-9]{1,5})\Z")
_RATE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,6})?)(?:/s)?\Z")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


_T = TypeVar("_T")


@dataclass(frozen=True)
class Settings:
    """All that the command line says.

    @ivar root: the directory that is served.
    @ivar host: addresses to listen on; none for all of IPv4 and IPv6.
    @ivar port: the request port.
    @ivar cache: octets of small files that are kept in memory.
    @ivar upload_quota: octets of all files that uploads may lead to; None for no bound.
    @ivar write: `never`, `create` or `overwrite`.
    @ivar drain: seconds that running transfers have to finish when the service stops.
    @ivar policy: what is granted to clients.
    @ivar verbose: log at debug level.
    """

    root: str = "."
    host: tuple[str, ...] = ()
    port: int = 69
    write: str = WriteMode.NEVER.value
    cache: int = CACHE
    upload_quota: int | None = None
    drain: float = 5.0
    policy: Policy = field(default_factory=Policy)
    verbose: bool = False


def settings(raw: Mapping[str, Any]) -> Settings:
    """Check and convert settings.

    @param raw: option name without dashes in front to its text, None where it was not given;
        flags are true or false; `host`, `allow`, `deny` and `allow-write` are lists.
    @raise ValueError: a value is bad; the message names the option.
    """
    defaults = Policy()
    policy = Policy(
        timeout=_number(raw, "timeout", defaults.timeout),
        retries=_integer(raw, "retries", defaults.retries),
        retransmit=_choice(raw, "retransmit", Retransmit, defaults.retransmit),
        max_blksize=_integer(raw, "max-blksize", defaults.max_blksize),
        max_windowsize=_integer(raw, "max-windowsize", defaults.max_windowsize),
        rollover=_choice(raw, "rollover", Rollover, defaults.rollover),
        port_range=_port_range(raw.get("port-range")),
        single_port=bool(raw.get("single-port")),
        max_upload=_size(raw, "max-upload", None),
        max_transfers=_integer(raw, "max-transfers", defaults.max_transfers),
        max_per_client=_integer(raw, "max-per-client", None),
        rate=_rate(raw.get("rate")),
        allow=_networks(raw, "allow"),
        deny=_networks(raw, "deny"),
        allow_write=_networks(raw, "allow-write"),
    )
    port = _integer(raw, "port", Settings.port)
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, not {port}")
    drain = _number(raw, "drain", Settings.drain)
    if not 0 <= drain < float("inf"):
        raise ValueError("drain must be a number of seconds, 0 or more")
    root = raw.get("root")
    if root is None:
        root = Settings.root
    elif not root:
        raise ValueError("root must not be empty")
    for host in raw.get("host") or ():
        _check_address(host)
    return Settings(
        root=root,
        host=tuple(raw.get("host") or ()),
        port=port,
        write=_choice(raw, "write", WriteMode, WriteMode.NEVER).value,
        cache=_size(raw, "cache", Settings.cache),
        upload_quota=_size(raw, "upload-quota", None),
        drain=drain,
        policy=policy,
        verbose=bool(raw.get("verbose")),
    )


def _check_address(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"host must be an IPv4 or IPv6 address, not {host!r}") from None


def _networks(raw: Mapping[str, Any], name: str) -> tuple[Network, ...]:
    """Return networks in CIDR notation; an address is a network of one."""
    found = []
    for text in raw.get(name) or ():
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"{name} must be a network such as 192.0.2.0/24: {error}") from None
    return tuple(found)


def _rate(value: str | None) -> float | None:
    if value is None:
        return None
    match = _RATE.match(value)
    if not match:
        raise ValueError(f"rate must be requests a second such as 20 or 0.5/s, not {value!r}")
    return float(match[1])


def _integer(raw: Mapping[str, Any], name: str, default: _T) -> int | _T:
    value = raw.get(name)
    if value is None:
        return default
    if not _INTEGER.match(value):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _number(raw: Mapping[str, Any], name: str, default: float) -> float:
    value = raw.get(name)
    if value is None:
        return default
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds, not {value!r}") from None


def _choice(raw: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = raw.get(name)
    if value is None:
        return default
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(member.value for member in kind)
        raise ValueError(f"{name} must be one of {choices}, not {value!r}") from None


def _size(raw: Mapping[str, Any], name: str, default: _T) -> int | _T:
    """Return octets: `100000`, `64k`, `20M`, `4GiB` (powers of 1024)."""
    value = raw.get(name)
    if value is None:
        return default
    match = _SIZE.match(value)
    if not match:
        raise ValueError(f"{name} must be a size such as 100000, 64k, 20M or 4G, not {value!r}")
    digits, unit = match.groups()
    return int(digits) << _UNITS[(unit or "").lower()]


def _port_range(value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = _PORT_RANGE.match(value)
    if not match:
        raise ValueError(f"port-range must be LO:HI, such as 40000:40999, not {value!r}")
    return int(match[1]), int(match[2])
