"""Tests of the negotiation of options: which values are granted, and the exact OACK."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.errors import ErrorCode, OptionRefused
from twisted_tftp.policy import NEGOTIATED_OPTIONS, Policy, Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import Grant, accept, announced_size, negotiate

DEFAULT = Policy()

#: The options that the server knows.
NAMES = ["blksize", "blksize2", "windowsize", "timeout", "utimeout", "rollover", "tsize"]

#: Values of options, numbers and others.
VALUES = st.one_of(
    st.integers(-10, 70_000).map(str),
    st.integers(0, 2**70).map(str),
    st.text(max_size=8),
    st.sampled_from(["007", "+8", "1_000", "٣", "1e3", " 8", "8 ", "8\n", "9" * 4000]),
)

#: Options of a request.
OPTIONS = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), st.text("abcz-", max_size=5)), VALUES, max_size=9
)

#: Policies with different limits.
POLICIES = st.builds(
    Policy,
    max_blksize=st.integers(8, 65464),
    max_windowsize=st.integers(1, 32767),
    rollover=st.sampled_from(Rollover),
    refuse=st.frozensets(st.sampled_from(NEGOTIATED_OPTIONS), max_size=2),
)

#: Sizes of a file in octets; None if the size is unknown.
SIZES = st.none() | st.integers(0, 2**64 - 1)

#: Texts that are not decimal numbers.
NOT_NUMBERS = [
    "",
    "abc",
    "-5",
    "+5",
    "+512",
    "-512",
    "1_000",
    " 512",
    "512 ",
    "512\n",
    "0x200",
    "5e2",
    "512.0",
    "٥١٢",
    "５１２",  # noqa: RUF001
    "²",
    "\\xb2",
    "9" * 4000,
    "0" * 4000 + "512",
]


def oack_for(options: dict[str, str], policy: Policy = DEFAULT, tsize: int | None = None) -> bytes:
    """Return the OACK, or b"" if there is none."""
    return negotiate(options, policy, tsize=tsize).oack or b""


# -- the OACK -----------------------------------------------------------------------------


def test_options_are_answered_in_the_order_asked() -> None:
    """The OACK keeps the client's order: some firmware reads it by position."""
    asked = {"tsize": "0", "windowsize": "16", "timeout": "5", "blksize": "1428"}
    assert (
        oack_for(asked, tsize=70000)
        == b"\x00\x06tsize\x0070000\x00windowsize\x0016\x00timeout\x005\x00blksize\x001428\x00"
    )
    backwards = dict(reversed(asked.items()))
    assert (
        oack_for(backwards, tsize=70000)
        == b"\x00\x06blksize\x001428\x00timeout\x005\x00windowsize\x0016\x00tsize\x0070000\x00"
    )


def test_names_asked_in_upper_case_are_answered_in_lower_case() -> None:
    """An option `BLKSIZE` is granted as `blksize`."""
    request = wire.parse_request(b"\x00\x01f\x00octet\x00BLKSIZE\x001428\x00TSize\x000\x00")
    assert oack_for(request.options, tsize=9) == b"\x00\x06blksize\x001428\x00tsize\x009\x00"


@pytest.mark.parametrize(
    ("name", "asked", "answer"),
    [
        ("blksize", "01024", b"\x00\x06blksize\x001024\x00"),
        ("blksize2", "00002048", b"\x00\x06blksize2\x002048\x00"),
        ("windowsize", "0008", b"\x00\x06windowsize\x008\x00"),
        ("timeout", "005", b"\x00\x06timeout\x005\x00"),
        ("utimeout", "0020000", b"\x00\x06utimeout\x0020000\x00"),
        ("rollover", "01", b"\x00\x06rollover\x001\x00"),
        ("tsize", "000", b"\x00\x06tsize\x0077\x00"),
    ],
)
def test_leading_zeros_are_not_repeated(name: str, asked: str, answer: bytes) -> None:
    """A value is answered as a plain number, however it was spelled."""
    assert oack_for({name: asked}, tsize=77) == answer


