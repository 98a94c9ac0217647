"""Test the boot profiles: their text, and the values of simulated machines."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.tools.profiles import (
    PROFILES,
    BadProfile,
    BootStep,
    SimulatedMachine,
    StepKind,
    parse_profile,
)


@pytest.mark.parametrize("name", PROFILES)
def test_each_built_in_profile_is_valid(name: str) -> None:
    """Each built-in profile fetches a file, and all placeholders in it are known."""
    steps = parse_profile(PROFILES[name])
    assert any(step.kind is StepKind.GET for step in steps)
    for step in steps:
        assert "{" not in SimulatedMachine(7).fill_in(step.name)


def test_lines_are_steps() -> None:
    """Each line is a step, except comments and empty lines; option names become lower case."""
    text = "# first\n\n size a # the size\nget b TSIZE=0 blksize=8\ntry {mac}\nput c\nthink 0.5\n"
    assert parse_profile(text) == [
        BootStep(StepKind.SIZE, "a"),
        BootStep(StepKind.GET, "b", {"tsize": "0", "blksize": "8"}),
        BootStep(StepKind.TRY, "{mac}"),
        BootStep(StepKind.PUT, "c"),
        BootStep(StepKind.THINK, seconds=0.5),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no file to transfer"),
        ("think 1", "no file to transfer"),
        ("get", "line 1: get takes a name"),
        ("get a\nfetch b", "line 2: 'fetch' is neither"),
        ("get a blksize", "not OPTION=NUMBER"),
        ("get a blksize=x", "not OPTION=NUMBER"),
        ("get a blksize=", "not OPTION=NUMBER"),
        ("get {nobody}", "{nobody} is neither"),
        ("think", "think takes a number"),
        ("think 1 2", "think takes a number"),
        ("think x", "line 1"),
        ("think -1", "from 0 to 3600"),
        ("think nan", "from 0 to 3600"),
    ],
)
def test_invalid_profile_raises_bad_profile(text: str, reason: str) -> None:
    """An invalid profile raises BadProfile, with the reason and the number of the line."""
    with pytest.raises(BadProfile, match=reason):
        parse_profile(text)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_raises_bad_profile(text: str) -> None:
    """No text raises another exception than BadProfile."""
    with contextlib.suppress(BadProfile):
        assert parse_profile(text)


def test_each_machine_has_its_own_addresses() -> None:
    """The addresses differ between machines, and depend only on the machine's number."""
    names = {SimulatedMachine(number).fill_in("{mac} {ip} {ipx} {uuid}") for number in range(3000)}
    assert len(names) == 3000
    assert SimulatedMachine(0).fill_in("{mac}/{MAC}") == "02-00-00-00-00-00/02-00-00-00-00-00"
    assert SimulatedMachine(10).fill_in("{mac}/{MAC}") == "02-00-00-00-00-0a/02-00-00-00-00-0A"
    assert SimulatedMachine(0).fill_in("{ip} {ipx}") == "10.0.0.1 0A000001"
    assert SimulatedMachine(1).fill_in("{uuid}") == "00000000-0000-0000-0000-000000000001"
