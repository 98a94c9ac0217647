"""Wait for the sockets of all transfers to become readable or writable, with epoll if possible.

`EpollHub` registers the sockets with an epoll object of its own, and registers this object with
the reactor as one reader. Its loop over the ready sockets costs a third less for each packet than
calls by the reactor. On systems without epoll, `ReactorHub` registers each socket with the
reactor. No other module uses epoll.

A round serves the sockets of one result of epoll. A turn is all rounds of one call by the reactor.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp.net.offload import EndedFlows, FlowTable, make_flow_table

#: The event of a readable socket; defined here for systems without epoll too.
EPOLLIN: int = getattr(select, "EPOLLIN", 1)

#: The event of a writable socket.
EPOLLOUT: int = getattr(select, "EPOLLOUT", 4)

#: The longest time of a turn, in seconds. After a turn, the hub returns to the reactor.
MAX_TURN = 0.002

#: The most sockets that one round serves. Their answers are sent at the end of the round.
SOCKETS_PER_ROUND = 32

#: How long a datagram may wait in the outbox, in seconds. The time is checked after each link.
MAX_OUTBOX_DELAY = 0.001

#: How long the hub polls idle sockets before it returns to the reactor, in seconds.
BUSY_POLL = 50e-6

#: The hub stops polling after so many consecutive turns in which polling found nothing.
MAX_EMPTY_POLLS = 8

#: After so many turns without polling, the hub tries it again.
TURNS_WITHOUT_POLLING = 64


class Outgoing(Protocol):
    """A link that can send a datagram of the outbox."""

    def send_now(self, datagram: bytes) -> None:
        """Send the datagram."""


#: Single datagrams, each with the link that sends it.
Outbox = list[tuple[Outgoing, bytes]]


class Hub(Protocol):
    """The registry of links that wait for their sockets to become readable or writable.

    @ivar outbox: single datagrams that are sent at the end of the current round, in order; None if
        they are sent at once. Sent between two reads, each datagram would wake its client
        separately (32 clients in lock step: 10 % slower).
    """

    outbox: Outbox | None

    #: Whether sockets may receive ICMP errors, as connected sockets do: some reactors stop calling
    #: a socket after an error.
    allows_icmp_errors: bool

    @property
    def flows(self) -> FlowTable | None:
        """The flows of the links, or None if this hub has none."""

    def gather(self) -> None:
        """Collect single datagrams in the outbox until the current round ends."""

    def send_overdue(self) -> None:
        """Send the outbox if its datagrams have waited for `MAX_OUTBOX_DELAY`."""

    def send_outbox(self) -> None:
        """Send the datagrams of the outbox now."""

    def add(self, link: IReadWriteDescriptor) -> None:
        """Call `link.doRead` whenever its socket is readable."""

    def remove(self, link: IReadWriteDescriptor) -> None:
        """Stop calling `link`. The caller then closes its socket."""

    def watch_writable(self, link: IReadWriteDescriptor, wanted: bool) -> None:
        """Start or stop calling `link.doWrite` whenever its socket is writable."""

    def close(self) -> None:
        """Stop calling all links."""


class ReactorHub:
    """A hub that registers each link with the reactor, for systems without epoll."""

    outbox: Outbox | None = None
    flows: FlowTable | None = None
    allows_icmp_errors = False

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor

    def gather(self) -> None:
        pass

    def send_overdue(self) -> None:
        pass

    def send_outbox(self) -> None:
        pass

    def add(self, link: IReadWriteDescriptor) -> None:
        self._reactor.addReader(link)

    def remove(self, link: IReadWriteDescriptor) -> None:
        self._reactor.removeReader(link)
        self._reactor.removeWriter(link)

    def watch_writable(self, link: IReadWriteDescriptor, wanted: bool) -> None:
        if wanted:
            self._reactor.addWriter(link)
        else:
            self._reactor.removeWriter(link)

    def close(self) -> None:
        pass


@implementer(IReadDescriptor)
class EpollHub:
    """A hub with its own epoll object, which is one reader of the reactor."""

    allows_icmp_errors = True
    _log = Logger()

    def __init__(
        self,
        reactor: IReactorFDSet,
        busy_poll: float = BUSY_POLL,
        clock: Callable[[], float] = time.monotonic,
        transfer_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up, and register with `reactor`.

        @param busy_poll: how long the hub polls idle sockets, in seconds.
        @param clock: seconds of a monotonic clock, which limits the turns.
        @param transfer_clock: the clock of the transfers, whose flows tell times.
        """
        self._reactor = reactor
        self._clock = clock
        self._busy_poll = busy_poll
        self._overdue_at = 0.0
        self._epoll = select.epoll()
        self.flows: FlowTable = make_flow_table(self._epoll, transfer_clock)
        # Polls that may still find nothing; negative values count the turns without polling.
        self._polls_left = MAX_EMPTY_POLLS
        self.outbox: Outbox | None = None
        self._links: dict[int, IReadWriteDescriptor] = {}
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the reactor has stopped."""

    def add(self, link: IReadWriteDescriptor) -> None:
        descriptor = link.fileno()
        try:
            self._epoll.register(descriptor, EPOLLIN)
        except FileExistsError:
            pass  # `remove` leaves the socket registered, and it is added again
        self._links[descriptor] = link

    def remove(self, link: IReadWriteDescriptor) -> None:
        # This makes no system call: the kernel removes a socket from the epoll when it is closed.
        self._links.pop(link.fileno(), None)

    def watch_writable(self, link: IReadWriteDescriptor, wanted: bool) -> None:
        if self._epoll.closed:
            return
        events = EPOLLIN | EPOLLOUT if wanted else EPOLLIN
        self._epoll.modify(link.fileno(), events)

    def close(self) -> None:
        self._reactor.removeReader(self)
        self.flows.close()
        self._epoll.close()

    def gather(self) -> None:
        if self.outbox is None:
            self.outbox = []
            self._overdue_at = self._clock() + MAX_OUTBOX_DELAY

    def send_overdue(self) -> None:
        if self.outbox and self._clock() >= self._overdue_at:
            self.send_outbox()
            self._overdue_at = self._clock() + MAX_OUTBOX_DELAY

    def send_outbox(self) -> None:
        if self.outbox:
            outbox, self.outbox = self.outbox, []
            self._send(outbox)

    def _send(self, outbox: Outbox) -> None:
        for link, datagram in outbox:
            try:
                link.send_now(datagram)
            except Exception:
                self._log.failure("unexpected exception while a datagram was sent")

    def _unregister(self, descriptor: int) -> None:
        """Remove a socket without a link from the epoll object, if the socket is still open."""
        # Usually it is closed, by a link that was served earlier in this round.
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    def doRead(self) -> None:
        """Serve all ready sockets, until none is ready or the turn is over.

        A client in lock step on a fast network answers before the reactor would call the hub
        again. So the hub polls for some more microseconds before it returns to the reactor.
        """
        poll, clock = self.flows.poll, self._clock
        now = clock()
        turn_ends = now + MAX_TURN
        idle_ends = 0.0
        while now < turn_ends and not self._epoll.closed:
            ended, ready, served = poll(SOCKETS_PER_ROUND, turn_ends, idle_ends)
            if ended or ready:
                if len(ended) + len(ready) > 1:
                    self.gather()
                if ended:
                    self._end_flows(ended)
                self._serve(ready)
                if self.outbox is not None:
                    self._end_gathering(self.outbox)
            now = clock()
            if not (served or ready):
                if not idle_ends:
                    idle_ends = self._begin_polling(now)
                if now >= idle_ends:
                    return
            elif idle_ends:
                self._polls_left = MAX_EMPTY_POLLS
                idle_ends = 0.0

    def _end_flows(self, ended: EndedFlows) -> None:
        """Return the flows that have ended to their links."""
        for owner, datagram, address in ended:
            try:
                owner.resume(datagram, address)
            except BaseException:  # otherwise the reactor would remove the hub
                self._log.failure("unexpected exception while a datagram was processed")
            if self.outbox:
                self.send_overdue()

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        """Call the links of sockets that are ready: (descriptor, events of epoll)."""
        links, clock = self._links, self._clock
        for descriptor, event in ready:
            link = links.get(descriptor)
            if link is None:
                self._unregister(descriptor)
                continue
            try:
                if event != EPOLLIN and event & EPOLLOUT:
                    link.doWrite()
                if event != EPOLLOUT:
                    link.doRead()
            except BaseException:  # otherwise the reactor would remove the hub
                self._log.failure("unexpected exception while a socket was read or written")
            if self.outbox and clock() >= self._overdue_at:
                self.send_overdue()

    def _end_gathering(self, outbox: Outbox) -> None:
        """Send the outbox at the end of a round; until the next round there is none."""
        self.outbox = None
        self._send(outbox)

    def _begin_polling(self, now: float) -> float:
        """Return until when to poll idle sockets in this turn; `now` for no polling.

        Polling stops after `MAX_EMPTY_POLLS` turns in which it found nothing, and is tried again
        after `TURNS_WITHOUT_POLLING` turns.
        """
        self._polls_left -= 1
        if self._polls_left >= 0:
            return now + self._busy_poll
        if self._polls_left < -TURNS_WITHOUT_POLLING:
            self._polls_left = 1
        return now


def make_hub(
    reactor: Any,
    busy_poll: float = BUSY_POLL,
    transfer_clock: Callable[[], float] = time.monotonic,
) -> Hub:
    """Return the fastest hub that this system supports; see L{EpollHub}."""
    if not hasattr(select, "epoll"):
        return ReactorHub(reactor)
    return EpollHub(reactor, busy_poll, transfer_clock=transfer_clock)
