"""Remember the requests that a newer request from the same address and port has replaced.

If a replaced request arrives again within a second, it is a late copy that the newer request has
overtaken. It must not be answered: the client could mistake the answer for that to its newer
request.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted_tftp.server.session import SessionKey

#: How long a replaced request is remembered, in seconds.
REMEMBERED_FOR = 1.0

#: The most requests that are remembered for one key.
MAX_REQUESTS = 4

#: The most keys that are remembered; a new key then replaces the oldest one.
MAX_KEYS = 1024


class ReplacedRequests:
    """The recently replaced requests of all peers, each with the time when it is forgotten.

    Only the hash of a request is kept, because a request may have 4,096 octets.

    @ivar until: for each key, the hashes of its replaced requests and when they are forgotten.
    """

    def __init__(self) -> None:
        self.until: OrderedDict[SessionKey, dict[int, float]] = OrderedDict()

    def add(self, key: SessionKey, request: bytes, now: float) -> None:
        """Note that a newer request has replaced `request`."""
        until = self.until.pop(key, {})
        until.pop(hash(request), None)
        until[hash(request)] = now + REMEMBERED_FOR
        if len(until) > MAX_REQUESTS:
            del until[next(iter(until))]
        self.until[key] = until
        if len(self.until) > MAX_KEYS:
            self.until.popitem(last=False)

    def has(self, key: SessionKey, request: bytes, now: float) -> bool:
        """Return whether `request` was replaced in the last `REMEMBERED_FOR` seconds."""
        until = self.until.get(key)
        return until is not None and now < until.get(hash(request), 0.0)
