"""Tests of requested paths: they are split into components or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.backends.naming import MAX_PATH, components
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
def test_path_is_split_at_its_slashes(path: str, parts: list[str]) -> None:
    """`..` is kept, and nothing is decoded."""
    assert components(path) == parts


@pytest.mark.parametrize("path", ["", "\x00", "a\x00", "a\x00/b", "a" * (MAX_PATH + 1)])
def test_impossible_name_is_not_found(path: str) -> None:
    """No file can have an empty path, one with a NUL, or one that is too long for the system."""
    with pytest.raises(FileNotFound):
        components(path)


def test_longest_path_is_accepted() -> None:
    """The limit itself is allowed."""
    assert components("a/" * (MAX_PATH // 2 - 1) + "ab") == ["a"] * (MAX_PATH // 2 - 1) + ["ab"]


@pytest.mark.parametrize("path", ["/", "a/", "a//", ".", "..", "a/.", "a/..", "../..", "./", "//"])
def test_path_of_a_directory_is_refused(path: str) -> None:
    """The path of a file does not end with a slash or a dot component."""
    with pytest.raises(AccessViolation):
        components(path)


@given(st.text("ab./\\\x00 ", max_size=30))
def test_components_are_names_or_dot_dot(path: str) -> None:
    """No component is empty, `.` or contains a slash; the last one is a name."""
    try:
        parts = components(path)
    except (FileNotFound, AccessViolation):
        return
    assert parts
    assert all(part not in ("", ".") and "/" not in part and "\x00" not in part for part in parts)
    assert parts[-1] != ".."
    assert components("/" + "/./".join(parts)) == parts
