"""Decide whether an answer to a client's request belongs to that request.

A server may still be repeating its answer to an earlier request from the same address and port, or
another server may send to this port. The option `xid` tells such answers apart: the request
contains a random number, and our server grants it unchanged. Other servers ignore this option.

An answer is in doubt if the request asked for an xid, or for any option, and the answer has none.
A different answer may then follow, and one of the two is for another request. A server that is
known to grant options without an xid is trusted at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from twisted_tftp.errors import ErrorCode, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID

#: The shortest time in which an answer stays in doubt, in seconds. The client waits so long for
#: an answer that contradicts it.
MIN_DOUBT = 0.05

#: The time in doubt if no round-trip time to the server is known, in seconds.
DOUBT_WITHOUT_ROUND_TRIP = 0.4

#: The longest time in doubt, in seconds.
MAX_DOUBT = 0.4


#: How long a client asks a server for no options after it has answered only a request without
#: options, in seconds.
TIME_WITHOUT_OPTIONS = 60.0


class Standing(Enum):
    """How far the accepted answer can be trusted."""

    #: No answer was accepted yet.
    NO_ANSWER = "no answer"
    #: It has the request's xid: only a server that has read the request could send it.
    PROVEN = "proven"
    #: No xid was expected, and it has none: a file may be committed. A different answer that
    #: arrives before `settled_at` still contradicts it.
    AS_EXPECTED = "as expected"
    #: An xid was expected, but it is an OACK without one: no file may be committed.
    XID_MISSING = "xid missing"
    #: Options were requested, but it is DATA 1 or ACK 0: no file may be committed.
    OPTIONS_MISSING = "options missing"
    #: It was confirmed, or not contradicted in time. Only an answer with the xid overrides it.
    SETTLED = "settled"


#: The standings in which no file may be committed.
IN_DOUBT = frozenset((Standing.XID_MISSING, Standing.OPTIONS_MISSING))


class XidSupport(Enum):
    """Whether a server supports the option `xid`."""

    #: No answer of it has shown this yet.
    UNKNOWN = "unknown"
    #: It grants the xid of a request.
    SUPPORTED = "supported"
    #: It ignores the xid of a request.
    NOT_SUPPORTED = "not supported"


@dataclass
class KnownServer:
    """What a client knows about a server from earlier transfers.

    @ivar xid: whether it supports the option `xid`.
    @ivar round_trip: seconds from a request to its answer; None if unknown.
    @ivar min_doubt: the shortest time in which its answers stay in doubt, in seconds.
    @ivar max_doubt: the longest one.
    @ivar grants_options: whether it has granted options.
    @ivar without_options_until: until this time, it gets requests without options.
    """

    xid: XidSupport = XidSupport.UNKNOWN
    round_trip: float | None = None
    min_doubt: float = MIN_DOUBT
    max_doubt: float = MAX_DOUBT
    grants_options: bool = False
    without_options_until: float = 0.0

    def note_without_options(self, now: float) -> None:
        """Note that the server has answered a request without options, and none with options."""
        self.without_options_until = now + TIME_WITHOUT_OPTIONS


class FirstAnswer:
    """The assessment of the answers to one request: whether they belong to it.

    @ivar standing: a `Standing`.
    @ivar accepted: the answer that the transfer continues from; empty before there is one.
    @ivar settled_at: when the doubt ends by itself, if no second request can be sent.
    """

    def __init__(
        self, *, is_read: bool, has_options: bool, xid: str | None, may_get_oack: bool = True
    ) -> None:
        """Set up the assessment of a request.

        @param is_read: whether it is an RRQ.
        @param has_options: whether it asks for options.
        @param xid: the value of its xid; None if it asks for none.
        @param may_get_oack: False if it asks for no options after an earlier request has asked for
            some: an OACK is then the answer to the earlier one.
        """
        self.standing = Standing.NO_ANSWER
        self.settled_at = 0.0
        self._first_header = wire.DATA_HEADERS[1] if is_read else wire.ACKS[0]
        self._is_read = is_read
        self._has_options = has_options
        self._may_get_oack = may_get_oack
        self._xid = xid
        self.accepted = b""

    @property
    def asks_for_xid(self) -> bool:
        """Whether the request asks for an xid."""
        return self._xid is not None

    def is_foreign(self, datagram: bytes | memoryview, knows_xid: bool) -> bool:
        """Return whether `datagram` can't be the answer to this request.

        @param knows_xid: whether the server is known to grant an xid. (An ERROR never has one.)
        """
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.OACK:
            if not self._may_get_oack:
                return True
            xid = _xid_of(datagram)
            return xid != self._xid if xid is not None else knows_xid and self._xid is not None
        return knows_xid and self._xid is not None and self._is_without_options(datagram)

    def accept(self, answer: bytes, now: float, known: KnownServer) -> None:
        """Accept an answer: the transfer continues from it.

        @param known: what is known about the server.
        """
        self.accepted = answer
        if wire.opcode_of(answer) != wire.Opcode.OACK:
            self.standing = Standing.OPTIONS_MISSING if self._has_options else Standing.AS_EXPECTED
        elif self._xid is None:
            self.standing = Standing.AS_EXPECTED
        elif _xid_of(answer) == self._xid:
            self.standing = Standing.PROVEN
        else:
            is_expected = known.xid is XidSupport.NOT_SUPPORTED
            self.standing = Standing.AS_EXPECTED if is_expected else Standing.XID_MISSING
        round_trip = known.round_trip
        wait = DOUBT_WITHOUT_ROUND_TRIP if round_trip is None else 2 * round_trip
        self.settled_at = now + min(max(wait, known.min_doubt), known.max_doubt)

    def settle(self) -> None:
        """Stop doubting the answer."""
        if self.standing is not Standing.PROVEN:
            self.standing = Standing.SETTLED

    def is_contradicted(
        self, datagram: bytes | memoryview, now: float, *, same_port: bool, asked_twice: bool
    ) -> bool:
        """Return whether `datagram`, from the server's host, contradicts the accepted answer.

        The same octets from a second port are no contradiction: most servers answer twice if they
        get a request twice.

        @param same_port: whether it came from the same port as the accepted answer. What follows
            an OACK from that port belongs to the transfer.
        @param asked_twice: whether the request was sent more than once. The server may then have
            started two transfers, and one of them fails later.
        """
        if self.standing in (Standing.NO_ANSWER, Standing.PROVEN) or datagram == self.accepted:
            return False
        if self.has_request_xid(datagram):
            return True  # even if it is late: only a server that has read this request can send it
        if self.standing is Standing.SETTLED:
            return False
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.OACK:
            return not self.is_foreign(datagram, knows_xid=False)
        if opcode == wire.Opcode.ERROR:
            if same_port or (asked_twice and now >= self.settled_at):
                return False
            # The second copy of a WRQ finds the file that the first copy has created.
            file_exists = wire.parse_error(datagram)[0] == ErrorCode.FILE_EXISTS
            return self._is_read or not (asked_twice and file_exists)
        if not self._is_without_options(datagram):
            return False
        return not same_port or (self._is_read and self._is_without_options(self.accepted))

    def has_request_xid(self, datagram: bytes | memoryview) -> bool:
        """Return whether `datagram` is an OACK with the xid of this request."""
        if self._xid is None or wire.opcode_of(datagram) != wire.Opcode.OACK:
            return False
        return _xid_of(datagram) == self._xid

    def _is_without_options(self, datagram: bytes | memoryview) -> bool:
        """Return whether it is an answer without options: DATA 1 to an RRQ, ACK 0 to a WRQ."""
        return datagram[: wire.HEADER_SIZE] == self._first_header


def _xid_of(oack: bytes | memoryview) -> str | None:
    """Return the xid of an OACK; None if it has none or is malformed."""
    try:
        return wire.parse_oack(bytes(oack)).get(XID)
    except TFTPError:
        return None
