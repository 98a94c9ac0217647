"""Parse the addresses of hosts."""

from __future__ import annotations

import ipaddress


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IP address of `host` without its scope; an IPv4-mapped address becomes IPv4.

    @raise ValueError: `host` is not an IP address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
