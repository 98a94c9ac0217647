"""Choose the ports that transfers use: a port for each transfer, or the request port for all."""

from __future__ import annotations

from typing import Any, Protocol

from twisted_tftp.net.request_port import RequestPort, SharedLink
from twisted_tftp.net.udp import Link, SocketAddress
from twisted_tftp.policy import Policy
from twisted_tftp.server.session import Key, ServerSession
from twisted_tftp.server.transfers import Transfers


class PortMode(Protocol):
    """The strategy for the ports of transfers, and everything that depends on it.

    @ivar serves_servers: whether a request from a server's port is served.
    """

    serves_servers: bool

    def start(self, transport: Any) -> None:
        """Prepare the request port `transport`.

        @raise TypeError: it can't do what this mode needs.
        """

    def open_link(self, peer: SocketAddress, local: SocketAddress | None, reading: bool) -> Link:
        """Return the link of a transfer with `peer`, which has asked the address `local`.

        @param reading: whether the peer reads a file.
        @raise OSError: no socket is left.
        """

    def owner(self, key: Key) -> ServerSession | None:
        """Return the session that takes what comes to the request port and is no request.

        @param key: (peer, local) of the datagram.
        """

    def catch_up(self, session: ServerSession) -> None:
        """Have a session receive what its peer sent before the request that is being admitted."""


class PortPerTransfer:
    """Give each transfer a port of its own (RFC 1350 section 4).

    Another server whose address was forged passes over what we send it: it is no request.
    """

    serves_servers = True

    def __init__(self, opener: Any, transfers: Transfers) -> None:
        """Open links with `opener`, a `LinkOpener` or what has its `open`."""
        self._opener = opener
        self._transfers = transfers

    def start(self, transport: Any) -> None:
        """Do nothing: each port can take requests."""

    def open_link(self, peer: SocketAddress, local: SocketAddress | None, reading: bool) -> Link:
        """Open a socket; if none is left, end complete writes to get their sockets."""
        link: Link
        try:
            link = self._opener.open(peer, local, reading)
        except OSError:
            # Writes that are complete hold sockets only to answer a repeated last block.
            if not self._transfers.end_dallying():
                raise
            link = self._opener.open(peer, local, reading)
        return link

    def owner(self, key: Key) -> None:
        """Return None: what a transfer receives comes to its own port."""

    def catch_up(self, session: ServerSession) -> None:
        """Read the session's socket: its peer's last ACK was sent before this request."""
        session.catch_up()


class SinglePort:
    """Let all transfers use the request port, so that a firewall needs to open one port only.

    Two servers of this mode would take each other for clients: forged requests could have them
    copy a file from one to the other.
    """

    serves_servers = False

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._port: RequestPort | None = None

    def start(self, transport: Any) -> None:
        """Make the buffers of the request port large enough for all transfers.

        @raise TypeError: it is no L{RequestPort}.
        """
        if not isinstance(transport, RequestPort):
            raise TypeError("single-port needs a port of twisted_tftp.net.request_port.listen")
        self._port = transport
        transport.share()

    def open_link(self, peer: SocketAddress, local: SocketAddress | None, reading: bool) -> Link:
        """Return a link through the request port."""
        assert self._port is not None, "the protocol has not started"
        return SharedLink(self._port, peer, local)

    def owner(self, key: Key) -> ServerSession | None:
        """Return the newest session between the two addresses."""
        return self._transfers.find(key)

    def catch_up(self, session: ServerSession) -> None:
        """Do nothing: what comes to one port is read in its order."""


def choose_port_mode(policy: Policy, opener: Any, transfers: Transfers) -> PortMode:
    """Return the mode that a policy asks for.

    @param opener: a `LinkOpener` or what has its `open`, for the ports of transfers.
    """
    return SinglePort(transfers) if policy.single_port else PortPerTransfer(opener, transfers)
