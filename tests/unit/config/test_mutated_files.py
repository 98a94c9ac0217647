"""Tests of a complete configuration file in which one thing, or a few things, were changed.

`problems` does what `twistd tftp --config FILE --check` does.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twisted_tftp.config.check import problems_of
from twisted_tftp.config.mistakes import ConfigurationError
from twisted_tftp.config.settings import load_settings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "tftp.toml"

#: Settings of the example that exclude each other, or name what this host does not have.
REPLACED = {
    'root = "/srv/tftp"': "",
    '["/srv/shared"]': "[]",
    'map_file = "/etc/tftp.map"': "",
    'interface = "eth0"': "",
    "single_port = false": "",
    '["/usr/local/bin/store-upload", "--verbose"]': '["/bin/true"]',
    '["/usr/local/bin/note-transfer"]': '["/bin/true"]',
    '"filesystem:/srv/configs"': '"memory:"',
}


def complete_file() -> str:
    """Return the example with all settings in use and without explanations; it is valid."""
    lines = EXAMPLE.read_text().splitlines()
    kept = [line.removeprefix("#") for line in lines if not line.startswith(("# ", "# -"))]
    text = "\n".join(kept)
    for old, new in REPLACED.items():
        assert old in text
        text = text.replace(old, new, 1)
    return text


TEXT = complete_file()

#: (index of the line, table, key) of each setting.
KEYS: list[tuple[int, str, str]] = []
for index, line in enumerate(TEXT.splitlines()):
    if line.startswith("["):
        table = line
    elif "=" in line:
        KEYS.append((index, table, line.partition(" ")[0]))

by_key = pytest.mark.parametrize(
    ("index", "table", "key"), KEYS, ids=[f"{table} {key}" for _, table, key in KEYS]
)


def problems(path: Path, text: str) -> list[str]:
    """Return the problems of a file, without its path."""
    path.write_bytes(text.encode())
    try:
        found = problems_of(load_settings({}, str(path)))
    except ConfigurationError as error:
        found = list(error.lines)
    assert all(each.startswith(f"{path}:") for each in found), found
    return [each.removeprefix(f"{path}:") for each in found]


def changed(index: int, line: str) -> str:
    """Return the file with another text in one line."""
    lines = TEXT.splitlines()
    lines[index] = line
    return "\n".join(lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tftp.toml"


def test_complete_file_is_valid(path: Path) -> None:
    """Otherwise the other tests would test nothing."""
    assert problems(path, TEXT) == []
    assert len(KEYS) >= 60


@by_key
@pytest.mark.parametrize(
    "value", ["1979-05-27", "[1979-05-27]", "[[]]", "{a = nan}", "{type = 1}"]
)
def test_value_of_a_wrong_type_is_one_line(
    path: Path, index: int, table: str, key: str, value: str
) -> None:
    """The line has the line's number, the table and the key."""
    (found,) = problems(path, changed(index, f"{key} = {value}"))
    assert found.startswith(f"{index + 1}: {table} {key}: ")


@by_key
@pytest.mark.parametrize("value", ["", "x", '"', "'x", "[1", "{", '"\\q"', "1 2"])
def test_value_that_is_not_toml_is_one_line(
    path: Path, index: int, table: str, key: str, value: str
) -> None:
    """The line is that of the setting; or, for brackets without end, that where it was noticed."""
    (found,) = problems(path, changed(index, f"{key} = {value}"))
    number, _, message = found.partition(": ")
    assert message.startswith("not valid TOML: ")
    following = [each for each, *_ in KEYS if each > index]
    # TOML 1.1, which `tomli` reads, takes the next setting for one of the table.
    ends = {"[1": [index, *following[:1]], "{": [index, *following[:2]]}
    assert index + 1 <= int(number) <= max(ends.get(value, [index])) + 1


@by_key
def test_unknown_key_is_one_line(path: Path, index: int, table: str, key: str) -> None:
    """A required key is missing then, too."""
    line = TEXT.splitlines()[index].replace(key, f"{key[0]}q{key[1:]}", 1)
    found, *missing = sorted(
        problems(path, changed(index, line)), key=lambda each: "is missing" in each
    )
    assert found.startswith(f"{index + 1}: {table} {key[0]}q{key[1:]}: there is no such key")
    required = ("prefix", "backend", "network", "mac", "rule")
    assert len(missing) == (table != "[tftp]" and key in required)


@by_key
def test_key_given_twice_is_one_line(path: Path, index: int, table: str, key: str) -> None:
    """Both lines are named."""
    line = TEXT.splitlines()[index]
    (found,) = problems(path, changed(index, f"{line}\n{line}"))
    expected = f"{table} {key} is given twice, first in line {index + 1}"
    assert found == f"{index + 2}: not valid TOML: {expected}"


#: Pieces of TOML, to be put into a file.
PIECES = (
    *("[", "]", "{", "}", "=", ",", ".", '"', "'", '"""', "'''", "#", "\\", "\n", "\r", "\0"),
    *("[tftp]", "[[mount]]", "[[client]]", "[mount]", "\nport = 1\n", "prefix", "mac", "type"),
    *("5", "-1", "true", '""', "'r ^a b'", "[]", "{}", '{type = "memory"}', "nan", "0x1f", "1.5"),
    *('"memory:"', '"\\u0000"', '"readonly:"', '{type = "readonly", of = 5}', "\ufeff", "\u2028"),
)

#: The tokens of the file.
TOKENS = re.findall(r'"[^"\n]*"|\w+|\s+|.', TEXT)

#: Changes: (index of a token, how many tokens are replaced, the new text).
CHANGES = st.lists(
    st.tuples(
        st.integers(0, len(TOKENS)),
        st.integers(0, 2),
        st.sampled_from(PIECES) | st.sampled_from(TOKENS),
    ),
    min_size=1,
    max_size=3,
)


@given(CHANGES)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_problem_of_a_mutated_file_has_a_line(
    path: Path, changes: list[tuple[int, int, str]]
) -> None:
    """Whatever was changed, there is no traceback: each line of output is a place and a text."""
    tokens = list(TOKENS)
    for index, removed, inserted in sorted(changes, reverse=True):
        tokens[index : index + removed] = [inserted]
    text = "".join(tokens)
    for found in problems(path, text):
        number, _, message = found.partition(": ")
        assert 1 <= int(number) <= text.count("\n") + 1
        assert message.isprintable()
