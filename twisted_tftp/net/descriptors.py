"""Read and raise the limit of file descriptors of this process."""

from __future__ import annotations

import resource

#: The number that stands for no limit: more descriptors than any system allows.
UNLIMITED = 2**31


def descriptor_limit() -> int:
    """Return how many descriptors this process may open (the soft limit, RLIMIT_NOFILE)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else UNLIMITED


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit to `wanted`, or to the hard limit if that is lower; never lower it.

    @param wanted: the number of descriptors that the process needs.
    @return: the new limit.
    """
    limit = descriptor_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if possible <= limit:
        return limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (OSError, ValueError):  # a sandbox that forbids the system call
        return limit
    return possible