@pytest.mark.parametrize("options", [{}, {"multicast": ""}, {"blksize": "abc"}, {"tsize": "0"}])
def test_no_oack_is_sent_where_nothing_was_granted(options: dict[str, str]) -> None:
    """An empty OACK does not exist: the transfer continues as without options."""
    assert negotiate(options, DEFAULT).oack is None


def test_unknown_options_are_left_out() -> None:
    """An unknown option is not in the OACK (RFC 2347 section 3)."""
    asked = {"multicast": "", "x-foo": "1", "blksize": "512", "BLKSIZE": "8", "blksize3": "8"}
    assert oack_for(asked) == b"\x00\x06blksize\x00512\x00"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_value_that_is_not_a_decimal_number_is_ignored(name: str, value: str) -> None:
    """A number has ASCII digits only and at most twenty of them; other options still count."""
    asked = {name: value, ("windowsize" if name != "windowsize" else "timeout"): "2"}
    grant = negotiate(asked, DEFAULT, tsize=100)
    assert [granted for granted, _ in grant.accepted] == [list(asked)[1]]


@pytest.mark.parametrize("name", ["blksize", "windowsize", "timeout"])
def test_number_with_twenty_digits_is_accepted(name: str) -> None:
    """Leading zeros are allowed up to that length."""
    assert negotiate({name: "64".zfill(20)}, DEFAULT).accepted == ((name, "64"),)
    assert negotiate({name: "64".zfill(21)}, DEFAULT).accepted == ()


# -- one option at a time -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "blksize", "oack"),
    [
        ("7", 512, b""),
        ("8", 8, b"\x00\x06blksize\x008\x00"),
        ("511", 511, b"\x00\x06blksize\x00511\x00"),
        ("65464", 65464, b"\x00\x06blksize\x0065464\x00"),
        ("65465", 65464, b"\x00\x06blksize\x0065464\x00"),
        ("100000", 65464, b"\x00\x06blksize\x0065464\x00"),
        (str(2**64 - 1), 65464, b"\x00\x06blksize\x0065464\x00"),
        (str(2**64), 512, b""),
        ("0", 512, b""),
        ("abc", 512, b""),
        ("-5", 512, b""),
        ("+5", 512, b""),
    ],
)
def test_blksize_is_granted_within_the_bounds_of_its_rfc(
    asked: str, blksize: int, oack: bytes
) -> None:
    """Values from 8 to 65464 octets are granted (RFC 2348), and larger ones are lowered.

    Others leave the default of 512.
    """
    grant = negotiate({"blksize": asked}, DEFAULT)
    assert (grant.blksize, grant.oack or b"") == (blksize, oack)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [("8", 8), ("1427", 1427), ("1428", 1428), ("1429", 1428), ("65464", 1428), ("65465", 1428)],
)
def test_blksize_is_lowered_to_the_policys_maximum(asked: str, granted: int) -> None:
    """A larger block is answered with the largest that the policy allows."""
    grant = negotiate({"blksize": asked}, Policy(max_blksize=1428))
    assert grant.blksize == granted
    assert grant.accepted == (("blksize", str(granted)),)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("8", 8),
        ("9", 8),
        ("15", 8),
        ("16", 16),
        ("1000", 512),
        ("1024", 1024),
        ("1025", 1024),
        ("32768", 32768),
        ("65464", 32768),
        ("65465", 32768),
        ("131072", 32768),
    ],
)
def test_blksize2_is_granted_as_a_power_of_two(asked: str, granted: int) -> None:
    """The largest power of two that is not above the requested value is granted."""
    grant = negotiate({"blksize2": asked}, DEFAULT)
    assert grant.blksize == granted
    assert grant.accepted == (("blksize2", str(granted)),)


@pytest.mark.parametrize("asked", ["0", "7"])
def test_blksize2_below_the_smallest_block_is_dropped(asked: str) -> None:
    """The smallest block is that of `blksize`."""
    assert negotiate({"blksize2": asked}, DEFAULT) == Grant(512, 1, None, Rollover.ZERO, (), None)


