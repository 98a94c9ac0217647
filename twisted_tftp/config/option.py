"""The properties of one option of the server, and the conversion of its text to a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted_tftp.config.value_types import ValueType


class Group(Enum):
    """The groups of options in the help and in the documents, in their order."""

    CONFIGURATION = "Configuration"
    FILES = "Files"
    NAMES = "Names"
    ADDRESSES = "Addresses"
    TIME = "Time"
    ACCESS = "Access"
    LIMITS = "Limits"
    HOOKS = "Hooks"
    OTHER = "Other"


class Table(Enum):
    """The tables of a configuration file that may be given several times."""

    #: A part of the tree of names, and the backends that serve it.
    MOUNT = "mount"
    #: The rules for some clients.
    CLIENT = "client"
    #: A rule that rewrites names.
    RENAME = "rename"


@dataclass(frozen=True)
class Option:
    """One option: its name, its type, its default and its help text.

    @ivar name: the name on the command line, without the dashes in front.
    @ivar group: the group in which it is listed; for a key of `[[mount]]`, `[[client]]` or
        `[[rename]]`, its table.
    @ivar type: the type of its value; None for a flag, which has no value. (Values of different
        options have different types, so it is `Any`.)
    @ivar default: its value if the option is not given.
    @ivar help: one phrase that says what it does, without a capital letter at the beginning and a
        full stop at the end.
    @ivar details: further sentences in Markdown, for the reference page only.
    @ivar default_text: the default in words; None to write it like any other value.
    @ivar repeatable: whether it may be given several times; its value is then a `collection`.
    @ivar collection: the type of the value of a repeatable option: `tuple` or `frozenset`.
    @ivar example: a value for the example of a configuration file, in TOML; empty for the default.
    @ivar is_required: whether a table must have this key.
    """

    name: str
    group: Group | Table
    type: ValueType[Any] | None
    default: object
    help: str
    details: str = ""
    default_text: str | None = None
    repeatable: bool = False
    collection: Callable[[Iterable[Any]], object] = tuple
    example: str = ""
    is_required: bool = False

    @property
    def key(self) -> str:
        """The name as an identifier, for attributes."""
        return self.name.replace("-", "_")

    @property
    def usage(self) -> str:
        """The option as the help shows it, such as `--port N`."""
        return f"--{self.name}" + (f" {self.type.placeholder}" if self.type else "")

    @property
    def shown_default(self) -> str:
        """The default as help and documents show it; empty for a flag."""
        if self.type is None:
            return ""
        return self.type.format(self.default) if self.default_text is None else self.default_text

    def value_of(self, given: Any) -> Any:
        """Convert what the user gave to a value; return the default if the option was not given.

        @param given: the text; for a repeatable option, a list of texts; for a flag, whether it is
            set. None if the option was not given.
        @raise ValueError: a text is not a valid value; the message begins with the option's name.
        """
        if given is None:
            return self.default
        try:
            return self.parse(given)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None

    def parse(self, given: Any) -> Any:
        """Convert what the user gave to a value.

        @param given: as for L{value_of}, but not None.
        @raise ValueError: a text is not a valid value; the message continues the option's name.
        """
        if self.type is None:
            return bool(given)
        if self.repeatable:
            return self.collection(map(self.type.parse, given))
        return self.type.parse(given)
