"""The table of options is complete, and what is made from it agrees with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.option_table import OPTIONS, options_by_group
from twisted_tftp.config.reference import page
from twisted_tftp.config.settings import POLICY_KEYS, Settings, settings
from twisted_tftp.config.value_types import Choice, Rate, Size, ValueType, WholeNumber
from twisted_tftp.policy import Policy, Range, Rollover

REFERENCE = Path(__file__).parents[3] / "docs" / "options.md"
README = Path(__file__).parents[3] / "README.md"

IDS = [option.name for option in OPTIONS]


def option_named(name: str) -> Option:
    return next(option for option in OPTIONS if option.name == name)


def test_each_setting_is_an_option() -> None:
    """Each attribute of the policy and of the settings has one option, and no option is left."""
    attributes = POLICY_KEYS | {field.name for field in dataclasses.fields(Settings)} - {"policy"}
    assert sorted(option.key for option in OPTIONS) == sorted(attributes)


@pytest.mark.parametrize("option", OPTIONS, ids=IDS)
def test_default_of_an_option_is_that_of_its_attribute(option: Option) -> None:
    """Without options the policy is the one that a program gets, and each setting its default."""
    without = settings({})
    owner: Any = Policy() if option.key in POLICY_KEYS else without
    assert getattr(owner, option.key) == option.default
    assert without.policy == Policy()


@pytest.mark.parametrize("option", OPTIONS, ids=IDS)
def test_default_can_be_written_as_a_value(option: Option) -> None:
    """The text that the help shows is one that the option takes, or the default has a text."""
    if option.type is None:
        assert option.shown_default == ""
    elif option.default_text is None:
        assert option.value_of(option.shown_default) == option.default
    else:
        assert option.shown_default == option.default_text


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (Size(), "0"),
        (Size(), "1000"),
        (Size(), "64k"),
        (Size(), "20M"),
        (Size(), "4G"),
        (Size(), "1T"),
        (Rate(Range(0.001, 100)), "0.5/s"),
        (Choice(Rollover), "none"),
        (WholeNumber(Range(0, 65535)), "69"),
        (option_named("timeout").type, "0.25"),
        (option_named("port-range").type, "40000:40999"),
        (option_named("host").type, "2001:db8::1"),
        (option_named("allow").type, "192.0.2.0/24"),
        (option_named("root").type, "/srv/tftp"),
    ],
)
def test_value_is_written_as_it_is_read(written: ValueType[Any], text: str) -> None:
    """What a type writes for a value, it reads again as that value."""
    assert written.format(written.parse(text)) == text


def test_number_outside_its_range_is_told_with_its_name() -> None:
    """The message says which option, which numbers it takes and which one was given."""
    with pytest.raises(ValueError, match=r"^port must be from 0 to 65535, not 65536$"):
        option_named("port").value_of("65536")


def test_repeatable_option_has_all_values_that_were_given() -> None:
    """One wrong text among several is told; none at all is an empty tuple."""
    host = option_named("host")
    assert host.value_of(["::1", "192.0.2.1"]) == ("::1", "192.0.2.1")
    assert host.value_of([]) == ()
    with pytest.raises(ValueError, match=r"^host must be an IPv4 or IPv6 address, not 'x'$"):
        host.value_of(["::1", "x"])


def test_each_option_is_listed_once() -> None:
    """The lists have each option in one group, in the order of the table."""
    groups = [group for group, _ in options_by_group()]
    listed = [option for _, options in options_by_group() for option in options]
    assert groups == list(Group)
    assert listed == list(OPTIONS)


def test_reference_page_is_up_to_date() -> None:
    """The page in the repository is the one that the table makes."""
    made = "python -m twisted_tftp.config.reference > docs/options.md"
    assert REFERENCE.read_text() == page(), f"the table has changed; run {made}"


def test_reference_page_has_a_row_for_each_option() -> None:
    """A cell with a bar in it would break the table."""
    rows = {line.split(" | ")[0]: line for line in page().splitlines() if line.startswith("| `--")}
    assert set(rows) == {f"| `{option.usage}`" for option in OPTIONS} | {"| `--version`"}
    assert {row.count("|") for row in rows.values()} == {5}


def test_readme_leads_to_the_reference_page() -> None:
    """The README does not repeat the options."""
    assert "docs/options.md" in README.read_text()
    assert "| `--" not in README.read_text()