@pytest.mark.parametrize(
    ("asked", "largest", "granted"),
    [("4096", 1428, 1024), ("1024", 1428, 1024), ("512", 8, 8), ("2048", 2047, 1024)],
)
def test_blksize2_is_lowered_to_the_policys_maximum(
    asked: str, largest: int, granted: int
) -> None:
    """The result is the largest power of two within that maximum."""
    grant = negotiate({"blksize2": asked}, Policy(max_blksize=largest))
    assert grant.blksize == granted
    assert grant.accepted == (("blksize2", str(granted)),)


@pytest.mark.parametrize(
    ("asked", "windowsize", "oack"),
    [
        ("0", 1, b""),
        ("1", 1, b"\x00\x06windowsize\x001\x00"),
        ("63", 63, b"\x00\x06windowsize\x0063\x00"),
        ("64", 64, b"\x00\x06windowsize\x0064\x00"),
        ("65", 64, b"\x00\x06windowsize\x0064\x00"),
        ("65535", 64, b"\x00\x06windowsize\x0064\x00"),
        ("65536", 64, b"\x00\x06windowsize\x0064\x00"),
        ("1000000", 64, b"\x00\x06windowsize\x0064\x00"),
        (str(2**64), 1, b""),
    ],
)
def test_windowsize_is_lowered_to_the_policys_maximum(
    asked: str, windowsize: int, oack: bytes
) -> None:
    """Values of 1 block and more are granted or lowered; others are ignored.

    The largest value of RFC 7440 is 65535; a larger one is lowered too.
    """
    grant = negotiate({"windowsize": asked}, Policy(max_windowsize=64))
    assert (grant.windowsize, grant.oack or b"") == (windowsize, oack)


@pytest.mark.parametrize(
    ("asked", "seconds"), [("0", None), ("1", 1.0), ("255", 255.0), ("256", None)]
)
def test_timeout_is_granted_as_asked_or_not_at_all(asked: str, seconds: float | None) -> None:
    """Values from 1 to 255 seconds are granted (RFC 2349), and never changed."""
    grant = negotiate({"timeout": asked}, DEFAULT)
    assert grant.timeout == seconds
    assert grant.accepted == ((("timeout", asked),) if seconds else ())


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("9999", None),
        ("10000", 0.01),
        ("1000000", 1.0),
        ("255000000", 255.0),
        ("255000001", None),
    ],
)
def test_utimeout_is_in_microseconds(asked: str, seconds: float | None) -> None:
    """Values from 10 milliseconds to 255 seconds are granted."""
    grant = negotiate({"utimeout": asked}, DEFAULT)
    assert grant.timeout == (pytest.approx(seconds) if seconds else None)
    assert grant.accepted == ((("utimeout", asked),) if seconds else ())


@pytest.mark.parametrize(
    ("default", "asked", "rollover", "accepted"),
    [
        (Rollover.ONE, "0", Rollover.ZERO, (("rollover", "0"),)),
        (Rollover.ZERO, "1", Rollover.ONE, (("rollover", "1"),)),
        (Rollover.NONE, "1", Rollover.ONE, (("rollover", "1"),)),
        (Rollover.ONE, "2", Rollover.ONE, ()),
        (Rollover.NONE, "none", Rollover.NONE, ()),
    ],
)
def test_client_chooses_the_rollover(
    default: Rollover, asked: str, rollover: Rollover, accepted: tuple[tuple[str, str], ...]
) -> None:
    """0 or 1 is granted; any other value leaves the rollover of the policy."""
    grant = negotiate({"rollover": asked}, Policy(rollover=default))
    assert (grant.rollover, grant.accepted) == (rollover, accepted)


@pytest.mark.parametrize("default", list(Rollover))
def test_rollover_is_that_of_the_policy_by_default(default: Rollover) -> None:
    """The policy decides for clients that do not send the option."""
    assert negotiate({}, Policy(rollover=default)).rollover is default


