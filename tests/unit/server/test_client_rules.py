"""Test which settings the client rules give to a client."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ruled_network import mac_rule, network_rule
from twisted_tftp.policy import Policy, UploadSettings, WriteMode
from twisted_tftp.server.client_rules import (
    MAC_RULES_SECONDS,
    ClientRule,
    ClientRules,
    ClientSettings,
    parse_mac,
)

MAC = "52:54:00:12:34:56"


def settings_for(host: str, *rules: ClientRule) -> ClientSettings:
    """Return the settings for a host."""
    return ClientRules(rules, find_mac=lambda _: MAC).look_up(host, 0.0).value


def test_client_without_a_rule_has_the_common_settings() -> None:
    """All settings are None; so are those of a client whose rules say nothing."""
    rules = [network_rule("192.0.2.0/24", rate=1.0), mac_rule("02:00:00:00:00:01", timeout=2.0)]
    assert settings_for("198.51.100.1", *rules) == ClientSettings()
    assert settings_for("2001:db8::1", *rules) == ClientSettings()
    assert settings_for("192.0.2.1", network_rule("192.0.2.0/24")) == ClientSettings()


def test_longest_prefix_decides_for_each_key() -> None:
    """A rule that lacks a key leaves it to the next shorter prefix."""
    rules = [
        network_rule("10.0.0.0/8", max_blksize=1428, max_windowsize=4, timeout=2.0),
        network_rule("10.1.2.0/24", max_blksize=512),
        network_rule("10.1.0.0/16", max_blksize=1024, max_windowsize=8),
    ]
    assert settings_for("10.1.2.3", *rules) == ClientSettings(
        max_blksize=512, max_windowsize=8, timeout=2.0
    )
    assert settings_for("10.2.0.1", *rules) == rules[0].settings


def test_mac_decides_before_every_network() -> None:
    """The key of a rule for the MAC address wins even over one for a single address."""
    rules = [
        network_rule("10.1.2.3/32", max_blksize=512, rate=9.0),
        mac_rule(MAC, max_blksize=1024, refuse=frozenset()),
        network_rule("10.0.0.0/8", refuse=frozenset({"tsize"})),
    ]
    assert settings_for("10.1.2.3", *rules) == ClientSettings(
        max_blksize=1024, rate=9.0, refuse=frozenset()
    )


@pytest.mark.parametrize("host", ["::ffff:192.0.2.1", "192.0.2.1"])
def test_mapped_address_is_in_the_ipv4_network(host: str) -> None:
    """An IPv6 socket may report IPv4 clients in this form."""
    assert settings_for(host, network_rule("192.0.2.0/24", rate=1.0)).rate == 1.0
    assert settings_for(host, network_rule("::/0", rate=1.0)).rate is None


def test_scope_is_not_part_of_the_network() -> None:
    """A link-local client has a scope."""
    assert settings_for("fe80::1%2", network_rule("fe80::/10", rate=1.0)).rate == 1.0


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 255), st.integers(0, 8)),
        st.dictionaries(st.sampled_from(["max_blksize", "max_windowsize"]), st.integers(8, 99)),
        max_size=8,
    ),
    st.integers(0, 255),
)
def test_settings_are_those_of_a_search(
    described: dict[tuple[int, int], dict[str, int]], last: int
) -> None:
    """The result is that of a search through all rules, those with the longest prefix first."""
    values = {
        ip_network((f"192.0.2.{number}", 24 + length), strict=False): keys
        for (number, length), keys in described.items()
    }
    rules = [network_rule(str(network), **keys) for network, keys in values.items()]
    address = ip_address(f"192.0.2.{last}")
    expected: dict[str, int] = {}
    for network in sorted(values, key=lambda each: each.prefixlen):
        if address in network:
            expected.update(values[network])
    assert settings_for(str(address), *rules) == ClientSettings(**expected)


def test_settings_are_valid_for_ever_without_macs() -> None:
    """An address is always in the same networks; its MAC address may become known later."""
    plain = ClientRules([network_rule("192.0.2.0/24", rate=1.0)])
    assert plain.look_up("192.0.2.1", 5.0).valid_until == float("inf")
    with_mac = ClientRules([mac_rule(MAC, rate=1.0)])
    assert with_mac.look_up("192.0.2.1", 5.0).valid_until == 5.0 + MAC_RULES_SECONDS


def test_no_mac_is_looked_up_without_a_rule_for_one() -> None:
    """A look-up in the neighbour table is not free."""

    def fail(host: str) -> None:
        raise AssertionError("no rule has a MAC address")

    rules = ClientRules([network_rule("192.0.2.0/24", rate=1.0)], fail)
    assert rules.look_up("192.0.2.1", 0.0).value.rate == 1.0


def test_description_says_which_rule_decides() -> None:
    """Each key has a line with the rule that decides and the value."""
    rules = ClientRules(
        [
            network_rule("10.0.0.0/8", refuse=frozenset({"tsize", "blksize"}), timeout=2.5),
            network_rule("10.1.0.0/16", write=WriteMode.VERSION, root="/lab", timeout=3.0),
            mac_rule(MAC, refuse=frozenset()),
        ],
        find_mac={"10.1.0.1": MAC}.get,
    )
    assert rules.describe("10.1.0.1") == [
        f"client rule for mac {MAC}: refuse = none",
        "client rule for network 10.1.0.0/16: timeout = 3",
        "client rule for network 10.1.0.0/16: root = /lab",
        "client rule for network 10.1.0.0/16: write = version",
    ]
    assert rules.describe("10.2.0.1") == [
        "client rule for network 10.0.0.0/8: refuse = blksize, tsize",
        "client rule for network 10.0.0.0/8: timeout = 2.5",
    ]
    assert rules.describe("192.0.2.1") == []


def test_settings_replace_those_of_the_policy() -> None:
    """The other values of the policy and of the rules for uploads stay."""
    common = Policy(max_blksize=1024, max_windowsize=7, rate=3.0)
    settings = ClientSettings(
        refuse=frozenset({"tsize"}), max_blksize=512, timeout=2.0, root="/x", rate=1.0
    )
    assert settings.policy(common) == Policy(
        refuse=frozenset({"tsize"}), max_blksize=512, max_windowsize=7, timeout=2.0, rate=1.0
    )
    assert ClientSettings().policy(common) == common
    uploads = UploadSettings(WriteMode.CREATE, keep=3, make_dirs=True)
    assert settings.uploads(uploads) is uploads
    assert settings.uploads(None) is None
    versions = ClientSettings(write=WriteMode.VERSION)
    assert versions.uploads(uploads) == UploadSettings(WriteMode.VERSION, 3, True)
    assert versions.uploads(None) == UploadSettings(WriteMode.VERSION)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_blksize": 7}, "max_blksize must be from 8 to 65464, not 7"),
        ({"max_windowsize": 0}, "max_windowsize must be from 1 to 32767, not 0"),
        ({"timeout": 0.0}, "timeout must be from 0.01 to 255, not 0.0"),
        ({"rate": 0.0}, "rate must be from 0.001 to 1000000, not 0.0"),
        ({"refuse": frozenset({"size"})}, "refuse must be one of blksize, .*, not 'size'"),
    ],
)
def test_value_out_of_range_is_reported(values: dict[str, Any], message: str) -> None:
    """The message begins with the key."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        ClientSettings(**values)


