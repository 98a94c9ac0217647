"""Tests of the table of options, and of the reference page that is generated from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from twisted_tftp.config.name_options import COMMAND_OPTIONS
from twisted_tftp.config.network_types import InterfaceName
from twisted_tftp.config.option import Group, Option, Table
from twisted_tftp.config.option_table import OPTIONS, options_by_group
from twisted_tftp.config.quantity_types import Rate, Size, SizePerSecond
from twisted_tftp.config.reference import page
from twisted_tftp.config.settings import POLICY_KEYS, Settings, parse_settings
from twisted_tftp.config.value_types import Choice, ValueType, WholeNumber
from twisted_tftp.policy import Policy, Range, Rollover

#: The reference page in the repository.
REFERENCE = Path(__file__).parents[3] / "docs" / "options.md"

#: The README of the repository.
README = Path(__file__).parents[3] / "README.md"

#: The names of the options, as names of test cases.
IDS = [option.name for option in OPTIONS]


def option_named(name: str) -> Option:
    return next(option for option in OPTIONS if option.name == name)


def test_each_setting_is_an_option() -> None:
    """Each attribute of `Policy` and `Settings` has exactly one option."""
    fields = {field.name for field in dataclasses.fields(Settings)}
    tables = {f"{table.value}s" for table in Table}
    attributes = POLICY_KEYS | fields - {"policy", "places"} - tables
    assert sorted(option.key for option in OPTIONS) == sorted(attributes)


@pytest.mark.parametrize("option", OPTIONS, ids=IDS)
def test_default_of_an_option_is_that_of_its_attribute(option: Option) -> None:
    """The defaults of the command line are those of `Policy` and `Settings`."""
    without = parse_settings({})
    owner: Any = Policy() if option.key in POLICY_KEYS else without
    assert getattr(owner, option.key) == option.default
    assert without.policy == Policy()


@pytest.mark.parametrize("option", OPTIONS, ids=IDS)
def test_default_in_the_help_is_a_valid_value(option: Option) -> None:
    """The default that the help shows can be given to the option, unless it is a description."""
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
        (SizePerSecond(), "20k/s"),
        (SizePerSecond(), "0"),
        (Rate(Range(0.001, 100)), "0.5/s"),
        (Rate(Range(0.001, 1_000_000)), "1000000/s"),
        (Rate(Range(0.001, 1_000_000)), "999999.5/s"),
        (Choice(Rollover), "none"),
        (WholeNumber(Range(0, 65535)), "69"),
        (option_named("timeout").type, "0.25"),
        (option_named("drain").type, "1000000"),
        (option_named("port-range").type, "40000:40999"),
        (option_named("host").type, "2001:db8::1"),
        (option_named("host").type, "fe80::1%eth0"),
        (option_named("host").type, "eth0.100"),
        (option_named("interface").type, "vrf-boot"),
        (option_named("allow").type, "192.0.2.0/24"),
        (option_named("refuse").type, "windowsize"),
        (option_named("root").type, "/srv/tftp"),
    ],
)
def test_formatted_value_can_be_parsed(written: ValueType[Any], text: str) -> None:
    """Each type formats a value as the text that it parses."""
    assert written.format(written.parse(text)) == text


def test_error_about_a_rate_that_is_too_large_names_the_range() -> None:
    """A number with many digits is a valid number, so the error is not about its form."""
    with pytest.raises(ValueError, match=r"^must be from 0\.001 to 1000000, not"):
        Rate(Range(0.001, 1_000_000)).parse("10000000")


def test_number_outside_its_range_is_rejected() -> None:
    """The message contains the option, its range and the number that was given."""
    with pytest.raises(ValueError, match=r"^port must be from 0 to 65535, not 65536$"):
        option_named("port").value_of("65536")


def test_repeatable_option_collects_its_values() -> None:
    """One invalid value is an error; no value at all is an empty tuple."""
    host = option_named("host")
    assert host.value_of(["::1", "192.0.2.1"]) == ("::1", "192.0.2.1")
    assert host.value_of([]) == ()
    with pytest.raises(
        ValueError, match=r"^host must be an IPv4 or IPv6 address, or an interface, not 'x:'$"
    ):
        host.value_of(["::1", "x:"])


@pytest.mark.parametrize(
    "text",
    [*("", "256.1.1.1", "1.2.3", "::g", "a b", "eth0%1", "192.0.2.1%eth0", "eth0/24", "x" * 16)],
)
def test_host_is_an_address_or_an_interface(text: str) -> None:
    """What can be neither an address nor the name of an interface is rejected."""
    with pytest.raises(
        ValueError, match=r"^host must be an IPv4 or IPv6 address, or an interface"
    ):
        option_named("host").value_of([text])


@pytest.mark.parametrize("name", ["eth0", "eth0.100", "vrf-boot", "br_lan", "x" * 15])
def test_interface_names(name: str) -> None:
    """Names of interfaces are recognised."""
    assert InterfaceName().parse(name) == name


@pytest.mark.parametrize("name", ["", "x" * 16, "a b", "a/b", "fe80::1", "eth0%1", "a\n"])
def test_other_names(name: str) -> None:
    """Other texts are not."""
    with pytest.raises(ValueError, match=r"^must be the name of a network interface, not "):
        InterfaceName().parse(name)


def test_link_local_address_needs_a_scope() -> None:
    """A link-local address can't be bound without its interface; the error shows how to add it."""
    with pytest.raises(ValueError, match=r"^host fe80::1 is link-local: add .*fe80::1%eth0$"):
        option_named("host").value_of(["fe80::1"])
    assert option_named("host").value_of(["fe80::1%2"]) == ("fe80::1%2",)


def test_each_option_is_listed_once() -> None:
    """Each option is in one group, in the order of the table."""
    groups = [group for group, _ in options_by_group()]
    listed = [option for _, options in options_by_group() for option in options]
    assert groups == list(Group)
    assert sorted(map(id, listed)) == sorted(map(id, (*COMMAND_OPTIONS, *OPTIONS)))


def test_reference_page_is_up_to_date() -> None:
    """The page in the repository is the one that is generated from the table."""
    made = "python -m twisted_tftp.config.reference > docs/options.md"
    assert REFERENCE.read_text() == page(), f"the table has changed; run {made}"


def test_reference_page_has_a_row_for_each_option() -> None:
    """Each row has the same number of cells."""
    rows = {line.split(" | ")[0]: line for line in page().splitlines() if line.startswith("| `--")}
    printing = {"| `--version`", "| `--help-backends`"}
    options = {f"| `{option.usage}`" for option in (*COMMAND_OPTIONS, *OPTIONS)}
    assert set(rows) == options | printing
    assert {row.count("|") for row in rows.values()} == {5}


def test_readme_links_to_the_reference_page() -> None:
    """The README has no list of options of its own."""
    assert "docs/options.md" in README.read_text()
    assert "| `--" not in README.read_text()
