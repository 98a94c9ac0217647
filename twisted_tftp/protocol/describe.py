"""Describe packets, each in one line of text, for traces of a transfer."""

from __future__ import annotations

from collections.abc import Mapping

from twisted_tftp.errors import TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.printable import printable


def describe(datagram: bytes | memoryview) -> str:
    """Return the description of a packet. Texts of the packet are escaped."""
    opcode = wire.opcode_of(datagram)
    octets = bytes(datagram)
    try:
        if opcode in (wire.Opcode.RRQ, wire.Opcode.WRQ):
            request = wire.parse_request(octets)
            name = printable(request.filename.decode("utf-8", "surrogateescape"))
            return f'{request.opcode.name} "{name}" {request.mode}{_options(request.options)}'
        if opcode == wire.Opcode.OACK:
            return "OACK" + _options(wire.parse_oack(octets))
    except TFTPError as failure:
        return f"opcode {opcode}, {failure.message}: {len(octets)} octets"
    if opcode == wire.Opcode.ERROR:
        code, message = wire.parse_error(octets)
        return f'ERROR {code} "{printable(message)}"'
    if opcode in (wire.Opcode.DATA, wire.Opcode.ACK) and len(octets) >= wire.HEADER_SIZE:
        block = int.from_bytes(octets[2 : wire.HEADER_SIZE], "big")
        if opcode == wire.Opcode.ACK:
            return f"ACK {block}"
        return f"DATA {block}, {len(octets) - wire.HEADER_SIZE} octets"
    return f"opcode {opcode}: {len(octets)} octets"


def _options(options: Mapping[str, str]) -> str:
    return "".join(f" {printable(name)}={printable(value)}" for name, value in options.items())
