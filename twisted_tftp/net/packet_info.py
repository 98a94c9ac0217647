"""Get the local address of received datagrams, and set the source of sent ones (IP_PKTINFO)."""

from __future__ import annotations

import socket
import struct
import sys

from twisted_tftp.net.addresses import SocketAddress

#: Control messages: (level, kind, octets).
Ancillary = list[tuple[int, int, bytes]]

#: The local address of a datagram (None if unknown), and whether the datagram may be answered.
Arrival = tuple[SocketAddress | None, bool]

#: The most control messages whose meaning is cached. A host has few addresses and interfaces.
MAX_CACHED = 64

#: Whether the options below exist; their numbers are those of Linux.
_IS_LINUX = sys.platform == "linux"

#: The option and control message with the local address of an IPv4 datagram. The socket module
#: defines it from Python 3.14 on.
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)

#: The control message with the local address of an IPv6 datagram.
_IPV6_PKTINFO = getattr(socket, "IPV6_PKTINFO", 50)

#: `struct in_pktinfo`: interface, local address, destination address.
_IN_PKTINFO = struct.Struct("@i4s4s")

#: `struct in6_pktinfo`: destination address, interface.
_IN6_PKTINFO = struct.Struct("@16si")

#: The local address in the packet information of an ICMP error: 0.0.0.0.
_UNSPECIFIED = bytes(4)

#: The size of the control messages of one datagram of either address family, in octets.
ANCILLARY_SIZE = socket.CMSG_SPACE(_IN6_PKTINFO.size) + socket.CMSG_SPACE(_IN_PKTINFO.size)


def ask_for_packet_info(sock: socket.socket) -> None:
    """Make the system report the local address of each datagram, if it can."""
    if not _IS_LINUX:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def source(local: SocketAddress | None, family: int) -> Ancillary:
    """Return the control messages of a datagram that is sent from the address `local`.

    @param local: None to let the system choose the source.
    """
    if local is None or not _IS_LINUX:
        return []
    if family == socket.AF_INET6:
        address = socket.inet_pton(socket.AF_INET6, local[0])
        info = _IN6_PKTINFO.pack(address, local[3] if len(local) > 3 else 0)
        return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)]
    info = _IN_PKTINFO.pack(0, socket.inet_aton(local[0]), bytes(4))
    return [(socket.IPPROTO_IP, _IP_PKTINFO, info)]


class Arrivals:
    """A parser of the control messages that come with datagrams; it caches its results."""

    def __init__(self, port: int, answers_broadcast: bool) -> None:
        """Set up.

        @param port: the number of the port.
        @param answers_broadcast: whether datagrams to IPv4 broadcast addresses may be answered.
        """
        self._port = port
        self._answers_broadcast = answers_broadcast
        self._known: dict[tuple[int, int, bytes], Arrival] = {}

    def of(self, ancillary: Ancillary) -> Arrival:
        """Return the local address of a datagram, and whether the datagram may be answered."""
        for message in ancillary:
            known = self._known.get(message)
            if known is not None:
                return known
            arrival = self._parse(*message)
            if arrival is not None:
                if len(self._known) >= MAX_CACHED:
                    self._known.clear()
                self._known[message] = arrival
                return arrival
        return None, True

    def _parse(self, level: int, kind: int, data: bytes) -> Arrival | None:
        """Return what a control message says about a datagram; None if it is of another kind.

        By default, requests to broadcast addresses are ignored (RFC 1123 section 4.2.3.5).
        Requests to multicast addresses always are.
        """
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, local, destination = _IN_PKTINFO.unpack(data)
            if local == _UNSPECIFIED:  # the control message of an ICMP error
                local = destination
            is_answered = local == destination or (
                self._answers_broadcast and not _is_ipv4_multicast(destination)
            )
            return (socket.inet_ntoa(local), self._port), is_answered
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            destination, interface = _IN6_PKTINFO.unpack(data)
            host = socket.inet_ntop(socket.AF_INET6, destination)
            scope = interface if destination[:2] == b"\xfe\x80" else 0
            return (host, self._port, 0, scope), destination[0] != 0xFF
        return None


def _is_ipv4_multicast(address: bytes) -> bool:
    return address[0] & 0xF0 == 0xE0
