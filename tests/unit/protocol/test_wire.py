"""Tests of the packets: parsing and encoding follow the RFCs, whatever the network sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.errors import (
    AccessViolation,
    ErrorCode,
    FileNotFound,
    IllegalOperation,
    TFTPError,
)
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode, Request

#: Texts that an option may have: ASCII without NUL.
WORDS = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=20)

#: Well-formed requests.
REQUESTS = st.builds(
    Request,
    st.sampled_from([Opcode.RRQ, Opcode.WRQ]),
    st.binary(min_size=1, max_size=80).filter(lambda name: b"\x00" not in name),
    st.sampled_from([wire.OCTET, wire.NETASCII]),
    st.dictionaries(WORDS.filter(bool).map(str.lower), WORDS, max_size=6),
)


# -- requests -----------------------------------------------------------------------------


def test_read_request_is_parsed() -> None:
    """An RRQ without options has a file name and a mode."""
    request = wire.parse_request(b"\x00\x01boot/pxelinux.0\x00octet\x00")
    assert request == Request(Opcode.RRQ, b"boot/pxelinux.0", "octet", {})


def test_options_of_a_write_request_keep_their_order() -> None:
    """The values are kept as they were sent."""
    request = wire.parse_request(
        b"\x00\x02up.bin\x00netascii\x00tsize\x000123\x00blksize\x001428\x00windowsize\x0016\x00"
    )
    assert request.opcode is Opcode.WRQ
    assert request.filename == b"up.bin"
    assert request.mode == "netascii"
    assert list(request.options.items()) == [
        ("tsize", "0123"),
        ("blksize", "1428"),
        ("windowsize", "16"),
    ]


@pytest.mark.parametrize(
    "mode", [b"octet", b"OCTET", b"Octet", b"oCtEt", b"binary", b"BINARY", b"Binary"]
)
def test_octet_mode_is_case_insensitive_and_has_two_names(mode: bytes) -> None:
    """The mode may be in upper or lower case (RFC 1350 section 5); `binary` is another name."""
    assert wire.parse_request(b"\x00\x01f\x00" + mode + b"\x00").mode == wire.OCTET


@pytest.mark.parametrize("mode", [b"netascii", b"NETASCII", b"NetAscii"])
def test_netascii_mode_is_case_insensitive(mode: bytes) -> None:
    """The mode may be in upper or lower case (RFC 1350 section 5)."""
    assert wire.parse_request(b"\x00\x01f\x00" + mode + b"\x00").mode == wire.NETASCII


def test_option_names_are_converted_to_lower_case() -> None:
    """Names are case-insensitive (RFC 2347); values are not changed."""
    request = wire.parse_request(b"\x00\x01f\x00octet\x00BLKSIZE\x001024\x00X-Tag\x00AbC\x00")
    assert request.options == {"blksize": "1024", "x-tag": "AbC"}


def test_first_of_a_repeated_option_wins() -> None:
    """The same name in another case counts as repeated."""
    request = wire.parse_request(
        b"\x00\x01f\x00octet\x00blksize\x001024\x00tsize\x000\x00BlkSize\x008\x00"
    )
    assert list(request.options.items()) == [("blksize", "1024"), ("tsize", "0")]


@pytest.mark.parametrize(
    "tail",
    [
        b"windowsize\x0016",  # without the end of the value
        b"windowsize\x00",  # without a value
        b"windowsize",  # without the end of the name
        b"\xff\xfejunk",  # octets of an earlier packet
        b"\0\0\0windowsize\00016\0junk",  # the same, after NULs
    ],
)
def test_octets_after_the_last_option_are_ignored(tail: bytes) -> None:
    """The options before it are kept."""
    request = wire.parse_request(b"\x00\x01f\x00octet\x00blksize\x001024\x00" + tail)
    assert request.options == {"blksize": "1024"}


@pytest.mark.parametrize("zeros", [1, 2, 3, 7, 400])
def test_zeros_after_the_request_are_ignored(zeros: int) -> None:
    """Some firmware pads requests with NULs."""
    plain = b"\x00\x01f\x00octet\x00"
    assert wire.parse_request(plain + bytes(zeros)).options == {}
    padded = plain + b"blksize\x001024\x00" + bytes(zeros)
    assert wire.parse_request(padded).options == {"blksize": "1024"}


def test_options_after_an_empty_name_are_ignored() -> None:
    """An empty name is the start of padding."""
    request = wire.parse_request(b"\x00\x01f\x00octet\x00\x00\x00blksize\x001024\x00")
    assert request.options == {}


def test_empty_option_value_is_kept() -> None:
    """The options after it are kept too."""
    request = wire.parse_request(b"\x00\x01f\x00octet\x00multicast\x00\x00blksize\x001024\x00")
    assert request.options == {"multicast": "", "blksize": "1024"}


def test_options_that_are_not_ascii_are_escaped() -> None:
    """Octets above 127 become text that can be logged and encoded as ASCII."""
    request = wire.parse_request(b"\x00\x01f\x00octet\x00\xff\x00\xb2\x00")
    assert request.options == {"\\xff": "\\xb2"}


def test_file_name_may_contain_any_octets() -> None:
    """A file name is a byte string, not text."""
    name = bytes(range(1, 256))
    assert wire.parse_request(b"\x00\x01" + name + b"\x00octet\x00").filename == name


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x00",
        b"\x01",
        b"\x00\x00f\x00octet\x00",
        b"\x00\x03\x00\x01data\x00octet\x00",
        b"\x00\x04\x00\x01",
        b"\x00\x05\x00\x01message\x00octet\x00",
        b"\x00\x06blksize\x001024\x00",
        b"\x00\x07f\x00octet\x00",
        b"\x01\x00f\x00octet\x00",
        b"\xff\xfff\x00octet\x00",
    ],
)
def test_packet_with_another_opcode_is_not_a_request(datagram: bytes) -> None:
    """Only RRQ and WRQ are requests; an empty packet is not."""
    with pytest.raises(IllegalOperation, match="not a read or write request"):
        wire.parse_request(datagram)


@pytest.mark.parametrize("opcode", [b"\x00\x01", b"\x00\x02"])
@pytest.mark.parametrize("body", [b"", b"f", b"f\x00", b"f\x00octet", b"\x00", b"\x00octet"])
def test_truncated_request_is_refused(opcode: bytes, body: bytes) -> None:
    """File name and mode must both be there and end with a NUL."""
    with pytest.raises(IllegalOperation, match="truncated"):
        wire.parse_request(opcode + body)


@pytest.mark.parametrize("opcode", [b"\x00\x01", b"\x00\x02"])
def test_request_without_a_file_name_is_refused(opcode: bytes) -> None:
    """An empty file name is an error."""
    with pytest.raises(IllegalOperation, match="no file name"):
        wire.parse_request(opcode + b"\x00octet\x00")


@pytest.mark.parametrize(
    "mode",
    [b"", b"mail", b"ocetet", b"image", b"octet ", b" octet", b"octe", b"\xff\xfe", b"oct\xe9t"],
)
def test_unknown_mode_is_refused(mode: bytes) -> None:
    """Only octet and netascii are supported; mail is obsolete."""
    with pytest.raises(IllegalOperation, match="mode"):
        wire.parse_request(b"\x00\x01f\x00" + mode + b"\x00")


def test_malformed_request_has_error_code_4() -> None:
    """The error is an illegal TFTP operation."""
    with pytest.raises(IllegalOperation) as caught:
        wire.parse_request(b"\x00\x01")
    assert caught.value.code is ErrorCode.ILLEGAL_OPERATION


@given(st.binary(max_size=600))
def test_random_octets_raise_nothing_but_illegal_operation(datagram: bytes) -> None:
    """Any datagram is either a request or an illegal operation."""
    try:
        wire.parse_request(datagram)
    except IllegalOperation:
        pass


@given(
    st.sampled_from([b"\x00\x01", b"\x00\x02"]),
    st.lists(
        st.sampled_from([b"\x00", b"octet", b"netascii", b"blksize", b"9", b"\xff", b"a"]),
        max_size=20,
    ),
)
def test_parsed_request_is_always_valid(opcode: bytes, pieces: list[bytes]) -> None:
    """A parsed request has a name, a known mode and lower-case option names."""
    try:
        request = wire.parse_request(opcode + b"".join(pieces))
    except IllegalOperation:
        return
    assert request.filename
    assert b"\x00" not in request.filename
    assert request.mode in (wire.OCTET, wire.NETASCII)
    assert all(name and name == name.lower() for name in request.options)


@given(REQUESTS)
def test_encoded_request_is_parsed_unchanged(request: Request) -> None:
    """The server reads what the client sends, with the order of the options."""
    read = wire.parse_request(wire.encode_request(request))
    assert read == request
    assert list(read.options) == list(request.options)


@given(REQUESTS, st.data())
def test_truncated_request_never_contains_more(request: Request, data: st.DataObject) -> None:
    """It is refused, or has the first of the options."""
    whole = wire.encode_request(request)
    cut = data.draw(st.integers(0, len(whole) - 1))
    mandatory = len(request.filename) + len(request.mode) + 4
    if cut < mandatory:
        with pytest.raises(IllegalOperation):
            wire.parse_request(whole[:cut])
    else:
        read = wire.parse_request(whole[:cut])
        items = list(request.options.items())
        assert (read.filename, read.mode) == (request.filename, request.mode)
        assert list(read.options.items()) == items[: len(read.options)]
        assert len(read.options) < len(items)


def test_encoded_request_is_exact() -> None:
    """The octets are those of RFC 1350 and RFC 2347."""
    request = Request(Opcode.WRQ, b"a\xffb", "octet", {"tsize": "5", "blksize": "1428"})
    assert (
        wire.encode_request(request)
        == b"\x00\x02a\xffb\x00octet\x00tsize\x005\x00blksize\x001428\x00"
    )


# -- other packets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datagram", "opcode"),
    [
        (b"", 0),
        (b"\x05", 0),
        (b"\x00\x04", 4),
        (b"\x00\x05\x00\x01", 5),
        (b"\x01\x02", 258),
        (memoryview(b"\x00\x03\x00\x01x"), 3),
    ],
)
def test_opcode_is_the_first_two_octets(datagram: bytes | memoryview, opcode: int) -> None:
    """A packet that is too short for an opcode has opcode 0."""
    assert wire.opcode_of(datagram) == opcode


@pytest.mark.parametrize(
    ("number", "packet"),
    [
        (0, b"\x00\x04\x00\x00"),
        (1, b"\x00\x04\x00\x01"),
        (258, b"\x00\x04\x01\x02"),
        (65535, b"\x00\x04\xff\xff"),
    ],
)
def test_ack_is_exact(number: int, packet: bytes) -> None:
    """An ACK has four octets."""
    assert wire.ack(number) == packet


def test_data_headers_are_exact() -> None:
    """There is one header for each block number: opcode 3 and the number."""
    assert len(wire.DATA_HEADERS) == 65536
    assert all(
        header == b"\x00\x03" + bytes(divmod(number, 256))
        for number, header in enumerate(wire.DATA_HEADERS)
    )


def test_oack_is_exact() -> None:
    """Names and values are in the given order, each with a NUL at its end."""
    assert (
        wire.oack([("tsize", "700"), ("blksize", "1428")])
        == b"\x00\x06tsize\x00700\x00blksize\x001428\x00"
    )


@pytest.mark.parametrize(
    ("failure", "packet"),
    [
        (FileNotFound(), b"\x00\x05\x00\x01no such file\x00"),
        (AccessViolation("not yours"), b"\x00\x05\x00\x02not yours\x00"),
        (TFTPError("broken"), b"\x00\x05\x00\x00broken\x00"),
    ],
)
def test_error_is_exact(failure: TFTPError, packet: bytes) -> None:
    """An ERROR has a code, and a message with a NUL at its end."""
    assert wire.error(failure) == packet


def test_error_has_one_nul_at_its_end() -> None:
    """NULs in the message are removed."""
    packet = wire.error(TFTPError("a\x00b\x00"))
    assert packet == b"\x00\x05\x00\x00ab\x00"


def test_message_is_encoded_as_utf_8() -> None:
    """A message may contain any text, even a lone surrogate."""
    assert wire.error(TFTPError("é\udcff")) == b"\x00\x05\x00\x00\xc3\xa9?\x00"


def test_long_message_is_truncated() -> None:
    """An ERROR always fits into 512 octets and ends with a NUL."""
    packet = wire.error(TFTPError("x" * 100_000))
    assert packet == b"\x00\x05\x00\x00" + b"x" * wire.MAX_MESSAGE + b"\x00"
    assert len(packet) <= 512


@given(st.text(max_size=600), st.sampled_from([TFTPError, FileNotFound, IllegalOperation]))
def test_every_error_packet_is_well_formed(message: str, kind: type[TFTPError]) -> None:
    """It has an opcode, a code, and a message without NUL that fits and ends with one NUL."""
    packet = wire.error(kind(message))
    assert packet[:4] == b"\x00\x05" + kind.code.to_bytes(2, "big")
    assert packet.index(b"\x00", 4) == len(packet) - 1
    assert len(packet) <= 4 + wire.MAX_MESSAGE + 1


@given(st.text(max_size=100).filter(lambda text: "\x00" not in text))
def test_message_is_parsed_unchanged(message: str) -> None:
    """The peer reads the message that was sent."""
    code, read = wire.parse_error(wire.error(FileNotFound(message)))
    assert code == ErrorCode.FILE_NOT_FOUND
    assert read == (message or FileNotFound.default_message)


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"", (0, "")),
        (b"\x00\x05", (0, "")),
        (b"\x00\x05\x00", (0, "")),
        (b"\x00\x05\x00\x08", (8, "")),
        (b"\x00\x05\x00\x08\x00", (8, "")),
        (b"\x00\x05\x00\x02no end", (2, "no end")),
        (b"\x00\x05\x00\x02first\x00second\x00", (2, "first")),
        (b"\x00\x05\x12\x34big code\x00", (0x1234, "big code")),
        (b"\x00\x05\x00\x00\xff\x00", (0, "\ufffd")),
        (memoryview(b"\x00\x05\x00\x01gone\x00"), (1, "gone")),
    ],
)
def test_truncated_error_is_parsed(
    datagram: bytes | memoryview, expected: tuple[int, str]
) -> None:
    """A missing code is 0, a missing message is empty, and the NUL may be missing."""
    assert wire.parse_error(datagram) == expected


def test_error_with_half_a_code_has_code_0() -> None:
    """A code of one octet counts as missing."""
    assert wire.parse_error(b"\x00\x05\x08") == (0, "")


@given(st.binary(max_size=100))
def test_parsing_an_error_never_raises(datagram: bytes) -> None:
    """Any octets give a 16-bit code and a text."""
    code, message = wire.parse_error(datagram)
    assert 0 <= code <= 65535
    assert "\x00" not in message


def test_oack_is_parsed() -> None:
    """Names are in lower case, values as they were sent."""
    assert wire.parse_oack(b"\0\6BlkSize\x001428\0tsize\x000\0") == {
        "blksize": "1428",
        "tsize": "0",
    }
    assert wire.parse_oack(memoryview(b"\0\6")) == {}


#: What follows the last option in the OACKs of some servers.
OACK_TAILS = [
    *(bytes(zeros) for zeros in (1, 2, 3, 7, 400)),
    b"tsize",  # without the end of the name
    b"tsize\0",  # without a value
    b"tsize\x0012",  # without the end of the value
    b"\xff\xfejunk",  # octets of an earlier packet
    b"\0\0\0windowsize\00016\0junk",  # the same, after NULs
    b"tsize\0\0\0",  # without a value, before NULs
]


@pytest.mark.parametrize("tail", OACK_TAILS)
def test_octets_after_the_last_option_of_an_oack_are_ignored(tail: bytes) -> None:
    """The options before them are granted."""
    options = wire.parse_oack(b"\0\6blksize\x001428\0" + tail)
    assert {"tsize": "", **options} == {"blksize": "1428", "tsize": ""}


def test_oack_may_contain_nothing_but_nuls() -> None:
    """It grants no option."""
    assert wire.parse_oack(b"\0\6" + bytes(510)) == {}


def test_option_may_be_repeated_in_an_oack_with_the_same_value() -> None:
    """Only different values have no plain meaning."""
    assert wire.parse_oack(b"\0\6a\x001\0b\x002\0A\x001\0") == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    "octets",
    [
        b"blksize",
        b"blksize\0",
        b"blksize\x008",
        b"tsize\x0012\0BlkSize\x008",
        b"tsize\x0012\0windowsize\x00",
        b"tsize\x0012\0rollover",
        b"blksize2\0",
        b"\x008\0",
        b"\0junk",
        b"\0blksize\x008\0",
        b"a\x001\0A\x002\0",
    ],
)
def test_oack_without_a_plain_meaning_is_refused(octets: bytes) -> None:
    """It ends within an option about blocks, begins with an empty name, or has two values."""
    with pytest.raises(IllegalOperation):
        wire.parse_oack(b"\0\6" + octets)


@given(
    st.dictionaries(WORDS.filter(bool).map(str.lower), WORDS, min_size=1, max_size=6),
    st.integers(1, 600),
    st.binary(max_size=40),
)
def test_padding_of_an_oack_changes_nothing(
    options: dict[str, str], zeros: int, junk: bytes
) -> None:
    """The client reads what the server granted, whatever follows the first NUL of the padding."""
    packet = wire.oack(options.items())
    assert wire.parse_oack(packet) == options
    assert wire.parse_oack(packet + bytes(zeros) + junk) == options


@given(st.binary(max_size=200))
def test_random_oack_raises_nothing_but_illegal_operation(octets: bytes) -> None:
    """Any octets are either an OACK with names in lower case, or an illegal operation."""
    try:
        options = wire.parse_oack(b"\0\6" + octets)
    except IllegalOperation:
        return
    assert all(name and name == name.lower() for name in options)


@pytest.mark.parametrize(("name", "options"), [(b"", {}), (b"a\0b", {}), (b"a", {"x": "1\x00y"})])
def test_request_with_a_nul_in_a_field_is_not_encoded(
    name: bytes, options: dict[str, str]
) -> None:
    """A NUL ends a field, so the rest would become a field of its own."""
    with pytest.raises(ValueError, match="NUL"):
        wire.encode_request(Request(Opcode.RRQ, name, "octet", options))
