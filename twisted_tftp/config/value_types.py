"""The types of option values: their protocol, and those for numbers, texts and choices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, Protocol, TypeVar

from twisted_tftp.policy import NEGOTIATED_OPTIONS, Range

#: A whole number; `int` alone would accept `+`, spaces and underscores too.
_INTEGER = re.compile(r"-?[0-9]{1,100}\Z")

_Value = TypeVar("_Value")
_Member = TypeVar("_Member", bound=Enum)


class ValueType(Protocol[_Value]):
    """The type of an option's value.

    To add a type, write a class with these members; it needs no base class.
    """

    @property
    def placeholder(self) -> str:
        """The word for the value in the help, such as `SIZE`."""

    @property
    def syntax(self) -> str:
        """The valid values, in Markdown, for the reference page."""

    def parse(self, text: str) -> _Value:
        """Convert a text to a value.

        @raise ValueError: the text is not valid. The message continues the option's name: `must be
            ...`.
        """

    def format(self, value: _Value) -> str:
        """Return a text that `parse` converts to this value."""


@dataclass(frozen=True)
class WholeNumber:
    """A whole number in a range.

    @ivar allowed: the range.
    """

    allowed: Range[int]
    placeholder: ClassVar[str] = "N"

    @property
    def syntax(self) -> str:
        return f"{self.allowed.low} to {self.allowed.high}"

    def parse(self, text: str) -> int:
        if not _INTEGER.match(text):
            raise ValueError(f"must be a whole number, not {text!r}")
        number = int(text)
        self.allowed.check(number)
        return number

    def format(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class Choice(Generic[_Member]):
    """One member of an Enum, written as the member's value.

    @ivar members: the Enum.
    """

    members: type[_Member]
    placeholder: str = "MODE"

    @property
    def syntax(self) -> str:
        *others, last = (f"`{member.value}`" for member in self.members)
        return f"{', '.join(others)} or {last}"

    def parse(self, text: str) -> _Member:
        try:
            return self.members(text)
        except ValueError:
            choices = ", ".join(member.value for member in self.members)
            raise ValueError(f"must be one of {choices}, not {text!r}") from None

    def format(self, value: _Member) -> str:
        return str(value.value)


@dataclass(frozen=True)
class OptionName:
    """The name of an option of requests, in upper or lower case."""

    placeholder: ClassVar[str] = "OPTION"

    @property
    def syntax(self) -> str:
        *others, last = (f"`{name}`" for name in NEGOTIATED_OPTIONS)
        return f"{', '.join(others)} or {last}"

    def parse(self, text: str) -> str:
        name = text.lower()
        if name not in NEGOTIATED_OPTIONS:
            raise ValueError(f"must be one of {', '.join(NEGOTIATED_OPTIONS)}, not {text!r}")
        return name

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Text:
    """A text of any form; what it means is checked elsewhere.

    @ivar placeholder: the word for it.
    @ivar syntax: what it is, in Markdown.
    """

    placeholder: str
    syntax: str

    def parse(self, text: str) -> str:
        if not text.strip():
            raise ValueError("must not be empty")
        return text

    def format(self, value: str) -> str:
        return value
