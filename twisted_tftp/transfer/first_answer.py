"""Judge whether what answers a client's request was made for that request.

A server may still repeat its answer to an earlier request from the same address and port, and
another server may send to it. What tells them apart is the `xid`: a number of chance that the
request asks for as an option and that our server grants as it is. Other servers don't know it.
Where an xid was asked for, or any option, and the answer has none, the answer is in doubt: another
one that says something else may follow, and one of the two is not for us. A server that is known
to grant options without an xid is believed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from twisted_tftp.errors import ErrorCode, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID

#: Seconds for which a contradiction is waited for at least.
LEAST_DOUBT = 0.05

#: Seconds for which it is waited for where no round trip to the server is known.
DOUBT_WITHOUT_ROUND_TRIP = 0.4

#: Seconds for which it is waited for at most.
LONGEST_DOUBT = 0.4


class Standing(Enum):
    """How far the answer that was taken can be relied on."""

    #: No answer was taken yet.
    NONE = "none"
    #: It has the request's xid: only a server that has read the request could make it.
    PROVEN = "proven"
    #: Nothing speaks against it: it is used at once. Another answer before `settled_at` ends that.
    PLAUSIBLE = "plausible"
    #: An xid was asked for, and it is an OACK without one: nothing is to be committed.
    UNPROVEN = "unproven"
    #: Options were asked for, and it has none: nothing is to be committed.
    DOUBTFUL = "doubtful"
    #: It was confirmed, or nothing has contradicted it in time; only proof against it counts.
    SETTLED = "settled"


#: Where nothing is to be committed.
IN_DOUBT = frozenset((Standing.UNPROVEN, Standing.DOUBTFUL))


class XidSupport(Enum):
    """Whether a server knows the option `xid`."""

    #: It was not seen yet.
    UNKNOWN = "unknown"
    #: It answers with the xid of the request.
    GRANTED = "granted"
    #: It answers requests that ask for one without it.
    LACKING = "lacking"


@dataclass
class KnownServer:
    """What earlier transfers have shown of a server.

    @ivar xid: whether it knows the option.
    @ivar round_trip: seconds from a request to its answer; None where that is not known.
    """

    xid: XidSupport = XidSupport.UNKNOWN
    round_trip: float | None = None


class FirstAnswer:
    """What is known of the answers to one request; it judges, and sends nothing.

    @ivar standing: a `Standing`.
    @ivar taken: the answer that the transfer goes on from; empty before there is one.
    @ivar settled_at: when the doubt ends by itself, where no second request can be sent.
    """

    def __init__(self, *, reading: bool, has_options: bool, xid: str | None) -> None:
        """Know the request.

        @param reading: it is an RRQ.
        @param has_options: it asks for options.
        @param xid: the value of its xid; None where it asks for none.
        """
        self.standing = Standing.NONE
        self.settled_at = 0.0
        self._plain = wire.DATA_HEADERS[1] if reading else wire.ACKS[0]
        self._reading = reading
        self._has_options = has_options
        self._xid = xid
        self.taken = b""

    @property
    def asks_for_xid(self) -> bool:
        """Whether the request asks for an xid."""
        return self._xid is not None

    def is_foreign(self, datagram: bytes | memoryview, knows_xid: bool) -> bool:
        """Return whether `datagram` can't be the answer to this request.

        @param knows_xid: the server is known to grant an xid. (It has none in an ERROR.)
        """
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.OACK:
            xid = _xid_of(datagram)
            return xid != self._xid if xid is not None else knows_xid and self._xid is not None
        return knows_xid and self._xid is not None and self._is_plain(datagram)

    def take(self, answer: bytes, now: float, known: KnownServer) -> None:
        """Note the answer that the transfer goes on from.

        @param known: what is known of the server.
        """
        self.taken = answer
        if wire.opcode_of(answer) != wire.Opcode.OACK:
            self.standing = Standing.DOUBTFUL if self._has_options else Standing.PLAUSIBLE
        elif self._xid is None:
            self.standing = Standing.PLAUSIBLE
        elif _xid_of(answer) == self._xid:
            self.standing = Standing.PROVEN
        else:
            lacks_xid = known.xid is XidSupport.LACKING
            self.standing = Standing.PLAUSIBLE if lacks_xid else Standing.UNPROVEN
        round_trip = known.round_trip
        wait = DOUBT_WITHOUT_ROUND_TRIP if round_trip is None else 2 * round_trip
        self.settled_at = now + min(max(wait, LEAST_DOUBT), LONGEST_DOUBT)

    def settle(self) -> None:
        """Stop doubting the answer."""
        if self.standing is not Standing.PROVEN:
            self.standing = Standing.SETTLED

    def is_contradicted(
        self, datagram: bytes | memoryview, now: float, *, same_port: bool, asked_twice: bool
    ) -> bool:
        """Return whether `datagram`, from the server's host, says something else.

        The same octets from a second port are no contradiction: most servers answer a request
        that was sent twice two times.

        @param same_port: it came from the same port as the answer that was taken. What follows an
            OACK from there belongs to the transfer.
        @param asked_twice: the request was sent more than once, so that a server may have begun
            two transfers, one of which fails some time.
        """
        if self.standing in (Standing.NONE, Standing.PROVEN) or datagram == self.taken:
            return False
        if self.is_proof(datagram):
            return True  # however late it is, only a server that has read this request made it
        if self.standing is Standing.SETTLED:
            return False
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.OACK:
            return not self.is_foreign(datagram, knows_xid=False)
        if opcode == wire.Opcode.ERROR:
            if same_port or (asked_twice and now >= self.settled_at):
                return False
            # A second copy of a WRQ finds the file that the first one has made.
            made = wire.parse_error(datagram)[0] == ErrorCode.FILE_EXISTS
            return self._reading or not (asked_twice and made)
        if not self._is_plain(datagram):
            return False
        return not same_port or (self._reading and self._is_plain(self.taken))

    def is_proof(self, datagram: bytes | memoryview) -> bool:
        """Return whether `datagram` is an OACK with the xid of this request."""
        if self._xid is None or wire.opcode_of(datagram) != wire.Opcode.OACK:
            return False
        return _xid_of(datagram) == self._xid

    def _is_plain(self, datagram: bytes | memoryview) -> bool:
        """Whether it is the answer to a request without options: DATA 1, or ACK 0."""
        return datagram[: wire.HEADER_SIZE] == self._plain


def _xid_of(oack: bytes | memoryview) -> str | None:
    """Return the xid of an OACK; None where it has none, or is malformed."""
    try:
        return wire.parse_oack(bytes(oack)).get(XID)
    except TFTPError:
        return None
