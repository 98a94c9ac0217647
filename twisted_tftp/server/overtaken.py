"""Remember the requests that a newer request from the same address and port has replaced.

If a replaced request arrives once more within a second, it is a late copy and not a new request.
The client would take the answer to it for the answer to its newer request.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted_tftp.net.udp import SocketAddress

#: The socket address of a peer, and the local one that its request reached.
RequestKey = tuple[SocketAddress, SocketAddress | None]

#: How long a replaced request is remembered, in seconds.
REMEMBERED_FOR = 1.0

#: The most requests that are remembered for one key.
MAX_REQUESTS = 4

#: The most keys that are remembered; a new key then replaces the oldest one.
MAX_KEYS = 1024


class OvertakenRequests:
    """The recently replaced requests of all peers, each with the time at which it is forgotten.

    Only the hash of a request is kept, because a request may have 4,096 octets.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[RequestKey, dict[int, float]] = OrderedDict()

    def add(self, key: RequestKey, request: bytes, now: float) -> None:
        """Note that `request` was replaced."""
        until = self._until.pop(key, {})
        until.pop(hash(request), None)
        until[hash(request)] = now + REMEMBERED_FOR
        if len(until) > MAX_REQUESTS:
            del until[next(iter(until))]
        self._until[key] = until
        if len(self._until) > MAX_KEYS:
            self._until.popitem(last=False)

    def has(self, key: RequestKey, request: bytes, now: float) -> bool:
        """Return whether `request` was replaced a moment ago."""
        until = self._until.get(key)
        return until is not None and now < until.get(hash(request), 0.0)
