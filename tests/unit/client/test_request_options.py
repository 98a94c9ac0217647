"""Test which options a client asks for."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_tftp.client.request_options import RequestOptions, choose_none, largest_blksize
from twisted_tftp.context import Direction, Endpoint, TransferContext


class Link:
    """A link to a server on loopback, whose receive buffer has `room` octets."""

    server = ("127.0.0.1", 69)

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room

    def enlarge_buffer(self, octets: int) -> int:
        return self.room


def choose(
    size: int | None = None,
    *,
    direction: Direction = Direction.READ,
    mode: str = "octet",
    room: int = 1_000_000,
    blksize: int | None = 1428,
    windowsize: int = 16,
    timeout: float | None = None,
) -> dict[str, str]:
    """Return the chosen options without the xid."""
    context = TransferContext(Endpoint("127.0.0.1", 69), None, direction, b"file", mode, {})
    link: Any = Link(room)
    options = RequestOptions(blksize, windowsize, timeout).choose(context, size, link)
    assert len(options.pop("xid")) == 8
    return options


def test_options_are_in_the_order_of_the_request() -> None:
    """A client asks for blksize, windowsize, timeout and tsize, in this order."""
    options = choose(0, timeout=3)
    assert list(options.items()) == [
        ("blksize", "1428"),
        ("windowsize", "16"),
        ("timeout", "3"),
        ("tsize", "0"),
    ]


def test_each_request_has_its_own_xid() -> None:
    """Two requests with the same options have different xids."""
    context = TransferContext(Endpoint("::1", 69), None, Direction.WRITE, b"file", "octet", {})
    link: Any = Link()
    options = RequestOptions(512, 1, None)
    first, second = (options.choose(context, None, link) for _ in range(2))
    assert first["xid"] != second["xid"]


def test_default_blksize_fits_the_mtu_of_the_route() -> None:
    """Without a block size, the largest one for the MTU of the route is asked for."""
    assert choose(blksize=None)["blksize"] == "65464"


@pytest.mark.parametrize(
    ("timeout", "options"),
    [
        (1, {"timeout": "1"}),
        (255.0, {"timeout": "255"}),
        (256, {"utimeout": "256000000"}),
        (0.25, {"utimeout": "250000"}),
    ],
)
def test_timeout_that_is_not_in_rfc_2349_becomes_utimeout(
    timeout: float, options: dict[str, str]
) -> None:
    """Whole seconds from 1 to 255 are the option `timeout`, others are microseconds."""
    assert choose(timeout=timeout, windowsize=1) == {"blksize": "1428"} | options


@pytest.mark.parametrize(("room", "windowsize"), [(1432 * 4, "4"), (1432 * 4 - 1, "3")])
def test_window_of_a_download_fits_the_receive_buffer(room: int, windowsize: str) -> None:
    """A download asks for a window that fits the receive buffer; an upload needs no room."""
    assert choose(room=room)["windowsize"] == windowsize
    assert choose(room=room, direction=Direction.WRITE)["windowsize"] == "16"


def test_window_of_one_block_is_not_asked_for() -> None:
    """If only one block fits the receive buffer, there is no option `windowsize`."""
    assert "windowsize" not in choose(room=10)


def test_size_is_not_announced_in_netascii_mode() -> None:
    """The size of the local file is not that of its netascii, so there is no `tsize`."""
    assert "tsize" not in choose(100, direction=Direction.WRITE, mode="netascii")
    assert choose(100, direction=Direction.WRITE)["tsize"] == "100"


def test_request_without_options_is_that_of_rfc_1350() -> None:
    """`choose_none` returns no option, not even an xid."""
    context = TransferContext(Endpoint("::1", 69), None, Direction.READ, b"file", "octet", {})
    link: Any = Link()
    assert choose_none(context, 0, link) == {}


def test_largest_blksize_fits_the_mtu_of_loopback() -> None:
    """The largest block size on loopback is the largest that TFTP allows."""
    assert largest_blksize(("127.0.0.1", 69)) == 65464
    assert largest_blksize(("::1", 69, 0, 0)) == 65464
