"""Tests of the scanner that finds the lines of keys."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.config.toml_lines import MAX_DEPTH, KeyPath, LimitExceeded, find_positions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: A file with each kind of key and value.
EVERYTHING = '''\
# a comment = 1
top = 1
"quoted \\u0041".inner = """
not = "a key"
[not.a.table]
"""" # the value ends with a quote
[tftp]
allow = [ # not the end: ]
  "10.0.0.0/8", # a comment with "
  'with # and ]',
]
when = 1979-05-27 07:32:00
literal = \'\'\'
x = 1\'\'\'
inline = {x = 1, y = {z = [1, {w = 2}]}}
after = true

[[mount]]
prefix = "/"
[mount.backend]
type = "x"
[[ mount ]]
prefix = "]" # ]
  [[mount.inner]]
  k . l = true
[a."b.c"]
d = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("quoted A",), 3),
        (("quoted A", "inner"), 3),
        (("tftp",), 7),
        (("tftp", "allow"), 8),
        (("tftp", "allow", 0), 9),
        (("tftp", "allow", 1), 10),
        (("tftp", "when"), 12),
        (("tftp", "literal"), 13),
        (("tftp", "inline", "y", "z", 1, "w"), 15),
        (("tftp", "after"), 16),
        (("mount", 0), 18),
        (("mount", 0, "prefix"), 19),
        (("mount", 0, "backend"), 20),
        (("mount", 0, "backend", "type"), 21),
        (("mount", 1), 22),
        (("mount", 1, "prefix"), 23),
        (("mount", 1, "inner", 0), 24),
        (("mount", 1, "inner", 0, "k", "l"), 25),
        (("a", "b.c", "d"), 27),
    ],
)
def test_line_of_a_key_is_found(path: KeyPath, line: int) -> None:
    """Strings, comments, arrays and tables in front of a key do not confuse the scanner."""
    assert find_positions(EVERYTHING).lines[path] == line


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Return the paths of all values in what `tomllib` returns."""
    found = {path} if path else set()
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return found
    return found.union(*(paths_of(inner, (*path, key)) for key, inner in items))


#: Values of all kinds; each text is that of one or several lines.
VALUES = [
    *("1", "-1.5e3", "true", "1979-05-27 07:32:00", "07:32:00", '"x # ]"', "'\\'", '""', "''"),
    *('"""\n"" # \\"""""', "'''\n[x]\n'''", '"\\\\"', "[]", "{}", "[ # ]\n 1,\n 2 ]"),
    *("{x = 1, y.z = [1,\n[2]]}", "[{a = '}'}, {b = ']'}]", "1 # [[x]]"),
]

#: The statements of a file; each key is made unique by its number.
STATEMENTS = [
    *(
        f"{{key}} = {value}"
        for value in (each.replace("{", "{{").replace("}", "}}") for each in VALUES)
    ),
    *("{key}.'a.b'.\"c\" = 1", "  [{key}]", "[{key} . x]", "[[array]]", "[[array.inner]]"),
    *("", "# {key} = 1", "\t"),
]


def file_of(statements: list[str]) -> str:
    """Return a valid file with these statements."""
    lines = ["[[array]]"]
    lines += [text.format(key=f"k{number}") for number, text in enumerate(statements)]
    return "\n".join(lines)


@given(st.lists(st.sampled_from(STATEMENTS), max_size=12).map(file_of))
def test_every_key_has_its_line(text: str) -> None:
    """The scanner finds the keys that `tomllib` finds, each in the line that has its name."""
    lines = find_positions(text).lines
    found = paths_of(tomllib.loads(text))
    assert set(lines) == found
    for path, line in lines.items():
        name = str(path[-1])
        if name.startswith("k"):
            assert name in text.split("\n")[line - 1]


def test_long_file_is_scanned_in_linear_time() -> None:
    """Ten thousand machines are no problem."""
    text = '[[client]]\nmac = "52:54:00:12:34:56"\nroot = "/x"\n\n' * 10_000
    assert find_positions(text).lines["client", 9_999, "root"] == 39_999


def nested(*, headers: int = 0, dots: int = 0, arrays: int = 0, tables: int = 0) -> str:
    """Return a file with a value behind a header and a key of several parts, and in brackets."""
    header = f"[{'.'.join('h' * headers)}]\n" if headers else ""
    value = "[" * arrays + "{a = " * tables + "1" + "}" * tables + "]" * arrays
    return f"{header}a{'.a' * dots} = {value}\n"


@pytest.mark.parametrize("kinds", [{"headers"}, {"dots"}, {"arrays"}, {"tables"}])
def test_depth_is_limited(kinds: set[str]) -> None:
    """Each kind of nesting counts; the limit itself is allowed, and `tomllib` can read it."""
    allowed = nested(**dict.fromkeys(kinds, MAX_DEPTH - 1))
    assert max(map(len, find_positions(allowed).lines)) == MAX_DEPTH
    tomllib.loads(allowed)
    with pytest.raises(LimitExceeded, match="nested too deeply") as caught:
        find_positions("\n" + nested(**dict.fromkeys(kinds, MAX_DEPTH)))
    assert caught.value.line == 2 + ("headers" in kinds)


@pytest.mark.parametrize(
    "text",
    [
        nested(headers=100_000),
        nested(dots=100_000),
        nested(arrays=100_000),
        nested(tables=100_000),
        nested(headers=40, dots=40),
        "a = " + "9" * 5000,
        "a = [1, -0x" + "f" * 100 + "]",
    ],
)
def test_file_that_exceeds_a_limit_ends_the_scan(text: str) -> None:
    """It takes no time that is quadratic in the number of levels, and no deep recursion."""
    with pytest.raises(LimitExceeded):
        find_positions(text)


@pytest.mark.parametrize(
    ("line", "name"), [(1, None), (2, "a.b"), (3, "a.b"), (5, "[t]"), (6, "[t] c"), (9, "[[d.e]]")]
)
def test_statement_of_a_line_is_found(line: int, name: str | None) -> None:
    """It is the last one that begins there or before."""
    text = "# comment\n a.b = [1,\n 2]\n\n[t]\nc = 1\n\n\n[[d . e]] # comment\n"
    statement = find_positions(text).statement_at(line)
    assert (statement and statement.name) == name


#: Pieces of files, which together are seldom a valid one.
PIECES = st.sampled_from(
    [
        "a",
        "=",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "#",
        "\n",
        " ",
        "1",
        '"',
        "'",
        '"""',
        "'''",
        "\\",
        "\0",
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_invalid_text_is_scanned_too(text: str) -> None:
    """The scan ends, and what it finds is in the file."""
    positions = find_positions(text)
    last = text.count("\n") + 1
    assert all(1 <= line <= last for line in positions.lines.values())
    assert all(1 <= statement.line <= last for statement in positions.statements)
