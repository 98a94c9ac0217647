"""Test the cache of what was found out about hosts."""

from __future__ import annotations

from twisted_tftp.net.host_cache import Entry, HostCache


class Lookups:
    """A look-up that counts its calls; its results are valid for 5 seconds."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def __call__(self, host: str, now: float) -> Entry[str]:
        self.hosts.append(host)
        return Entry(f"{host} at {now:g}", now + 5)


def test_result_is_kept_for_its_time() -> None:
    """A host is looked up again when its result is too old."""
    lookups = Lookups()
    cache = HostCache(lookups)
    assert [cache.get("a", now) for now in (0.0, 4.9, 5.0)] == ["a at 0", "a at 0", "a at 5"]
    assert lookups.hosts == ["a", "a"]


def test_number_of_hosts_is_bounded() -> None:
    """A new host replaces the one that was looked up first."""
    lookups = Lookups()
    cache = HostCache(lookups, max_hosts=2)
    for host in ("a", "b", "c", "b", "c"):
        cache.get(host, 0.0)
    assert lookups.hosts == ["a", "b", "c"]
    assert len(cache) == 2
    cache.get("a", 0.0)
    assert lookups.hosts == ["a", "b", "c", "a"]


def test_host_that_is_looked_up_again_is_not_the_oldest() -> None:
    """Its place in the cache is that of its new result."""
    lookups = Lookups()
    cache = HostCache(lookups, max_hosts=2)
    for host, now in (("a", 0.0), ("b", 1.0), ("a", 6.0), ("c", 6.0)):
        cache.get(host, now)
    assert cache.get("a", 6.0) == "a at 6"
