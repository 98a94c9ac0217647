"""Parse hosts files: TOML, YAML and CSV."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted_tftp.backends.template.hosts import KEYS, Entry, HostsError

#: The name of an array of tables whose elements are entries: `[[host]]` in TOML.
ARRAY = "host"

#: A header of a table in TOML; the group is its key.
_HEADER = re.compile(r"\s*\[{1,2}([^\]\[]*)\]{1,2}\s*(?:#.*)?\Z")

#: The beginning of a line that sets a key in TOML.
_SETS_KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*=""")

#: The most parts of a dotted key in TOML. The parser of some versions of Python needs a time that
#: is quadratic in this number.
MAX_KEY_PARTS = 64

#: One part of a key in TOML, or a string in one line. An unclosed string ends with its line.
_PART = r"""(?:[\w-]+|"[^"\n]*(?:"|$)|'[^'\n]*(?:'|$))"""

#: Multi-line strings, comments and keys in TOML: each may contain dots. The group matches if a key
#: has too many parts. An unclosed multi-line string ends with the file.
_DOTTED = re.compile(
    r"""'{3}(?s:.*?)(?:'{3,5}|\Z)|"{3}(?s:.*?)(?:"{3,5}|\Z)|#.*|"""
    rf"{_PART}(?:[ \t]*\.[ \t]*{_PART}){{0,{MAX_KEY_PARTS - 1}}}([ \t]*\.[ \t]*{_PART})?",
    re.MULTILINE,
)

#: The position at the end of a message of the TOML parser.
_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")


def parse(extension: str, text: str) -> list[Entry]:
    """Return the entries of a hosts file.

    @param extension: the extension of its name: `.toml`, `.yaml`, `.yml` or `.csv`.
    @raise HostsError: it is not valid.
    """
    try:
        return PARSERS[extension](text)
    except RecursionError:
        raise HostsError(0, "too many levels") from None


