"""Tests of the keywords of plugins: their texts are converted, and none is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twisted_tftp.backends.arguments import (
    reject_unknown,
    take_bool,
    take_choice,
    take_number,
    take_seconds,
    take_size,
    take_text,
)


@pytest.mark.parametrize(
    ("take", "text", "value"),
    [
        (take_text, "a,b", "a,b"),
        (take_bool, "yes", True),
        (take_bool, "On", True),
        (take_bool, "", True),
        (take_bool, "no", False),
        (take_bool, "0", False),
        (take_size, "0", 0),
        (take_size, "64k", 65536),
        (take_size, "2 GiB", 2 << 30),
        (take_number, "0", 0),
        (take_number, "12", 12),
        (take_seconds, "5", 5.0),
        (take_seconds, "0.25s", 0.25),
    ],
)
def test_text_is_converted(take: Callable[..., Any], text: str, value: Any) -> None:
    """The keyword is removed; its name may be written with an underscore."""
    keywords = {"the-key": text, "other": "x"}
    assert take(keywords, "the_key") == value
    assert keywords == {"other": "x"}


@pytest.mark.parametrize(
    ("take", "default"),
    [
        (take_text, "x"),
        (take_bool, True),
        (take_size, 5),
        (take_size, None),
        (take_number, 5),
        (take_seconds, 0.5),
    ],
)
def test_missing_keyword_has_its_default(take: Callable[..., Any], default: Any) -> None:
    """Also if it is None."""
    assert take({}, "key", default) == default


@pytest.mark.parametrize(
    ("take", "text"),
    [
        (take_bool, "maybe"),
        (take_size, "-1"),
        (take_size, "5x"),
        (take_size, "1_000"),
        (take_number, "1.5"),
        (take_number, "+1"),
        (take_number, "9" * 30),
        (take_seconds, "-1"),
        (take_seconds, "inf"),
        (take_seconds, "nan"),
        (take_seconds, "1e9"),
    ],
)
def test_other_texts_are_rejected(take: Callable[..., Any], text: str) -> None:
    """The message names the keyword and the text."""
    with pytest.raises(ValueError, match="the-key must be ") as caught:
        take({"the-key": text}, "the-key")
    assert repr(text) in str(caught.value)


def test_lowest_number_is_valid() -> None:
    """A lower one is rejected."""
    assert take_number({"n": "3"}, "n", low=3) == 3
    with pytest.raises(ValueError, match="whole number from 3"):
        take_number({"n": "2"}, "n", low=3)
    assert take_seconds({"s": "0.5"}, "s", low=0.5) == 0.5
    with pytest.raises(ValueError, match=r"0\.5 seconds or more"):
        take_seconds({"s": "0.4"}, "s", low=0.5)


def test_choice_is_one_of_the_texts() -> None:
    """The message lists them."""
    assert take_choice({}, "c", ("a", "b"), "b") == "b"
    assert take_choice({"c": "a"}, "c", ("a", "b"), "b") == "a"
    with pytest.raises(ValueError, match="c must be one of a, b, not 'd'"):
        take_choice({"c": "d"}, "c", ("a", "b"), "b")


def test_keyword_that_is_left_is_rejected() -> None:
    """The nearest known name is suggested."""
    reject_unknown({})
    with pytest.raises(ValueError, match=r"no keyword 'host', did you mean hosts\?"):
        reject_unknown({"host": "x"}, ["hosts", "cache"])
    with pytest.raises(ValueError, match=r"there is no keyword 'zzz'$"):
        reject_unknown({"zzz": "x"}, ["hosts"])
