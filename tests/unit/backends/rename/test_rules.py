"""Test the syntax of rename rules, and the messages about mistakes."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from twisted_tftp.backends.rename.rules import (
    MAX_FILE_SIZE,
    MAX_RULES,
    RuleError,
    parse_rule,
    read_map_file,
)


@pytest.mark.parametrize("line", [b"", b"  \t", b"# r a b", b"   # x", b"\r"])
def test_empty_lines_and_comments_are_no_rules(line: bytes) -> None:
    """They are ignored."""
    assert parse_rule(line) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"rz a b", "'z' is not an operator; the operators are r g i e s a G P 4 6 ~"),
        (b"r", "the regular expression is missing"),
        (b"r # a b", "the regular expression is missing"),
        (b"r~ a b", "the operators r and ~ exclude each other"),
        (b"ra a b", "the operators r and a exclude each other"),
        (b"es a", "the operators e and s exclude each other"),
        (b"rGP a b", "the operators G and P exclude each other"),
        (b"r46 a b", "the operators 4 and 6 exclude each other"),
        (b"r a b c", "there is text after the replacement"),
        (b"r a x\\", "a backslash ends the line"),
        (b"r ( b", "the regular expression is not valid: missing )"),
        (b"r (a)\\1 b", r"back-references such as \1 are not supported"),
        (b"r \\<a b", r"\< is not supported: use \b"),
        (b"r \\da b", r"\d has no meaning in a POSIX expression"),
        (b"r (a{1000}){1000} b", "the regular expression is not valid"),
        (b"\xe9 a b", "'\\xe9' is not an operator"),
    ],
)
def test_mistake_is_explained(line: bytes, message: str) -> None:
    """The text says what is wrong with the line."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*\\Z"):
        parse_rule(line)


def test_map_file_is_read(tmp_path: Path) -> None:
    """A file may have comments, empty lines, and line ends of Windows."""
    path = tmp_path / "map"
    path.write_bytes(b"# comment\r\n\r\nr ^a b # first\r\ne ^b\r\n")
    assert [rule.text for rule in read_map_file(str(path))] == ["r ^a b", "e ^b"]


def test_mistake_names_the_file_and_the_line(tmp_path: Path) -> None:
    """The operator finds the line at once."""
    path = tmp_path / "map"
    path.write_bytes(b"r a b\n\nrz a b\n")
    with pytest.raises(RuleError, match=f"{path}:3: 'z' is not an operator"):
        read_map_file(str(path))


def test_huge_file_is_refused(tmp_path: Path) -> None:
    """A wrong path, such as that of an image, does not fill the memory."""
    path = tmp_path / "map"
    path.write_bytes(bytes(MAX_FILE_SIZE + 1))
    with pytest.raises(RuleError, match="at most"):
        read_map_file(str(path))


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without google-re2, the message says how to install it."""
    original = builtins.__import__

    def without_re2(name: str, *args: Any) -> Any:
        if name == "re2":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_re2)
    with pytest.raises(ValueError, match=r"pip install 'twisted-tftp\[rename\]'"):
        parse_rule(b"r a b")


def test_map_file_with_too_many_rules_is_refused(tmp_path: Path) -> None:
    """The message names the first line that is too much; comments do not count."""
    path = tmp_path / "tftp.map"
    path.write_bytes(b"# first\n" + b"r a b\n" * MAX_RULES)
    assert len(read_map_file(str(path))) == MAX_RULES
    path.write_bytes(b"# first\n" + b"r a b\n" * (MAX_RULES + 1))
    with pytest.raises(
        RuleError, match=f"tftp.map:{MAX_RULES + 2}: there are more than 1,000 rules"
    ):
        read_map_file(str(path))
