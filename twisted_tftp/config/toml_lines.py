"""Find the lines of the keys and tables of a TOML file; `tomllib` does not tell them."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The keys and array indices that lead to a value, such as `("mount", 0, "prefix")`.
KeyPath = tuple[str | int, ...]

#: Spaces, line ends and comments.
_BLANKS = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")

#: A string of each of the four kinds.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?!"")(?:\\.|[^"\\\n])*"'
    r"|'(?!'')[^'\n]*'",
    re.DOTALL,
)

#: A string without closing quotes: the rest of the line, or of the file after triple quotes.
_UNCLOSED_STRING = re.compile(r"""(?:"{3}|'{3}).*|["'][^\n]*""", re.DOTALL)

#: A number, a boolean, or a date with a time after a space.
_SCALAR = re.compile(r"""[^\s,\]}#"'][^\s,\]}#]*(?: [0-9][^\s,\]}#]*)?""")

#: A key without quotes.
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

#: The longest path to a value, in keys and array indices. Some versions of `tomllib` need a time
#: that is quadratic in this number, and call themselves for each nested value.
MAX_DEPTH = 64

#: A number with more digits than any value needs. Python refuses to convert such a number.
_LONG_NUMBER = re.compile(r"[+-]?[0-9][0-9A-Za-z_]{99}")


class LimitExceeded(ValueError):
    """A file exceeds a limit of this parser, although it may be valid TOML.

    @ivar line: the line where it exceeds the limit.
    """

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


@dataclass(frozen=True)
class Statement:
    """The header of a table, or a key with its value.

    @ivar line: the line where it begins.
    @ivar path: the path of the table or the key.
    @ivar name: what messages call it, such as `[[mount]]` or `[tftp] port`.
    """

    line: int
    path: KeyPath
    name: str


@dataclass(frozen=True)
class Positions:
    """The lines of the keys, tables and statements of a file.

    @ivar lines: the first line of each key, of each table, and of each element of an array.
    @ivar statements: all statements, in their order.
    @ivar unclosed_string: the line of the first string without closing quotes; None if all have
        them.
    """

    lines: dict[KeyPath, int]
    statements: list[Statement]
    unclosed_string: int | None

    def statement_at(self, line: int) -> Statement | None:
        """Return the last statement that begins in this line or before it."""
        index = bisect_right(self.statements, line, key=lambda each: each.line)
        return self.statements[index - 1] if index else None


def find_positions(text: str) -> Positions:
    """Return the lines of the keys, tables and elements of a file.

    @param text: a file that `tomllib` accepts; what is found in other texts may be wrong.
    @raise LimitExceeded: keys, tables and arrays are nested too deeply, or a number is too long.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return Positions(scanner.lines, scanner.statements, scanner.unclosed_string)


class _Scanner:
    """Walks once through the text of a valid file.

    @ivar lines: the line of each path that was found so far.
    @ivar statements: the statements that were found so far.
    @ivar unclosed_string: the line of the first string without closing quotes that was found.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.statements: list[Statement] = []
        self.unclosed_string: int | None = None
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # `_line` is the line of this offset
        self._elements: dict[KeyPath, int] = {}  # the elements of each array of tables

    def scan(self) -> None:
        """Find the positions of everything."""
        table: KeyPath = ()
        table_name = ""
        self._skip_blanks()
        while self._at < len(self._text):
            line = self._current_line()
            if self._text.startswith("[", self._at):
                table, table_name = self._header(line)
                for length in range(len(table)):  # also of parents without a header
                    self.lines.setdefault(table[: length + 1], line)
            else:
                path, keys = self._path_of_pair(table)
                name = f"{table_name} {'.'.join(keys)}".strip()
                self.statements.append(Statement(line, path, name))
                self._value_of_pair(path)
            self._skip_blanks()

    def _header(self, line: int) -> tuple[KeyPath, str]:
        """Read `[table]` or `[[table]]`; return the path of the table that begins there."""
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        keys = self._keys()
        self._at += brackets
        *parents, last = keys
        path = self._of_last_elements((), parents)
        if brackets == 1:
            path = self._of_last_elements(path, [last])
        else:
            array = (*path, last)
            number = self._elements[array] = self._elements.get(array, -1) + 1
            path = (*array, number)
        self._check_depth(path)
        name = "[" * brackets + ".".join(keys) + "]" * brackets
        self.statements.append(Statement(line, path, name))
        return path, name

    def _of_last_elements(self, path: KeyPath, keys: list[str]) -> KeyPath:
        """Append keys to a path; after an array of tables, also the index of its last one."""
        for key in keys:
            path = (*path, key)
            if path in self._elements:
                path = (*path, self._elements[path])
        return path

    def _path_of_pair(self, table: KeyPath) -> tuple[KeyPath, list[str]]:
        """Read the key of `key = value`; return its path, and its parts."""
        line = self._current_line()
        path = table
        keys = self._keys()
        for key in keys:
            path = (*path, key)
            self.lines.setdefault(path, line)
        return path, keys

    def _value_of_pair(self, path: KeyPath) -> None:
        """Read the rest of `key = value`."""
        self._at += 1  # the equals sign
        self._skip_blanks()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._check_depth(path)
        start = self._text[self._at : self._at + 1]
        if start == "[":
            self._array(path)
        elif start == "{":
            self._inline_table(path)
        elif _LONG_NUMBER.match(self._text, self._at):
            raise LimitExceeded("this number is too long", self._current_line())
        else:
            self._scalar()

    def _scalar(self) -> None:
        """Read a value that is neither an array nor an inline table."""
        match = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
        if match is None:
            match = _UNCLOSED_STRING.match(self._text, self._at)
            if match is not None and self.unclosed_string is None:
                self.unclosed_string = self._current_line()
        self._at = match.end() if match else self._at + 1

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        number = 0
        while self._next_item("]"):
            element = (*path, number)
            self.lines[element] = self._current_line()
            self._value(element)
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._next_item("}"):
            self._value_of_pair(self._path_of_pair(path)[0])

    def _next_item(self, end: str) -> bool:
        """Go to the next item of an array or inline table; return False after its end."""
        self._skip_blanks()
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip_blanks()
        if self._at >= len(self._text):
            return False
        if self._text.startswith(end, self._at):
            self._at += 1
            return False
        return True

    def _keys(self) -> list[str]:
        """Read a key with its dots; return its parts."""
        keys: list[str] = []
        while True:
            self._check_depth(keys)
            self._skip_blanks()
            keys.append(self._key())
            self._skip_blanks()
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _key(self) -> str:
        match = _BARE_KEY.match(self._text, self._at) or _STRING.match(self._text, self._at)
        if match is None:
            self._at += 1
            return ""
        self._at = match.end()
        if match[0][0] not in "\"'":
            return match[0]
        try:
            return next(iter(tomllib.loads(f"{match[0]} = 0")))
        except ValueError:  # `tomllib` will say what is wrong
            return match[0]

    def _check_depth(self, path: Sequence[object]) -> None:
        """Check that a path has at most `MAX_DEPTH` parts.

        @raise LimitExceeded: it has more.
        """
        if len(path) > MAX_DEPTH:
            raise LimitExceeded(
                "keys, tables and arrays are nested too deeply", self._current_line()
            )

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line
