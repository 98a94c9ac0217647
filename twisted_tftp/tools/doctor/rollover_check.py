"""Check that a server can send files of more than 65,535 blocks."""

from __future__ import annotations

import time

from twisted_tftp.policy import MIN_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.tools.doctor.finding import Finding, Verdict, too_short
from twisted_tftp.tools.doctor.manual_transfer import ManualTransfer, Target

#: The largest block number (RFC 1350 section 5: 16 bits).
MAX_BLOCK_NUMBER = 65_535

#: The number of blocks to fetch: a few more than there are block numbers.
BLOCKS_TO_FETCH = 65_540

#: The window size to request for many blocks, in blocks.
WINDOWSIZE = 64

#: The size of the smallest file for the check, in octets. The window of the last block to fetch
#: must be full: in a window that ends with the file, blocks would seem to be missing.
MIN_FILE_SIZE = MIN_BLKSIZE * (BLOCKS_TO_FETCH + WINDOWSIZE)

#: The length of a DATA packet with a whole block, in octets.
FULL_BLOCK = wire.HEADER_SIZE + MIN_BLKSIZE

#: The longest time for fetching the blocks, in seconds.
MAX_FETCH_TIME = 60.0


def check_rollover(target: Target) -> Finding:
    """Fetch more than 65,535 small blocks, if the file is large enough."""
    options = {"blksize": str(MIN_BLKSIZE), "windowsize": str(WINDOWSIZE), "tsize": "0"}
    with ManualTransfer(target) as transfer:
        granted = transfer.request_options(options)
        size = granted.get("tsize", "")
        if granted.get("blksize") != options["blksize"]:
            text = f"blocks of {MIN_BLKSIZE} octets are not granted"
            return Finding("rollover", Verdict.SKIPPED, text)
        if not size.isdigit():
            transfer.send(wire.ack(0))
            block = transfer.receive_answer()
            if wire.opcode_of(block) == wire.Opcode.DATA and len(block) < FULL_BLOCK:
                return too_short("rollover")
            return Finding("rollover", Verdict.SKIPPED, "the size of the file is unknown")
        if int(size) < MIN_FILE_SIZE:
            return too_short("rollover")
        return _fetch_many_blocks(transfer, int(granted.get("windowsize", "1")))


def _fetch_many_blocks(transfer: ManualTransfer, windowsize: int) -> Finding:
    """Acknowledge window after window until the block numbers have started again."""
    block = 0  # the last block that has arrived, counted without rollover
    deadline = time.monotonic() + MAX_FETCH_TIME
    while block < BLOCKS_TO_FETCH:
        if time.monotonic() > deadline:
            text = f"only {block:,} blocks arrived within {MAX_FETCH_TIME:g} s"
            return Finding("rollover", Verdict.SKIPPED, text)
        transfer.send(wire.ack(block & MAX_BLOCK_NUMBER))
        arrived, answer = _receive_window(transfer, block, windowsize)
        block += arrived
        if arrived == windowsize:
            continue
        if block == MAX_BLOCK_NUMBER and answer[:4] == wire.DATA_HEADERS[1]:
            return Finding("rollover", Verdict.OK, "block number 65535 is followed by 1")
        if block >= MAX_BLOCK_NUMBER or wire.opcode_of(answer) != wire.Opcode.DATA:
            return Finding(
                "rollover",
                Verdict.PROBLEM,
                f"no block follows block {block}",
                "ask for larger blocks for large files: 65,535 blocks of 512 octets are 32 MiB",
            )
        # A block was lost: the next ACK asks for it again.
    return Finding("rollover", Verdict.OK, "block number 65535 is followed by 0")


def _receive_window(transfer: ManualTransfer, block: int, windowsize: int) -> tuple[int, bytes]:
    """Receive the blocks after `block`, up to a whole window.

    @return: how many have arrived in order, and the last answer; empty if there was none.
    """
    answer = b""
    for arrived in range(windowsize):
        answer = transfer.receive_answer()
        expected = (block + arrived + 1) & MAX_BLOCK_NUMBER
        if answer[: wire.HEADER_SIZE] != wire.DATA_HEADERS[expected]:
            return arrived, answer
    return windowsize, answer
