"""The types of option values that are paths or the permissions of files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

#: The permissions of a file; a short number such as `44` would be a mistake.
_FILE_MODE = re.compile(r"0?[0-7]{3}\Z")


@dataclass(frozen=True)
class Directory:
    """The path of a directory. The backend checks whether it exists."""

    placeholder: ClassVar[str] = "DIR"
    syntax: ClassVar[str] = "the path of a directory"

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError("must not be empty")
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class FilePath:
    """The path of a file."""

    placeholder: ClassVar[str] = "FILE"
    syntax: ClassVar[str] = "the path of a file"

    def parse(self, text: str) -> str:
        if not text or "\0" in text:
            raise ValueError("must be the path of a file")
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class MountPath:
    """A path inside the mounts: it begins with a slash, and its components are plain names."""

    placeholder: ClassVar[str] = "PATH"
    syntax: ClassVar[str] = "a path such as `/configs`"

    def parse(self, text: str) -> str:
        if not text.startswith("/") or "\0" in text:
            raise ValueError(f"must be a path that begins with '/', not {text!r}")
        components = [each for each in text.split("/") if each not in ("", ".")]
        if ".." in components:
            raise ValueError(f"must not contain '..', as {text!r} does")
        return "/" + "/".join(components)

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class FileMode:
    """The permissions of a file, as an octal number. The bits above 0777 are not allowed."""

    placeholder: ClassVar[str] = "MODE"
    syntax: ClassVar[str] = "an octal number, `0000` to `0777`"

    def parse(self, text: str) -> int:
        if not _FILE_MODE.match(text):
            raise ValueError(f"must be an octal number such as 0644 or 0600, not {text!r}")
        return int(text, 8)

    def format(self, value: int) -> str:
        return f"{value:04o}"
