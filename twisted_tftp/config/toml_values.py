"""Convert the values of a TOML file to what the command line gives for the same option."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from twisted_tftp.backends.plugin import INNER, BackendSpec, installed_plugins
from twisted_tftp.config.backends import BackendText
from twisted_tftp.config.command_type import Command, text_of_words, with_absolute_program
from twisted_tftp.config.nearest import number_of_typos
from twisted_tftp.config.option import Option
from twisted_tftp.config.path_types import Directory, FilePath
from twisted_tftp.config.quantity_types import Rate, Seconds, Size, SizePerSecond
from twisted_tftp.config.toml_lines import KeyPath
from twisted_tftp.config.value_types import Choice, WholeNumber
from twisted_tftp.policy import Rollover

#: The TOML types of the value types that are not texts.
_NUMBER_TYPES: dict[type, tuple[type, ...]] = {
    WholeNumber: (int,),
    Seconds: (int, float),
    Rate: (int, float, str),
    Size: (int, str),
    SizePerSecond: (int, str),
}

_Result = TypeVar("_Result")

#: What the TOML types of values are called in messages.
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text"}


class WrongParts(ValueError):
    """Elements of an array, or keys of a table, are wrong.

    @ivar parts: the path of each one inside the value, and what is wrong with it.
    """

    def __init__(self, parts: list[tuple[KeyPath, str]]) -> None:
        super().__init__("; ".join(text for _, text in parts))
        self.parts = parts


def given_by(option: Option, value: object, folder: str) -> Any:
    """Check a TOML value; convert it to a boolean, a text, or a list of texts for `Option.parse`.

    @param folder: where relative paths start.
    @raise ValueError: the value is wrong. The message continues the option's name.
    @raise WrongParts: elements or keys of the value are wrong.
    """
    given: Any
    if option.type is None:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {_described(value)}")
        return value
    if isinstance(option.type, Command):
        if not isinstance(value, list):
            raise ValueError(_array_wanted(option, value))
        words = _convert(_word, enumerate(value))
        given = with_absolute_program(text_of_words(words), folder)
    elif not option.repeatable:
        given = _text(option, value, folder)
    elif isinstance(option.type, BackendText) and isinstance(value, str | Mapping):
        given = [_text(option, value, folder)]  # one backend needs no array
    elif isinstance(value, list):
        given = _convert(lambda each: _text(option, each, folder), enumerate(value))
    else:
        raise ValueError(_array_wanted(option, value))
    if option.is_required and not given:
        raise ValueError("must not be empty")
    option.parse(given)
    return given


def _convert(
    convert: Callable[[Any], _Result], parts: Iterable[tuple[str | int, Any]]
) -> list[_Result]:
    """Convert the parts of an array or table.

    @param parts: the index or key of each one, and its value.
    @raise WrongParts: some are wrong.
    """
    results = []
    wrong: list[tuple[KeyPath, str]] = []
    for key, value in parts:
        try:
            results.append(convert(value))
        except WrongParts as error:
            wrong += [((key, *path), text) for path, text in error.parts]
        except ValueError as error:
            wrong.append(((key,), str(error)))
    if wrong:
        raise WrongParts(wrong)
    return results


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be an array of texts; {_described(value)} is not a text")
    return value


def _text(option: Option, value: object, folder: str) -> str:
    """Return a value that is not an array as text, with absolute paths; check it."""
    assert option.type is not None
    if isinstance(option.type, BackendText) and isinstance(value, Mapping):
        text = str(_backend(value))
    else:
        text = _plain_text(option, value)
    if isinstance(option.type, BackendText):
        text = str(BackendSpec.parse(text).with_absolute_paths(folder))
    elif isinstance(option.type, Directory | FilePath) and text:
        text = os.path.join(folder, text)
    option.type.parse(text)
    return text


def _plain_text(option: Option, value: object) -> str:
    """Return a number or text as text.

    @raise ValueError: the option has values of another type.
    """
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


def _backend(table: Mapping[str, object]) -> BackendSpec:
    """Return the spec of a backend that is a table.

    @raise WrongParts: keys of the table are wrong.
    """
    name = table.get("type")
    if name is None:
        for key in table:
            if number_of_typos(key, "type") == 1:
                raise WrongParts([((key,), f"{key}: there is no such key; did you mean type?")])
    if not isinstance(name, str):
        return BackendSpec.from_table(table)  # it says so
    _convert(lambda key: _check_key(name, table, key), ((key, key) for key in table))
    return BackendSpec.from_table(table)


def _check_key(name: str, table: Mapping[str, object], key: str) -> None:
    """Check one key of the table of a backend.

    @param name: the backend.
    @raise ValueError: the key can't be there, or its value has a wrong type.
    """
    value = table[key]
    if "path" not in table and number_of_typos(key, "path") == 1 and not _is_keyword(name, key):
        raise ValueError(f"{key}: there is no such key; did you mean path?")
    if key == INNER and isinstance(value, Mapping):
        _backend(value)
    elif not isinstance(value, str | int | float | list):
        raise ValueError(f"{key}: must be a text, a number or a flag, not {_described(value)}")
    BackendSpec.from_table({"type": name, key: value})


def _is_keyword(name: str, key: str) -> bool:
    """Return whether the help of a backend has a keyword; True if there is no such backend."""
    plugin = installed_plugins().get(name)
    return plugin is None or f"{key}=" in plugin.help


def _array_wanted(option: Option, value: object) -> str:
    """Return the message about a value that must be an array."""
    if isinstance(option.type, BackendText):
        return f"must be a text, a table, or an array of these, not {_described(value)}"
    if isinstance(value, str):
        element = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'must be an array, such as ["{element}"]'
    return f"must be an array of texts, not {_described(value)}"


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
