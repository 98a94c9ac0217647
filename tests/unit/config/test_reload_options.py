"""Test that a reload changes each option, or says that it needs a restart for that."""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tests.support.reactors import outcome, reactor
from twisted_tftp.config.build import build
from twisted_tftp.config.option import Option
from twisted_tftp.config.option_table import OPTIONS
from twisted_tftp.config.service import make_service
from twisted_tftp.config.settings import parse_settings
from twisted_tftp.server.configuration import FIXED, FIXED_POLICY
from twisted_tftp.server.service import TFTPService

__all__ = ["reactor"]

#: A value of each option that is not its default; FOLDER stands for a folder, MAP for a map file.
#: A flag has True, and a repeatable option a list.
VALUES: dict[str, Any] = {
    "root": "FOLDER",
    "backend": ["memory"],
    "follow-links": ["FOLDER"],
    "write": "create",
    "cache": "1M",
    "upload-mode": "0600",
    "make-dirs": True,
    "max-upload": "1M",
    "upload-quota": "1M",
    "keep": "3",
    "map-file": "MAP",
    "strip-trailing": True,
    "ignore-case": True,
    "unique-root": "ip",
    "no-common-root": True,
    "host": ["127.0.0.2"],
    "interface": "lo",
    "freebind": True,
    "broadcast": True,
    "port": "6969",
    "port-range": "40000:40999",
    "single-port": True,
    "timeout": "2",
    "patience": "30",
    "retries": "5",
    "retransmit": "fixed",
    "drain": "1",
    "allow": ["192.0.2.0/24"],
    "deny": ["192.0.2.0/24"],
    "allow-write": ["192.0.2.0/24"],
    "rate": "5",
    "unproven-rate": "1000",
    "max-per-client": "7",
    "max-blksize": "1000",
    "mtu-fit": "never",
    "max-windowsize": "3",
    "rollover": "1",
    "refuse": ["tsize"],
    "max-transfers": "99",
    "max-rate": "1M/s",
    "on-upload": "true",
    "on-transfer": "true",
    "hook-processes": "2",
    "hook-time": "5",
    "hook-queue": "9",
    "verbose": True,
}

#: What some options need to have an effect.
NEEDED: dict[str, dict[str, Any]] = {"no-common-root": {"unique-root": "ip"}}

#: What all services of these tests are given.
BASE = {"host": ["127.0.0.1"], "port": "0"}

#: The packages whose objects are not looked into: they have sockets, and no settings that a
#: reload can change.
OPAQUE = ("twisted_tftp.net.", "twisted_tftp.session.deadlines")


def state_of(thing: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return the values that can be reached from an object, without its identity.

    @param inside: the identities of the objects that lead to it.
    """
    if thing is None or isinstance(thing, bool | int | float | str | bytes | Enum):
        return thing
    if id(thing) in inside:
        return "a circle"
    inside = (*inside, id(thing))
    if isinstance(thing, Mapping):
        return {str(key): state_of(value, inside) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [state_of(each, inside) for each in thing]
    if isinstance(thing, set | frozenset):
        return sorted(map(str, thing))
    if isinstance(thing, types.FunctionType):
        return state_of([cell.cell_contents for cell in thing.__closure__ or ()], inside)
    if isinstance(thing, types.MethodType):
        return state_of(thing.__self__, inside)
    if hasattr(thing, "__wrapped__"):
        return state_of(thing.__wrapped__, inside)
    module = type(thing).__module__
    if module == "ipaddress":
        return str(thing)
    name = type(thing).__name__
    if not module.startswith("twisted_tftp.") or module.startswith(OPAQUE):
        return name
    slots = [slot for each in type(thing).__mro__ for slot in getattr(each, "__slots__", ())]
    values = {slot: getattr(thing, slot) for slot in slots if hasattr(thing, slot)}
    return [name, state_of({**values, **getattr(thing, "__dict__", {})}, inside)]


def state_in_use(service: TFTPService) -> Any:
    """Return what new requests, hooks and the stop of a service are ruled by."""
    (server,) = service.servers
    used = (server._services, server.admission, service._hook_runner.settings)
    return state_of((*used, service.configuration.drain))


def reload(service: TFTPService, reactor: Any, given: dict[str, Any]) -> list[str]:
    """Give a service other options; return the names of those that need a restart."""
    return service.reconfigure(build(parse_settings(given), reactor).configuration)


@pytest.mark.parametrize("option", OPTIONS, ids=[option.name for option in OPTIONS])
def test_each_option_changes_or_is_named(option: Option, tmp_path: Path, reactor: Any) -> None:
    """An option that is named does not change, and is one of those that sockets have."""
    (tmp_path / "map").write_text("r ^a b\n")
    replaced = {"FOLDER": str(tmp_path), "MAP": str(tmp_path / "map")}
    value = VALUES[option.name]
    if isinstance(value, list):
        value = [replaced.get(each, each) for each in value]
    elif isinstance(value, str):
        value = replaced.get(value, value)
    base = BASE | NEEDED.get(option.name, {})
    service = make_service(parse_settings(base), reactor)
    service.startService()
    try:
        at_start = state_in_use(service)
        assert reload(service, reactor, base) == []
        assert state_in_use(service) == at_start, "a reload of the same options changes something"
        named = reload(service, reactor, base | {option.name: value})
        has_changed = state_in_use(service) != at_start
        if option.key in (*FIXED, *FIXED_POLICY):
            assert (named, has_changed) == ([option.key], False)
        else:
            assert (named, has_changed) == ([], True)
        assert reload(service, reactor, base) == []
        assert state_in_use(service) == at_start, "the earlier value is not used again"
    finally:
        outcome(reactor, service.stopService())
        reactor.fireSystemEvent("shutdown")
