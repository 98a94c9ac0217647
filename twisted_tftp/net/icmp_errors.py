"""Read what ICMP says of datagrams that an unconnected socket has sent (Linux: IP_RECVERR).

Only a connected socket hears of ICMP errors by itself; another one has to ask for them. They then
wait in a queue of their own, each with the address that the datagram was sent to. The next call
on the socket reports such an error too, instead of what it was to do.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Whether the system can be asked for ICMP errors.
AVAILABLE = sys.platform == "linux"

#: Errors that are read at a time; the socket stays readable while there are more.
MOST_AT_ONCE = 64

# Options and a flag that the socket module does not name.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_MSG_ERRQUEUE = 0x2000
# The beginning of a struct sock_extended_err: the errno, and who has made the error.
_ERROR = struct.Struct("@IB")
_ORIGIN_ICMP = 2
_ORIGIN_ICMP6 = 3
# Octets of a control message with the error and the address of who has sent it, and of another
# one with packet information.
_ANCILLARY_SIZE = socket.CMSG_SPACE(64) + socket.CMSG_SPACE(32)


class IcmpError(NamedTuple):
    """An error that a router or the peer's host has sent.

    @ivar peer: the socket address that the datagram was sent to.
    @ivar number: the errno, such as ECONNREFUSED for a closed port.
    @ivar ancillary: control messages, for packet information.
    """

    peer: Any
    number: int
    ancillary: list[tuple[int, int, bytes]]

    @property
    def is_refusal(self) -> bool:
        """Whether the peer's host says that nobody listens on the port."""
        return self.number == errno.ECONNREFUSED


def ask_for_errors(sock: socket.socket, wanted: bool = True) -> None:
    """Let the system queue ICMP errors of `sock`, or no longer."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, int(wanted))
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, int(wanted))


def read_errors(sock: socket.socket) -> Iterator[IcmpError]:
    """Read the ICMP errors that wait in the queue of `sock`, up to `MOST_AT_ONCE`."""
    for _ in range(MOST_AT_ONCE):
        try:
            _, ancillary, _, peer = sock.recvmsg(0, _ANCILLARY_SIZE, _MSG_ERRQUEUE)
        except OSError:
            return
        for level, kind, data in ancillary:
            if (level, kind) not in (
                (socket.IPPROTO_IP, _IP_RECVERR),
                (socket.IPPROTO_IPV6, _IPV6_RECVERR),
            ):
                continue
            number, origin = _ERROR.unpack_from(data)
            if origin in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
                yield IcmpError(peer, number, ancillary)
