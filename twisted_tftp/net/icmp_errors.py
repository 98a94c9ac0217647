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
from typing import Any, NamedTuple

#: Whether this system can report ICMP errors of unconnected sockets.
AVAILABLE = sys.platform == "linux"

#: The most errors that are read in one call; the socket stays readable if there are more.
MAX_AT_ONCE = 64

#: The option of an IPv4 socket that fills its error queue; the socket module does not define it.
_IP_RECVERR = 11

#: The same option of an IPv6 socket.
_IPV6_RECVERR = 25

#: The flag of `recvmsg` that reads the error queue; the socket module does not define it.
_MSG_ERRQUEUE = 0x2000

#: The first fields of `struct sock_extended_err`: the errno, and the origin of the error.
_ERROR = struct.Struct("@IB")

#: The origin of an error that came as an ICMP message.
_ORIGIN_ICMP = 2

#: The origin of an error that came as an ICMPv6 message.
_ORIGIN_ICMP6 = 3

#: The size of two control messages in octets: the error with the address of its sender, and
#: packet information.
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
    def is_port_unreachable(self) -> bool:
        """Whether the error says that the peer's port is closed."""
        return self.number == errno.ECONNREFUSED


def ask_for_errors(sock: socket.socket, wanted: bool = True) -> None:
    """Start or stop queueing the ICMP errors of `sock`."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, int(wanted))
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, int(wanted))


def count_port_unreachable(sock: socket.socket, peer: Any) -> int:
    """Read the error queue of `sock`; return how many errors report `peer`'s port as closed."""
    count = 0
    for error in read_errors(sock):
        if error.is_port_unreachable and error.peer == peer:
            count += 1
    return count


def read_errors(sock: socket.socket) -> list[IcmpError]:
    """Read the ICMP errors in the error queue of `sock`, up to `MAX_AT_ONCE`."""
    errors: list[IcmpError] = []
    for _ in range(MAX_AT_ONCE):
        try:
            _, ancillary, _, peer = sock.recvmsg(0, _ANCILLARY_SIZE, _MSG_ERRQUEUE)
        except OSError:
            break
        for level, kind, data in ancillary:
            if (level, kind) not in (
                (socket.IPPROTO_IP, _IP_RECVERR),
                (socket.IPPROTO_IPV6, _IPV6_RECVERR),
            ):
                continue
            number, origin = _ERROR.unpack_from(data)
            if origin in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
                errors.append(IcmpError(peer, number, ancillary))
    return errors