def parse_toml(text: str) -> list[Entry]:
    """Return the entries of a TOML file: its tables, and the elements of `[[host]]`."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    _check_keys(text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        position = _POSITION.search(str(error))
        line = int(position[1] or text.count("\n") + 1) if position else 0
        raise HostsError(line, _POSITION.sub("", str(error))) from None
    except ValueError as error:  # a number has too many digits
        raise HostsError(0, " ".join(str(error).split())) from None
    lines = _TomlLines(text)
    entries = []
    for key, value in document.items():
        if key == ARRAY and isinstance(value, list):
            entries += [
                _entry("", element, *lines.of_element(index))
                for index, element in enumerate(value)
            ]
        else:
            entries.append(_entry(key, value, *lines.of_table(key)))
    return entries


def _check_keys(text: str) -> None:
    """Check that no key of a TOML file has more than `MAX_KEY_PARTS` parts.

    @raise HostsError: one has more.
    """
    # Without escaped quotes, a regular expression finds the end of a text without much memory.
    unescaped = text.replace("\\\\", "__").replace('\\"', "__")
    for found in _DOTTED.finditer(unescaped):
        if found[1] is not None:
            line = text.count("\n", 0, found.start()) + 1
            raise HostsError(line, f"a key has more than {MAX_KEY_PARTS} parts")


class _TomlLines:
    """The lines of the tables and keys of a TOML file: the parser of Python does not tell them.

    Only the usual form is found: a header for each table. Otherwise a line is 0.
    """

    def __init__(self, text: str) -> None:
        self._elements: list[dict[str, int]] = []
        self._tables: dict[str, dict[str, int]] = {}
        keys: dict[str, int] = {}  # of the current table; "" is its header
        for number, line in enumerate(text.splitlines(), 1):
            header = _HEADER.match(line)
            name = header[1].strip().strip("\"'") if header else ""
            if name == ARRAY:
                keys = {"": number}
                self._elements.append(keys)
            elif header:
                keys = self._tables.setdefault(name, {"": number})
            else:
                key = _SETS_KEY.match(line)
                if key:
                    keys.setdefault(key[1], number)

    def of_element(self, index: int) -> tuple[int, dict[str, int]]:
        """Return the line of an element of `[[host]]`, and the lines of its keys."""
        keys = self._elements[index] if index < len(self._elements) else {}
        return keys.get("", 0), keys

    def of_table(self, name: str) -> tuple[int, dict[str, int]]:
        """Return the line of a table, and the lines of its keys."""
        keys = self._tables.get(name, {})
        return keys.get("", 0), keys


def _entry(key: str, value: object, line: int, lines: dict[str, int]) -> Entry:
    if not isinstance(value, dict):
        raise HostsError(line, f"{key or ARRAY!r} must be a table, the entry of a machine")
    return Entry(key, value, line, lines)


def parse_yaml(text: str) -> list[Entry]:
    """Return the entries of a YAML file: a mapping of keys to entries, or a list of entries."""
    import yaml

    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = loader_class(text)
        try:
            root = loader.get_single_node()
            return [] if root is None else list(_yaml_entries(loader, root, yaml))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise HostsError(mark.line + 1 if mark else 0, error.problem or "not YAML") from None
    except HostsError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise HostsError(0, " ".join(str(error).split())) from None


def _yaml_entries(loader: Any, root: Any, yaml: Any) -> Iterator[Entry]:
    """Yield the entries below the root node of a YAML document."""
    if isinstance(root, yaml.SequenceNode):
        pairs = [("", node.start_mark.line + 1, node) for node in root.value]
    elif isinstance(root, yaml.MappingNode):
        # The text of the key: 52:54:00:12:34:56 without quotes would be a number of base 60.
        pairs = [(key.value, key.start_mark.line + 1, node) for key, node in root.value]
    else:
        raise HostsError(1, "must be a mapping of keys to entries, or a list of entries")
    for name, line, node in pairs:
        if not isinstance(name, str):
            raise HostsError(line, "the key of an entry must be a text")
        if not isinstance(node, yaml.MappingNode):
            raise HostsError(line, f"{name or 'an element'!r} must be a mapping, an entry")
        loader.flatten_mapping(node)
        fields, lines = {}, {}
        for key, value in node.value:
            if not isinstance(key.value, str):
                raise HostsError(key.start_mark.line + 1, "a key must be a text")
            is_text = key.value in KEYS and isinstance(value, yaml.ScalarNode)
            fields[key.value] = value.value if is_text else _yaml_value(loader, value, yaml)
            lines[key.value] = key.start_mark.line + 1
        yield Entry(name, fields, line, lines)


def _yaml_value(loader: Any, node: Any, yaml: Any) -> object:
    """Return the value of a YAML node.

    @raise HostsError: its text does not fit its type.
    """
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, RecursionError, MemoryError):
        raise
    except Exception as error:  # PyYAML fails with many kinds, such as KeyError for `!!bool x`
        reason = " ".join(str(error).split())
        line = node.start_mark.line + 1
        raise HostsError(line, f"a value does not fit its type: {reason}") from None


def parse_csv(text: str) -> list[Entry]:
    """Return the entries of a CSV file: its first line has the names of the fields."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    entries = []
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values) or values[0].startswith("#"):
                continue
            if not names:
                names = values
                _check_header(names, reader.line_num)
            elif len(values) != len(names):
                fields = f"{len(values)} fields, the first line has {len(names)}"
                raise HostsError(reader.line_num, fields)
            else:
                pairs = zip(names, values, strict=True)
                entry = {name: value for name, value in pairs if value}
                entries.append(Entry("", entry, reader.line_num))
    except csv.Error as error:
        raise HostsError(reader.line_num, str(error)) from None
    return entries


def _check_header(names: list[str], line: int) -> None:
    if not KEYS.keys() & set(names):
        raise HostsError(line, f"no field is named {', '.join(KEYS)}")
    for name in names:
        if not name or names.count(name) > 1:
            raise HostsError(line, f"the field {name!r} is there twice or has no name")


#: The parser of each extension.
PARSERS: dict[str, Callable[[str], list[Entry]]] = {
    ".toml": parse_toml,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
    ".csv": parse_csv,
}
