"""Check that a server encodes text in the transfer mode netascii."""

from __future__ import annotations

from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import netascii, wire
from twisted_tftp.tools.doctor.finding import NO_FIRST_BLOCK, Finding, Verdict, too_short
from twisted_tftp.tools.doctor.manual_transfer import ManualTransfer, Target


def check_netascii(target: Target) -> Finding:
    """Compare the first block of both transfer modes."""
    blocks = []
    for mode in (wire.OCTET, wire.NETASCII):
        with ManualTransfer(target) as transfer:
            answer = transfer.request(mode=mode)
        if wire.opcode_of(answer) == wire.Opcode.ERROR:
            return Finding("netascii", Verdict.WARNING, "requests in netascii mode are refused")
        if wire.opcode_of(answer) != wire.Opcode.DATA:
            return Finding("netascii", Verdict.SKIPPED, NO_FIRST_BLOCK)
        blocks.append(answer[wire.HEADER_SIZE :])
    octets, text = blocks
    if b"\r" not in octets and b"\n" not in octets:
        if len(octets) < DEFAULT_BLKSIZE:
            return too_short("netascii")
        return Finding("netascii", Verdict.SKIPPED, "the first block of the file has no line end")
    if netascii.encode(octets)[: len(text)] == text:
        return Finding("netascii", Verdict.OK, "lines end with CR LF, and a CR is escaped")
    advice = "clients store text with wrong line ends: use octet mode"
    return Finding("netascii", Verdict.WARNING, "text is not encoded in netascii mode", advice)
