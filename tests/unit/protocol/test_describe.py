"""Tests of packets as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_tftp.protocol import wire
from twisted_tftp.protocol.describe import describe


@pytest.mark.parametrize(
    ("datagram", "words"),
    [
        (b"\0\1a file\0OCTET\0blksize\x001428\0", 'RRQ "a file" octet blksize=1428'),
        (b"\0\2new\0netascii\0", 'WRQ "new" netascii'),
        (b"\0\1bell\x07\xff\0octet\0", 'RRQ "bell\\x07\\xff" octet'),
        (b"\0\1cut", "opcode 1, the request is truncated: 5 octets"),
        (wire.DATA_HEADERS[65535] + b"abc", "DATA 65535, 3 octets"),
        (wire.ack(7), "ACK 7"),
        (b"\0\5\0\1none\n\0", 'ERROR 1 "none\\x0a"'),
        (wire.oack([("blksize", "8"), ("tsize", "5")]), "OACK blksize=8 tsize=5"),
        (b"\0\6blksize", "opcode 6, the OACK is truncated: 9 octets"),
        (b"\0\x09x", "opcode 9: 3 octets"),
        (b"\0\4\0", "opcode 4: 3 octets"),
        (b"", "opcode 0: 0 octets"),
    ],
)
def test_each_kind_of_packet_is_described(datagram: bytes, words: str) -> None:
    """The text shows the important fields, and escapes control characters."""
    assert describe(datagram) == words
    assert describe(memoryview(datagram)) == words


@given(st.binary(max_size=200), st.sampled_from([b"", b"\0\1", b"\0\5\0\0", b"\0\6"]))
def test_any_octets_are_described_in_one_line(octets: bytes, start: bytes) -> None:
    """The text contains printable ASCII only, whatever the packet contains."""
    assert describe(start + octets).isprintable()
