"""What a client provides to its transfers, such as timeouts, options and sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_tftp.context import TransferContext, TransferStatistics
from twisted_tftp.interfaces import ITransferObserver
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.policy import Policy
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.first_answer import KnownServer

#: A function that returns the options of a request, in the order to send them. Its arguments are
#: the context of the request, the size of the file in octets (0 for a download, None if unknown)
#: and the link.
ChooseOptions = Callable[[TransferContext, int | None, ClientLink], Mapping[str, str]]


@dataclass(frozen=True)
class ClientServices:
    """What a client provides to its transfers.

    @ivar policy: the timeouts.
    @ivar session_services: what the sessions use.
    @ivar choose_options: returns the options of a request.
    @ivar known: what is known about the server.
    @ivar open_link: returns a link with a new port to an address of the server.
    @ivar can_change_port: whether a transfer may use several ports; not if the user has chosen
        the port.
    @ivar on_address: called with the address of the server that has answered a request.
    @ivar on_notice: called with a line of text for the user.
    """

    policy: Policy
    session_services: SessionServices
    choose_options: ChooseOptions
    known: KnownServer
    open_link: Callable[[SocketAddress], ClientLink]
    can_change_port: bool
    on_address: Callable[[SocketAddress], None]
    on_notice: Callable[[str], None]

    @property
    def is_without_options(self) -> bool:
        """Whether the server gets requests without options for now."""
        return self.session_services.clock() < self.known.without_options_until

    @property
    def can_drop_options(self) -> bool:
        """Whether the server may be one that answers only requests without options."""
        return not (self.known.grants_options or self.is_without_options)


def make_services(
    reactor: IReactorTime,
    clock: Callable[[], float],
    policy: Policy,
    observer: Any,  # observers need not declare the interface
    choose_options: ChooseOptions,
    known: KnownServer | None,
    *,
    open_link: Callable[[SocketAddress], ClientLink],
    can_change_port: bool,
    on_address: Callable[[SocketAddress], None],
    on_notice: Callable[[str], None],
) -> ClientServices:
    """Return the services of one client.

    @param observer: an L{ITransferObserver}, or None.
    """
    return ClientServices(
        policy=policy,
        session_services=SessionServices(
            observer=_NullObserver() if observer is None else observer,
            clock=clock,
            alarms=Alarms(reactor, clock),
            opening_time=policy.opening_time,
        ),
        choose_options=choose_options,
        known=known or KnownServer(),
        open_link=open_link,
        can_change_port=can_change_port,
        on_address=on_address,
        on_notice=on_notice,
    )


@implementer(ITransferObserver)
class _NullObserver:
    """An observer of transfers that does nothing."""

    def started(self, statistics: TransferStatistics) -> None:
        """Do nothing."""

    def progressed(self, statistics: TransferStatistics) -> None:
        """Do nothing."""

    def finished(self, statistics: TransferStatistics) -> None:
        """Do nothing."""
