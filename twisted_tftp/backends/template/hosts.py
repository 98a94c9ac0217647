"""The entries of machines, and how the entry for a request is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from typing import NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import Interface

from twisted_tftp.backends.template.identity import normal_address, normal_mac, normal_uuid

#: The most values in one entry; aliases in a YAML file could make endless ones.
MAX_VALUES = 10_000

#: The most characters of the texts and keys in one entry; aliases in a YAML file can repeat a
#: long text.
MAX_ENTRY_SIZE = 1024 * 1024

#: The most values of all entries of a file; aliases can repeat an entry.
MAX_TABLE_VALUES = 2_000_000

#: The most characters of all entries of a file, as JSON.
MAX_TABLE_SIZE = 64 * 1024 * 1024

#: The most bits of a number. Python refuses to convert much larger ones to text.
MAX_NUMBER_BITS = 4096

#: The most levels of lists and tables in an entry.
MAX_DEPTH = 20


class Machine(NamedTuple):
    """What is known of the machine that a request is for.

    @ivar mac: the MAC address in the name, otherwise that of the client; None if both are unknown.
    @ivar uuid: the UUID in the name.
    @ivar address: the IP address in the name.
    @ivar client: the IP address of the client.
    @ivar name: the name of the file.
    @ivar is_named: whether the name says which machine it is for; otherwise it is the client.
    """

    mac: str | None
    uuid: str | None
    address: str | None
    client: str
    name: str
    is_named: bool


class HostAnswer(NamedTuple):
    """The answer to the question for the entry of a machine.

    @ivar entry: the entry as JSON text; None if there is none.
    @ivar problem: why there is none, for the log.
    """

    entry: str | None
    problem: str = ""


class IHostSource(Interface):
    """A source of entries: a file or a service."""

    def check():  # type: ignore[no-untyped-def]
        """Check whether entries can be found; this may block. Called when the service starts.

        @raise BackendUnavailable: they can't.
        """

    def find(machine):  # type: ignore[no-untyped-def]
        """Find the entry of a machine, a L{Machine}.

        @return: a L{HostAnswer}, or a Deferred that fires with one and never fails.
        """

    def forget():  # type: ignore[no-untyped-def]
        """Discard cached data."""


#: What an `IHostSource` returns.
FoundHost = HostAnswer | Deferred[HostAnswer]


class Entry(NamedTuple):
    """An entry as it was read from a file.

    @ivar key: the key of the entry; empty if it has none.
    @ivar fields: its values by name.
    @ivar line: the line where it begins.
    @ivar lines: the line of each field; fields that are not in it have the line of the entry.
    """

    key: str
    fields: Mapping[str, object]
    line: int
    lines: Mapping[str, int] = {}


class HostsError(ValueError):
    """A hosts file is not valid.

    @ivar line: the line of the mistake; 0 if it is unknown.
    """

    def __init__(self, line: int, text: str) -> None:
        self.line = line
        super().__init__(text)


#: The fields by which entries are found, and the functions that convert their texts.
KEYS: Mapping[str, Callable[[str], str]] = {
    "mac": normal_mac,
    "uuid": normal_uuid,
    "address": normal_address,
    "name": str.strip,
}


class HostTable:
    """The entries of a hosts file, indexed by MAC address, UUID, IP address and name."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Index entries.

        @raise HostsError: an entry has no key, or one that is not valid or is given twice.
        """
        self._by_key: dict[tuple[str, str], str] = {}
        lines: dict[tuple[str, str], int] = {}
        size = values = 0
        for entry in entries:
            budget = Budget()
            fields, keys = _with_keys(entry, budget)
            text = json.dumps(fields, sort_keys=True)
            size += len(text)
            values += budget.used_values
            if size > MAX_TABLE_SIZE or values > MAX_TABLE_VALUES:
                limits = f"{MAX_TABLE_SIZE >> 20} MiB as JSON and {MAX_TABLE_VALUES:,} values"
                problem = f"the entries up to this one are too large: at most {limits}"
                raise HostsError(entry.line, problem)
            for key in keys:
                line = entry.lines.get(key[0], entry.line)
                if key in lines:
                    first = f" (first in line {lines[key]})"
                    raise HostsError(line, f"{key[0]} {key[1]!r} is given twice{first}")
                self._by_key[key] = text
                lines[key] = line

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._by_key)

    def find(self, machine: Machine) -> HostAnswer:
        """Find the entry of a machine.

        If the name of the file says which machine it is for, only that value counts. Otherwise
        the name of an entry may be the last component of the file name, with or without its
        extension, or the entry is that of the client.
        """
        keys = _keys_of(machine)
        for key in keys:
            entry = self._by_key.get(key)
            if entry is not None:
                return HostAnswer(entry)
        wanted = ", ".join(f"{kind} {value}" for kind, value in keys)
        return HostAnswer(None, f"the hosts file has no entry for {wanted}")


def _keys_of(machine: Machine) -> list[tuple[str, str]]:
    pairs = [("mac", machine.mac), ("uuid", machine.uuid), ("address", machine.address)]
    keys = [(kind, value) for kind, value in pairs if value is not None]
    if machine.is_named:
        return keys
    component = machine.name.rpartition("/")[2]
    names = dict.fromkeys((component, component.partition(".")[0]))
    address = machine.client.partition("%")[0]
    return [*(("name", name) for name in names if name), *keys, ("address", address)]


def _with_keys(entry: Entry, budget: Budget) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Return the fields of an entry with all of its keys in their usual form, and the keys.

    @raise HostsError: it has no key, or one that is not valid.
    """
    fields: dict[str, object] = {}
    for name, value in entry.fields.items():
        try:
            budget.take_text(name)
            fields[name] = plain(value, budget)
        except ValueError as error:
            raise HostsError(entry.lines.get(name, entry.line), f"{name}: {error}") from None
    if entry.key:
        fields.setdefault(*_kind_of(entry.key))
    keys = []
    for kind, normal in KEYS.items():
        text = fields.get(kind)
        if text is None:
            continue
        line = entry.lines.get(kind, entry.line)
        if not isinstance(text, str):
            raise HostsError(line, f"{kind} must be a text, not {text!r}")
        try:
            fields[kind] = normal(text)
        except ValueError as error:
            raise HostsError(line, str(error)) from None
        keys.append((kind, normal(text)))
    if not keys:
        raise HostsError(entry.line, "an entry needs a mac, a uuid, an address or a name")
    return fields, keys


