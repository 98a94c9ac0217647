"""Find the lines of the keys of a TOML file; `tomllib` does not tell them."""

from __future__ import annotations

import re
import sys

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
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)

#: A number, a boolean, or a date with a time after a space.
_SCALAR = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")

#: A key without quotes.
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line of each key, of each table, and of each element of an array.

    @param text: a file that `tomllib` accepts; the lines of other texts may be wrong.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.lines


class _Scanner:
    """Walks once through the text of a valid file.

    @ivar lines: the line of each path that was found so far.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0  # `_line` is the line of this offset
        self._elements: dict[KeyPath, int] = {}  # the elements of each array of tables

    def scan(self) -> None:
        """Find the lines of everything."""
        table: KeyPath = ()
        self._skip_blanks()
        while self._at < len(self._text):
            line = self._current_line()
            if self._text.startswith("[", self._at):
                table = self._header()
                for length in range(len(table)):  # also of parents without a header
                    self.lines.setdefault(table[: length + 1], line)
            else:
                self._pair(table)
            self._skip_blanks()

    def _header(self) -> KeyPath:
        """Read `[table]` or `[[table]]`; return the path of the table that begins there."""
        is_element = self._text.startswith("[[", self._at)
        self._at += 2 if is_element else 1
        *parents, last = self._keys()
        self._at += 2 if is_element else 1
        path = self._of_last_elements((), parents)
        if not is_element:
            return self._of_last_elements(path, [last])
        array = (*path, last)
        number = self._elements[array] = self._elements.get(array, -1) + 1
        return (*array, number)

    def _of_last_elements(self, path: KeyPath, keys: list[str]) -> KeyPath:
        """Append keys to a path; behind an array of tables, also the number of its last one."""
        for key in keys:
            path = (*path, key)
            if path in self._elements:
                path = (*path, self._elements[path])
        return path

    def _pair(self, table: KeyPath) -> None:
        """Read `key = value`."""
        line = self._current_line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._at += 1  # the equals sign
        self._skip_blanks()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        start = self._text[self._at : self._at + 1]
        if start == "[":
            self._array(path)
        elif start == "{":
            self._inline_table(path)
        else:
            match = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
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
            self._pair(path)

    def _next_item(self, end: str) -> bool:
        """Go to the next item of an array or inline table; return False behind its end."""
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
        keys = []
        while True:
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
        return next(iter(tomllib.loads(f"{match[0]} = 0")))

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line
