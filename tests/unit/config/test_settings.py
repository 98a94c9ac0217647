"""Tests of the settings: texts become values, and errors name the setting."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.backends.plugin import BackendSpec
from twisted_tftp.config.network_types import NetworkPrefix
from twisted_tftp.config.settings import parse_settings
from twisted_tftp.policy import Policy, Retransmit, Rollover, WriteMode

#: An IPv4 network.
V4 = ipaddress.ip_network("192.0.2.0/24")

#: An IPv6 network of one address.
V6 = ipaddress.ip_network("2001:db8::1/128")

#: Names of settings that have a value.
NAMES = [
    "max-per-client",
    "rate",
    "unproven-rate",
    "allow",
    "deny",
    "allow-write",
    "timeout",
    "patience",
    "retries",
    "retransmit",
    "max-blksize",
    "max-windowsize",
    "rollover",
    "refuse",
    "port-range",
    "cache",
    "max-upload",
    "upload-quota",
    "max-transfers",
    "port",
    "write",
    "drain",
]


def test_missing_settings_have_their_defaults() -> None:
    """A setting that is None has its default too."""
    defaults = parse_settings({})
    names = [*NAMES, "root", "host", "single-port", "verbose"]
    assert parse_settings(dict.fromkeys(names)) == defaults
    assert defaults.policy == Policy()
    assert (defaults.write, defaults.port, defaults.host) == (WriteMode.NEVER, 69, ())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("root", "/srv/tftp", "/srv/tftp"),
        (
            "backend",
            ["memory", "x:y,k=v"],
            (BackendSpec("memory"), BackendSpec("x", "y", {"k": "v"})),
        ),
        ("follow-links", ["/srv/a", "b"], ("/srv/a", "b")),
        ("upload-mode", "0600", 0o600),
        ("upload-mode", "664", 0o664),
        ("make-dirs", True, True),
        ("on-upload", "/bin/x 'a b' $c ;", ("/bin/x", "a b", "$c", ";")),
        ("on-transfer", "x", ("x",)),
        ("hook-processes", "1", 1),
        ("hook-time", "0.5", 0.5),
        ("hook-queue", "0", 0),
        ("port", "0", 0),
        ("port", "6969", 6969),
        ("port", "65535", 65535),
        ("write", "never", WriteMode.NEVER),
        ("write", "create", WriteMode.CREATE),
        ("write", "overwrite", WriteMode.OVERWRITE),
        ("drain", "0", 0.0),
        ("drain", "2.5", 2.5),
        ("host", ["::1", "10.0.0.1"], ("::1", "10.0.0.1")),
        ("verbose", True, True),
        ("verbose", 0, False),
    ],
)
def test_setting_of_the_service_is_parsed(name: str, text: Any, value: Any) -> None:
    """The value is in the attribute of `Settings` with the same name."""
    expected = replace(parse_settings({}), **{name.replace("-", "_"): value})
    assert parse_settings({name: text}) == expected


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("timeout", "0.25", 0.25),
        ("timeout", "3", 3.0),
        ("patience", "90", 90.0),
        ("patience", "2.5", 2.5),
        ("retries", "4", 4),
        ("retransmit", "adaptive", Retransmit.ADAPTIVE),
        ("retransmit", "fixed", Retransmit.FIXED),
        ("max-blksize", "1428", 1428),
        ("max-windowsize", "16", 16),
        ("rollover", "0", Rollover.ZERO),
        ("rollover", "1", Rollover.ONE),
        ("rollover", "none", Rollover.NONE),
        ("port-range", "40000:40999", (40000, 40999)),
        ("port-range", "1:65535", (1, 65535)),
        ("port-range", "5000:5000", (5000, 5000)),
        ("single-port", 1, True),
        ("max-upload", "100000", 100000),
        ("max-transfers", "50", 50),
        ("max-per-client", "3", 3),
        ("rate", "20/s", 20.0),
        ("rate", "0.5", 0.5),
        ("unproven-rate", "20k/s", 20 * 1024),
        ("unproven-rate", "1M", 1024 * 1024),
        ("unproven-rate", "0", 0),
        ("allow", ["192.0.2.0/24", "2001:db8::1"], (V4, V6)),
        ("deny", ["192.0.2.0/24"], (V4,)),
        ("allow-write", ["192.0.2.0/24"], (V4,)),
        ("refuse", ["tsize"], frozenset({"tsize"})),
        ("refuse", ["TSize", "blksize", "tsize"], frozenset({"tsize", "blksize"})),
        ("refuse", [], frozenset()),
    ],
)
def test_setting_of_the_policy_is_parsed(name: str, text: Any, value: Any) -> None:
    """The value is in the attribute of `Policy` with the same name."""
    expected = Policy(**{name.replace("-", "_"): value})
    assert parse_settings({name: text}) == replace(parse_settings({}), policy=expected)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0", 0),
        ("1", 1),
        ("512b", 512),
        ("64k", 64 * 1024),
        ("64K", 64 * 1024),
        ("64 k", 64 * 1024),
        ("20M", 20 * 1024**2),
        ("20mb", 20 * 1024**2),
        ("4G", 4 * 1024**3),
        ("4GiB", 4 * 1024**3),
        ("4gib", 4 * 1024**3),
        ("1T", 1024**4),
    ],
)
def test_size_may_have_a_unit(text: str, octets: int) -> None:
    """Units are powers of 1024, in upper or lower case."""
    assert parse_settings({"max-upload": text}).policy.max_upload == octets
    assert parse_settings({"upload-quota": text}).upload_quota == octets


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timeout", "soon"),
        ("timeout", ""),
        ("timeout", "nan"),
        ("timeout", "inf"),
        ("timeout", "0"),
        ("timeout", "-1"),
        ("timeout", "256"),
        ("retries", "many"),
        ("retries", "1.5"),
        ("retries", ""),
        ("retries", "0"),
        ("retries", "1001"),
        ("retries", "9" * 5000),
        ("retransmit", "sometimes"),
        ("retransmit", "FIXED"),
        ("max-blksize", "big"),
        ("max-blksize", "7"),
        ("max-blksize", "65465"),
        ("max-windowsize", "wide"),
        ("max-windowsize", "0"),
        ("max-windowsize", "32768"),
        ("rollover", "2"),
        ("rollover", ""),
        ("port-range", ""),
        ("port-range", "40000"),
        ("port-range", "40000-40999"),
        ("port-range", ":40999"),
        ("port-range", "40000:"),
        ("port-range", "40999:40000"),
        ("port-range", "0:10"),
        ("port-range", "1:65536"),
        ("port-range", "-1:10"),
        ("port-range", "1:2:3"),
        ("port-range", "a:b"),
        ("max-upload", ""),
        ("max-upload", "k"),
        ("max-upload", "-1"),
        ("max-upload", "1.5M"),
        ("max-upload", "10P"),
        ("max-upload", "10 M B"),
        ("max-upload", "10M\n"),
        ("max-upload", "٣"),
        ("max-per-client", "0"),
        ("max-per-client", "many"),
        ("rate", "0"),
        ("rate", "fast"),
        ("rate", "5/m"),
        ("unproven-rate", "20k/m"),
        ("unproven-rate", "-1"),
        ("allow", ["192.0.2.1/24"]),
        ("deny", ["example.com"]),
        ("allow-write", [""]),
        ("max-transfers", "all"),
        ("max-transfers", "0"),
        ("max-transfers", "1000001"),
        ("port", "tftp"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", ""),
        ("write", "always"),
        ("write", ""),
        ("write", "Create"),
        ("on-upload", ""),
        ("on-upload", "'' x"),
        ("on-upload", "bin/x"),
        ("on-upload", "x 'y"),
        ("hook-processes", "0"),
        ("hook-time", "0"),
        ("hook-queue", "-1"),
        ("drain", "later"),
        ("drain", "-1"),
        ("drain", "inf"),
        ("drain", "nan"),
    ],
)
def test_invalid_setting_is_named_in_the_error(name: str, text: Any) -> None:
    """The message begins with the name of the option."""
    with pytest.raises(ValueError, match=f"^{name} must"):
        parse_settings({name: text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "9" * 5000),
        ("retries", "9" * 5000),
        ("max-upload", "9" * 5000),
        ("port-range", "1:" + "9" * 5000),
        ("port-range", "9" * 5000 + ":1"),
    ],
    ids=["port", "retries", "max-upload", "highest port", "lowest port"],
)
def test_number_with_thousands_of_digits_is_named_in_the_error(name: str, text: str) -> None:
    """Python's own error for such numbers does not replace the message."""
    with pytest.raises(ValueError, match=name):
        parse_settings({name: text})


