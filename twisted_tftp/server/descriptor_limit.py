"""Raise the limit of open descriptors for the transfers of a server."""

from __future__ import annotations

from twisted.logger import Logger

from twisted_tftp.net.descriptors import raise_descriptor_limit

#: The descriptors of one transfer: a socket, a file, and the directory of an upload. (It gets a
#: second socket only if the process has many unused descriptors.)
DESCRIPTORS_PER_TRANSFER = 3

#: The descriptors of everything else, such as idle ports and the log.
OTHER_DESCRIPTORS = 200

#: A limit of descriptors that is too low for `max_transfers`, but enough for this many transfers,
#: is logged as information and not as a warning.
ENOUGH_TRANSFERS = 1000


def raise_limit_for(max_transfers: int, log: Logger) -> None:
    """Raise the limit of descriptors for so many transfers; log a limit that is too low."""
    wanted = DESCRIPTORS_PER_TRANSFER * max_transfers + OTHER_DESCRIPTORS
    limit = raise_descriptor_limit(wanted)
    if limit < wanted:
        possible = max(0, limit - OTHER_DESCRIPTORS) // DESCRIPTORS_PER_TRANSFER
        write_line = log.info if possible >= ENOUGH_TRANSFERS else log.warn
        write_line(
            "serves about {shown} transfers at once; raise `ulimit -n` or lower `--max-transfers`",
            shown=f"{possible:,}",
            possible=possible,
            limit=limit,
            wanted=wanted,
        )
