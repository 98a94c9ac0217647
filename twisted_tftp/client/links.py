"""Open the sockets of a client, and run the hub that waits for them while there are any."""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.interfaces import IReactorFDSet

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.client_ports import ClientPorts
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.strangers import StrangerResponder
from twisted_tftp.net.udp import MAX_DATAGRAM

#: How long a client's hub polls idle sockets before it returns to the reactor, in seconds. It is
#: longer than the server's `BUSY_POLL`, because a server needs this time for a window of 64
#: blocks, and a client has little else to do. Transfers are 1.4 to 2 times as fast.
CLIENT_BUSY_POLL = 150e-6

#: A function that returns the link of a transfer. Its arguments are those of `ClientLink`.
BuildLink = Callable[
    [socket.socket, SocketAddress, Hub, StrangerResponder, memoryview, Callable[[], float]],
    ClientLink,
]


class ClientLinks:
    """Opens the links of one client; they share a hub, a buffer and a `StrangerResponder`."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        ports: ClientPorts,
        clock: Callable[[], float],
        build_link: BuildLink,
    ) -> None:
        """Set up, without opening a socket.

        @param ports: opens the sockets.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        self._reactor = reactor
        self._ports = ports
        self._clock = clock
        self._build_link = build_link
        self._hub: Hub | None = None
        self._responder = StrangerResponder()
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    def open(self, server: SocketAddress) -> ClientLink:
        """Return a link to `server` with a new socket.

        @raise OSError: the socket can't be opened.
        """
        sock = self._ports.open(server)
        if self._hub is None:
            self._hub = make_hub(self._reactor, CLIENT_BUSY_POLL)
        link = self._build_link(
            sock, server, self._hub, self._responder, self._buffer, self._clock
        )
        link.on_closed = self._ports.release
        return link

    def close_hub(self) -> None:
        """Close the hub, because all links are closed. The next link opens a new one."""
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.close()
