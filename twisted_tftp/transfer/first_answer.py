"""Judge whether what answers a client's request was made for that request.

A server may still repeat its answer to an earlier request from the same address and port, and
another server may send to it. What tells them apart is the `xid`: a number of chance that the
request asks for as an option and that our server grants as it is. Other servers don't know it.
Where an xid was asked for, or any option, and the answer has none, the answer is in doubt for a
while: another one that says something else may follow, and one of the two is not for us. A server
that has answered so before, and was not contradicted, is believed at once.
"""

from __future__ import annotations

from enum import Enum

from twisted_tftp import wire
from twisted_tftp.errors import ErrorCode, TFTPError
from twisted_tftp.options import XID

#: Seconds for which an answer is in doubt at least.
LEAST_DOUBT = 0.05

#: Seconds for which it is in doubt where no round trip to the server is known.
DOUBT_WITHOUT_ROUND_TRIP = 0.4

#: Seconds for which it is in doubt at most.
LONGEST_DOUBT = 0.4


class Standing(Enum):
    """What speaks for the answer that was taken."""

    #: Nothing was taken yet.
    NONE = "none"
    #: It has the request's xid: only a server that has read the request could make it.
    PROVEN = "proven"
    #: It is what such a request is answered with by such a server.
    PLAUSIBLE = "plausible"
    #: An xid was asked for, and it is an OACK without one.
    UNPROVEN = "unproven"
    #: Options were asked for, and it has none.
    DOUBTFUL = "doubtful"


#: What another answer may contradict, so that nothing is to be committed for a while.
IN_DOUBT = frozenset((Standing.UNPROVEN, Standing.DOUBTFUL))


class FirstAnswer:
    """What is known of the answers to one request; it judges, and sends nothing.

    @ivar standing: a `Standing`.
    @ivar settled_at: until when another answer may contradict the one that was taken: before that
        nothing is to be committed if it is in doubt.
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
        self._taken = b""

    def is_foreign(self, datagram: bytes | memoryview, knows_xid: bool) -> bool:
        """Return whether `datagram` can't be the answer to this request.

        @param knows_xid: the server is known to grant an xid. (It has none in an ERROR.)
        """
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.OACK:
            xid = _xid_of(datagram)
            return xid != self._xid if xid is not None else knows_xid and self._xid is not None
        return knows_xid and self._xid is not None and self._is_plain(datagram)

    def take(
        self, answer: bytes, now: float, round_trip: float | None, lacks_xid: bool = False
    ) -> None:
        """Note the answer that the transfer goes on from.

        @param round_trip: seconds that a request of this server takes to be answered, as far as
            it is known; None where it is not.
        """
        self._taken = answer
        if wire.opcode_of(answer) != wire.Opcode.OACK:
            self.standing = Standing.DOUBTFUL if self._has_options else Standing.PLAUSIBLE
        elif self._xid is None or lacks_xid:
            self.standing = Standing.PLAUSIBLE
        else:
            proven = _xid_of(answer) == self._xid
            self.standing = Standing.PROVEN if proven else Standing.UNPROVEN
        wait = DOUBT_WITHOUT_ROUND_TRIP if round_trip is None else 2 * round_trip
        self.settled_at = now + min(max(wait, LEAST_DOUBT), LONGEST_DOUBT)

    def settle(self) -> None:
        """Take an answer in doubt for good: nothing has contradicted it."""
        if self.standing in IN_DOUBT:
            self.standing = Standing.PLAUSIBLE

    def is_contradicted(
        self, datagram: bytes | memoryview, now: float, *, same_port: bool, asked_twice: bool
    ) -> bool:
        """Return whether `datagram`, from the server's host, says something else.

        The same octets from a second port are no contradiction: most servers answer a request
        that was sent twice two times.

        @param same_port: it is from where the taken answer came from. What follows an OACK from
            there belongs to the transfer.
        @param asked_twice: the request was sent more than once.
        """
        if self.standing in (Standing.NONE, Standing.PROVEN) or datagram == self._taken:
            return False
        opcode = wire.opcode_of(datagram)
        if opcode == wire.Opcode.OACK:
            return not self.is_foreign(datagram, knows_xid=False)
        if opcode == wire.Opcode.ERROR:
            if same_port or now >= self.settled_at:
                return False
            # A second copy of a WRQ finds the file that the first one has made.
            made = wire.parse_error(datagram)[0] == ErrorCode.FILE_EXISTS
            return self._reading or not (asked_twice and made)
        if not self._is_plain(datagram):
            return False
        return not same_port or (self._reading and self._is_plain(self._taken))

    def _is_plain(self, datagram: bytes | memoryview) -> bool:
        """Whether it is the answer to a request without options: DATA 1, or ACK 0."""
        return datagram[: wire.HEADER_SIZE] == self._plain


def _xid_of(oack: bytes | memoryview) -> str | None:
    """Return the xid of an OACK; None where it has none, or is malformed."""
    try:
        return wire.parse_oack(bytes(oack)).get(XID)
    except TFTPError:
        return None
