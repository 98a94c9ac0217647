"""Find the addresses of the server of a client once, and remember which of them has answered."""

from __future__ import annotations

import socket

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorPluggableNameResolver

from twisted_tftp.client.resolve import Addresses, resolve
from twisted_tftp.net.addresses import SocketAddress


class ServerAddresses:
    """The socket addresses of one server, in the order in which they are asked.

    @ivar addresses: the addresses; empty before the first look-up.
    """

    def __init__(
        self,
        reactor: IReactorPluggableNameResolver,
        host: str,
        port: int,
        family: socket.AddressFamily,
    ) -> None:
        """Set up, without a look-up.

        @param family: the only address family to look for; AF_UNSPEC for both.
        """
        self.addresses: Addresses = ()
        self._reactor = reactor
        self._host = host
        self._port = port
        self._family = family

    def look_up(self) -> Deferred[Addresses]:
        """Return the addresses; they are looked up only once.

        @return: fails with a `DNSLookupError` if there is none.
        """
        if self.addresses:
            return succeed(self.addresses)
        looking_up = resolve(self._reactor, self._host, self._port, self._family)
        return looking_up.addCallback(self._note)

    def note_answer(self, address: SocketAddress) -> None:
        """Put `address`, which has answered, before all others."""
        if address != self.addresses[0]:
            others = (each for each in self.addresses if each != address)
            self.addresses = (address, *others)

    def _note(self, addresses: Addresses) -> Addresses:
        self.addresses = addresses
        return addresses
