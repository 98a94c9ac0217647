"""Find the address of a server, and the largest block size for the MTU of the route to it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer

from twisted_tftp.net.udp import SocketAddress
from twisted_tftp.policy import MAX_BLKSIZE, MIN_BLKSIZE
from twisted_tftp.protocol import wire

#: The MTU of Ethernet, in octets; it is assumed if the MTU is unknown.
ETHERNET_MTU = 1500


def largest_blksize(server: SocketAddress) -> int:
    """Return the largest block size in octets for which datagrams to `server` are not fragmented.

    It follows from the MTU that this host reports for the route, or else from that of Ethernet.
    """
    six = len(server) == 4
    headers = (40 if six else 20) + 8 + wire.HEADER_SIZE
    mtu = ETHERNET_MTU
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(server)
            level, option = (socket.IPPROTO_IPV6, 24) if six else (socket.IPPROTO_IP, 14)
            mtu = sock.getsockopt(level, option)  # IPV6_MTU, IP_MTU
    except OSError:
        pass  # no route (the transfer will report it), or not Linux
    return max(MIN_BLKSIZE, min(MAX_BLKSIZE, mtu - headers))


def resolve(reactor: Any, host: str, port: int) -> SocketAddress | Deferred[SocketAddress]:
    """Return the first socket address of `host`, or a Deferred that fires with it.

    @raise DNSLookupError: there is no such host.
    """
    try:
        return numeric_address(host, port)
    except socket.gaierror:
        pass
    except UnicodeError:
        raise DNSLookupError(f"{host!r} is not a valid host name") from None
    found: Deferred[SocketAddress] = Deferred()

    @implementer(IResolutionReceiver)
    class Receiver:
        def resolutionBegan(self, resolution: Any) -> None:
            pass

        def addressResolved(self, address: Any) -> None:
            if not found.called:
                found.callback(numeric_address(address.host, port))

        def resolutionComplete(self) -> None:
            if not found.called:
                found.errback(DNSLookupError(f"no address was found for the host {host}"))

    reactor.nameResolver.resolveHostName(Receiver(), host, port, transportSemantics="UDP")
    return found


def numeric_address(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host that is given as an IP address.

    @raise socket.gaierror: `host` is not an IP address.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    (*_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    return address
