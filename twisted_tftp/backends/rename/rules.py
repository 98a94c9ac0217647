"""Parse the rules of a map file, in the syntax of tftp-hpa's tftpd(8).

A line has an operation, a regular expression and, for most operations, a replacement. White space
separates them, `#` begins a comment, and a backslash before one of these makes it an ordinary
character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twisted_tftp.backends.rename.expression import Expression
from twisted_tftp.backends.rename.replacement import Replacement

#: A field of a line: no white space and no `#`, unless a backslash is before it.
_FIELD = re.compile(rb"(?:[^\s#\\]|\\.)+")

#: White space at the start of a field, and a comment at the end of a line.
_SPACE = re.compile(rb"\s*(?:#.*)?")

#: The operators of a rule, and what each one means.
OPERATORS = {
    "r": "replace what matches",
    "g": "repeat the rule until it does not match",
    "i": "upper and lower case match each other",
    "e": "end here if the rule matches",
    "s": "start again at the first rule if the rule matches",
    "a": "refuse the request if the rule matches",
    "G": "only for reads",
    "P": "only for writes",
    "4": "only for clients with an IPv4 address",
    "6": "only for clients with an IPv6 address",
    "~": "the rule matches if the expression does not",
}

#: Pairs of operators that contradict each other.
_CONTRADICTIONS = (
    ("r", "~"),
    ("r", "a"),
    ("e", "a"),
    ("s", "a"),
    ("e", "s"),
    ("G", "P"),
    ("4", "6"),
)

#: The largest map file, in octets.
MAX_FILE_SIZE = 1024 * 1024

#: The most rules of a map file, and of all `[[rename]]` together. Each one costs about a
#: microsecond in the reactor, for each new name.
MAX_RULES = 1000


class RuleError(ValueError):
    """A rule is not valid. The text is one line for the operator, with the place of the rule."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    @ivar text: the line, without its comment.
    @ivar operators: letters out of `OPERATORS`.
    @ivar expression: what is looked for in the name.
    @ivar replacement: what replaces it; for the operator `a`, the text of the ERROR.
    @ivar place: where the rule is, such as `tftp.map:7`; empty if that is not known.
    """

    text: str
    operators: frozenset[str]
    expression: Expression
    replacement: Replacement
    place: str = ""


def parse_rule(line: bytes, place: str = "") -> Rule | None:
    """Return the rule in one line; None if the line is empty or a comment.

    @param place: where the line is, for `--explain`.
    @raise ValueError: the line is not a rule.
    """
    fields = _fields(line)
    if not fields:
        return None
    operators = _operators(fields[0].decode("latin-1"))
    if len(fields) < 2:
        raise ValueError("the regular expression is missing")
    if len(fields) > 3:
        raise ValueError("there is text after the replacement: write a space in it as `\\ `")
    return Rule(
        text=b" ".join(fields).decode("utf-8", "surrogateescape"),
        operators=operators,
        expression=Expression(fields[1], ignore_case="i" in operators),
        replacement=Replacement(fields[2] if len(fields) > 2 else b""),
        place=place,
    )


def parse_rules(lines: Iterable[tuple[str, bytes]]) -> list[Rule]:
    """Return the rules in several lines.

    @param lines: the place of each line, such as `tftp.map:7`, and its octets.
    @raise RuleError: a line is not a rule, or there are too many rules.
    """
    rules = []
    for place, line in lines:
        try:
            rule = parse_rule(line, place)
        except ValueError as error:
            raise RuleError(f"{place}: {error}") from None
        if rule is not None:
            rules.append(rule)
        if len(rules) > MAX_RULES:
            raise RuleError(f"{place}: there are more than {MAX_RULES:,} rules")
    return rules


def read_map_file(path: str) -> list[Rule]:
    """Return the rules of a map file. This may block.

    @raise RuleError: a line is not a rule, or the file is too large or has too many rules.
    @raise OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        octets = file.read(MAX_FILE_SIZE + 1)
    if len(octets) > MAX_FILE_SIZE:
        raise RuleError(f"{path}: a map file has at most {MAX_FILE_SIZE:,} octets")
    lines = enumerate(octets.splitlines(), 1)
    return parse_rules((f"{path}:{number}", line) for number, line in lines)


def _fields(line: bytes) -> list[bytes]:
    """Return the fields of a line, with their backslashes."""
    fields = []
    position = _end_of_match(_SPACE, line, 0)
    while position < len(line):
        end = _end_of_match(_FIELD, line, position)
        if end == position:
            raise ValueError("a backslash ends the line")
        fields.append(line[position:end])
        position = _end_of_match(_SPACE, line, end)
    return fields


def _end_of_match(pattern: re.Pattern[bytes], line: bytes, position: int) -> int:
    match = pattern.match(line, position)
    return position if match is None else match.end()


def _operators(text: str) -> frozenset[str]:
    for letter in text:
        if letter not in OPERATORS:
            raise ValueError(
                f"{letter!a} is not an operator; the operators are {' '.join(OPERATORS)}"
            )
    for first, second in _CONTRADICTIONS:
        if first in text and second in text:
            raise ValueError(f"the operators {first} and {second} exclude each other")
    return frozenset(text)
