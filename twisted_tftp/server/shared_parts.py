"""The parts of a server that all its request ports share."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted_tftp.context import unknown_mac
from twisted_tftp.net.link_opener import LinkOpener
from twisted_tftp.net.neighbours import Neighbours
from twisted_tftp.net.socket_options import SocketOptions
from twisted_tftp.policy import Policy
from twisted_tftp.server.access import Access
from twisted_tftp.server.client_rules import ClientRule, ClientRules
from twisted_tftp.server.drop_log import DropLog
from twisted_tftp.server.negotiation import FindMtu, unknown_mtu
from twisted_tftp.server.transfers import Transfers
from twisted_tftp.server.unproven_rate import UnprovenRate
from twisted_tftp.session.deadlines import Alarms


@dataclass(frozen=True)
class SharedParts:
    """What the request ports of one server share: its limits hold for all ports together.

    @ivar opener: opens the sockets of transfers: a `LinkOpener`, or an object with its methods
        `open` and `close_idle`.
    @ivar find_mtu: returns the MTU of the route to a peer: see `RouteMtus.mtu`.
    @ivar find_mac: returns the MAC address of a host: see `Neighbours.mac_of`.
    @ivar client_rules: the rules for some clients.
    @ivar transfers: the running transfers.
    @ivar alarms: the timers of the transfers.
    @ivar access: which hosts may send requests, and how often.
    @ivar drop_log: the log of packets that are not served.
    @ivar socket_options: the options of all sockets.
    @ivar unproven_rate: limits what is sent to addresses that have not answered.
    """

    opener: Any
    find_mtu: FindMtu
    find_mac: Callable[[str], str | None]
    client_rules: ClientRules
    transfers: Transfers
    alarms: Alarms
    access: Access
    drop_log: DropLog
    socket_options: SocketOptions
    unproven_rate: UnprovenRate

    @classmethod
    def for_policy(
        cls,
        policy: Policy,
        reactor: Any,
        clock: Callable[[], float] = time.monotonic,
        opener: Any = None,
        client_rules: Iterable[ClientRule] = (),
        find_mac: Callable[[str], str | None] | None = None,
    ) -> SharedParts:
        """Return the parts of a new server with this policy.

        @param reactor: for timers and sockets.
        @param clock: returns the time in seconds of a monotonic clock.
        @param opener: opens the sockets of transfers; None for a `LinkOpener`. The MTU of a route
            is unknown with another opener.
        @param client_rules: the rules for some clients.
        @param find_mac: returns the MAC address of a host, or None. None for the neighbour table
            of the kernel; with another opener, no MAC address is known.
        @raise ValueError: two rules are for the same network or MAC address.
        """
        unproven_rate = UnprovenRate(policy.unproven_rate, clock)
        find_mtu: FindMtu = unknown_mtu
        if opener is None:
            opener = _make_opener(policy, reactor, clock, unproven_rate)
            find_mtu = opener.routes.mtu
            find_mac = find_mac or Neighbours(policy.interface, clock).mac_of
        find_mac = find_mac or unknown_mac
        rules = ClientRules(client_rules, find_mac)
        return cls(
            opener=opener,
            find_mtu=find_mtu,
            find_mac=find_mac,
            client_rules=rules,
            transfers=Transfers(),
            alarms=Alarms(reactor, clock),
            access=Access(policy, rules),
            drop_log=DropLog(reactor),
            socket_options=SocketOptions(policy.interface, policy.freebind),
            unproven_rate=unproven_rate,
        )

    def reconfigure(self, policy: Policy, client_rules: Iterable[ClientRule]) -> SharedParts:
        """Return the parts for another policy; sockets, transfers and what is counted stay.

        The limit for addresses that have not answered changes at once, for running transfers too.

        @param policy: its attributes that concern the sockets are as they were.
        @raise ValueError: two rules are for the same network or MAC address.
        """
        rules = ClientRules(client_rules, self.find_mac)
        self.unproven_rate.change_rate(policy.unproven_rate)
        return dataclasses.replace(
            self, client_rules=rules, access=Access(policy, rules, self.access)
        )


def _make_opener(
    policy: Policy, reactor: Any, clock: Callable[[], float], unproven_rate: UnprovenRate
) -> LinkOpener:
    """Return the object that opens the sockets for transfers."""
    return LinkOpener(
        reactor,
        policy.port_range,
        clock,
        options=SocketOptions(policy.interface, policy.freebind),
        may_answer=unproven_rate.take,
    )
