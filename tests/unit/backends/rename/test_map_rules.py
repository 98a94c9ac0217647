"""Test names that are rewritten by rename rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.contexts import read_context, write_context
from twisted_tftp.backends.rename.map_rules import MapRules
from twisted_tftp.backends.rename.rules import MAX_RULES, parse_rules
from twisted_tftp.context import Endpoint
from twisted_tftp.errors import AccessViolation

#: The rules of the example in Debian's package of tftpd-hpa, in our words.
EXAMPLE = r"""
# Windows clients
ri	^[a-z]:			# drive letters
rg	\\	/
rg	\#	@
rg	/../	/..no../
e	^ok/			# used as they are
r	^[^/]	/tftpboot/\0
a	\.pvt$			# private
"""

V4 = Endpoint("192.0.2.169", 2000)
V6 = Endpoint("2001:db8::1", 2000)


def rules(text: str) -> MapRules:
    """Return the rules in `text`."""
    lines = enumerate(text.encode("utf-8", "surrogateescape").split(b"\n"), 1)
    return MapRules(parse_rules((f"map:{number}", line) for number, line in lines))


def renamed(text: str, name: str, *, is_read: bool = True, peer: Endpoint = V4) -> str:
    """Return what the rules in `text` make of `name`; they are applied twice, for the cache."""
    step = rules(text)
    context = (read_context if is_read else write_context)(name, peer=peer)
    result = step.apply(name, context)
    assert step.apply(name, context) == result
    matches = step.trace(name, context)
    assert (matches[-1][1] if matches else name) == result
    return result


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pxelinux.0", "/tftpboot/pxelinux.0"),
        ("/pxelinux.0", "/pxelinux.0"),
        ("C:boot\\BCD", "/tftpboot/boot/BCD"),
        ("ok/a#b", "ok/a@b"),
        ("/a/../b", "/a/..no../b"),
    ],
)
def test_example_of_tftpd_hpa(name: str, expected: str) -> None:
    """The rules that Debian ships as an example do what their comments say."""
    assert renamed(EXAMPLE, name) == expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("r foo bar", "a foo foo", "a bar foo"),
        ("rg foo bar", "foo foo", "bar bar"),
        ("g foo bar", "foo", "foo"),
        ("r ^foo", "foobar", "bar"),
        ("r a#b c", "xa", "x"),
        ("r a\\#b c", "xa#b", "xc"),
        ("r a\\ b x\\ y", "a b", "x y"),
        ("ri FOO \\0", "fOo", "fOo"),
        ("e ^a\nr ^ z", "ab", "ab"),
        ("~e ^a\nr ^ z", "ab", "zab"),
        ("~e ^a\nr ^ z", "b", "b"),
        ("r ^b a\nrs a$ b", "xa", "xb"),
        ("r ^b c\nrs ^a b\nr c d", "a", "d"),
        ("r a|ab X", "abc", "Xc"),
        ("r [[:digit:]]+ N", "a12b", "aNb"),
        ("r a{2} X", "aaa", "Xa"),
        ("r ^a$ X", "a\nb", "a\nb"),
        ("r a.b X", "a\nb", "X"),
        ("r \\w+\\s X", "ab c", "Xc"),
        ("r \\bfoo\\b X", "a foo b", "a X b"),
        ("r ^(.*)-(.*)$ \\U\\1\\E-\\L\\2", "abC-DEF", "ABC-def"),
        ("r ^(a)(b)$ \\U\\1z\\2", "ab", "AZB"),
        ("r ^(a)?b \\1\\9x", "b", "x"),
        ("r ^ \\i/", "f", "192.0.2.169/f"),
        ("r ^ \\x/", "f", "C00002A9/f"),
        ("r ^ \\L\\x/", "F", "c00002a9/F"),
        ("r ^ \\q\\\\", "f", "q\\f"),
        ("r \udcff+$", "pxelinux.0\udcff\udcff", "pxelinux.0"),
        ("r é e", "café", "cafe"),
        ("r ^.$ X", "é", "é"),
    ],
)
def test_operators_and_escapes(text: str, name: str, expected: str) -> None:
    """Each one does what the manual page of tftp-hpa says."""
    assert renamed(text, name) == expected


def test_rules_for_reads_writes_and_families() -> None:
    """G, P, 4 and 6 limit a rule to some requests."""
    text = "rG ^ get-\nrP ^ put-\nr4 ^ four-\nr6 ^ six-"
    assert renamed(text, "f") == "four-get-f"
    assert renamed(text, "f", is_read=False) == "four-put-f"
    assert renamed(text, "f", peer=V6) == "six-get-f"


def test_address_of_the_client_is_its_own() -> None:
    """A result that depends on the address is not used for another client."""
    step = rules("r ^ \\i/\\x/")
    for peer, expected in (
        (V4, "192.0.2.169/C00002A9/f"),
        (V6, "2001:db8::1/20010DB8000000000000000000000001/f"),
        (Endpoint("fe80::1%eth0", 1), "fe80::1%eth0/FE800000000000000000000000000001/f"),
    ):
        assert step.apply("f", read_context("f", peer=peer)) == expected


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a ^x", "x1", "access denied"),
        ("a ^y no\\ \\0\\ for\\ \\i", "yab", "no y for 192.0.2.169"),
        ("~a ^a msg\\0", "b", "msg"),
    ],
)
def test_refused_request_gets_the_text_of_the_rule(text: str, name: str, message: str) -> None:
    """The operator a refuses a request, each time, and the log has the rule."""
    step = rules(text)
    for _ in range(2):
        with pytest.raises(AccessViolation) as caught:
            step.apply(name, read_context(name, peer=V4))
        assert caught.value.message == message
        assert "refuses it" in caught.value.detail


@pytest.mark.parametrize("text", ["rg a aa", "rg ^ x", "rs a a", "rg a b\nrs b a", "s a"])
def test_rules_that_never_end_are_stopped(text: str) -> None:
    """The client gets an ERROR, and the log says why."""
    with pytest.raises(AccessViolation) as caught:
        rules(text).apply("a", read_context("a"))
    assert caught.value.message == "the name cannot be rewritten"
    assert caught.value.detail


def test_name_that_grows_is_stopped() -> None:
    """No rule makes a name of more than 4096 octets."""
    with pytest.raises(AccessViolation) as caught:
        rules("rs ^(.*)$ \\1\\1\\1\\1").apply("a" * 100, read_context())
    assert "too long" in caught.value.detail


def test_hostile_name_takes_linear_time() -> None:
    """This expression takes Python's `re` years for this name."""
    assert renamed("r ^(a+)+$ x", "a" * 4000 + "!") == "a" * 4000 + "!"


