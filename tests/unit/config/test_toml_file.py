"""Tests of reading the files of a configuration."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from twisted_tftp.config.mistakes import MAX_MISTAKES, ConfigurationError, Mistakes, Place
from twisted_tftp.config.toml_file import MAX_FILE_SIZE, TomlFile, read_files


def read(path: Path) -> list[TomlFile]:
    """Read a file or a folder without mistakes."""
    mistakes = Mistakes()
    files = read_files(str(path), mistakes)
    mistakes.raise_any()
    return files


def mistakes_of(path: Path) -> list[str]:
    """Return the mistakes of a file or a folder."""
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    return list(caught.value.lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tftp.toml"


def test_file_is_read_with_its_lines(path: Path) -> None:
    """The places of its keys have the path and the line."""
    path.write_text("# comment\n[tftp]\nport = 69\n")
    (file,) = read(path)
    assert file.data == {"tftp": {"port": 69}}
    assert str(file.place("tftp", "port")) == f"{path}:3"
    assert str(file.place("tftp", "port", 4, "deeper")) == f"{path}:3"
    assert file.place("other") == Place(str(path))
    assert file.folder == str(path.parent)


def test_folder_is_read_in_sort_order(tmp_path: Path) -> None:
    """Its files `*.toml` are read; others, and hidden ones, are not."""
    for name in ("20.toml", "10.toml", "5.toml.bak", ".30.toml", "README"):
        (tmp_path / name).write_text(f"name = '{name}'")
    assert [file.data["name"] for file in read(tmp_path)] == ["10.toml", "20.toml"]


def test_windows_line_ends_and_byte_order_mark_are_accepted(path: Path) -> None:
    """Editors of Windows write both."""
    path.write_bytes(b"\xef\xbb\xbf[tftp]\r\nport = 69\r\n")
    (file,) = read(path)
    assert file.data == {"tftp": {"port": 69}}
    assert file.place("tftp", "port").line == 2


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"a = 1\nb = \xff\n", ":2: not UTF-8: octet 0xff"),
        (b"\xef\xbb\xbfa = 1\n\xff\n", ":2: not UTF-8: octet 0xff"),
        (b"a = 1\nb =\n", ":2: not valid TOML: the value is missing, or is a text without quotes"),
        (b"a = 1\na = 2\n", ":2: not valid TOML: a is given twice, first in line 1"),
        (b"a = [1,\n", ":1: not valid TOML: the file ends before this is complete"),
        (b"\na = \x00", ":2: not valid TOML: "),
        (b"\na = " + b"9" * 5000, ":2: this number is too long"),
        (b"\na = " + b"[" * 100_000, ":2: keys, tables and arrays are nested too deeply"),
        (b"\na" + b".a" * 500_000 + b" = 1", ":2: keys, tables and arrays are nested too deeply"),
        (b"#" * (MAX_FILE_SIZE + 1), ": the file is larger than 2,097,152 octets"),
    ],
    ids=[
        "not UTF-8",
        "byte order mark",
        "syntax",
        "twice",
        "cut off",
        "NUL",
        "long number",
        "nested",
        "dotted",
        "large",
    ],
)
def test_bad_file_is_one_line(path: Path, octets: bytes, text: str) -> None:
    """The line has the file, and what is wrong with it."""
    path.write_bytes(octets)
    (found,) = mistakes_of(path)
    assert found.startswith(f"{path}{text}")


def test_huge_file_is_not_read(path: Path) -> None:
    """A file of 100 MB is refused after two megabytes."""
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert mistakes_of(path) == [f"{path}: the file is larger than 2,097,152 octets"]


def test_missing_file_is_one_line(path: Path) -> None:
    """The text is that of the operating system."""
    assert mistakes_of(path) == [f"{path}: can't read it: No such file or directory"]


def test_unreadable_file_names_the_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After twistd has changed the user, the file may be unreadable."""

    def refuse(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert mistakes_of(path) == [
        f"{path}: can't read it: Permission denied (as user {os.geteuid()}, group {os.getegid()})"
    ]


def test_folder_without_files_is_a_mistake(tmp_path: Path) -> None:
    """It is probably the wrong folder."""
    assert mistakes_of(tmp_path) == [f"{tmp_path}: the folder has no file *.toml"]


def test_folder_or_pipe_in_a_folder_is_a_mistake(tmp_path: Path) -> None:
    """A pipe is not waited for."""
    (tmp_path / "a.toml").mkdir()
    os.mkfifo(tmp_path / "b.toml")
    assert mistakes_of(tmp_path) == [
        f"{tmp_path}/a.toml: a folder, not a file",
        f"{tmp_path}/b.toml: not a regular file (a device, pipe or socket?)",
    ]


def test_each_bad_file_of_a_folder_is_one_line(tmp_path: Path) -> None:
    """The others are read, in the order of their names."""
    (tmp_path / "1.toml").symlink_to("missing")
    (tmp_path / "2.toml").symlink_to("2.toml")
    (tmp_path / "3.toml").symlink_to("/dev/zero")
    (tmp_path / "4.toml").write_bytes(b"\n\xff")
    (tmp_path / "5.toml").write_bytes(b"[tftp]\r\nport = \x00")
    (tmp_path / "6.toml").write_bytes(b"")
    assert mistakes_of(tmp_path) == [
        f"{tmp_path}/1.toml: can't read it: No such file or directory",
        f"{tmp_path}/2.toml: can't read it: Too many levels of symbolic links",
        f"{tmp_path}/3.toml: not a regular file (a device, pipe or socket?)",
        f"{tmp_path}/4.toml:2: not UTF-8: octet 0xff",
        f"{tmp_path}/5.toml:2: not valid TOML: the value is missing, or is a text without quotes "
        "(column 8)",
    ]


def test_mistakes_are_sorted_by_line_and_limited() -> None:
    """The files keep their order; at most `MAX_MISTAKES` lines are printed."""
    mistakes = Mistakes()
    mistakes.add(Place("z.toml", 9), "nine")
    mistakes.add(Place("a.toml"), "whole file")
    mistakes.add(Place("z.toml", 2), "two\n lines")
    with pytest.raises(ConfigurationError) as caught:
        mistakes.raise_any()
    assert caught.value.lines == ("z.toml:2: two lines", "z.toml:9: nine", "a.toml: whole file")
    for number in range(MAX_MISTAKES):
        mistakes.add(Place("b.toml", number), "wrong")
    with pytest.raises(ConfigurationError) as caught:
        mistakes.raise_any()
    assert len(caught.value.lines) == MAX_MISTAKES + 1
    assert caught.value.lines[-1] == "... and 3 more mistakes"


def test_no_mistakes_raise_nothing() -> None:
    """A configuration without mistakes is used."""
    Mistakes().raise_any()
