"""Read the TOML files of a configuration, and tell the line of each key."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import Any

from twisted_tftp.config.mistakes import Mistakes, Place
from twisted_tftp.config.toml_lines import KeyPath, LimitExceeded, find_positions
from twisted_tftp.config.toml_syntax import syntax_mistake

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The largest configuration file, in octets: some ten thousand machines.
MAX_FILE_SIZE = 2 * 1024 * 1024


@dataclass(frozen=True)
class TomlFile:
    """The content of a file.

    @ivar path: its absolute path.
    @ivar data: its keys and values, as `tomllib` returns them.
    @ivar lines: the line of each key.
    """

    path: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    @property
    def folder(self) -> str:
        """The folder where its relative paths start."""
        return os.path.dirname(self.path)

    def place(self, *path: str | int) -> Place:
        """Return the place of a key, or of the nearest table or array around it."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return Place(self.path, line)
        return Place(self.path)


def read_files(path: str, mistakes: Mistakes) -> list[TomlFile]:
    """Read a file, or the files `*.toml` of a folder in the order of their names.

    A file that can't be used is left out, and its mistakes are added to `mistakes`.
    """
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        paths = [path]
    else:
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            mistakes.add(Place(path), _reading_failed(error))
            return []
        # A name that begins with a dot is that of an editor's temporary file.
        names = [name for name in names if name.endswith(".toml") and not name.startswith(".")]
        if not names:
            mistakes.add(Place(path), "the folder has no file *.toml")
        paths = [os.path.join(path, name) for name in names]
    files = [_read_file(each, mistakes) for each in paths]
    return [file for file in files if file is not None]


def _read_file(path: str, mistakes: Mistakes) -> TomlFile | None:
    """Read one file; return None if it can't be used."""
    try:
        octets = _read_octets(path)
    except OSError as error:
        mistakes.add(Place(path), _reading_failed(error))
        return None
    except ValueError as error:
        mistakes.add(Place(path), str(error))
        return None
    try:
        text = octets.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        # `error.object` is without the byte order mark, and `error.start` counts from there.
        line = error.object.count(b"\n", 0, error.start) + 1
        mistakes.add(Place(path, line), f"not UTF-8: octet 0x{error.object[error.start]:02x}")
        return None
    return _parse(path, text, mistakes)


def _parse(path: str, text: str, mistakes: Mistakes) -> TomlFile | None:
    """Parse the text of a file; return None if it is not valid."""
    try:
        positions = find_positions(text)  # before `tomllib`, which has no limits
    except LimitExceeded as error:
        mistakes.add(Place(path, error.line), str(error))
        return None
    try:
        return TomlFile(path, tomllib.loads(text), positions.lines)
    except ValueError as error:
        line, reason = syntax_mistake(str(error), positions)
        mistakes.add(Place(path, line), f"not valid TOML: {reason}")
    return None


def _read_octets(path: str) -> bytes:
    """Return the content of a file.

    @raise OSError: it can't be read.
    @raise ValueError: it is not a regular file, or too large.
    """
    # O_NONBLOCK: opening a pipe would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                raise ValueError("a folder, not a file")
            raise ValueError("not a regular file (a device, pipe or socket?)")
        with open(descriptor, "rb", closefd=False) as file:
            octets = file.read(MAX_FILE_SIZE + 1)
    finally:
        os.close(descriptor)
    if len(octets) > MAX_FILE_SIZE:
        raise ValueError(f"the file is larger than {MAX_FILE_SIZE:,} octets")
    return octets


def _reading_failed(error: OSError) -> str:
    text = f"can't read it: {error.strerror}"
    if isinstance(error, PermissionError):
        text += f" (as user {os.geteuid()}, group {os.getegid()})"
    return text
