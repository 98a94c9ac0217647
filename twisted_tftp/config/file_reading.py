"""Read a configuration from files: the options of `[tftp]`, the mounts, client and rename rules.

All mistakes of all files are found in one run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted_tftp.config.farm import Client, Mount, PlacedBackend, Rename
from twisted_tftp.config.mistakes import Mistakes, Place
from twisted_tftp.config.name_options import COMMAND_OPTIONS
from twisted_tftp.config.nearest import nearest
from twisted_tftp.config.option import Option, Table
from twisted_tftp.config.option_table import OPTIONS, PRINTING_OPTIONS
from twisted_tftp.config.table_keys import TABLE_KEYS
from twisted_tftp.config.toml_file import TomlFile, read_files
from twisted_tftp.config.toml_values import WrongParts, given_by

#: The table of the options.
OPTIONS_TABLE = "tftp"

#: The keys of each table, by the table's name in messages, such as `[[mount]]`.
_KEYS = {f"[{OPTIONS_TABLE}]": {option.key for option in OPTIONS}} | {
    f"[[{table.value}]]": {option.key for option in keys} for table, keys in TABLE_KEYS.items()
}

#: The most known names that a message lists; if there are more, it lists none.
MAX_SHOWN = 12

#: The options that no file may have.
_COMMAND_LINE_ONLY = {option.key for option in COMMAND_OPTIONS} | {
    name.replace("-", "_") for name, _ in PRINTING_OPTIONS
}


@dataclass
class FileContents:
    """What the files of a configuration say.

    @ivar given: the name of each option of `[tftp]`, and what the command line would give for it.
    @ivar places: where each of these options is.
    @ivar mounts: the mounts, in their order.
    @ivar clients: the rules for clients, in their order.
    @ivar renames: the rules that rewrite names, in their order.
    """

    given: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    renames: list[Rename] = field(default_factory=list)


def read_configuration(path: str) -> FileContents:
    """Read a file, or the files of a folder.

    @raise ConfigurationError: there are mistakes.
    """
    mistakes = Mistakes()
    contents = FileContents()
    for file in read_files(path, mistakes):
        _FileReader(file, contents, mistakes).read()
    _find_duplicates(
        ((mount.place, Table.MOUNT, f"prefix: {mount.prefix!r}") for mount in contents.mounts),
        mistakes,
    )
    _find_duplicates(
        (
            (rule.place, Table.CLIENT, f"{'mac' if rule.mac else 'network'}: {rule.subject}")
            for rule in contents.clients
        ),
        mistakes,
    )
    mistakes.raise_any()
    return contents


def _find_duplicates(found: Iterable[tuple[Place | None, Table, str]], mistakes: Mistakes) -> None:
    """Report each key whose value an earlier table has too."""
    first: dict[str, Place] = {}
    for place, table, text in found:
        if place is None:
            continue
        if text in first:
            mistakes.add(place, f"[[{table.value}]] {text} is given twice, also in {first[text]}")
        first.setdefault(text, place)


class _FileReader:
    """Converts one file, and adds it to the contents of those before it."""

    def __init__(self, file: TomlFile, contents: FileContents, mistakes: Mistakes) -> None:
        self._file = file
        self._contents = contents
        self._mistakes = mistakes

    def read(self) -> None:
        """Convert all tables."""
        for name, value in self._file.data.items():
            if name == OPTIONS_TABLE:
                self._read_options(value)
            elif name in (table.value for table in Table):
                self._read_tables(Table(name), value)
            else:
                self._reject_table(name, value)

    def _reject_table(self, name: str, value: object) -> None:
        known = [OPTIONS_TABLE, *(table.value for table in Table)]
        place = self._file.place(name)
        if isinstance(value, dict) or (value and isinstance(value, list)):
            text = f"[{name}]: there is no such table; {_suggestion(name, known)}"
        else:
            text = f"{name}: a key must be in a table, such as [{OPTIONS_TABLE}]"
        self._mistakes.add(place, text)

    def _read_options(self, table: object) -> None:
        """Convert `[tftp]`."""
        where = f"[{OPTIONS_TABLE}]"
        if not isinstance(table, dict):
            self._mistakes.add(self._file.place(OPTIONS_TABLE), f"{where} must be one table")
            return
        for option, given, place in self._values(where, OPTIONS, table, (OPTIONS_TABLE,)):
            if option.name in self._contents.places:
                other = self._contents.places[option.name]
                self._mistakes.add(place, f"{where} {option.key}: given twice, also in {other}")
                continue
            self._contents.places[option.name] = place
            self._contents.given[option.name] = given

    def _read_tables(self, table: Table, elements: object) -> None:
        """Convert all `[[mount]]`, `[[client]]` or `[[rename]]`."""
        where = f"[[{table.value}]]"
        if not isinstance(elements, list) or not all(isinstance(each, dict) for each in elements):
            self._mistakes.add(
                self._file.place(table.value), f"[{table.value}] must be written {where}"
            )
            return
        for number, element in enumerate(elements):
            path = (table.value, number)
            values = {
                option.key: option.parse(given)
                for option, given, _ in self._values(where, TABLE_KEYS[table], element, path)
            }
            missing = _missing_keys(table, element)
            for text in missing:
                self._mistakes.add(self._file.place(*path), f"{where} {text}")
            # A required key that is there but wrong was reported already.
            if not missing and not _missing_keys(table, values):
                self._add(table, values, path)

    def _add(self, table: Table, values: dict[str, Any], path: tuple[str, int]) -> None:
        """Add a mount or a rule to the contents; its required keys are there and valid."""
        (subject,) = (key for key in ("prefix", "network", "mac", "rule") if key in values)
        place = self._file.place(*path, subject)
        if table is Table.MOUNT:
            values["backend"] = self._placed_backends(values["backend"], (*path, "backend"))
            self._contents.mounts.append(Mount(place=place, **values))
        elif table is Table.RENAME:
            self._contents.renames.append(Rename(place=place, **values))
        else:
            self._contents.clients.append(Client(place=place, **values))

    def _placed_backends(
        self, specs: Iterable[Any], path: tuple[str | int, ...]
    ) -> tuple[PlacedBackend, ...]:
        return tuple(
            PlacedBackend(spec, self._file.place(*path, number))
            for number, spec in enumerate(specs)
        )

    def _values(
        self,
        where: str,
        options: Iterable[Option],
        table: Mapping[str, object],
        path: tuple[str | int, ...],
    ) -> Iterator[tuple[Option, Any, Place]]:
        """Return the keys of a table with their checked values; report the wrong ones."""
        by_key = {option.key: option for option in options}
        for key, value in table.items():
            place = self._file.place(*path, key)
            option = by_key.get(key)
            if option is None:
                text = _unknown_key(key, list(by_key))
                self._mistakes.add(place, f"{where} {_shown(key)}: {text}")
                continue
            try:
                yield option, given_by(option, value, self._file.folder), place
            except WrongParts as error:
                for part, text in error.parts:
                    place = self._file.place(*path, key, *part)
                    self._mistakes.add(place, f"{where} {key}: {text}")
            except ValueError as error:
                self._mistakes.add(place, f"{where} {key}: {error}")


def _missing_keys(table: Table, keys: Mapping[str, object]) -> list[str]:
    """Return a text for each key that a table needs in addition to `keys`."""
    if table is not Table.CLIENT:
        required = (option.key for option in TABLE_KEYS[table] if option.is_required)
        return [f"{key}: this key is missing" for key in required if key not in keys]
    subjects = [key for key in ("network", "mac") if key in keys]
    if len(subjects) == 1:
        return []
    if subjects:
        return ["mac: give `network` or `mac`, not both"]
    return ["network: this key or `mac` is missing"]


def _unknown_key(key: str, known: list[str]) -> str:
    """Return what is wrong with a key that a table does not have."""
    if key in _COMMAND_LINE_ONLY:
        return f"only the command line has this option, as --{key.replace('_', '-')}"
    if key.replace("-", "_") in known:
        return f"write {key.replace('-', '_')}"
    owners = [table for table, keys in _KEYS.items() if key in keys]
    if owners:
        return f"this is a key of {' and '.join(owners)} only"
    return f"there is no such key; {_suggestion(key, known)}"


def _shown(key: str) -> str:
    """Return a key as text for a message, in quotes if it needs them in the file."""
    return key if re.fullmatch(r"[\w-]+", key) else repr(key)


def _suggestion(name: str, known: list[str]) -> str:
    """Return a hint for a wrong name: the most similar known name, or how to find one."""
    near = nearest(name, known)
    if near is not None:
        return f"did you mean {near}?"
    if len(known) > MAX_SHOWN:
        return "`twistd tftp --help` lists them"
    return f"known are {', '.join(known)}"
