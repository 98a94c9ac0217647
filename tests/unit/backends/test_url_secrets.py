"""Tests of hiding passwords and queries of URLs."""

from __future__ import annotations

import time

import pytest

from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.backends.url_secrets import without_url_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/{mac}?token=S", "https://h/{mac}?..."),
        ("https://h/{mac}?a=1&token=S#part", "https://h/{mac}?..."),
        ("https://h?", "https://h?..."),
        ("https://user:S@h:80/a@b", "https://...@h:80/a@b"),
        ("https://user:S@S@h/", "https://...@h/"),
        ("HTTP://S@h/?S", "HTTP://...@h/?..."),
        ("https://h/a#b", "https://h/a#b"),
        (
            "template:/t,hosts=https://u:S@h/{mac}?token=S,timeout=2",
            "template:/t,hosts=https://...@h/{mac}?...,timeout=2",
        ),
        ("x:https://h/?S,of=y:http://S@i/j?S", "x:https://h/?...,of=y:http://...@i/j?..."),
        (r"x:https://S\,S@h/a\,b?S\,S,k=1", r"x:https://...@h/a\,b?...,k=1"),
        (r"x:https://h/?S\\,k=1", "x:https://h/?...,k=1"),
        ("filesystem:/srv/what?,cache=1M", "filesystem:/srv/what?,cache=1M"),
        ("tar:user@host.tar", "tar:user@host.tar"),
        ("", ""),
    ],
)
def test_passwords_and_queries_are_hidden(text: str, shown: str) -> None:
    """Everything else stays, also the keywords after a URL."""
    assert without_url_secrets(text) == shown


def test_comma_in_a_value_ends_no_query() -> None:
    """The text of a backend escapes it."""
    spec = BackendSpec("x", "https://S,S@h/?S,S\\", {"k": "1"})
    assert without_url_secrets(str(spec)) == "x:https://...@h/?...,k=1"


@pytest.mark.parametrize("part", ["://", "\\", "a", "://a?", "://a@"])
def test_long_text_needs_little_time(part: str) -> None:
    """The time is linear in the length of the text."""
    start = time.monotonic()
    without_url_secrets("://" + part * 200_000)
    assert time.monotonic() - start < 5
