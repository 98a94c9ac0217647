"""Define what an option of the server is, and turn the text that people give it into a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted_tftp.config.value_types import ValueType


class Group(Enum):
    """The titles under which options are listed, in the order of the lists."""

    FILES = "Files"
    ADDRESSES = "Addresses"
    TIME = "Time"
    ACCESS = "Access"
    LIMITS = "Limits"
    OTHER = "Other"


@dataclass(frozen=True)
class Option:
    """One option: its name, the values that it takes, its default and what it does.

    @ivar name: the name on the command line, without the dashes in front.
    @ivar group: the title under which it is listed.
    @ivar type: how its value is written; None for a flag, which is given or not. (Values of
        different options have different types, hence the `Any`.)
    @ivar default: the value if the option is not given.
    @ivar help: what it does, in one phrase without a capital letter and a full stop.
    @ivar details: further sentences in Markdown, for the reference page only.
    @ivar default_text: the default in words; None if it is written as any other value is.
    @ivar repeatable: it may be given several times; its value is then a tuple.
    """

    name: str
    group: Group
    type: ValueType[Any] | None
    default: object
    help: str
    details: str = ""
    default_text: str | None = None
    repeatable: bool = False

    @property
    def key(self) -> str:
        """The name as an identifier: of an attribute, or of a key in a file."""
        return self.name.replace("-", "_")

    @property
    def usage(self) -> str:
        """How to write it on the command line, such as `--port N`."""
        return f"--{self.name}" + (f" {self.type.placeholder}" if self.type else "")

    @property
    def shown_default(self) -> str:
        """The default for people; empty for a flag."""
        if self.type is None:
            return ""
        return self.type.format(self.default) if self.default_text is None else self.default_text

    def value_of(self, given: Any) -> Any:
        """Return the value that was given, or the default.

        @param given: the text; for a repeatable option, texts; for a flag, whether it is set.
            None if the option was not given.
        @raise ValueError: a text is no value of this option; the message begins with its name.
        """
        if given is None:
            return self.default
        if self.type is None:
            return bool(given)
        try:
            if self.repeatable:
                return tuple(map(self.type.parse, given))
            return self.type.parse(given)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None
