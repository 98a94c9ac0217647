"""Find the way to a server: its address, and the largest block that the way takes."""

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

#: The MTU where none is known.
ETHERNET = 1500


def largest_blksize(server: SocketAddress) -> int:
    """Return the octets of the largest block whose datagram the way to `server` takes whole.

    This host's word on the MTU is taken; where it has none, that of Ethernet.
    """
    six = len(server) == 4
    headers = (40 if six else 20) + 8 + wire.HEADER_SIZE
    mtu = ETHERNET
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(server)
            level, option = (socket.IPPROTO_IPV6, 24) if six else (socket.IPPROTO_IP, 14)
            mtu = sock.getsockopt(level, option)  # IPV6_MTU, IP_MTU
    except OSError:
        pass  # no way, as will be seen; or another system than Linux
    return max(MIN_BLKSIZE, min(MAX_BLKSIZE, mtu - headers))


def resolve(reactor: Any, host: str, port: int) -> SocketAddress | Deferred[SocketAddress]:
    """Return the socket address of `host`, its first one, or a Deferred of it.

    @raise DNSLookupError: there is no such host.
    """
    try:
        return numeric_address(host, port)
    except socket.gaierror:
        pass
    except UnicodeError:
        raise DNSLookupError(f"{host!r} is no name of a host") from None
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
                found.errback(DNSLookupError(f"there is no host {host}"))

    reactor.nameResolver.resolveHostName(Receiver(), host, port, transportSemantics="UDP")
    return found


def numeric_address(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host that is given by its address.

    @raise socket.gaierror: it is none.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    (*_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    return address
