"""Decide which options the server grants, by its policy and by the route to the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.path_mtu import ETHERNET_BLKSIZE, MAX_HEADERS, fitting_blksize
from twisted_tftp.policy import DEFAULT_BLKSIZE, MAX_BLKSIZE, MtuFit, Policy
from twisted_tftp.protocol import options

#: Returns the MTU of the route to a peer from a local address: see `RouteMtus.mtu`.
FindMtu = Callable[[SocketAddress, SocketAddress | None], int | None]

#: The largest blksize that is lowered to fit the route, in octets, for each value of `--mtu-fit`.
#: Larger blocks are sent in IP fragments.
_LARGEST_FITTED = {
    MtuFit.AUTO: ETHERNET_BLKSIZE,
    MtuFit.ALWAYS: MAX_BLKSIZE,
    MtuFit.NEVER: 0,
}


def unknown_mtu(peer: SocketAddress, local: SocketAddress | None) -> None:
    """Return None: the MTU of no route is known."""


class Negotiation:
    """The rules by which a server grants options.

    Firmware asks for blocks that fit Ethernet, and often can't put IP fragments together. So a
    blksize that fits Ethernet is lowered to the largest one that the route to the client carries
    without fragments (`--mtu-fit`). A client that asks for a larger one wants fragments.
    """

    def __init__(self, policy: Policy, find_mtu: FindMtu) -> None:
        self._policy = policy
        self._find_mtu = find_mtu
        self._largest_fitted = _LARGEST_FITTED[policy.mtu_fit]

    def negotiate(
        self,
        requested: Mapping[str, str],
        peer: SocketAddress,
        local: SocketAddress | None,
        tsize: int | None,
        window_limit: int | None,
    ) -> options.Grant:
        """Return what is granted of the options of a request from `peer`.

        @param local: the local address that the request reached; None if unknown.
        @param tsize: see `options.negotiate`, as for the other parameters.
        """
        policy = self._policy
        grant = options.negotiate(requested, policy, tsize, window_limit)
        blksize = grant.blksize
        if DEFAULT_BLKSIZE < blksize <= self._largest_fitted:
            mtu = self._find_mtu(peer, local)
            if mtu is not None and mtu < blksize + MAX_HEADERS:
                limit = max(DEFAULT_BLKSIZE, fitting_blksize(peer, mtu))
                if limit < blksize:
                    return options.negotiate(requested, policy, tsize, window_limit, limit)
        return grant