@pytest.mark.parametrize(
    ("tsize", "oack"),
    [
        (None, b""),
        (0, b"\x00\x06tsize\x000\x00"),
        (70000, b"\x00\x06tsize\x0070000\x00"),
        (2**40, b"\x00\x06tsize\x001099511627776\x00"),
    ],
)
def test_tsize_is_answered_with_the_size(tsize: int | None, oack: bytes) -> None:
    """The answer is the file's size, whatever the client sent; there is none without a size."""
    assert oack_for({"tsize": "0"}, tsize=tsize) == oack
    assert oack_for({"tsize": "123"}, tsize=tsize) == oack


def test_tsize_is_not_in_the_oack_unless_requested() -> None:
    """An option that was not requested is never in an OACK."""
    assert oack_for({"blksize": "512"}, tsize=70000) == b"\x00\x06blksize\x00512\x00"


# -- options that are never granted -------------------------------------------------------

#: A request with all options, each with a valid value; two of them exclude two others.
ALL = {
    "blksize": "1024",
    "blksize2": "512",
    "windowsize": "4",
    "timeout": "3",
    "utimeout": "500000",
    "rollover": "1",
    "tsize": "0",
    "xid": "ab12",
}


@pytest.mark.parametrize("name", NEGOTIATED_OPTIONS)
def test_option_of_refuse_is_never_granted(name: str) -> None:
    """All other options are granted as before, and nothing is if the policy has all names."""
    alone = {name: ALL[name]}
    assert negotiate(alone, DEFAULT, tsize=9).oack is not None
    policy = Policy(refuse=frozenset({name}))
    assert negotiate(alone, policy, tsize=9) == negotiate({}, DEFAULT)
    others = {other: value for other, value in ALL.items() if other != name}
    assert negotiate(ALL, policy, tsize=9) == negotiate(others, DEFAULT, tsize=9)
    everything = Policy(refuse=frozenset(NEGOTIATED_OPTIONS))
    assert negotiate(ALL, everything, tsize=9) == negotiate({}, DEFAULT)


def test_alternative_of_an_option_of_refuse_is_granted() -> None:
    """A client that asks for both gets the other one."""
    policy = Policy(refuse=frozenset({"blksize", "timeout"}))
    accepted = dict(negotiate(ALL, policy, tsize=9).accepted)
    assert (accepted["blksize2"], accepted["utimeout"]) == ("512", "500000")


# -- options that exclude each other ------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "blksize", "accepted"),
    [
        ({"blksize": "1428", "blksize2": "1024"}, 1428, (("blksize", "1428"),)),
        ({"blksize2": "1024", "blksize": "1428"}, 1024, (("blksize2", "1024"),)),
        ({"blksize": "x", "blksize2": "1024"}, 1024, (("blksize2", "1024"),)),
        ({"blksize2": "7", "blksize": "1428"}, 1428, (("blksize", "1428"),)),
    ],
)
def test_first_valid_block_size_is_granted(
    options: dict[str, str], blksize: int, accepted: tuple[tuple[str, str], ...]
) -> None:
    """One of `blksize` and `blksize2` is granted; an invalid one does not prevent the other."""
    grant = negotiate(options, DEFAULT)
    assert (grant.blksize, grant.accepted) == (blksize, accepted)


@pytest.mark.parametrize(
    ("options", "seconds", "accepted"),
    [
        ({"timeout": "3", "utimeout": "500000"}, 3.0, (("timeout", "3"),)),
        ({"utimeout": "500000", "timeout": "3"}, 0.5, (("utimeout", "500000"),)),
        ({"timeout": "0", "utimeout": "500000"}, 0.5, (("utimeout", "500000"),)),
        ({"utimeout": "1", "timeout": "3"}, 3.0, (("timeout", "3"),)),
    ],
)
def test_first_valid_timeout_is_granted(
    options: dict[str, str], seconds: float, accepted: tuple[tuple[str, str], ...]
) -> None:
    """One of `timeout` and `utimeout` is granted."""
    grant = negotiate(options, DEFAULT)
    assert grant.timeout == pytest.approx(seconds)
    assert grant.accepted == accepted


# -- the announced size -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("0", 0),
        ("0012", 12),
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), None),
        ("-1", None),
        ("", None),
        ("many", None),
    ],
)
def test_announced_size_is_a_number_or_none(value: str, size: int | None) -> None:
    """The `tsize` of a write is the size of the file, if it is a number."""
    assert announced_size({"tsize": value}) == size


def test_no_size_is_announced_without_tsize() -> None:
    """A write request need not contain `tsize`."""
    assert announced_size({"blksize": "512"}) is None


# -- for all requests ---------------------------------------------------------------------


@given(OPTIONS, POLICIES, SIZES)
def test_granted_options_are_in_the_order_of_the_request(
    options: dict[str, str], policy: Policy, tsize: int | None
) -> None:
    """The OACK contains requested options only, and is never empty."""
    grant = negotiate(options, policy, tsize=tsize)
    granted = [name for name, _ in grant.accepted]
    assert granted == [name for name in options if name in granted]
    assert not policy.refuse.intersection(granted)
    assert grant.oack != b"\x00\x06"
    assert grant.oack == (wire.oack(grant.accepted) if granted else None)


@given(OPTIONS, POLICIES, SIZES)
def test_granted_values_are_not_above_the_requested_ones(
    options: dict[str, str], policy: Policy, tsize: int | None
) -> None:
    """Values are decimal numbers, never raised, and the same as in the transfer's parameters."""
    grant = negotiate(options, policy, tsize=tsize)
    accepted = dict(grant.accepted)
    assert all(value == str(int(value)) for value in accepted.values())
    sizes = accepted.keys() & {"blksize", "blksize2"}
    assert len(sizes) <= 1
    for name in sizes:
        assert int(accepted[name]) == grant.blksize
        assert 8 <= grant.blksize <= min(int(options[name]), policy.max_blksize)
    if "blksize2" in sizes:
        assert grant.blksize.bit_count() == 1
        assert grant.blksize * 2 > min(int(options["blksize2"]), policy.max_blksize)
    if not sizes:
        assert grant.blksize == 512
    if "windowsize" in accepted:
        assert int(accepted["windowsize"]) == grant.windowsize
        assert grant.windowsize == min(int(options["windowsize"]), policy.max_windowsize)
    else:
        assert grant.windowsize == 1
    waits = accepted.keys() & {"timeout", "utimeout"}
    assert len(waits) == (grant.timeout is not None)
    assert all(int(accepted[name]) == int(options[name]) for name in waits)
    assert grant.timeout is None or 0.0099 < grant.timeout < 255.1
    if "rollover" in accepted:
        assert accepted["rollover"] == grant.rollover.value
    else:
        assert grant.rollover is policy.rollover
    if "tsize" in accepted:
        assert accepted["tsize"] == str(tsize)


@given(OPTIONS, POLICIES, SIZES)
def test_granted_values_are_granted_again(
    options: dict[str, str], policy: Policy, tsize: int | None
) -> None:
    """A client that requests the granted values gets the same answer."""
    grant = negotiate(options, policy, tsize=tsize)
    assert negotiate(dict(grant.accepted), policy, tsize=tsize) == grant


def test_windowsize_is_lowered_to_the_receive_buffer() -> None:
    """The end of a window that is larger than the socket's buffer would be lost."""
    asked = {"windowsize": "64", "blksize": "8192"}
    assert negotiate(asked, Policy(), window_limit=100_000).accepted == (
        ("windowsize", "12"),
        ("blksize", "8192"),
    )
    assert negotiate(asked, Policy(), window_limit=10).windowsize == 1
    assert negotiate(asked, Policy(), window_limit=10**9).windowsize == 64
    assert negotiate({"blksize": "8192"}, Policy(), window_limit=10).accepted == (
        ("blksize", "8192"),
    )


