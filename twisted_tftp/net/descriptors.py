"""Ask the system how many file descriptors this process may open, and for more of them."""

from __future__ import annotations

import resource

#: Descriptors of a process that has no limit: more than any system gives.
UNLIMITED = 2**31


def descriptor_limit() -> int:
    """Return how many descriptors this process may open now (the soft RLIMIT_NOFILE)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else UNLIMITED


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit to `wanted`, or as near to it as the system allows; never lower it.

    @param wanted: descriptors that the process needs.
    @return: how many it may open after that.
    """
    limit = descriptor_limit()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if possible <= limit:
        return limit
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (OSError, ValueError):  # a sandbox without the system call
        return limit
    return possible
