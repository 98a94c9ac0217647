"""Tests of finding the known name that a user may have meant."""

from __future__ import annotations

import pytest

from twisted_tftp.config.nearest import nearest, number_of_typos
from twisted_tftp.config.option_table import OPTIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("prot", "port"),
        ("tpye", None),
        ("max_uplaod", "max_upload"),
        ("blksize", "max_blksize"),
        ("windowsize", "max_windowsize"),
        ("retry", "retries"),
        ("zzz", None),
        ("", None),
    ],
)
def test_name_with_typos_is_recognised(name: str, expected: str | None) -> None:
    """Two swapped characters are one typo, so `prot` is not `root`."""
    assert nearest(name, (option.key for option in OPTIONS)) == expected


def test_nothing_is_near_without_known_names() -> None:
    """The list of names may be empty."""
    assert nearest("port", []) is None


@pytest.mark.parametrize(
    ("left", "right", "typos"),
    [
        ("port", "port", 0),
        ("prot", "port", 1),
        ("pot", "port", 1),
        ("pport", "port", 1),
        ("part", "port", 1),
        ("prot", "root", 2),
        ("", "abc", 3),
        ("abc", "", 3),
    ],
)
def test_typos_are_counted(left: str, right: str, typos: int) -> None:
    """Each kind of typo counts once."""
    assert number_of_typos(left, right) == typos
