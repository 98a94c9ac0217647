"""Test which block sizes a server grants, with regard to the route to the client."""

from __future__ import annotations

import pytest

from twisted_tftp.policy import MtuFit, Policy
from twisted_tftp.server.negotiation import Negotiation

IPV4 = ("192.0.2.1", 2000)
IPV6 = ("2001:db8::1", 2000, 0, 0)


def granted(
    requested: dict[str, str],
    mtu: int | None,
    peer: tuple[object, ...] = IPV4,
    mtu_fit: MtuFit = MtuFit.AUTO,
    max_blksize: int = 65464,
) -> dict[str, str]:
    """Return the options that are granted to a peer whose route has this MTU."""
    policy = Policy(mtu_fit=mtu_fit, max_blksize=max_blksize)
    negotiation = Negotiation(policy, lambda peer, local: mtu)
    grant = negotiation.negotiate(requested, peer, None, tsize=None, window_limit=None)
    return dict(grant.accepted)


@pytest.mark.parametrize(
    ("peer", "asked", "mtu", "expected"),
    [
        (IPV4, 1468, 1500, 1468),
        (IPV4, 1468, 1400, 1368),
        (IPV4, 1432, 1400, 1368),
        (IPV4, 1300, 1400, 1300),
        (IPV4, 1468, None, 1468),
        (IPV4, 1468, 500, 512),
        (IPV4, 513, 68, 512),
        (IPV4, 512, 68, 512),
        (IPV4, 8, 68, 8),
        (IPV4, 1469, 1400, 1469),
        (IPV4, 65464, 1400, 65464),
        (IPV6, 1468, 1500, 1448),
        (IPV6, 1448, 1500, 1448),
        (IPV6, 1428, 1280, 1228),
        (IPV6, 4096, 1280, 4096),
    ],
)
def test_block_that_fits_ethernet_fits_the_route(
    peer: tuple[object, ...], asked: int, mtu: int | None, expected: int
) -> None:
    """A block of up to 1468 octets is lowered to what fits the route, but not below 512."""
    assert granted({"blksize": str(asked)}, mtu, peer) == {"blksize": str(expected)}


def test_power_of_two_fits_the_route() -> None:
    """The option blksize2 gets the largest power of two that fits."""
    assert granted({"blksize2": "1024"}, 1000) == {"blksize2": "512"}


def test_limit_of_the_operator_fits_the_route() -> None:
    """A block that --max-blksize has lowered to fit Ethernet fits the route too."""
    assert granted({"blksize": "8192"}, 1400, max_blksize=1468) == {"blksize": "1368"}


def test_every_block_fits_the_route_if_wanted() -> None:
    """With `always` larger blocks are lowered too; with `never` none is."""
    assert granted({"blksize": "8192"}, 1400, mtu_fit=MtuFit.ALWAYS) == {"blksize": "1368"}
    assert granted({"blksize": "1468"}, 1400, mtu_fit=MtuFit.NEVER) == {"blksize": "1468"}


def test_other_options_are_granted_as_usual() -> None:
    """A lowered block does not change the window, the xid or the order of the options."""
    requested = {"windowsize": "4", "blksize": "1468", "timeout": "2", "xid": "ab"}
    expected = {"windowsize": "4", "blksize": "1368", "timeout": "2"}
    assert list(granted(requested, 1400).items()) == list(expected.items())


def test_route_is_not_looked_up_for_small_blocks() -> None:
    """The MTU is not asked for if the client asks for no block, or for one of 512 octets."""

    def fail(peer: object, local: object) -> int:
        raise AssertionError("the MTU was asked for")

    negotiation = Negotiation(Policy(), fail)
    for requested in ({}, {"blksize": "512"}, {"tsize": "0"}, {"blksize": "8192"}):
        negotiation.negotiate(requested, IPV4, None, tsize=None, window_limit=None)
