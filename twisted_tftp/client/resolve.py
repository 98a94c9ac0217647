"""Find the addresses of a server, and the largest block size for the MTU of the route to it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
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


#: The socket addresses of one host, in the order in which they are asked.
Addresses = tuple[SocketAddress, ...]

#: The address types of Twisted for each address family.
_ADDRESS_TYPES: dict[socket.AddressFamily, list[type[IAddress]]] = {
    socket.AF_UNSPEC: [IPv4Address, IPv6Address],
    socket.AF_INET: [IPv4Address],
    socket.AF_INET6: [IPv6Address],
}

#: The name of each address family in messages.
_FAMILY_NAMES = {socket.AF_UNSPEC: "", socket.AF_INET: "IPv4 ", socket.AF_INET6: "IPv6 "}


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
    reactor: IReactorPluggableNameResolver,
    host: str,
    port: int,
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> Deferred[Addresses]:
    """Look up all socket addresses of `host`.

    Their order is that of the system, which prefers the address that is likely to be reached (RFC
    6724).

    @param family: the only address family to look for; AF_UNSPEC for both.
    @return: fires with at least one address. It fails with a `DNSLookupError` if there is none, if
        `host` is not a valid host name, or if it is an address of another family.
    """
    try:
        address = numeric_address(host, port)
    except socket.gaierror:
        pass
    except UnicodeError:
        return fail(DNSLookupError(f"{host!r} is not a valid host name"))
    else:
        if family not in (socket.AF_UNSPEC, family_of(address)):
            return fail(DNSLookupError(_not_found(host, family)))
        return succeed((address,))
    receiver = _AddressList(host, port, family)
    reactor.nameResolver.resolveHostName(
        receiver, host, port, _ADDRESS_TYPES[family], transportSemantics="UDP"
    )
    return receiver.found


def family_of(address: SocketAddress) -> socket.AddressFamily:
    """Return the address family of a socket address."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _not_found(host: str, family: socket.AddressFamily) -> str:
    return f"no {_FAMILY_NAMES[family]}address was found for the host {host}"


@implementer(IResolutionReceiver)
class _AddressList:
    """A receiver for Twisted's resolver that collects the addresses of a host.

    @ivar found: a Deferred that fires with the addresses.
    """

    def __init__(self, host: str, port: int, family: socket.AddressFamily) -> None:
        self.found: Deferred[Addresses] = Deferred()
        self._host = host
        self._port = port
        self._family = family
        self._addresses: dict[SocketAddress, None] = {}  # a set that keeps the order

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing."""

    def addressResolved(self, address: Any) -> None:  # an IPv4Address or an IPv6Address
        """Note an address."""
        host, *scope = numeric_address(address.host, self._port)
        if isinstance(address, IPv6Address) and address.scopeID:
            scope[-1] = int(address.scopeID)  # of a link-local address
        self._addresses[(host, *scope)] = None

    def resolutionComplete(self) -> None:
        """Return the addresses; fail if there is none."""
        if self.found.called:
            return  # it was cancelled
        if self._addresses:
            self.found.callback(tuple(self._addresses))
        else:
            self.found.errback(DNSLookupError(_not_found(self._host, self._family)))


def numeric_address(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host that is given as an IP address.

    @raise socket.gaierror: `host` is not an IP address.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    (*_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    return address