def test_cache_is_on_by_default() -> None:
    """`--cache 0` turns it off."""
    assert parse_settings({}).cache == 16 * 1024 * 1024
    assert parse_settings({"cache": "1M"}).cache == 1024 * 1024
    assert parse_settings({"cache": "0"}).cache == 0
    with pytest.raises(ValueError, match="cache must be a size"):
        parse_settings({"cache": "much"})


def test_error_of_a_choice_lists_the_possible_values() -> None:
    """The operator sees which values are valid."""
    with pytest.raises(ValueError, match="never, create, overwrite"):
        parse_settings({"write": "yes"})


def test_network_that_is_allowed_and_denied_is_rejected() -> None:
    """The prefixes of both rules are equally long, so neither rule could decide."""
    with pytest.raises(ValueError, match=r"192\.0\.2\.0/24 is both allowed and denied"):
        parse_settings({"allow": ["192.0.2.0/24"], "deny": ["10.0.0.0/8", "192.0.2.0/24"]})


def test_port_range_with_single_port_is_rejected() -> None:
    """The message names both options."""
    with pytest.raises(ValueError, match=r"port-range.*single-port"):
        parse_settings({"port-range": "40000:40999", "single-port": True})


@given(st.sampled_from(NAMES), st.text(max_size=12))
def test_any_text_is_a_value_or_an_error_that_names_the_setting(name: str, text: str) -> None:
    """No text causes any other exception."""
    said = name
    try:
        parse_settings({name: text})
    except ValueError as error:
        said = str(error)
    assert said.startswith(name)


def test_root_and_backend_exclude_each_other() -> None:
    """The default of the root is no contradiction."""
    assert parse_settings({"backend": ["memory"], "root": None}).backend == (
        BackendSpec("memory"),
    )
    with pytest.raises(ValueError, match="root and backend exclude each other"):
        parse_settings({"backend": ["memory"], "root": "."})


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::/0", "::/0"),
        ("::/95", "::/95"),
        ("fe80::/64", "fe80::/64"),
    ],
)
def test_network_of_mapped_addresses_is_an_ipv4_network(text: str, network: str) -> None:
    """A host with a mapped address counts as an IPv4 host, so only such a network matches it."""
    assert str(NetworkPrefix().parse(text)) == network
