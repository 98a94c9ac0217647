"""Convert the keywords of backend plugins: texts to flags, sizes, numbers and times.

Each function removes its keyword from the dictionary, so that L{reject_unknown} finds the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from difflib import get_close_matches

#: The keywords of a plugin: name to text.
Keywords = MutableMapping[str, str]

#: The key of the argument in the table of a backend (in a configuration file).
ARGUMENT_KEY = "path"

#: The texts of a flag.
_FLAGS = {"yes": True, "true": True, "on": True, "1": True, "": True} | {
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}

#: A size: digits, and a unit such as `k`, `M` or `GiB`.
_SIZE = re.compile(r"([0-9]{1,20})\s*(?:([kmgt])i?)?b?\Z", re.IGNORECASE)

#: A whole number; `int` alone would accept signs, spaces and underscores too.
_INTEGER = re.compile(r"[0-9]{1,20}\Z")

#: A number of seconds.
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)s?\Z")

#: The units of sizes, each with its power of 2.
_SIZE_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def take_text(keywords: Keywords, name: str, default: str = "") -> str:
    """Remove a keyword and return its text; `default` if it is not given."""
    return keywords.pop(normal(name), default)


def take_bool(keywords: Keywords, name: str, default: bool = False) -> bool:
    """Remove a flag (`yes` or `no`) and return its value; `default` if it is not given.

    @raise ValueError: the text is neither.
    """
    text = keywords.pop(normal(name), None)
    if text is None:
        return default
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"{normal(name)} must be yes or no, not {text!r}") from None


def take_size(keywords: Keywords, name: str, default: int | None = None) -> int | None:
    """Remove a size (such as `64k` or `20M`) and return its octets; `default` if not given.

    @raise ValueError: the text is not a size.
    """
    text = keywords.pop(normal(name), None)
    if text is None:
        return default
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(
            f"{normal(name)} must be a size such as 100000, 64k, 20M or 4G, not {text!r}"
        )
    digits, unit = match.groups()
    return int(digits) << _SIZE_UNITS[(unit or "").lower()]


def take_number(
    keywords: Keywords, name: str, default: int | None = None, *, low: int = 0
) -> int | None:
    """Remove a whole number and return it; `default` if it is not given.

    @param low: the lowest number that is valid.
    @raise ValueError: the text is not such a number.
    """
    text = keywords.pop(normal(name), None)
    if text is None:
        return default
    if not _INTEGER.match(text) or int(text) < low:
        raise ValueError(f"{normal(name)} must be a whole number from {low}, not {text!r}")
    return int(text)


def take_seconds(
    keywords: Keywords, name: str, default: float | None = None, *, low: float = 0
) -> float | None:
    """Remove a time (such as `5`, `0.5` or `5s`) and return its seconds; `default` if not given.

    @param low: the shortest time that is valid.
    @raise ValueError: the text is not such a time.
    """
    text = keywords.pop(normal(name), None)
    if text is None:
        return default
    match = _SECONDS.match(text)
    if match is None or float(match[1]) < low:
        raise ValueError(f"{normal(name)} must be {low:g} seconds or more, not {text!r}")
    return float(match[1])


def take_choice(keywords: Keywords, name: str, choices: Iterable[str], default: str) -> str:
    """Remove a keyword that has one of some texts, and return it; `default` if it is not given.

    @raise ValueError: the text is none of them.
    """
    choices = tuple(choices)
    text = keywords.pop(normal(name), default)
    if text not in choices:
        raise ValueError(f"{normal(name)} must be one of {', '.join(choices)}, not {text!r}")
    return text


def reject_unknown(keywords: Keywords, known: Iterable[str] = ()) -> None:
    """Check that no keyword is left.

    @param known: the names of all keywords, to suggest the nearest one.
    @raise ValueError: one is left.
    """
    for name in keywords:
        near = get_close_matches(name, [normal(each) for each in known], 1)
        suggestion = f", did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no keyword {name!r}{suggestion}")


def require_known(keywords: Keywords, known: Iterable[str]) -> None:
    """Check that each keyword has a known name.

    Call this before any keyword is used: a misspelt name is then reported as such, not as a
    keyword that is missing.

    @raise ValueError: a keyword has another name.
    """
    names = {normal(each) for each in known}
    for name in keywords:
        if name in names:
            continue
        near = get_close_matches(name, [*sorted(names), ARGUMENT_KEY], 1)
        suggestion = f", did you mean {near[0]}?" if near else ""
        if near == [ARGUMENT_KEY]:
            suggestion += " (only a table has it; in a text the argument follows the colon)"
        raise ValueError(f"there is no keyword {name!r}{suggestion}")


def normal(name: str) -> str:
    """Return the name of a keyword with hyphens: `make_dirs` and `make-dirs` are the same."""
    return name.replace("_", "-")
