"""Find the address of a server."""

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
