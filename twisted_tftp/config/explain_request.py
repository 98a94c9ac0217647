"""Explain how a read request would be answered: `twistd tftp --explain ADDRESS NAME`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from twisted.internet.defer import inlineCallbacks, maybeDeferred

from twisted_tftp.backends.explaining import explain
from twisted_tftp.config.build import Built
from twisted_tftp.config.quantity_types import SizePerSecond
from twisted_tftp.config.settings import Settings
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.net.neighbours import Neighbours
from twisted_tftp.net.path_mtu import RouteMtus
from twisted_tftp.net.scoped_hosts import socket_address_of
from twisted_tftp.net.socket_options import SocketOptions
from twisted_tftp.policy import MAX_BLKSIZE, MAX_WINDOWSIZE, Policy
from twisted_tftp.protocol.printable import printable
from twisted_tftp.server.access import Networks
from twisted_tftp.server.addresses import parse_address
from twisted_tftp.server.client_rules import ClientRules
from twisted_tftp.server.negotiation import Negotiation

#: The port of the client that asks; any port gets the same answer.
CLIENT_PORT = 49152

#: The options of a client that asks for everything.
ALL_OPTIONS = {
    "blksize": str(MAX_BLKSIZE),
    "windowsize": str(MAX_WINDOWSIZE),
    "timeout": "5",
    "tsize": "0",
}


@dataclass(frozen=True)
class Explanation:
    """How a request would be answered.

    @ivar lines: what the operator reads, the first step first.
    @ivar is_served: whether the client would get the file.
    """

    lines: tuple[str, ...]
    is_served: bool


@inlineCallbacks
def explain_request(settings: Settings, built: Built, host: str, name: str) -> Any:
    """Explain the answer to a read request; return a Deferred of an L{Explanation}.

    @param host: the IP address of the client; a link-local one may have a scope.
    @param name: the file name, as the command line gives it.
    @raise ValueError: `host` is no IP address.
    """
    try:
        parse_address(host)
        peer = socket_address_of(host, CLIENT_PORT)
    except (ValueError, OSError):
        raise ValueError(f"explain must be an IP address and a name, not {host!r}") from None
    configuration = built.configuration
    lines = [f"request: {host} reads {printable(name)}"]
    if not Networks(settings.policy.allow, settings.policy.deny).allows(host):
        return Explanation((*lines, "not answered: allow and deny exclude this address"), False)
    find_mac = Neighbours(settings.policy.interface).mac_of
    rules = ClientRules(configuration.client_rules, find_mac)
    lines += _rule_lines(settings, rules, host)
    client = rules.look_up(host, monotonic()).value
    backend = configuration.backend
    if client.needs_backend and configuration.backend_for is not None:
        backend = configuration.backend_for(client.root, client.max_rate)
    context = TransferContext(
        peer=Endpoint(host, CLIENT_PORT),
        local=None,
        direction=Direction.READ,
        filename=os.fsencode(name),
        mode="octet",
        options=ALL_OPTIONS,
        uploads=client.uploads(configuration.uploads),
        find_mac=find_mac,
    )
    lines += yield explain(backend, context.path, context)
    try:
        reader = yield maybeDeferred(backend.open_reader, context.path, context)
    except Exception:  # the lines say which one
        return Explanation(tuple(lines), False)
    size = reader.size
    reader.close()
    lines += _rate_lines(client.max_rate, settings.max_rate)
    lines.append(_options_line(client.policy(settings.policy), peer, size))
    return Explanation(tuple(lines), True)


def _rule_lines(settings: Settings, rules: ClientRules, host: str) -> Iterator[str]:
    """Return a line for each key of a client rule that holds for `host`, with its place."""
    places = {
        f"client rule for {rule}:": client.place
        for rule, client in zip(rules.rules, settings.clients, strict=True)
    }
    for line in rules.describe(host):
        (place,) = (place for start, place in places.items() if line.startswith(start))
        yield f"{line} ({place})"


def _rate_lines(of_each: int | None, of_all: int | None) -> Iterator[str]:
    """Return a line with the limits of octets per second; nothing if there are none."""
    limits = [(of_each, "for this transfer"), (of_all, "for all transfers together")]
    shown = [f"{SizePerSecond().format(rate)} {what}" for rate, what in limits if rate is not None]
    if shown:
        yield f"max_rate: {', '.join(shown)}"


def _options_line(policy: Policy, peer: Any, size: int | None) -> str:
    """Return what is granted to a client that asks for all options."""
    mtus = RouteMtus(options=SocketOptions(policy.interface, policy.freebind))
    negotiation = Negotiation(policy, mtus.mtu)
    grant = negotiation.negotiate(ALL_OPTIONS, peer, None, tsize=size, window_limit=None)
    mtus.close()
    granted = " ".join(f"{key}={value}" for key, value in grant.accepted)
    return f"options: {granted or 'none'}"
