"""Parse and encode TFTP packets (RFC 1350 section 5, RFC 2347).

Every packet starts with a two-octet opcode in network order::

    RRQ, WRQ   | 1 or 2 | file name | 0 | mode | 0 | option | 0 | value | 0 | ...
    DATA       |   3    | block (2) | 0 to blksize octets
    ACK        |   4    | block (2) |
    ERROR      |   5    | code (2)  | message | 0 |
    OACK       |   6    | option | 0 | value | 0 | ...

DATA and ACK packets are by far the most frequent, so no objects are made for them: a sender puts
an entry of `DATA_HEADERS` before the octets, and the machines read the block number from the
datagram.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from types import MappingProxyType

from twisted_tftp.errors import IllegalOperation, TFTPError

#: The size of the header of a DATA packet and of a whole ACK, in octets.
HEADER_SIZE = 4

#: The longest message of an ERROR that is sent, in octets. The packet must fit into the MTU of
#: every path and the buffer of every client.
MAX_MESSAGE = 400


class Opcode(IntEnum):
    """The packet types (RFC 1350 section 5; OACK is RFC 2347 section 3)."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


#: The header of the DATA packet of each block number.
DATA_HEADERS: list[bytes] = list(map(Struct(">I").pack, range(0x30000, 0x40000)))

#: The ACK of each block number.
ACKS: list[bytes] = list(map(Struct(">I").pack, range(0x40000, 0x50000)))

#: The transfer mode that sends a file unchanged (RFC 1350 section 1).
OCTET = "octet"

#: The transfer mode for text (RFC 1350 section 1).
NETASCII = "netascii"

#: The names of transfer modes, with their meaning: some clients send `binary` for `octet`.
_MODES = {"octet": OCTET, "binary": OCTET, "netascii": NETASCII}

#: The options that determine the size, the numbers and the windows of blocks. An OACK that lacks
#: their value is useless: a client that expects larger blocks would take the first one for the end
#: of the file.
_BLOCK_OPTIONS = frozenset(("blksize", "blksize2", "windowsize", "rollover"))


@dataclass(frozen=True)
class Request:
    """A parsed read or write request.

    @ivar opcode: `RRQ` or `WRQ`.
    @ivar filename: the octets of the file name as sent.
    @ivar mode: `OCTET` (also for the mode `binary`) or `NETASCII`.
    @ivar options: the name of each option in lower case, and its value as sent, in the order of
        the request. If an option is repeated, it has its first value.
    """

    opcode: Opcode
    filename: bytes
    mode: str
    options: Mapping[str, str]


def opcode_of(datagram: bytes | memoryview) -> int:
    """Return the opcode of `datagram`, or 0 if it is too short to have one."""
    return int.from_bytes(datagram[:2], "big") if len(datagram) >= 2 else 0


def parse_request(datagram: bytes) -> Request:
    """Parse an RRQ or a WRQ (RFC 1350 section 5, RFC 2347 section 2).

    Ambiguous options are ignored: an option without a terminated value at the
    end, octets after the last NUL, and an empty option name with everything after it (some
    firmware pads its requests with NULs).

    @raise IllegalOperation: the opcode is another one, the name is empty, the name or the mode
        is not terminated, or the mode is unknown.
    """
    opcode = opcode_of(datagram)
    if opcode not in (Opcode.RRQ, Opcode.WRQ):
        raise IllegalOperation("not a read or write request")
    *fields, _unterminated = datagram[2:].split(b"\x00")
    if len(fields) < 2:
        raise IllegalOperation("the request is truncated")
    filename, mode_octets, *rest = fields
    if not filename:
        raise IllegalOperation("the request has no file name")
    mode = _MODES.get(mode_octets.decode("ascii", "replace").lower())
    if mode is None:
        raise IllegalOperation("unknown transfer mode: only octet and netascii are served")
    options: dict[str, str] = {}
    for name, value in zip(rest[::2], rest[1::2], strict=False):
        if not name:
            break
        options.setdefault(_text(name).lower(), _text(value))
    return Request(Opcode(opcode), filename, mode, MappingProxyType(options))


def _text(octets: bytes) -> str:
    """Return an option's name or value as text; octets that are not ASCII are escaped."""
    return octets.decode("ascii", "backslashreplace")


def encode_request(request: Request) -> bytes:
    """Encode an RRQ or a WRQ.

    @raise ValueError: the file name is empty, or a field contains a NUL.
    """
    fields = [request.filename, request.mode.encode("ascii")]
    for name, value in request.options.items():
        fields += [name.encode("ascii"), value.encode("ascii")]
    if not request.filename or any(b"\x00" in field for field in fields):
        raise ValueError("the file name must not be empty, and no field may contain a NUL")
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
    """Parse an OACK into option names in lower case and values (RFC 2347 section 3).

    What follows the last option is ignored, as in a request: NULs, octets that no NUL ends, and
    an option without a terminated value.

    @raise IllegalOperation: the OACK is ambiguous: it ends within an option that determines the
        blocks, it begins with an empty name, or an option has two values.
    """
    *fields, unterminated = bytes(datagram[2:]).split(b"\x00")
    names, values = fields[::2], fields[1::2]
    if b"" in names:
        padding = names.index(b"")
        if not padding and any((*fields, unterminated)):
            raise IllegalOperation("the OACK has an empty or a repeated option name")
        names, values = names[:padding], values[:padding]
    elif len(names) == len(values):
        names.append(unterminated)
    if len(names) > len(values) and _text(names[-1]).lower() in _BLOCK_OPTIONS:
        raise IllegalOperation("the OACK is truncated")
    options: dict[str, str] = {}
    for name, value in zip(names, values, strict=False):
        key, text = _text(name).lower(), _text(value)
        if options.setdefault(key, text) != text:
            raise IllegalOperation("the OACK has an empty or a repeated option name")
    return options


def error(failure: TFTPError) -> bytes:
    """Return the ERROR packet that reports `failure` to the peer."""
    message = failure.message.encode("utf-8", "replace").replace(b"\x00", b"")[:MAX_MESSAGE]
    message = message.decode("utf-8", "ignore").encode()  # without a part of a character
    return b"\x00\x05" + failure.code.to_bytes(2, "big") + message + b"\x00"


def parse_error(datagram: bytes | memoryview) -> tuple[int, str]:
    """Return the code and the message of an ERROR packet; (0, "") if it is truncated.

    The message comes from the network: escape it before it is written to a log or a page.
    """
    if len(datagram) < HEADER_SIZE:
        return 0, ""
    message = bytes(datagram[HEADER_SIZE:]).split(b"\x00", 1)[0]
    return int.from_bytes(datagram[2:HEADER_SIZE], "big"), message.decode("utf-8", "replace")
