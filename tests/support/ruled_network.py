"""A server in memory that has client rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any

from twisted_tftp.context import unknown_mac
from twisted_tftp.policy import Policy
from twisted_tftp.server.access import Access
from twisted_tftp.server.client_rules import ClientRule, ClientRules, ClientSettings
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.testing import MemoryLink, MemoryNetwork


def network_rule(network: str, **settings: Any) -> ClientRule:
    """Return a rule for a network."""
    return ClientRule(ClientSettings(**settings), network=ip_network(network))


def mac_rule(mac: str, **settings: Any) -> ClientRule:
    """Return a rule for a MAC address."""
    return ClientRule(ClientSettings(**settings), mac=mac)


class RuledNetwork(MemoryNetwork):
    """A server in memory with client rules, and its clients."""

    def __init__(
        self,
        backend: Any,
        rules: Sequence[ClientRule],
        policy: Policy | None = None,
        find_mac: Callable[[str], str | None] = unknown_mac,
        **settings: Any,
    ) -> None:
        """Set up.

        @param settings: further arguments of L{TFTPServer}.
        """

        def make_server(
            backend: Any, policy: Policy | None, *, shared: SharedParts, **parts: Any
        ) -> TFTPServer:
            client_rules = ClientRules(rules, find_mac)
            shared = dataclasses.replace(
                shared,
                client_rules=client_rules,
                find_mac=find_mac,
                access=Access(policy or Policy(), client_rules),
            )
            return TFTPServer(backend, policy, shared=shared, **parts, **settings)

        super().__init__(backend, policy, make_server)

    def ask(self, datagram: bytes, host: str, port: int = 2000) -> MemoryLink | None:
        """Send a request from a host; return the link of its transfer, or None if it has none."""
        before = len(self.links)
        local: Any = ("192.0.2.254", 69)
        peer: Any = (host, port)
        if ":" in host:
            address, _, scope = host.partition("%")
            local, peer = ("2001:db8::fe", 69, 0, 0), (address, port, 0, int(scope or 0))
        self.server.received(datagram, peer, local)
        return self.links[-1] if len(self.links) > before else None

    def answer(self, datagram: bytes, host: str, port: int = 2000) -> bytes:
        """Send a request from a host; return the first datagram of the answer."""
        link = self.ask(datagram, host, port)
        assert link is not None, "the request was dropped"
        return link.take()[0]