def test_rule_selects_clients_in_one_way() -> None:
    """A rule has either a network or a MAC address, in one form."""
    for selection in ({}, {"network": ip_network("10.0.0.0/8"), "mac": MAC}):
        with pytest.raises(ValueError, match="either a network or a mac"):
            ClientRule(ClientSettings(), **selection)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"written as {MAC}, not {MAC.replace(':', '-')}"):
        mac_rule(MAC.replace(":", "-"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (network_rule("10.0.0.0/8"), "two client rules for network 10.0.0.0/8"),
        (network_rule("2001:db8::/32"), "two client rules for network 2001:db8::/32"),
        (mac_rule(MAC), f"two client rules for mac {MAC}"),
    ],
)
def test_two_rules_for_the_same_clients_are_reported(rule: ClientRule, message: str) -> None:
    """Neither of them could be the one that decides."""
    with pytest.raises(ValueError, match=message):
        ClientRules([rule, network_rule("192.0.2.0/24"), rule])
    ClientRules([rule, network_rule("10.0.0.0/9"), network_rule("10.128.0.0/9")])


@pytest.mark.parametrize(
    "text",
    [MAC, MAC.upper(), "52-54-00-12-34-56", "5254.0012.3456", "525400123456"],
)
def test_mac_is_parsed_in_its_usual_forms(text: str) -> None:
    """The result is in lower case and has colons."""
    assert parse_mac(text.upper()) == MAC


@pytest.mark.parametrize(
    "text", ["", "52:54:00:12:34", MAC + ":78", "52:54:00:12:34:5g", "5254:0012:3456", MAC + "\n"]
)
def test_text_that_is_no_mac_is_reported(text: str) -> None:
    """The message has the text and an example."""
    with pytest.raises(ValueError, match="mac must be an address such as"):
        parse_mac(text)
