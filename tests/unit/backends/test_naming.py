"""A requested name is split into components, or it is no name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.backends.naming import MAX_PATH, WriteMode, components
from twisted_tftp.errors import AccessViolation, FileNotFound


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("file", ["file"]),
        ("/file", ["file"]),
        ("//a///b", ["a", "b"]),
        ("./a/./b", ["a", "b"]),
        ("a/../b", ["a", "..", "b"]),
        ("../x", ["..", "x"]),
        ("...", ["..."]),
        ("..a/b..", ["..a", "b.."]),
        ("a\\b", ["a\\b"]),
        ("%2e%2e/x", ["%2e%2e", "x"]),
        (" a /\n", [" a ", "\n"]),
        ("caf\udce9", ["caf\udce9"]),
    ],
)
def test_a_path_is_split_at_its_slashes(path: str, parts: list[str]) -> None:
    """It starts at the root; `..` is kept and nothing is decoded."""
    assert components(path) == parts


@pytest.mark.parametrize("path", ["", "\x00", "a\x00", "a\x00/b", "a" * (MAX_PATH + 1)])
def test_what_no_file_can_be_called_is_not_found(path: str) -> None:
    """Nothing, a NUL inside and more than the system takes."""
    with pytest.raises(FileNotFound):
        components(path)


def test_the_longest_path_is_taken() -> None:
    """The bound itself is good."""
    assert components("a/" * (MAX_PATH // 2 - 1) + "ab") == ["a"] * (MAX_PATH // 2 - 1) + ["ab"]


@pytest.mark.parametrize("path", ["/", "a/", "a//", ".", "..", "a/.", "a/..", "../..", "./", "//"])
def test_the_name_of_a_directory_is_refused(path: str) -> None:
    """A file's name does not end in a slash or a dot component."""
    with pytest.raises(AccessViolation):
        components(path)


@given(st.text("ab./\\\x00 ", max_size=30))
def test_components_are_names_or_dot_dot(path: str) -> None:
    """Nothing empty, no single dot, no slash; at least one, and the last one is a name."""
    try:
        parts = components(path)
    except (FileNotFound, AccessViolation):
        return
    assert parts
    assert all(part not in ("", ".") and "/" not in part and "\x00" not in part for part in parts)
    assert parts[-1] != ".."
    assert components("/" + "/./".join(parts)) == parts


def test_the_write_modes_are_the_words_of_the_command_line() -> None:
    """Anything else is an error."""
    assert [mode.value for mode in WriteMode] == ["never", "create", "overwrite"]
    with pytest.raises(ValueError, match="always"):
        WriteMode("always")
