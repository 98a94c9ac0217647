"""Read the ICMP errors for datagrams that an unconnected socket has sent (Linux: IP_RECVERR).

By default, only connected sockets get ICMP errors. With IP_RECVERR, the system also puts the
errors of an unconnected socket into its error queue, each with the address that the datagram was
sent to. In addition, the next system call on the socket fails with such an error.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Whether this system can report ICMP errors of unconnected sockets.
AVAILABLE = sys.platform == "linux"

#: The most errors that are read in one call; the socket stays readable if there are more.
MAX_AT_ONCE = 64

# Options and a flag that the socket module does not define.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_MSG_ERRQUEUE = 0x2000
# The first fields of struct sock_extended_err: the errno, and the origin of the error.
_ERROR = struct.Struct("@IB")
_ORIGIN_ICMP = 2
_ORIGIN_ICMP6 = 3
# Octets of two control messages: the error with the address of its sender, and packet information.
_ANCILLARY_SIZE = socket.CMSG_SPACE(64) + socket.CMSG_SPACE(32)


class IcmpError(NamedTuple):
    """An ICMP error from a router or from the peer's host.

    @ivar peer: the socket address that the datagram was sent to.
    @ivar number: the errno, such as ECONNREFUSED for a closed port.
    @ivar ancillary: the control messages, with packet information.
    """

    peer: Any
    number: int
    ancillary: list[tuple[int, int, bytes]]

    @property
    def is_refusal(self) -> bool:
        """Whether the peer's host reports that the port is closed."""
        return self.number == errno.ECONNREFUSED


def ask_for_errors(sock: socket.socket, wanted: bool = True) -> None:
    """Start or stop queueing the ICMP errors of `sock`."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, int(wanted))
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, int(wanted))


def read_refusal(sock: socket.socket, peer: Any) -> bool:
    """Read the error queue of `sock`; return whether it says that the port of `peer` is closed."""
    refusals = [error.is_refusal and error.peer == peer for error in read_errors(sock)]
    return any(refusals)


def read_errors(sock: socket.socket) -> Iterator[IcmpError]:
    """Read the ICMP errors in the error queue of `sock`, up to `MAX_AT_ONCE`."""
    for _ in range(MAX_AT_ONCE):
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
