"""Find the address of a server, and the largest block size for the MTU of the route to it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

from twisted_tftp.net.udp import SocketAddress
from twisted_tftp.policy import MAX_BLKSIZE, MIN_BLKSIZE
from twisted_tftp.protocol import wire

#: The MTU of Ethernet, in octets; it is assumed if the MTU is unknown.
ETHERNET_MTU = 1500

#: The length of an IPv4 header without options, in octets.
IPV4_HEADER = 20

#: The length of an IPv6 header without extensions, in octets.
IPV6_HEADER = 40

#: The length of a UDP header, in octets.
UDP_HEADER = 8

#: The socket option of Linux that returns the MTU of an IPv4 route (ip(7)).
IP_MTU = 14

#: The socket option of Linux that returns the MTU of an IPv6 route (ipv6(7)).
IPV6_MTU = 24


def largest_blksize(server: SocketAddress) -> int:
    """Return the largest block size in octets for which datagrams to `server` are not fragmented.

    It follows from the MTU that this host reports for the route, or else from that of Ethernet.
    """
    is_ipv6 = ":" in server[0]
    headers = (IPV6_HEADER if is_ipv6 else IPV4_HEADER) + UDP_HEADER + wire.HEADER_SIZE
    return max(MIN_BLKSIZE, min(MAX_BLKSIZE, _mtu_of_route(server, is_ipv6) - headers))


def _mtu_of_route(server: SocketAddress, is_ipv6: bool) -> int:
    if is_ipv6:
        family, level, option = socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_MTU
    else:
        family, level, option = socket.AF_INET, socket.IPPROTO_IP, IP_MTU
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(server)
            return sock.getsockopt(level, option)
    except OSError:
        return ETHERNET_MTU  # no route (the transfer will report it), or not Linux


def resolve(
    reactor: IReactorPluggableNameResolver, host: str, port: int
) -> SocketAddress | Deferred[SocketAddress]:
    """Return the first socket address of `host`, or a Deferred that fires with it.

    @raise DNSLookupError: `host` is not a valid host name. The Deferred fails with it if no
        address is found.
    """
    try:
        return numeric_address(host, port)
    except socket.gaierror:
        pass
    except UnicodeError:
        raise DNSLookupError(f"{host!r} is not a valid host name") from None
    receiver = _FirstAddress(host, port)
    reactor.nameResolver.resolveHostName(receiver, host, port, transportSemantics="UDP")
    return receiver.found


@implementer(IResolutionReceiver)
class _FirstAddress:
    """A receiver for Twisted's resolver that takes the first address of a host.

    @ivar found: a Deferred that fires with the first address.
    """

    def __init__(self, host: str, port: int) -> None:
        self.found: Deferred[SocketAddress] = Deferred()
        self._host = host
        self._port = port

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing."""

    def addressResolved(self, address: Any) -> None:  # an IPv4Address or an IPv6Address
        """Take the first address."""
        if not self.found.called:
            self.found.callback(numeric_address(address.host, self._port))

    def resolutionComplete(self) -> None:
        """Fail if there was no address."""
        if not self.found.called:
            text = f"no address was found for the host {self._host}"
            self.found.errback(DNSLookupError(text))


def numeric_address(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host that is given as an IP address.

    @raise socket.gaierror: `host` is not an IP address.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    (*_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    return address
