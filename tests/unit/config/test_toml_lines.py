"""Tests of the scanner that finds the lines of keys."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.config.toml_lines import KeyPath, key_lines

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
    assert key_lines(EVERYTHING)[path] == line


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
    lines = key_lines(text)
    found = paths_of(tomllib.loads(text))
    assert set(lines) == found
    for path, line in lines.items():
        name = str(path[-1])
        if name.startswith("k"):
            assert name in text.split("\n")[line - 1]


def test_long_file_is_scanned_in_linear_time() -> None:
    """Ten thousand machines are no problem."""
    text = '[[client]]\nmac = "52:54:00:12:34:56"\nroot = "/x"\n\n' * 10_000
    assert key_lines(text)["client", 9_999, "root"] == 39_999
