"""Check how a server handles a reported gap, and repeated, missing and foreign ACKs."""

from __future__ import annotations

import time

from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.tools.doctor.finding import (
    NO_FIRST_BLOCK,
    NO_WINDOWS,
    Finding,
    Verdict,
    too_short,
)
from twisted_tftp.tools.doctor.manual_transfer import ManualTransfer, Target, receive_from

#: The window size in which a block is reported as lost, in blocks.
WINDOWSIZE = 4

#: An answer within this time, in seconds, did not wait for a timeout of the server.
PROMPT_TIME = 0.5

#: The time to wait for a block that is reported as lost, in timeouts.
LOST_BLOCK_TIMEOUTS = 5

#: The longest time between answers to packets that were sent together, in seconds.
MAX_ANSWER_INTERVAL = 0.01

#: The time in which a transfer answers an ACK that it has accepted, in seconds.
MAX_NEXT_BLOCK_TIME = 0.1

#: The most retransmissions to a silent client that cause no warning; no more are shown.
MAX_RETRANSMISSIONS = 8


def check_gap(target: Target) -> Finding:
    """Report that the second block of a window was lost."""
    options = {"blksize": str(DEFAULT_BLKSIZE), "windowsize": str(WINDOWSIZE)}
    with ManualTransfer(target) as transfer:
        if "windowsize" not in transfer.request_options(options):
            return Finding("gap", Verdict.SKIPPED, NO_WINDOWS)
        transfer.send(wire.ack(0))
        for number in range(1, WINDOWSIZE + 1):
            block = transfer.receive_answer()
            if _is_last_block(block):
                return too_short("gap")
            if not _has_block_number(block, number):
                text = f"fewer than {WINDOWSIZE} blocks arrived"
                return Finding("gap", Verdict.SKIPPED, text)
        transfer.send(wire.ack(1))
        limit = target.timeout * LOST_BLOCK_TIMEOUTS
        seconds = _time_until_block(transfer, 2, limit)
    if seconds is None:
        text = f"a block that was reported as lost is not sent again within {limit:g} s"
        return Finding("gap", Verdict.PROBLEM, text, "update the server: this is a bug")
    text = f"a block that was reported as lost is sent again after {seconds * 1e3:.1f} ms"
    if seconds > PROMPT_TIME:
        advice = "each lost packet delays a transfer by this time"
        return Finding("gap", Verdict.WARNING, text, advice)
    return Finding("gap", Verdict.OK, text)


def _time_until_block(transfer: ManualTransfer, number: int, limit: float) -> float | None:
    """Return the seconds until a block arrives, or None if it does not arrive in time."""
    start = time.monotonic()
    while True:
        answer = transfer.receive(limit)
        elapsed = time.monotonic() - start
        if answer is None or elapsed > limit:
            return None
        if _has_block_number(answer, number):
            return elapsed


def check_duplicate_ack(target: Target) -> Finding:
    """Send an ACK three times, and count the blocks that the server sends for it."""
    with ManualTransfer(target) as transfer:
        first = transfer.request()
        if wire.opcode_of(first) != wire.Opcode.DATA:
            return Finding("duplicate ACK", Verdict.SKIPPED, NO_FIRST_BLOCK)
        if _is_last_block(first):
            return too_short("duplicate ACK")
        for _ in range(3):
            transfer.send(wire.ack(1))
        if transfer.receive(target.timeout) is None:
            return Finding("duplicate ACK", Verdict.SKIPPED, "no second block arrived")
        # Later blocks are retransmissions, because this block is not acknowledged.
        blocks = 1
        while transfer.receive(MAX_ANSWER_INTERVAL) is not None:
            blocks += 1
    if blocks > 1:
        return Finding(
            "duplicate ACK",
            Verdict.PROBLEM,
            f"the server answers three ACKs of one block with {blocks} blocks",
            "update the server: with this bug (RFC 1123 section 4.2.3.1, the Sorcerer's"
            " Apprentice), one repeated packet doubles the rest of the transfer",
        )
    return Finding("duplicate ACK", Verdict.OK, "a repeated ACK is ignored")


def check_foreign_ack(target: Target) -> Finding:
    """Send an ACK to a transfer from another port."""
    with ManualTransfer(target) as transfer, target.open_socket() as other:
        first = transfer.request()
        if wire.opcode_of(first) != wire.Opcode.DATA:
            return Finding("foreign ACK", Verdict.SKIPPED, NO_FIRST_BLOCK)
        if _is_last_block(first):
            return too_short("foreign ACK")
        peer = transfer.peer
        if peer[1] == target.address[1]:
            return Finding("foreign ACK", Verdict.SKIPPED, "all transfers use the request port")
        other.sendto(wire.ack(1), peer)
        wait = min(PROMPT_TIME, target.timeout)
        received = receive_from(other, wait, lambda source: bool(source == peer))
        answer = b"" if received is None else received[0]
        is_accepted = _has_block_number(transfer.receive(MAX_NEXT_BLOCK_TIME) or b"", 2)
    if is_accepted or wire.opcode_of(answer) == wire.Opcode.DATA:
        return Finding(
            "foreign ACK",
            Verdict.PROBLEM,
            "an ACK from another port is accepted",
            "update the server: anybody who guesses a port can disturb transfers (RFC 1350"
            " section 4)",
        )
    if wire.opcode_of(answer) == wire.Opcode.ERROR:
        text = f"an ACK from another port gets ERROR {wire.parse_error(answer)[0]}"
        return Finding("foreign ACK", Verdict.OK, text)
    return Finding("foreign ACK", Verdict.OK, "an ACK from another port is ignored")


def check_retransmission(target: Target) -> Finding:
    """Send no ACK after the first block, and note when the block is sent again."""
    with ManualTransfer(target) as transfer:
        if wire.opcode_of(transfer.request()) != wire.Opcode.DATA:
            return Finding("retransmission", Verdict.SKIPPED, NO_FIRST_BLOCK)
        times = _retransmission_times(transfer, target.watch)
    if not times:
        return Finding(
            "retransmission",
            Verdict.WARNING,
            f"a block without an ACK is not sent again within {target.watch:g} s",
            "a lost packet stops a transfer until the client retransmits",
        )
    shown = ", ".join(f"{seconds:.1f}" for seconds in times[:MAX_RETRANSMISSIONS])
    if len(times) > MAX_RETRANSMISSIONS:
        return Finding(
            "retransmission",
            Verdict.WARNING,
            f"a block without an ACK is sent again {len(times)} times (after {shown} s ...)",
            "an attacker who forges source addresses can flood other hosts through this server:"
            " limit its retransmissions",
        )
    text = f"a block without an ACK is sent again after {shown} s"
    return Finding("retransmission", Verdict.OK, text)


def _retransmission_times(transfer: ManualTransfer, watch: float) -> list[float]:
    """Return the times from now at which a block arrives within `watch` seconds."""
    start = time.monotonic()
    times = []
    while (elapsed := time.monotonic() - start) < watch:
        answer = transfer.receive(watch - elapsed)
        if answer is not None and wire.opcode_of(answer) == wire.Opcode.DATA:
            times.append(time.monotonic() - start)
    return times


def _is_last_block(datagram: bytes) -> bool:
    """Return whether `datagram` is a block that ends the file (RFC 1350 section 6)."""
    is_data = wire.opcode_of(datagram) == wire.Opcode.DATA
    return is_data and len(datagram) < wire.HEADER_SIZE + DEFAULT_BLKSIZE


def _has_block_number(datagram: bytes, number: int) -> bool:
    return datagram[: wire.HEADER_SIZE] == wire.DATA_HEADERS[number]
