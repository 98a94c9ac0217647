"""Check which options a server grants, and whether its blocks and windows arrive."""

from __future__ import annotations

from twisted_tftp.errors import IllegalOperation
from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.tools.doctor.finding import (
    NO_WINDOWS,
    Finding,
    Verdict,
    too_short,
)
from twisted_tftp.tools.doctor.manual_transfer import ManualTransfer, Target, granted_options

#: The options that are requested together, with their values.
OPTIONS = {"blksize": "1428", "timeout": "3", "tsize": "0", "windowsize": "4"}

#: The block sizes that are tried, in octets, the largest first.
BLKSIZES = (65464, 8192, 1468, 1428, 1024, 512)

#: The window size that is tried, in blocks.
WINDOWSIZE = 64

#: The longest time to wait for the next block of a window, in seconds.
MAX_BLOCK_INTERVAL = 0.5


def check_options(target: Target) -> Finding:
    """Request all options at once."""
    with ManualTransfer(target) as transfer:
        answer = transfer.request(OPTIONS)
    if wire.opcode_of(answer) != wire.Opcode.OACK:
        return Finding(
            "options",
            Verdict.WARNING,
            f"none of {', '.join(OPTIONS)} was granted",
            "use a server with RFC 2347, 2348 and 7440: it is many times faster than one block"
            " of 512 octets at a time",
        )
    try:
        granted = wire.parse_oack(answer)
    except IllegalOperation as error:
        return Finding(
            "options", Verdict.PROBLEM, error.message, "update the server: this is a bug"
        )
    text = "granted: " + " ".join(f"{name}={value}" for name, value in granted.items())
    extra = len(answer) - len(wire.oack(granted.items()))
    not_granted = [name for name in OPTIONS if name not in granted]
    not_requested = [name for name in granted if name not in OPTIONS]
    if not_requested:
        return Finding(
            "options",
            Verdict.PROBLEM,
            f"{text}; not requested: {', '.join(not_requested)}",
            "update the server: clients end such a transfer (RFC 2347)",
        )
    if extra:
        return Finding(
            "options",
            Verdict.WARNING,
            f"{text}; {extra} octets of the OACK belong to no option",
            "update the server: some clients end such a transfer",
        )
    if not_granted:
        text = f"{text}; not granted: {', '.join(not_granted)}"
        advice = "configure the server to grant these options, if it knows them"
        return Finding("options", Verdict.WARNING, text, advice)
    return Finding("options", Verdict.OK, text)


def check_blksize(target: Target) -> Finding:
    """Find the largest block that arrives."""
    lost: list[int] = []
    for requested in BLKSIZES:
        blksize, data, is_granted = _fetch_first_block(target, requested)
        if wire.opcode_of(data) != wire.Opcode.DATA:
            if is_granted:
                lost.append(blksize)
            continue
        octets = len(data) - wire.HEADER_SIZE
        if octets < blksize:
            return too_short("blksize")
        text = f"blocks of up to {blksize} octets arrive"
        if not lost:
            return Finding("blksize", Verdict.OK, text)
        return Finding(
            "blksize",
            Verdict.WARNING,
            f"{text}; blocks of {', '.join(map(str, lost))} were granted, but do not arrive",
            f"IP fragments are lost on the path: limit the server's block size to {blksize}",
        )
    advice = "update the server: requests with options fail"
    return Finding("blksize", Verdict.PROBLEM, "no block of any size arrives", advice)


def _fetch_first_block(target: Target, requested: int) -> tuple[int, bytes, bool]:
    """Request a block size, and fetch the first block.

    @return: the block size of the transfer, the last answer, and whether there was an OACK.
    """
    options = {"blksize": str(requested)}
    with ManualTransfer(target) as transfer:
        answer = transfer.request(options)
        if wire.opcode_of(answer) != wire.Opcode.OACK:
            return DEFAULT_BLKSIZE, answer, False
        blksize = granted_options(answer, options).get("blksize")
        transfer.send(wire.ack(0))
        return int(blksize or DEFAULT_BLKSIZE), transfer.receive_answer(), True


def check_windowsize(target: Target) -> Finding:
    """Request a large window, and count the blocks that arrive for one ACK."""
    options = {"blksize": str(DEFAULT_BLKSIZE), "windowsize": str(WINDOWSIZE)}
    with ManualTransfer(target) as transfer:
        granted = transfer.request_options(options).get("windowsize")
        if granted is None:
            return Finding(
                "windowsize",
                Verdict.WARNING,
                NO_WINDOWS,
                "each block waits for its ACK: with a round trip of 5 ms that is 0.3 MB/s",
            )
        transfer.send(wire.ack(0))
        return _judge_window(int(granted), _receive_window(transfer, int(granted)))


def _receive_window(transfer: ManualTransfer, windowsize: int) -> dict[int, int]:
    """Return the octets of each block of the first window, by its number.

    A block that the server sends again counts once.
    """
    interval = min(MAX_BLOCK_INTERVAL, transfer.target.timeout)
    octets: dict[int, int] = {}
    # No server sends a block of a window more than once before its timeout, which is longer.
    for _ in range(2 * windowsize):
        datagram = transfer.receive(interval)
        if datagram is None:
            break
        if wire.opcode_of(datagram) == wire.Opcode.DATA:
            number = int.from_bytes(datagram[2 : wire.HEADER_SIZE], "big")
            octets[number] = len(datagram) - wire.HEADER_SIZE
        if len(octets) == windowsize or octets.get(len(octets), DEFAULT_BLKSIZE) < DEFAULT_BLKSIZE:
            break  # the window or the file has ended
    return octets


def _judge_window(granted: int, octets: dict[int, int]) -> Finding:
    """Return the finding about the blocks that have arrived for one ACK.

    @param octets: the octets of each block, by its number.
    """
    blocks = len(octets)
    text = f"a window of {granted} blocks was granted, {blocks} blocks arrived after one ACK"
    if blocks == granted:
        return Finding("windowsize", Verdict.OK, text)
    if any(size < DEFAULT_BLKSIZE for size in octets.values()):
        return too_short("windowsize")
    return Finding(
        "windowsize",
        Verdict.WARNING,
        text,
        "packets of a burst are lost: grant smaller windows",
    )
