"""What a transfer of a client uses of the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted_tftp.context import TransferContext
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.policy import Policy
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.first_answer import KnownServer

#: A function that returns the options of a request, in the order to send them. Its arguments are
#: the context of the request, the octets of the file (0 for a download, None if unknown) and the
#: link.
ChooseOptions = Callable[[TransferContext, int | None, ClientLink], Mapping[str, str]]


@dataclass(frozen=True)
class ClientServices:
    """What a transfer uses of its client.

    @ivar policy: the timeouts.
    @ivar sessions: what its session uses.
    @ivar choose: returns the options of a request.
    @ivar known: what is known about the server.
    @ivar open_link: returns a link with another port; None if the user has chosen the port, so
        that no other port may be used.
    @ivar tell: called with a line of text for the user.
    """

    policy: Policy
    sessions: SessionServices
    choose: ChooseOptions
    known: KnownServer
    open_link: Callable[[], ClientLink] | None
    tell: Callable[[str], None]
