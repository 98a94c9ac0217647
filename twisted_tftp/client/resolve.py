"""Find the addresses of a server."""

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

from twisted_tftp.net.addresses import SocketAddress

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