def test_rules_that_match_are_reported_in_order() -> None:
    """`--explain` shows each rule that matches, and the name after it."""
    matches = rules("r a b\nr x y\nr b c").trace("a", read_context("a"))
    assert matches == [("r a b", "b"), ("r b c", "c")]


@given(st.text(max_size=40), st.sampled_from([V4, V6]))
def test_name_without_a_match_is_unchanged(name: str, peer: Any) -> None:
    """Whatever octets a name has, it survives rules that do not match it."""
    assert renamed("r ^\\#never\\#$ x\na ^\\#never\\#$", name, peer=peer) == name


def test_as_many_rules_as_are_allowed_end() -> None:
    """The tries of the other rules do not count as a rule that rewrites the name for ever."""
    many = "rg @ /\n" + "\n".join(f"r ^name{number}$ other" for number in range(MAX_RULES - 1))
    assert renamed(many, "pxelinux.0") == "pxelinux.0"
    assert renamed(many, f"name{MAX_RULES - 2}") == "other"
    assert renamed(many, "a@" * 100) == "a/" * 100


def test_many_rules_that_start_again_for_ever_are_refused() -> None:
    """Each rule is tried at least once, but not without end."""
    many = "rs a a\n" * MAX_RULES
    with pytest.raises(AccessViolation) as caught:
        rules(many).apply("a", read_context("a"))
    assert caught.value.detail.endswith("the rename rules still match")
