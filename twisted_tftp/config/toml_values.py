"""Convert the values of a TOML file to what the command line gives for the same option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.config.backends import BackendText
from twisted_tftp.config.command_type import Command, text_of_words
from twisted_tftp.config.option import Option
from twisted_tftp.config.value_types import (
    Choice,
    Rate,
    Seconds,
    Size,
    SizePerSecond,
    WholeNumber,
)
from twisted_tftp.policy import Rollover

#: The TOML types of the value types that are not texts.
_NUMBER_TYPES: dict[type, tuple[type, ...]] = {
    WholeNumber: (int,),
    Seconds: (int, float),
    Rate: (int, float, str),
    Size: (int, str),
    SizePerSecond: (int, str),
}

#: What the TOML types of values are called in messages.
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text"}


def given_by(option: Option, value: object) -> Any:
    """Return what `Option.parse` takes: a boolean, a text, or a list of texts.

    @raise ValueError: the value has the wrong type. The message continues the option's name.
    """
    if option.type is None:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {_described(value)}")
        return value
    if isinstance(option.type, Command):
        return _command(value)
    if not option.repeatable:
        return _text(option, value)
    if isinstance(option.type, BackendText) and isinstance(value, str | Mapping):
        value = [value]  # one backend needs no array
    if not isinstance(value, list):
        raise ValueError(f"must be an array, such as {_array_example(value)}")
    return [_text(option, each) for each in value]


def _command(value: object) -> str:
    """Return an array of a program and its arguments as text."""
    if not isinstance(value, list):
        raise ValueError(f"must be an array, such as {_array_example(value)}")
    for each in value:
        if not isinstance(each, str):
            raise ValueError(f"must be an array of texts, without {_described(each)}")
    return text_of_words(value)


def _text(option: Option, value: object) -> str:
    """Return a value that is not an array as text."""
    if isinstance(option.type, BackendText) and isinstance(value, Mapping):
        return str(BackendSpec.from_table(value))
    types = _NUMBER_TYPES.get(type(option.type), (str,))
    if isinstance(option.type, Choice) and option.type.members is Rollover:
        types = (str, int)
    if isinstance(value, bool) or not isinstance(value, types):
        shown = [each for each in types if each is not int or float not in types]
        wanted = " or ".join(_TYPE_NAMES[each] for each in shown)
        if isinstance(option.type, BackendText):
            wanted += " or a table"
        raise ValueError(f"must be {wanted}, not {_described(value)}")
    return str(value)


def _array_example(value: object) -> str:
    """Return the array that the user may have meant."""
    if isinstance(value, str):
        return '["{}"]'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
    return '["..."]'


def _described(value: object) -> str:
    """Return a value for a message: itself, or only its type if it may be long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, list):
        return "an array"
    return "a table" if isinstance(value, Mapping) else "a date or time"
