"""Choose the ports that transfers use: a port for each transfer, or the request port for all."""

from __future__ import annotations

from typing import Any, Protocol

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.request_port import RequestPort
from twisted_tftp.net.shared_link import SharedLink
from twisted_tftp.net.udp import Link
from twisted_tftp.policy import Policy
from twisted_tftp.server.session import ServerSession, SessionKey
from twisted_tftp.server.transfers import Transfers


class PortMode(Protocol):
    """Which ports the transfers use, and everything that depends on that.

    @ivar allows_server_ports: whether a request from a server's port is served.
    """

    allows_server_ports: bool

    def start(self, transport: Any) -> None:
        """Prepare the request port `transport`.

        @raise TypeError: this mode does not work with a port of that class.
        """

    def open_link(self, peer: SocketAddress, local: SocketAddress | None, is_read: bool) -> Link:
        """Return the link of a transfer with `peer`.

        @param local: the local address that the request reached; None if unknown.
        @param is_read: whether the peer reads a file.
        @raise OSError: no socket can be opened.
        """

    def find_session(self, key: SessionKey) -> ServerSession | None:
        """Return the session that uses the request port and has this key.

        It receives the datagrams to the request port that are not requests.

        @param key: (peer, local) of a datagram.
        @return: None if there is none, and in the mode in which no session uses the request port.
        """

    def receive_waiting(self, session: ServerSession) -> None:
        """Let a session receive the datagrams that its peer sent before the current request."""


class PortPerTransfer:
    """Give each transfer a port of its own (RFC 1350 section 4).

    Requests from port 69 are served. If such a request is forged, the server at that address
    ignores our answers, because they are not requests.
    """

    allows_server_ports = True

    def __init__(self, opener: Any, transfers: Transfers) -> None:
        """Set up.

        @param opener: opens links: a `LinkOpener`, or another object with its method `open`.
        @param transfers: the running transfers.
        """
        self._opener = opener
        self._transfers = transfers

    def start(self, transport: Any) -> None:
        """Do nothing: any port can receive requests."""

    def open_link(self, peer: SocketAddress, local: SocketAddress | None, is_read: bool) -> Link:
        """Open a socket; if none is left, end complete writes to release their sockets."""
        link: Link
        try:
            link = self._opener.open(peer, local, is_read)
        except OSError:
            # Complete writes keep their sockets only to answer a repeated last block.
            if not self._transfers.end_dallying():
                raise
            link = self._opener.open(peer, local, is_read)
        return link

    def find_session(self, key: SessionKey) -> None:
        """Return None: each transfer receives on its own port."""

    def receive_waiting(self, session: ServerSession) -> None:
        """Read the session's socket, which may hold an ACK that was sent before this request."""
        session.receive_waiting()


class SinglePort:
    """Let all transfers use the request port, so that a firewall must open one port only.

    In this mode a server's answers come from its request port. So two such servers would accept
    each other's answers as packets of a client, and a forged request could make one of them send
    its files to the other. So requests from a server's port are dropped.
    """

    allows_server_ports = False

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._port: RequestPort | None = None

    def start(self, transport: Any) -> None:
        """Make the buffers of the request port large enough for all transfers.

        @raise TypeError: `transport` is not a L{RequestPort}.
        """
        if not isinstance(transport, RequestPort):
            raise TypeError("single_port needs a port of twisted_tftp.net.request_port.listen")
        self._port = transport
        transport.prepare_for_transfers()

    def open_link(self, peer: SocketAddress, local: SocketAddress | None, is_read: bool) -> Link:
        """Return a link through the request port."""
        assert self._port is not None, "the protocol has not started"
        return SharedLink(self._port, peer, local)

    def find_session(self, key: SessionKey) -> ServerSession | None:
        """Return the newest session between the two addresses."""
        return self._transfers.find(key)

    def receive_waiting(self, session: ServerSession) -> None:
        """Do nothing: the datagrams of one port are read in the order of their arrival."""


def choose_port_mode(policy: Policy, opener: Any, transfers: Transfers) -> PortMode:
    """Return the mode that a policy selects.

    @param opener: see L{PortPerTransfer}.
    """
    return SinglePort(transfers) if policy.single_port else PortPerTransfer(opener, transfers)
