"""Tests of the messages about files that are not valid TOML."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.config.toml_lines import find_positions
from twisted_tftp.config.toml_syntax import syntax_mistake

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def mistake_of(text: str) -> tuple[int | None, str]:
    """Return the line and the text of the mistake in a file that `tomllib` refuses."""
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    return syntax_mistake(str(caught.value), find_positions(text))


END = "the file ends before this is complete: a quote or a bracket may be missing"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[tftp]\n\n[tftp]", 3, "[tftp] is given twice, first in line 1"),
        ("[tftp]\na = 1\na = [\n2,\n]\n", 3, "[tftp] a is given twice, first in line 2"),
        ("[mount]\n[[mount]]", 2, "[[mount]] can't be added to 'mount', which line 1 defines"),
        ("\n[[mount]]\n[mount]", 3, "[mount] must be written [[mount]], as in line 2"),
        ("[[a]]\n[a.b]\n[a.b]", 3, "[a.b] is given twice, first in line 2"),
        ("[a]\nb = 1\n[a.b]", 3, "[a.b]: line 2 already gives b another value"),
        ("[a.b]\n[a]\nb = 1", 3, "[a] b: line 1 already gives b another value"),
        ("a = {b = 1}\n[a.b]", 2, "[a.b]: line 1 already gives b another value"),
        ("a = 1\n[a.b]", 2, "[a.b] can't be added to 'a', which line 1 defines"),
        ("[t]\na = {b = 1}\na.c = 2", 3, "[t] a.c can't be added to 't.a', which line 2 defines"),
        (
            "a = {b = 1, b = 2}",
            1,
            "the table between '{' and '}' has a key twice: 'b' (column 18)",
        ),
        (
            "a = ['x'\nb = 1\n",
            2,
            "',' or ']' is missing before this, in the array of line 1 (column 1)",
        ),
        ("a = ['x' 1]\n", 1, "',' or ']' is missing before this, in the array (column 10)"),
        ("a = {b = 1 c = 1}\n", 1, "',' or '}' is missing before this, in the table (column 12)"),
        ('\na = "x\nb = 1', 2, "the closing quote is missing (column 7)"),
        ("\na = 'x\nb = ''", 2, "the closing quote is missing (column 7)"),
        ("\na = 'x\nb = 1", 2, END),
        ('\na = """x\nb = 1', 2, END),
        ("\na = [1,\n", 2, END),
        ("a = x", 1, "the value is missing, or is a text without quotes (column 5)"),
        ("a 1", 1, "'=' is missing after the key (column 3)"),
        ("[a\n", 1, "']' is missing after the name of the table (column 3)"),
        ("[[a]\n", 1, "']]' is missing after the name of the table (column 4)"),
        ("= 1", 1, "expected a key, a [table] or a # comment (column 1)"),
        ("[?]", 1, "a key has letters, digits, '-' and '_', or is in quotes (column 2)"),
        ("a = 1 2", 1, "there is something after the value or the table (column 7)"),
        (
            r'a = "C:\srv"',
            1,
            "write '\\\\' for a backslash between double quotes, or use single quotes (column 10)",
        ),
    ],
)
def test_message_says_what_to_change(text: str, line: int, message: str) -> None:
    """The line is that of the statement that must be changed."""
    assert mistake_of(text) == (line, message)


#: A file with values of all kinds in several lines.
VALID = dedent(
    '''\
    # comment
    [tftp]
    root = "/srv"
    allow = [
      "10.0.0.0/8", # comment
      '192.0.2.0/24',
    ]
    [[mount]]
    backend = {type = "memory", x = [1, 2.5]}
    text = """
    lines"""
    '''
)


@given(
    st.integers(0, len(VALID)),
    st.integers(0, 3),
    st.sampled_from(["", *"[]{}=,.'\"\\#\n 1a", '"""']),
)
def test_every_mistake_has_a_line_of_the_file(at: int, removed: int, inserted: str) -> None:
    """Wherever a file is changed, the message has a line, and only our words for a position."""
    text = VALID[:at] + inserted + VALID[at + removed :]
    try:
        tomllib.loads(text)
    except ValueError as error:
        line, message = syntax_mistake(str(error), find_positions(text))
        assert line is not None
        assert 1 <= line <= text.count("\n") + 1
        assert "(at " not in message