def _kind_of(key: str) -> tuple[str, str]:
    for kind, normal in KEYS.items():
        try:
            return kind, normal(key)
        except ValueError:
            continue
    return "name", key


class Budget:
    """A limit on how many values one entry has, and on the characters of its texts and keys.

    @ivar used_values: the number of values so far.
    """

    def __init__(self) -> None:
        self.used_values = 0
        self._used_characters = 0

    def take_value(self) -> None:
        """Count one value.

        @raise ValueError: the entry has too many values.
        """
        self.used_values += 1
        if self.used_values > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")

    def take_text(self, text: str) -> str:
        """Count the characters of a text or a key, and return it.

        @raise ValueError: the entry has too many characters.
        """
        self._used_characters += len(text)
        if self._used_characters > MAX_ENTRY_SIZE:
            raise ValueError(f"more than {MAX_ENTRY_SIZE >> 20} MiB in one entry")
        return text


def plain(value: object, budget: Budget, depth: int = 0) -> object:
    """Return a value as JSON has it; dates and times become text.

    @param budget: counts and limits what the entry has.
    @raise ValueError: a value has no such form, or there are too many, or too many levels.
    """
    budget.take_value()
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
        raise ValueError("a number is too large")
    if isinstance(value, str):
        return budget.take_text(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {
            budget.take_text(str(key)): plain(one, budget, depth + 1) for key, one in value.items()
        }
    if isinstance(value, list):
        return [plain(one, budget, depth + 1) for one in value]
    raise ValueError(f"a {type(value).__name__} can't be a value")
