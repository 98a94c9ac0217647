"""Remember requests that a newer request from the same address and port has replaced.

When one of them comes again soon after, it is the old request that arrives late, and not a new
one; its answer would be taken for the newer one's.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted_tftp.net.udp import SocketAddress

#: The socket address of a peer, and the local one that its request reached.
Key = tuple[SocketAddress, SocketAddress | None]

#: Seconds for which a replaced request is remembered.
REMEMBERED_FOR = 1.0

#: Requests of one key that are remembered at most.
MOST_REQUESTS = 4

#: Keys that are remembered at most; the one of longest ago is forgotten.
MOST_KEYS = 1024


class OvertakenRequests:
    """The replaced requests of all peers, each until a moment.

    Of a request its hash is kept: it may have 4,096 octets.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[Key, dict[int, float]] = OrderedDict()

    def add(self, key: Key, request: bytes, now: float) -> None:
        """Note that `request` was replaced."""
        until = self._until.pop(key, {})
        until.pop(hash(request), None)
        until[hash(request)] = now + REMEMBERED_FOR
        if len(until) > MOST_REQUESTS:
            del until[next(iter(until))]
        self._until[key] = until
        if len(self._until) > MOST_KEYS:
            self._until.popitem(last=False)

    def has(self, key: Key, request: bytes, now: float) -> bool:
        """Return whether `request` was replaced a moment ago."""
        until = self._until.get(key)
        return until is not None and now < until.get(hash(request), 0.0)
