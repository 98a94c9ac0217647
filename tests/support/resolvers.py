"""A resolver of host names that knows the names of a test."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer


@implementer(IHostnameResolver)
class TestResolver:
    """A resolver that finds the addresses of one name at once, in the given order.

    @ivar look_ups: how many times a name was looked up.
    """

    __test__ = False

    def __init__(self, *hosts: str) -> None:
        """Set up a resolver.

        @param hosts: the addresses of every name.
        """
        self.look_ups = 0
        self._hosts = hosts

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Tell the receiver the addresses of the wanted types."""
        self.look_ups += 1
        resolutionReceiver.resolutionBegan(None)
        for host in self._hosts:
            kind = IPv6Address if ":" in host else IPv4Address
            if addressTypes is None or kind in addressTypes:
                (*_, address), *_ = socket.getaddrinfo(host, portNumber, type=socket.SOCK_DGRAM)
                resolutionReceiver.addressResolved(kind("UDP", *address))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver
