"""Collect the mistakes of a configuration, each with its file and line."""

from __future__ import annotations

from dataclasses import dataclass

from twisted_tftp.protocol.printable import printable_unicode

#: The most mistakes that are reported in one run.
MAX_MISTAKES = 20


@dataclass(frozen=True)
class Place:
    """A place in a configuration file.

    @ivar path: the path of the file.
    @ivar line: the number of the line, from 1; None for the whole file.
    """

    path: str
    line: int | None = None

    def __str__(self) -> str:
        path = printable_unicode(self.path)
        return path if self.line is None else f"{path}:{self.line}"


class ConfigurationError(Exception):
    """A configuration has mistakes, and is not used.

    @ivar lines: one line for each mistake.
    """

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Mistakes:
    """The mistakes that were found so far in all files of a configuration."""

    def __init__(self) -> None:
        self._found: list[tuple[Place | None, str]] = []

    def add(self, place: Place | None, text: str) -> None:
        """Add a mistake; a text of several lines becomes one line.

        @param place: where it is; None for the command line.
        """
        self._found.append((place, printable_unicode(" ".join(text.split()))))

    def add_all_of(self, others: Mistakes) -> None:
        """Add the mistakes of another collection."""
        self._found += others._found

    def raise_any(self) -> None:
        """Report all mistakes: first those of the command line, then by file and line.

        @raise ConfigurationError: there is a mistake.
        """
        if not self._found:
            return
        placed = [(place, text) for place, text in self._found if place is not None]
        files = list(dict.fromkeys(place.path for place, _ in placed))  # in the order of reading
        placed.sort(key=lambda each: (files.index(each[0].path), each[0].line or 0))
        lines = [text for place, text in self._found if place is None]
        lines += [f"{place}: {text}" for place, text in placed]
        left = len(lines) - MAX_MISTAKES
        if left > 0:
            lines[MAX_MISTAKES:] = [f"... and {left} more mistakes"]
        raise ConfigurationError(tuple(lines))
