"""The reasons in the log of the server: why a request was ignored, and why a transfer has failed.

A reason names the option of the command line that it is about. What the client is told is shorter
(L{twisted_tftp.errors}). docs/operations.md has a table of all reasons.
"""

from __future__ import annotations

from twisted_tftp.context import Direction, Outcome, TransferContext, TransferStatistics
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.printable import printable

#: The most octets of a malformed request's file name or mode in the log.
MAX_FIELD = 100

#: The most characters of a name, a reason or a list of options in the log line of a transfer. A
#: request can be as long as a datagram, and its escapes four times as long.
MAX_TEXT = 1000

#: The words in the log for outcomes whose own name would not be clear there.
_FIRST_WORDS = {Outcome.ABORTED: "client stopped"}

# Reasons for packets that start no transfer.

NOT_A_REQUEST = "not a request"
FROM_A_SERVER = "sent from a server's port"
IN_DENY = "in --deny"
NOT_IN_ALLOW = "not in --allow"
FIRST_IN_FLOOD = "many peers do not answer, and this host has asked only once"
OVER_RATE = "over --rate"
OVER_MAX_PER_CLIENT = "over --max-per-client"
OVER_UNPROVEN_RATE = "over --unproven-rate"
OVER_MAX_TRANSFERS = "over --max-transfers"
MALFORMED = "malformed"

# Reasons for the end of a transfer.

PORT_CLOSED = "the client's port is closed"
ENDED_FOR_ROOM = "no answer, and another transfer needed its place"
DIFFERENT_REQUEST = "the client sent a different request"
CLIENT_MAY_NOT_WRITE = "write is never in the rule for this client"
NEW_REQUEST = "the client sent a new request from the same port"
SECOND_SIGNAL = "a second signal stopped the server"


def no_socket(error: OSError) -> str:
    """Return the reason if no socket could be opened for a transfer."""
    return f"no socket for a transfer: {error.strerror}"


def over_max_upload(octets: int, limit: int, is_complete: bool) -> str:
    """Return the reason for an upload that is too large.

    @param octets: the octets of the file, or those that were received so far.
    @param is_complete: whether `octets` is the size of the whole file.
    """
    so_far = "" if is_complete else " so far"
    return f"{octets:,} octets{so_far}, --max-upload is {limit:,}"


def may_not_write(host: str) -> str:
    """Return the reason for an upload from an address that may not write."""
    return f"{host} is not in --allow-write"


def drain_ended(seconds: float) -> str:
    """Return the reason for a transfer that was too slow for the drain of the server."""
    return f"the drain time of {seconds:.15g} s ran out"


def with_limit(reason: str, limit: float | None) -> str:
    """Return a reason with the value of the option that it names.

    @param limit: that value; None if the reason is to be returned as it is.
    """
    if limit is None:
        return reason
    return f"{reason} {limit:.15g}" if isinstance(limit, float) else f"{reason} {limit}"


def contents_of(datagram: bytes) -> str:
    """Return the opcode, file name and mode of a malformed request, escaped."""
    name, _, rest = datagram[2:].partition(b"\0")
    mode = rest.partition(b"\0")[0]
    return f"opcode {wire.opcode_of(datagram)}, name {_quoted(name)}, mode {_quoted(mode)}"


def _quoted(field: bytes) -> str:
    """Return a field of a malformed request, escaped, in quotes, and cut if it is long."""
    more = "..." if len(field) > MAX_FIELD else ""
    return f'"{printable(field[:MAX_FIELD].decode("utf-8", "surrogateescape"))}"{more}'


def shown(text: str) -> str:
    """Return `text` as it is shown in the line of a transfer: escaped, and cut if it is long."""
    return printable(text) if len(text) <= MAX_TEXT else f"{printable(text[:MAX_TEXT])}..."


def asked(context: TransferContext) -> str:
    """Return the options that a request has asked for, escaped; empty if it has none.

    A read asks for `tsize` with a value that means nothing, so that value is left out.
    """
    if not context.options:
        return ""
    is_read = context.direction is Direction.READ
    names = [
        name if is_read and name == "tsize" else f"{name}={value}"
        for name, value in context.options.items()
    ]
    return f" (asked: {shown(', '.join(names))})"


def reason_of(statistics: TransferStatistics) -> str:
    """Return why a transfer has failed, escaped; empty if nothing is known."""
    reason = statistics.detail or statistics.error
    return shown(reason) if reason else ""


def first_words(outcome: Outcome) -> str:
    """Return the words for an outcome with which the log line of a failed transfer begins."""
    return _FIRST_WORDS.get(outcome) or outcome.value
