"""Datagrams that an attacker may send with the address of a victim as their source."""

from __future__ import annotations

from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode

#: Options that PXE firmware asks for; lower case, as the OACK repeats them.
PXE = {"tsize": "0", "blksize": "1456", "windowsize": "64"}


def request(opcode: Opcode, name: bytes, mode: str = "octet", **options: str) -> bytes:
    """Return the datagram of a request."""
    return wire.encode_request(wire.Request(opcode, name, mode, options))


#: Forged datagrams by name; a name that begins with "read" or "write" starts a transfer.
FORGED = {
    "read": request(Opcode.RRQ, b"file"),
    "read, netascii": request(Opcode.RRQ, b"file", "netascii"),
    "read, options": request(Opcode.RRQ, b"file", **PXE),
    "read, largest blocks": request(Opcode.RRQ, b"file", blksize="65464", windowsize="64"),
    "read, an option that is not granted": request(Opcode.RRQ, b"file", multicast=""),
    "read of a file that is missing": request(Opcode.RRQ, b"missing"),
    "write": request(Opcode.WRQ, b"new"),
    "write, options": request(Opcode.WRQ, b"new", **PXE),
    "no file name": b"\0\1\0octet\0",
    "an ACK": wire.ack(1),
    "an ERROR": b"\0\5\0\0why\0",
    "DATA": b"\0\3\0\1" + bytes(512),
    "nonsense": b"\xff" * 100,
}
