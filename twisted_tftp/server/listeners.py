"""Bind the request ports of a service, follow the addresses of interfaces, and close the ports."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_tftp.net.interface_addresses import AddressMonitor
from twisted_tftp.net.request_port import RequestPort, listen
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.followed_interface import FollowedInterface
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.server.start_error import StartError

#: The addresses to listen on if none is given: all of both families. An IPv6 socket receives IPv6
#: only, so that the local address of a request has the family of its peer.
ALL_ADDRESSES = ("0.0.0.0", "::")


class Listeners:
    """The request ports of a service: one for each address, with a L{TFTPServer} each.

    @ivar ports: the bound ports.
    @ivar servers: the server of each port.
    """

    def __init__(
        self,
        configuration: Configuration,
        shared: SharedParts,
        make_server: Callable[[], TFTPServer],
        reactor: Any,
        log: Logger,
    ) -> None:
        """Set up, without binding a port.

        @param configuration: says on which addresses and how to listen.
        @param make_server: returns the protocol of a new port.
        @param log: gets a line for each address that is served.
        """
        self.ports: list[RequestPort] = []
        self.servers: list[TFTPServer] = []
        # Not the configuration and the parts themselves: a reload replaces them.
        self._port = configuration.port
        self._hosts = configuration.host
        self._policy = configuration.policy
        self._opener = shared.opener
        self._socket_options = shared.socket_options
        self._make_server = make_server
        self._reactor = reactor
        self._log = log
        self._is_announcing = False  # whether new ports are announced at once
        self._interfaces: list[FollowedInterface] = []
        self._monitor: AddressMonitor | None = None
        self._closing: list[Deferred[Any]] = []  # the ports that are being closed
        # The closed ports of addresses that are gone, while transfers still use them.
        self._gone: WeakValueDictionary[str, RequestPort] = WeakValueDictionary()

    @property
    def are_bound(self) -> bool:
        """Whether ports are bound, or an interface is followed that has no address yet."""
        return bool(self.ports or self._interfaces)

    def bind_all(self) -> None:
        """Bind all ports.

        @raise StartError: one cannot be bound; the others are closed again.
        """
        hosts = self._hosts
        # Addresses come first, so that an interface may have one that is also given by itself.
        for host in sorted(hosts or ALL_ADDRESSES, key=_is_interface):
            try:
                self._listen(host)
            except CannotListenError as error:
                if not hosts and host == "::" and _family_is_missing(error.socketError):
                    continue
                self.stop_following()
                self.close()
                raise StartError(f"tftp: {_explain(host, self._port, error)}") from None

    def announce(self) -> None:
        """Log on which addresses the service serves, and from now on each new one."""
        self._is_announcing = True
        for port in self.ports:
            self._log_port(port)

    def stop_accepting(self) -> None:
        """Drop new requests, and follow no interface any more."""
        self.stop_following()
        for server in self.servers:
            server.is_accepting = False
        self.servers.clear()

    def close(self) -> Deferred[Any]:
        """Close all ports; the Deferred fires when they and those closed before are closed."""
        self._is_announcing = False
        ports, self.ports = self.ports, []
        return DeferredList(
            [*self._closing, *(maybeDeferred(port.stopListening) for port in ports)]
        )

    def stop_following(self) -> None:
        """Stop following the addresses of interfaces."""
        self._interfaces.clear()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def follow_interfaces(self) -> None:
        """Bind new addresses of the interfaces, and release those that are gone."""
        found = [(interface, interface.release_gone()) for interface in self._interfaces]
        # An address may have moved from one interface to another: its old port must be closed.
        DeferredList(self._closing).addCallback(lambda _: self._bind_new(found))

    def _listen(self, host: str) -> None:
        """Bind an address, or all addresses of an interface, and follow these from now on.

        @raise CannotListenError: an address can't be bound, or there is no such interface.
        """
        if not _is_interface(host):
            self._bind(host)
            return
        interface = FollowedInterface(host, self._bind_unless_bound, self._close_port)
        try:
            if self._monitor is None:
                self._monitor = AddressMonitor(self._reactor, self.follow_interfaces)
            interface.bind_all(may_be_missing=self._policy.freebind)
        except OSError as error:
            raise CannotListenError(host, self._port, error) from None
        self._interfaces.append(interface)

    def _bind_new(self, found: list[tuple[FollowedInterface, list[str]]]) -> None:
        """Bind the new addresses of each interface, unless the service is being stopped."""
        for interface, addresses in found:
            if interface in self._interfaces:
                interface.bind_new(addresses)

    def _bind_unless_bound(self, host: str) -> RequestPort | None:
        """Bind an address of an interface; return None if it is bound already."""
        if any(port.address == host for port in self.ports):
            return None
        port = self._bind(host)
        if self._is_announcing:
            self._log_port(port)
        return port

    def _log_port(self, port: RequestPort) -> None:
        self._log.info(
            "serving on {host} port {port}", host=port.address, port=port.getHost().port
        )

    def _bind(self, host: str) -> RequestPort:
        server = self._make_server()
        port = listen(
            *(self._reactor, self._port, server, host, self._opener.hub),
            options=self._socket_options,
            answers_broadcast=self._policy.broadcast,
        )
        self.ports.append(port)
        self.servers.append(server)
        gone = self._gone.pop(port.address, None)
        if gone is not None:
            gone.successor = port
        return port

    def _close_port(self, port: RequestPort) -> None:
        """Close one port, because its address is gone; its running transfers go on."""
        self.ports.remove(port)
        self.servers.remove(port.protocol)
        self._gone[port.address] = port
        closing = maybeDeferred(port.stopListening)
        self._closing.append(closing)
        closing.addCallback(lambda _: self._closing.remove(closing))


def _is_interface(host: str) -> bool:
    """Return whether an address to listen on is the name of an interface."""
    return not isIPAddress(host) and not isIPv6Address(host)


def _family_is_missing(error: Any) -> bool:
    """Return whether `error` means that this host has no IPv6."""
    return getattr(error, "errno", None) in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _explain(host: str, port: int, error: CannotListenError) -> str:
    """Return one line about a port that could not be bound."""
    reason = error.socketError
    text = getattr(reason, "strerror", None) or str(reason)
    if isinstance(reason, PermissionError):
        text = f"{text}; ports below 1024 need root or CAP_NET_BIND_SERVICE, or use --port"
    return f"can't listen on {host} port {port}: {text}"
