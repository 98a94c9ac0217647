"""The type of options whose value is a command: a program and its arguments."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Command:
    """A program and its arguments. Quotes are as in a shell, but no shell is used."""

    placeholder: ClassVar[str] = "COMMAND"
    syntax: ClassVar[str] = (
        "a program (an absolute path, or a name without a slash) and its arguments; in a file an "
        "array of texts"
    )

    def parse(self, text: str) -> tuple[str, ...]:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ValueError(f"must be a command, not {text!r}: {error}") from None
        if not words or not words[0]:
            raise ValueError("must have a program")
        program = words[0]
        if "/" in program and not program.startswith("/"):
            raise ValueError(f"must begin with an absolute path or a name, not {program!r}")
        if "\0" in text:
            raise ValueError("must not contain NUL")
        return tuple(words)

    def format(self, value: tuple[str, ...]) -> str:
        return shlex.join(value)


def text_of_words(words: Sequence[str]) -> str:
    """Return the text that L{Command.parse} converts to these words."""
    return shlex.join(words)


def with_absolute_program(text: str, folder: str) -> str:
    """Return the text of a command in which a relative path of the program starts at `folder`."""
    words = shlex.split(text)
    if words and "/" in words[0]:
        words[0] = os.path.join(folder, words[0])
    return shlex.join(words)
