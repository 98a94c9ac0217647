"""The parts of a server that all its request ports share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted_tftp.net.link_opener import LinkOpener
from twisted_tftp.policy import Policy
from twisted_tftp.server.access import Access
from twisted_tftp.server.drop_log import DropLog
from twisted_tftp.server.transfers import Transfers
from twisted_tftp.server.unproven_rate import UnprovenRate
from twisted_tftp.session.deadlines import Alarms


@dataclass(frozen=True)
class SharedParts:
    """What the request ports of one server share: its limits hold for all ports together.

    @ivar opener: opens the sockets of transfers: a `LinkOpener`, or an object with its methods
        `open` and `close_idle`.
    @ivar transfers: the running transfers.
    @ivar alarms: the timers of the transfers.
    @ivar access: which hosts may send requests, and how often.
    @ivar drop_log: the log of packets that are not served.
    @ivar unproven_rate: limits what is sent to addresses that have not answered.
    """

    opener: Any
    transfers: Transfers
    alarms: Alarms
    access: Access
    drop_log: DropLog
    unproven_rate: UnprovenRate

    @classmethod
    def for_policy(
        cls,
        policy: Policy,
        reactor: Any,
        clock: Callable[[], float] = time.monotonic,
        opener: Any = None,
    ) -> SharedParts:
        """Return new parts.

        @param reactor: for timers and sockets.
        @param clock: returns the time in seconds of a monotonic clock.
        @param opener: opens the sockets of transfers; None for a `LinkOpener`.
        """
        unproven_rate = UnprovenRate(policy.unproven_rate, clock)
        if opener is None:
            opener = LinkOpener(reactor, policy.port_range, clock, may_answer=unproven_rate.take)
        return cls(
            opener=opener,
            transfers=Transfers(),
            alarms=Alarms(reactor, clock),
            access=Access(policy),
            drop_log=DropLog(reactor),
            unproven_rate=unproven_rate,
        )
