"""Tests of netascii: encoding and decoding do not depend on where the data is split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.protocol.netascii import Decoder, encode

#: Data in which line ends and NULs are frequent.
TEXTS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\x00", b"\r\n", b"\r\x00", b"a", b"\xff"]), max_size=40
).map(b"".join) | st.binary(max_size=100)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    """Return `octets`, cut at `cuts`."""
    edges = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    return [octets[start:end] for start, end in pairwise(edges)]


def decoded(parts: list[bytes]) -> bytes:
    """Return what a decoder returns for `parts` in a row."""
    decoder = Decoder()
    return b"".join([decoder.decode(part) for part in parts]) + decoder.decode(b"", final=True)


def reference(octets: bytes) -> bytes:
    """Decode octet by octet: a slow, simple implementation to compare with."""
    out = bytearray()
    position = 0
    while position < len(octets):
        pair = octets[position : position + 2]
        if pair == b"\r\n":
            out += b"\n"
        elif pair == b"\r\x00":
            out += b"\r"
        else:
            out += pair[:1]
            position -= 1
        position += 2
    return bytes(out)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb", b"a\r\x00b"),
        (b"a\r\nb", b"a\r\x00\r\nb"),
        (b"\r", b"\r\x00"),
        (b"\n", b"\r\n"),
        (b"\r\x00", b"\r\x00\x00"),
        (b"\x00\xff", b"\x00\xff"),
    ],
)
def test_line_ends_are_encoded_and_decoded(text: bytes, wire: bytes) -> None:
    """LF is CR LF, and CR is CR NUL, on the wire (RFC 764)."""
    assert encode(text) == wire
    assert decoded([wire]) == text


@given(TEXTS)
def test_encoded_text_has_no_bare_cr_or_lf(text: bytes) -> None:
    """In encoded data CR is followed by LF or NUL, and LF follows CR."""
    wire = encode(text)
    assert b"\r" not in wire.replace(b"\r\n", b"").replace(b"\r\x00", b"")
    assert b"\n" not in wire.replace(b"\r\n", b"")


@given(TEXTS, st.lists(st.integers(0, 300), max_size=8))
def test_decoding_restores_data_cut_anywhere(text: bytes, cuts: list[int]) -> None:
    """Decoding is the inverse of encoding, wherever the blocks end."""
    assert decoded(pieces(encode(text), cuts)) == text


@given(TEXTS)
def test_decoding_restores_data_in_single_octets(text: bytes) -> None:
    """Each octet is decoded in a call of its own."""
    assert decoded([bytes([octet]) for octet in encode(text)]) == text


@given(TEXTS, st.lists(st.integers(0, 300), max_size=8))
def test_pieces_are_encoded_like_the_whole(text: bytes, cuts: list[int]) -> None:
    """The encoder needs no state between two pieces."""
    assert b"".join(map(encode, pieces(text, cuts))) == encode(text)


@given(TEXTS, st.lists(st.integers(0, 300), max_size=8))
def test_invalid_netascii_decodes_the_same_at_any_cut(octets: bytes, cuts: list[int]) -> None:
    """A CR that no LF or NUL follows is kept, wherever the data is cut."""
    assert decoded(pieces(octets, cuts)) == reference(octets)


def test_cr_at_the_end_of_a_piece_is_held_back() -> None:
    """Only the next octet decides what a CR means."""
    decoder = Decoder()
    assert decoder.decode(b"a\r") == b"a"
    assert decoder.decode(b"") == b""
    assert decoder.decode(b"\nb\r") == b"\nb"
    assert decoder.decode(b"\x00") == b"\r"
    assert decoder.decode(b"c") == b"c"


def test_cr_at_the_end_of_the_file_is_kept() -> None:
    """A file that ends with a CR loses nothing."""
    decoder = Decoder()
    assert decoder.decode(b"a\r") == b"a"
    assert decoder.decode(b"", final=True) == b"\r"
    assert Decoder().decode(b"a\r", final=True) == b"a\r"


@pytest.mark.parametrize(
    ("wire", "text"),
    [(b"a\rb", b"a\rb"), (b"\r\r\n", b"\r\n"), (b"\r\r\x00", b"\r\r"), (b"a\nb", b"a\nb")],
)
def test_single_cr_or_lf_is_kept(wire: bytes, text: bytes) -> None:
    """Data of senders that do not encode netascii is accepted as it is."""
    assert decoded([wire]) == text
