"""Keep a request port bound to each address of a network interface, as addresses come and go."""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_tftp.net.interface_addresses import addresses_of
from twisted_tftp.net.request_port import RequestPort

#: Binds an address; returns the new port, or None if a port of this server is bound to it already.
Bind = Callable[[str], RequestPort | None]


class FollowedInterface:
    """The request ports on the addresses of one interface.

    @ivar name: the name of the interface.
    @ivar ports: the port of each address.
    """

    _log = Logger()

    def __init__(self, name: str, bind: Bind, unbind: Callable[[RequestPort], None]) -> None:
        """Set up, without a port.

        @param unbind: closes a port.
        """
        self.name = name
        self.ports: dict[str, RequestPort] = {}
        self._failed: set[str] = set()  # addresses whose failure was logged
        self._bind = bind
        self._unbind = unbind

    def bind_all(self, may_be_missing: bool) -> None:
        """Bind all addresses that the interface has now.

        @param may_be_missing: whether to wait for an interface that this host does not have yet.
        @raise OSError: there is no such interface.
        @raise CannotListenError: an address can't be bound.
        """
        try:
            addresses = addresses_of(self.name)
        except OSError as error:
            if error.errno != errno.ENODEV or not may_be_missing:
                raise
            addresses = []
        for address in addresses:
            self._bind_one(address)
        if not self.ports:
            self._log.info("waiting for an address of {name}", name=self.name)

    def release_gone(self) -> list[str]:
        """Close the ports of the addresses that are gone; return those that must be bound now."""
        try:
            addresses = addresses_of(self.name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                self._log.warn(
                    "can't find the addresses of {name}: {reason}",
                    name=self.name,
                    reason=error.strerror,
                )
                return []
            addresses = []  # the interface has disappeared
        for address in set(self.ports).difference(addresses):
            port = self.ports.pop(address)
            self._log.info("{address} is gone: no longer serving on it", address=address)
            self._unbind(port)
        self._failed.intersection_update(addresses)
        return addresses

    def bind_new(self, addresses: list[str]) -> None:
        """Bind the new ones of `addresses`, which L{release_gone} has returned."""
        for address in addresses:
            try:
                self._bind_one(address)
                self._failed.discard(address)
            except CannotListenError as error:
                self._log_failure(address, error)

    def _log_failure(self, address: str, error: CannotListenError) -> None:
        """Log why an address can't be bound, once, although it is tried at each later change."""
        if address not in self._failed:
            self._failed.add(address)
            self._log.warn(
                "can't listen on {address}, a new address of {name}: {reason}",
                address=address,
                name=self.name,
                reason=_reason(error.socketError),
            )

    def _bind_one(self, address: str) -> None:
        if address not in self.ports:
            port = self._bind(address)
            if port is not None:
                self.ports[address] = port


def _reason(error: Exception) -> str:
    """Return why a new address could not be bound."""
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, PermissionError):
        text += "; the server has no privilege to bind this port any more"
    return text
