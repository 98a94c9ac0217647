"""Remember requests that a newer request from the same address and port has replaced.

When one of them comes again soon after, the newer one has overtaken it on the way: it is no third
request, and its answer would be taken for the newer one's.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted_tftp.net.udp import SocketAddress

#: Seconds for which a replaced request is remembered.
REMEMBERED_FOR = 1.0

#: Requests of one address and port that are remembered at most.
MOST_REQUESTS = 4

#: Addresses with their ports that are remembered at most; the one of longest ago is forgotten.
MOST_PEERS = 1024


class OvertakenRequests:
    """The replaced requests of all peers, each until a moment."""

    def __init__(self) -> None:
        self._until: OrderedDict[SocketAddress, dict[bytes, float]] = OrderedDict()

    def add(self, peer: SocketAddress, request: bytes, now: float) -> None:
        """Note that `request` from `peer` was replaced."""
        until = self._until.pop(peer, {})
        until.pop(request, None)
        until[request] = now + REMEMBERED_FOR
        if len(until) > MOST_REQUESTS:
            del until[next(iter(until))]
        self._until[peer] = until
        if len(self._until) > MOST_PEERS:
            self._until.popitem(last=False)

    def has(self, peer: SocketAddress, request: bytes, now: float) -> bool:
        """Return whether `request` from `peer` was replaced a moment ago."""
        until = self._until.get(peer)
        return until is not None and now < until.get(request, 0.0)
