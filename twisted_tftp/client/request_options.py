"""Choose the options of a client's request (RFC 2347)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum

from twisted_tftp.context import Direction, TransferContext
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.path_mtu import ETHERNET_MTU, fitting_blksize, mtu_of_route
from twisted_tftp.policy import MAX_BLKSIZE, MIN_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID

#: The length of an xid, in random octets.
XID_OCTETS = 4

#: The values of the option `timeout`, in seconds (RFC 2349).
TIMEOUT_VALUES = range(1, 256)


class OptionUse(Enum):
    """Whether the requests of a client ask for options (RFC 2347)."""

    #: They ask for none.
    NEVER = "never"
    #: They do, but not if the server answers only requests without options.
    DROPPABLE = "droppable"
    #: They always do, because the user has chosen options.
    ALWAYS = "always"


def make_xid() -> dict[str, str]:
    """Return the option `xid` with a random value: the server's answer repeats it."""
    return {XID: secrets.token_hex(XID_OCTETS)}


def largest_blksize(server: SocketAddress) -> int:
    """Return the largest block size in octets for which datagrams to `server` are not fragmented.

    It follows from the MTU that this host reports for the route, or else from that of Ethernet.
    """
    fitting = fitting_blksize(server, mtu_of_route(server) or ETHERNET_MTU)
    return max(MIN_BLKSIZE, min(MAX_BLKSIZE, fitting))


@dataclass(frozen=True)
class RequestOptions:
    """The options that a client asks for by default; `choose` is a `ChooseOptions` function.

    @ivar blksize: octets of a block; None for the largest that fits the MTU of the route.
    @ivar windowsize: blocks of a window; 1 asks for no windows.
    @ivar timeout: seconds to ask for; None to ask for none.
    """

    blksize: int | None
    windowsize: int
    timeout: float | None

    def choose(
        self, context: TransferContext, size: int | None, link: ClientLink
    ) -> dict[str, str]:
        """Return the options of one request, in the order to send them.

        @param size: the size of the file in octets; 0 for a download, None if unknown.
        @param link: the link of the transfer; a download may enlarge its receive buffer.
        """
        blksize = self.blksize or largest_blksize(link.server)
        options = {"blksize": str(blksize)}
        windowsize = self.windowsize
        if context.direction is Direction.READ and windowsize > 1:
            datagram = blksize + wire.HEADER_SIZE
            fitting = link.enlarge_buffer(windowsize * datagram) // datagram
            windowsize = min(windowsize, max(1, fitting))
        if windowsize > 1:
            options["windowsize"] = str(windowsize)
        if self.timeout is not None:
            if self.timeout in TIMEOUT_VALUES:
                options["timeout"] = str(int(self.timeout))
            else:
                options["utimeout"] = str(round(self.timeout * 1e6))
        if size is not None and context.mode == wire.OCTET:
            options["tsize"] = str(size)
        return options | make_xid()


def choose_none(context: TransferContext, size: int | None, link: ClientLink) -> dict[str, str]:
    """Return no options, for a request as in RFC 1350: a `ChooseOptions` function."""
    return {}
