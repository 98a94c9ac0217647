"""Wait for the sockets of all transfers; the only place that knows about epoll.

`EpollHub` puts them in an epoll of its own, which is one reader of the reactor: a nested epoll
drained in one loop costs a third less for each packet than the reactor's own path to a
descriptor. Where there is no epoll, `ReactorHub` hands each socket to the reactor.
"""

from __future__ import annotations

import contextlib
import select
import time
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor, IReadWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

EPOLLIN: int = getattr(select, "EPOLLIN", 1)
EPOLLOUT: int = getattr(select, "EPOLLOUT", 4)

#: Seconds of one turn: the reactor's other work must not starve. Descriptors of one round: its
#: answers go out when it is over.
TURN = 0.002
BATCH = 32

#: Seconds for which the outbox waits at most, but for what one link does.
OVERDUE = 0.001

#: Seconds for which the hub polls idle sockets before it returns to the reactor.
LINGER = 50e-6

#: Turns in which polling may find nothing before the hub stops polling.
VAIN_POLLS = 8

#: Turns without polling before the hub tries it again.
TURNS_WITHOUT_POLLING = 64


class Outgoing(Protocol):
    """What sends a datagram of the outbox."""

    def send_now(self, datagram: bytes) -> None:
        """Send it."""


#: Single datagrams, and what sends them.
Outbox = list[tuple[Outgoing, bytes]]


class Hub(Protocol):
    """Where a link waits for its socket to be readable, and for a while to be writable.

    @ivar outbox: single datagrams that are sent at the end of the present round, in their order;
        None where they go out at once. Sent one by one between the reads, each would find its
        client asleep and wake it (32 clients in lock step: 10 % slower).
    """

    outbox: Outbox | None

    #: Whether links may have connected sockets: some reactors drop what an ICMP error reaches.
    connects: bool

    def gather(self) -> None:
        """Let what one link sends in its turn wait in the outbox too; called in that turn."""

    def send_overdue(self) -> None:
        """Send what is in the outbox if it has waited long; called between the parts of a turn."""

    def send_outbox(self) -> None:
        """Send what is in the outbox now."""

    def add(self, link: IReadWriteDescriptor) -> None:
        """Call `link.doRead` whenever its socket is readable."""

    def remove(self, link: IReadWriteDescriptor) -> None:
        """Forget `link`; its socket is closed next."""

    def watch_writable(self, link: IReadWriteDescriptor, wanted: bool) -> None:
        """Call `link.doWrite` too while its socket is writable, or no longer."""

    def close(self) -> None:
        """Forget all."""


class ReactorHub:
    """Leave each link to the reactor."""

    outbox: Outbox | None = None
    connects = False

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
    """Keep the links in one epoll, itself one reader of the reactor."""

    connects = True
    _log = Logger()

    def __init__(self, reactor: IReactorFDSet, linger: float = LINGER) -> None:
        self._reactor = reactor
        self._linger = linger
        self._overdue_at = 0.0
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._polls_left = VAIN_POLLS  # below zero: turns without polling, counted down
        self.outbox: Outbox | None = None
        self._links: dict[int, IReadWriteDescriptor] = {}
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "tftp"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped; there is nothing to do."""

    def add(self, link: IReadWriteDescriptor) -> None:
        descriptor = link.fileno()
        try:
            self._epoll.register(descriptor, EPOLLIN)
        except FileExistsError:
            pass  # it has left and come back, as a port that is paused does
        self._links[descriptor] = link

    def remove(self, link: IReadWriteDescriptor) -> None:
        # The epoll forgets a socket that is closed; asking it to is a system call for nothing.
        self._links.pop(link.fileno(), None)

    def watch_writable(self, link: IReadWriteDescriptor, wanted: bool) -> None:
        if self._epoll.closed:
            return
        events = EPOLLIN | EPOLLOUT if wanted else EPOLLIN
        self._epoll.modify(link.fileno(), events)

    def close(self) -> None:
        self._reactor.removeReader(self)
        self._epoll.close()

    def gather(self) -> None:
        if self.outbox is None:
            self.outbox = []
            self._overdue_at = time.monotonic() + OVERDUE

    def send_overdue(self) -> None:
        if self.outbox and time.monotonic() >= self._overdue_at:
            self.send_outbox()
            self._overdue_at = time.monotonic() + OVERDUE

    def send_outbox(self) -> None:
        if self.outbox:
            outbox, self.outbox = self.outbox, []
            self._send(outbox)

    def _send(self, outbox: Outbox) -> None:
        for link, datagram in outbox:
            try:
                link.send_now(datagram)
            except Exception:
                self._log.failure("a datagram could not be sent")

    def _unregister(self, descriptor: int) -> None:
        """Stop asking for a socket that has left and is still open."""
        # Most often it was closed by a link that was served before it in this round.
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    def doRead(self) -> None:
        """Serve all sockets that are ready, until none is or the turn is over.

        A client in lock step on a fast network answers sooner than the reactor comes back to us,
        so for some microseconds more the sockets are asked again; only as long as that pays.
        """
        poll, links = self._poll, self._links
        clock, linger = time.monotonic, self._linger
        now = clock()
        turn_ends = now + TURN
        idle_ends = 0.0
        while True:
            ready = poll(0, BATCH)
            if len(ready) > 1:
                self.gather()
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
                except BaseException:  # the reactor would leave us for it, and all links with us
                    self._log.failure("a transfer's socket failed")
                self.send_overdue()
            if self.outbox is not None:
                outbox, self.outbox = self.outbox, None
                self._send(outbox)
            if self._epoll.closed:
                return
            now = clock()
            if ready:
                if idle_ends:
                    self._polls_left = VAIN_POLLS
                    idle_ends = 0.0
            elif not idle_ends:
                self._polls_left -= 1
                if self._polls_left < 0:
                    if self._polls_left < -TURNS_WITHOUT_POLLING:
                        self._polls_left = 1
                    return
                idle_ends = now + linger
            elif now >= idle_ends:
                return
            if now >= turn_ends:
                return


def make_hub(reactor: Any, linger: float = LINGER) -> Hub:
    """Return the fastest hub that works here.

    @param linger: seconds for which idle sockets are asked again.
    """
    return EpollHub(reactor, linger) if hasattr(select, "epoll") else ReactorHub(reactor)
