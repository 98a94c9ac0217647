"""Turn bytes into TFTP packets and packets into bytes (RFC 1350 section 5, RFC 2347).

Every packet starts with a two-octet opcode in network order:

    RRQ, WRQ   | 1 or 2 | file name | 0 | mode | 0 | option | 0 | value | 0 | ...
    DATA       |   3    | block (2) | 0 to blksize octets
    ACK        |   4    | block (2) |
    ERROR      |   5    | code (2)  | message | 0 |
    OACK       |   6    | option | 0 | value | 0 | ...

DATA and ACK are the hot path, so nothing is built for them: a sender puts an entry of
`DATA_HEADERS` before its octets, and the machines read the two block octets where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from types import MappingProxyType

from twisted_tftp.errors import IllegalOperation, TFTPError

#: Octets before the payload of a DATA packet, and the whole of an ACK.
HEADER_SIZE = 4

#: Octets of an ERROR's message at most, so that the packet fits everywhere.
MAX_MESSAGE = 400


class Opcode(IntEnum):
    """Kinds of packet (RFC 1350 section 5; OACK is RFC 2347 section 3)."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


#: The header of the DATA packet, and the ACK, of each block number.
DATA_HEADERS: list[bytes] = list(map(Struct(">I").pack, range(0x30000, 0x40000)))
ACKS: list[bytes] = list(map(Struct(">I").pack, range(0x40000, 0x50000)))

OCTET = "octet"
NETASCII = "netascii"


@dataclass(frozen=True)
class Request:
    """A read or a write request as it came.

    `filename` is the name's octets as sent. `mode` is `OCTET` or `NETASCII`. `options` maps
    each option's name in lower case to its value as sent, in the order asked; of a repeated
    option the first one counts.
    """

    opcode: Opcode
    filename: bytes
    mode: str
    options: Mapping[str, str]


def opcode_of(datagram: bytes | memoryview) -> int:
    """Return the opcode of `datagram`, 0 where it is too short to have one."""
    return int.from_bytes(datagram[:2], "big") if len(datagram) >= 2 else 0


def parse_request(datagram: bytes) -> Request:
    """Read an RRQ or a WRQ (RFC 1350 section 5, RFC 2347 section 2).

    What can be left out is left out: an option without a terminated value, an empty option
    name and whatever follows it (some firmware pads its requests with zeros).

    @raise IllegalOperation: the opcode is another, the name is empty, the name or the mode is
        not terminated, or the mode is unknown.
    """
    opcode = opcode_of(datagram)
    if opcode not in (Opcode.RRQ, Opcode.WRQ):
        raise IllegalOperation("not a read or write request")
    *fields, _unterminated = datagram[2:].split(b"\x00")
    if len(fields) < 2:
        raise IllegalOperation("the request is cut short")
    filename, mode_octets, *rest = fields
    if not filename:
        raise IllegalOperation("the request names no file")
    mode = mode_octets.decode("ascii", "replace").lower()
    if mode not in (OCTET, NETASCII):
        raise IllegalOperation("unknown transfer mode: only octet and netascii are served")
    options: dict[str, str] = {}
    for name, value in zip(rest[::2], rest[1::2], strict=False):
        if not name:
            break
        options.setdefault(_text(name).lower(), _text(value))
    return Request(Opcode(opcode), filename, mode, MappingProxyType(options))


def _text(octets: bytes) -> str:
    return octets.decode("ascii", "backslashreplace")


def encode_request(request: Request) -> bytes:
    """Return the bytes of an RRQ or a WRQ.

    @raise ValueError: the name is empty, or something has a NUL in it.
    """
    fields = [request.filename, request.mode.encode("ascii")]
    for name, value in request.options.items():
        fields += [name.encode("ascii"), value.encode("ascii")]
    if not request.filename or any(b"\x00" in field for field in fields):
        raise ValueError("a name of a file is needed, and no NUL in it")
    return request.opcode.to_bytes(2, "big") + b"".join(field + b"\x00" for field in fields)


def ack(number: int) -> bytes:
    """Return the ACK of the block `number` (0 to 65535)."""
    return ACKS[number]


def oack(options: Iterable[tuple[str, str]]) -> bytes:
    """Return the OACK that grants `options`, (name, value) in order."""
    return b"\x00\x06" + b"".join(
        text.encode("ascii") + b"\x00" for option in options for text in option
    )


def parse_oack(datagram: bytes | memoryview) -> dict[str, str]:
    """Read an OACK: option names in lower case to values (RFC 2347 section 3).

    @raise IllegalOperation: it is cut short, or names an option twice or none.
    """
    *fields, rest = bytes(datagram[2:]).split(b"\x00")
    if rest or len(fields) % 2:
        raise IllegalOperation("the OACK is cut short")
    options: dict[str, str] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        key = _text(name).lower()
        if not key or key in options:
            raise IllegalOperation("the OACK names an option twice, or none")
        options[key] = _text(value)
    return options


def error(failure: TFTPError) -> bytes:
    """Return the ERROR packet that tells the peer of `failure`."""
    message = failure.message.encode("utf-8", "replace").replace(b"\x00", b"")[:MAX_MESSAGE]
    message = message.decode("utf-8", "ignore").encode()  # a character may have been cut
    return b"\x00\x05" + failure.code.to_bytes(2, "big") + message + b"\x00"


def parse_error(datagram: bytes | memoryview) -> tuple[int, str]:
    """Return the code and the message of an ERROR packet; code 0 where it is cut short.

    The message is the peer's: escape it before it reaches a log or a page.
    """
    if len(datagram) < HEADER_SIZE:
        return 0, ""
    message = bytes(datagram[HEADER_SIZE:]).split(b"\x00", 1)[0]
    return int.from_bytes(datagram[2:HEADER_SIZE], "big"), message.decode("utf-8", "replace")
