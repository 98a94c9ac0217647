"""Find the MAC address of a host in the kernel's neighbour table, by netlink (Linux).

The neighbour table has the addresses that ARP and IPv6 neighbour discovery have found out:
ip-neighbour(8). The kernel is asked for one route and one neighbour: both answers are there when
the call that sends the request returns.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable

from twisted_tftp.net.host_cache import Entry, HostCache
from twisted_tftp.net.interface_addresses import index_of
from twisted_tftp.net.netlink import (
    MESSAGE,
    NLM_F_REQUEST,
    attribute,
    attributes_of,
    message,
    open_socket,
)

#: How long a MAC address is cached, in seconds: an address seldom moves to another machine.
KNOWN_SECONDS = 5.0

#: How long it is cached that the MAC address of a host is unknown, in seconds. The kernel may find
#: it out when the first answer is sent to the host.
UNKNOWN_SECONDS = 1.0

#: `struct rtmsg`: family, lengths of the two prefixes, TOS, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=8BI")

#: `struct ndmsg`: family, padding, index of the interface, state, flags, type.
_NEIGHBOUR = struct.Struct("=B3xiHBB")

#: The type of a message with a route.
_RTM_NEWROUTE = 24

#: The type of a request for a route.
_RTM_GETROUTE = 26

#: The type of a message with a neighbour.
_RTM_NEWNEIGH = 28

#: The type of a request for a neighbour (since Linux 5.0).
_RTM_GETNEIGH = 30

#: The attribute of a route with its destination.
_RTA_DST = 1

#: The attribute of a route with the index of its outgoing interface.
_RTA_OIF = 4

#: The attribute of a route with the address of a router of the same family.
_RTA_GATEWAY = 5

#: The attribute of a route with the address of a router of any family.
_RTA_VIA = 18

#: The type of a route that leads to another host.
_RTN_UNICAST = 1

#: The attribute of a neighbour with its IP address.
_NDA_DST = 1

#: The attribute of a neighbour with its link-layer address.
_NDA_LLADDR = 2

#: The state of an entry of an interface without ARP: its link-layer address may be our own.
#: (Entries that are incomplete or have failed have no link-layer address.)
_NUD_NOARP = 0x40

#: The size of a MAC address in octets. Other link layers, such as tunnels, have other addresses.
_MAC_SIZE = 6

#: The size of the buffer for an answer, in octets: each is much shorter.
_BUFFER_SIZE = 4096

#: The first octets of an IPv4 address that is mapped to IPv6 (RFC 4291 section 2.5.5.2).
_IPV4_MAPPED = bytes(10) + b"\xff\xff"

#: An index of an interface in an attribute.
_UINT = struct.Struct("=I")


class Neighbours:
    """The MAC addresses of the hosts that no router separates from this one.

    On other systems than Linux, and before Linux 5.0, no MAC address is known.
    """

    def __init__(
        self, interface: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Set up, without asking the kernel.

        @param interface: the only interface that the server uses; None for the routes of the host.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        self._interface = interface
        self._clock = clock
        self._cache: HostCache[str | None] = HostCache(self._look_up)

    def mac_of(self, host: str) -> str | None:
        """Return the MAC address of a host, such as `52:54:00:12:34:56`; None if it is unknown.

        It is unknown for hosts behind a router, for this host itself, and while ARP or neighbour
        discovery has no answer.

        @param host: an IP address, with `%scope` if it is an IPv6 link-local one.
        """
        return self._cache.get(host, self._clock())

    def _look_up(self, host: str, now: float) -> Entry[str | None]:
        mac = None
        with contextlib.suppress(OSError, ValueError, struct.error):
            mac = self._ask_kernel(host)
        return Entry(mac, now + (KNOWN_SECONDS if mac else UNKNOWN_SECONDS))

    def _ask_kernel(self, host: str) -> str | None:
        """Return the MAC address of a host; None if it is unknown.

        @raise OSError: the kernel can't be asked; or `host` is not an address, or has the scope of
            an interface that is gone.
        @raise ValueError: `host` contains a zero octet.
        @raise struct.error: an answer is not complete.
        """
        address, _, scope = host.partition("%")
        family, packed = _packed(address)
        with open_socket() as sock:
            sock.setblocking(False)
            if scope:
                index: int | None = int(scope) if scope.isdecimal() else index_of(scope)
            else:
                interface = index_of(self._interface) if self._interface else None
                index = _interface_towards(sock, family, packed, interface)
            return None if index is None else _mac_at(sock, family, packed, index)


def _packed(address: str) -> tuple[int, bytes]:
    """Return the family and the octets of an address; an IPv4-mapped one becomes IPv4."""
    if ":" not in address:
        return socket.AF_INET, socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address)
    if packed.startswith(_IPV4_MAPPED):
        return socket.AF_INET, packed[len(_IPV4_MAPPED) :]
    return socket.AF_INET6, packed


def _interface_towards(
    sock: socket.socket, family: int, packed: bytes, interface: int | None
) -> int | None:
    """Return the index of the interface of the route to an address; None behind a router.

    @param interface: the index of the interface that must be used; None for any.
    """
    header = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    attributes = attribute(_RTA_DST, packed)
    if interface is not None:
        attributes += attribute(_RTA_OIF, _UINT.pack(interface))
    body = _ask(sock, _RTM_GETROUTE, _RTM_NEWROUTE, header + attributes)
    if body is None or _ROUTE.unpack_from(body)[7] != _RTN_UNICAST:
        return None
    found = attributes_of(body[_ROUTE.size :])
    if _RTA_GATEWAY in found or _RTA_VIA in found or _RTA_OIF not in found:
        return None
    return int(_UINT.unpack(found[_RTA_OIF])[0])


def _mac_at(sock: socket.socket, family: int, packed: bytes, index: int) -> str | None:
    """Return the MAC address of a neighbour at an interface; None if it is unknown."""
    header = _NEIGHBOUR.pack(family, index, 0, 0, 0)
    body = _ask(sock, _RTM_GETNEIGH, _RTM_NEWNEIGH, header + attribute(_NDA_DST, packed))
    if body is None or _NEIGHBOUR.unpack_from(body)[2] == _NUD_NOARP:
        return None
    mac = attributes_of(body[_NEIGHBOUR.size :]).get(_NDA_LLADDR, b"")
    return mac.hex(":") if len(mac) == _MAC_SIZE else None


def _ask(sock: socket.socket, question: int, answer: int, body: bytes) -> bytes | None:
    """Send a request to the kernel, and return the body of its answer; None if it has none.

    @param question: the type of the request.
    @param answer: the type of the answer. A message of another type says that there is none.
    """
    sock.send(message(question, NLM_F_REQUEST, question, body))
    data = sock.recv(_BUFFER_SIZE)
    size, kind, _, number, _ = MESSAGE.unpack_from(data)
    return data[MESSAGE.size : size] if kind == answer and number == question else None
