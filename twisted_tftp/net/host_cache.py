"""Cache what was found out about hosts, for a limited time and a limited number of hosts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

#: The most hosts that a cache has by default: requests from forged addresses must not fill the
#: memory.
MAX_HOSTS = 4096

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Entry(Generic[_Value]):
    """What was found out about a host.

    @ivar value: the result.
    @ivar valid_until: when the host must be looked up again, in seconds of a monotonic clock.
    """

    value: _Value
    valid_until: float


class HostCache(Generic[_Value]):
    """A cache in front of a function that looks up a host."""

    def __init__(
        self, look_up: Callable[[str, float], Entry[_Value]], max_hosts: int = MAX_HOSTS
    ) -> None:
        """Set up an empty cache.

        @param look_up: looks up a host: (host, now).
        @param max_hosts: the most hosts that are kept; a new host then replaces the oldest one.
        """
        self._look_up = look_up
        self._max_hosts = max_hosts
        self._entries: OrderedDict[str, Entry[_Value]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of hosts in the cache."""
        return len(self._entries)

    def get(self, host: str, now: float) -> _Value:
        """Return what is known of `host`; look it up if it is new, or if its entry is too old.

        @param now: the time in seconds of a monotonic clock.
        """
        entry = self._entries.get(host)
        if entry is not None and now < entry.valid_until:
            return entry.value
        entry = self._look_up(host, now)
        self._entries[host] = entry
        self._entries.move_to_end(host)
        if len(self._entries) > self._max_hosts:
            self._entries.popitem(last=False)
        return entry.value
