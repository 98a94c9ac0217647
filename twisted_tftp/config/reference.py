"""Make the reference page of the options, `docs/options.md`, from the table of options.

Run `python -m twisted_tftp.config.reference > docs/options.md` after a change of the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.option_table import PRINTING_OPTIONS, options_by_group

_BEGINNING = """\
<!-- Made by `python -m twisted_tftp.config.reference > docs/options.md`; change the table in
twisted_tftp/config/option_table.py instead. -->

# Options of the server

`twistd tftp --help` prints these options; `twist tftp` takes the same ones.
"""

_HEAD = """\
| option | value | default | meaning |
|---|---|---|---|
"""

_END = """\
The units of sizes are powers of 1024.

An invalid value or a missing root ends the program with one line on standard error and exit
status 1. With `-n`, so does a port that cannot be bound.
"""


def page() -> str:
    """Return the page, in Markdown."""
    return "\n".join([_BEGINNING, *_sections(), _END])


def _sections() -> Iterator[str]:
    """Return the title and the table of each group."""
    for group, options in options_by_group():
        rows = [_row(option) for option in options]
        if group is Group.OTHER:
            rows += [
                _cells(f"`--{name}`", "", "", _sentence(text))
                for name, text in PRINTING_OPTIONS
                if name != "help"  # which the beginning of the page explains
            ]
        yield f"## {group.value}\n\n{_HEAD}{''.join(rows)}"


def _row(option: Option) -> str:
    syntax = option.type.syntax if option.type else ""
    default = option.shown_default
    if default and option.default_text is None:
        default = f"`{default}`"
    meaning = [_sentence(option.help)]
    if option.details:
        meaning.append(option.details)
    if option.repeatable:
        meaning.append("May be given several times.")
    return _cells(f"`{option.usage}`", syntax, default, " ".join(meaning))


def _cells(*texts: str) -> str:
    """Return the row of a table."""
    return f"| {' | '.join(texts)} |\n"


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


if __name__ == "__main__":
    print(page(), end="")