#: The options that a client has requested.
ASKED = {
    "blksize": "1428",
    "windowsize": "16",
    "tsize": "0",
    "timeout": "3",
    "utimeout": "500000",
    "rollover": "1",
}


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ({}, (512, 1, None, Rollover.ZERO)),
        ({"blksize": "1428", "windowsize": "16"}, (1428, 16, None, Rollover.ZERO)),
        ({"blksize": "8", "windowsize": "1"}, (8, 1, None, Rollover.ZERO)),
        ({"timeout": "3", "tsize": "99"}, (512, 1, 3.0, Rollover.ZERO)),
        ({"utimeout": "500000", "rollover": "1"}, (512, 1, 0.5, Rollover.ONE)),
    ],
)
def test_client_uses_the_granted_values(
    granted: dict[str, str], expected: tuple[int, int, float | None, Rollover]
) -> None:
    """A server may grant a value as requested, lower it, or leave the option out."""
    grant = accept(ASKED, granted)
    assert (grant.blksize, grant.windowsize, grant.timeout, grant.rollover) == expected
    assert dict(grant.accepted) == granted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blksize", "1429"),
        ("blksize", "7"),
        ("blksize", "abc"),
        ("blksize", ""),
        ("windowsize", "17"),
        ("windowsize", "0"),
        ("timeout", "4"),
        ("timeout", "2"),
        ("rollover", "0"),
        ("tsize", "-1"),
        ("tsize", "1e3"),
        ("blksize2", "1024"),
        ("multicast", ""),
        ("blksize", "9" * 5000),
    ],
)
def test_invalid_grant_of_a_server_is_refused(name: str, value: str) -> None:
    """Wrong values and options that were not requested are errors (RFC 2347 section 2)."""
    with pytest.raises(OptionRefused) as caught:
        accept(ASKED, {name: value})
    assert caught.value.code is ErrorCode.OPTION_REFUSED
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("name", ["tsize", "timeout", "utimeout"])
def test_option_that_changes_no_block_may_have_an_empty_value(name: str) -> None:
    """The option is not granted; an option about blocks must have a value."""
    grant = accept(ASKED, {"blksize": "1428", name: ""})
    assert (grant.blksize, grant.timeout, grant.accepted) == (1428, None, (("blksize", "1428"),))
    with pytest.raises(OptionRefused):
        accept({}, {name: ""})


@pytest.mark.parametrize("name", ["blksize", "windowsize", "rollover"])
def test_option_about_blocks_must_have_a_value(name: str) -> None:
    """Without the value, the client does not know which blocks the server sends."""
    with pytest.raises(OptionRefused):
        accept(ASKED, {name: ""})


@pytest.mark.parametrize("name", ["blksize", "blksize2"])
def test_client_accepts_no_block_above_the_limit_of_the_rfc(name: str) -> None:
    """A client may ask for more, and the server must lower it."""
    assert accept({name: "70000"}, {name: "65464"}).blksize == 65464
    with pytest.raises(OptionRefused):
        accept({name: "70000"}, {name: "65465"})


def test_xid_is_repeated_at_the_end_of_the_oack() -> None:
    """The cache of negotiated options does not depend on it: each request has another xid."""
    accepted = negotiate({"blksize": "1000"}, Policy()).accepted
    for number in range(50):
        xid = f"{number:08x}"
        grant = negotiate({"xid": xid, "blksize": "1000"}, Policy())
        assert grant.oack == wire.oack([("blksize", "1000"), ("xid", xid)])
        assert grant.accepted == (("blksize", "1000"),)
        assert grant.accepted is accepted, "the cache has one entry for all values of xid"
    alone = negotiate({"xid": "1"}, Policy())
    assert (alone.oack, alone.accepted) == (wire.oack([("xid", "1")]), ())


@pytest.mark.parametrize("value", ["", "12345678901234567", "ABCD", "12g4", "-1", " 1"])
def test_invalid_xid_is_not_granted(value: str) -> None:
    """An xid is 1 to 16 lower-case hexadecimal digits, so the answer is never long."""
    assert negotiate({"xid": value}, Policy()).oack is None
    assert negotiate({"xid": value, "blksize": "1000"}, Policy()).oack == wire.oack(
        [("blksize", "1000")]
    )
