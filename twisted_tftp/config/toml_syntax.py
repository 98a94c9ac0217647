"""Convert the errors of `tomllib` to messages that an operator understands."""

from __future__ import annotations

import re

from twisted_tftp.config.toml_lines import Positions, Statement

#: Where `tomllib` says that a file is wrong, at the end of its message.
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")

#: The messages about a table or key that is defined twice.
_GIVEN_TWICE = re.compile(
    r"Cannot (?:declare|overwrite|mutate immutable namespace|redefine namespace) "
)

#: The messages about an array or inline table without its closing bracket.
_UNCLOSED = re.compile(r"Unclosed (?:array|inline table)")

#: The text for a file that ends too early.
_TOO_SHORT = "the file ends before this is complete: a quote or a bracket may be missing"

#: Clearer texts for messages of `tomllib`, by the beginning of the message.
_CLEARER_TEXTS = {
    "Invalid statement": "expected a key, a [table] or a # comment",
    "Invalid initial character for a key part": (
        "a key has letters, digits, '-' and '_', or is in quotes"
    ),
    "Invalid value": "the value is missing, or is a text without quotes",
    "Expected newline or end of document": "there is something after the value or the table",
    "Expected '=' after a key": "'=' is missing after the key",
    "Expected ']' at the end of a table": "']' is missing after the name of the table",
    "Expected ']]' at the end of an array": "']]' is missing after the name of the table",
    "Unescaped '\\' in a string": (
        "write '\\\\' for a backslash between double quotes, or use single quotes"
    ),
    "Illegal character '\\n'": "the closing quote is missing",
    "Found invalid character '\\n'": "the closing quote is missing",
    "Unterminated string": "the closing quote is missing",
    "Duplicate inline table key": "the table between '{' and '}' has a key twice:",
}


def syntax_mistake(message: str, positions: Positions) -> tuple[int | None, str]:
    """Return the line of a syntax error, and the message for the operator.

    @param message: what `tomllib` says.
    @param positions: what could be found in the file.
    """
    position = _POSITION.search(message)
    if position is None:
        return None, message
    message = message[: position.start()]
    is_at_end = position[1] is None
    line = _line_of_end(positions) if is_at_end else int(position[1])
    statement = positions.statement_at(line)
    if statement is not None and _GIVEN_TWICE.match(message):
        return statement.line, _given_twice(statement, positions)
    if is_at_end:
        return line, _TOO_SHORT
    return line, f"{_clearer(message, line, statement)} (column {position[2]})"


def _line_of_end(positions: Positions) -> int:
    """Return the line of the string or statement that the end of the file cuts off."""
    if positions.unclosed_string is not None:
        return positions.unclosed_string
    return positions.statements[-1].line if positions.statements else 1


def _clearer(message: str, line: int, statement: Statement | None) -> str:
    """Return a clearer text for a message of `tomllib`."""
    if _UNCLOSED.match(message):
        kind, end = ("array", "]") if message == "Unclosed array" else ("table", "}")
        begin = "" if statement is None or statement.line == line else f" of line {statement.line}"
        return f"',' or '{end}' is missing before this, in the {kind}{begin}"
    for start, text in _CLEARER_TEXTS.items():
        if message.startswith(start):
            rest = message.removeprefix(start) if text.endswith(":") else ""
            return text + rest
    return message


def _given_twice(statement: Statement, positions: Positions) -> str:
    """Return the message about a key or table that is defined twice."""
    name, path = statement.name, statement.path
    first = positions.lines.get(path)
    if first is not None and first < statement.line:
        if isinstance(path[-1], int):
            return f"{name} must be written [{name}], as in line {first}"
        begun = positions.statement_at(first)
        if begun is None or begun.name != name:  # a key and a table, or a part of a value
            return f"{name}: line {first} already gives {path[-1]} another value"
        return f"{name} is given twice, first in line {first}"
    for length in range(len(path) - 1, 0, -1):
        first = positions.lines.get(path[:length])
        if first is not None and first < statement.line:
            outer = ".".join(str(key) for key in path[:length] if isinstance(key, str))
            return f"{name} can't be added to {outer!r}, which line {first} defines"
    return f"{name} is given twice"
