"""Tables of flows: they answer the expected ACKs of downloads in place of the state machines.

`twisted_tftp.transfer.flow` says what a flow does. A table waits for all sockets of a hub, those
without a flow too. `NativeFlowTable` is written in C (`_offload.c`). `PythonFlowTable` does the
same where that module is missing, or if the environment has TFTP_OFFLOAD=0.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted_tftp.net.addresses import SocketAddress, packed, unpacked
from twisted_tftp.net.descriptors import descriptor_limit
from twisted_tftp.net.segmentation import MAX_OFFLOAD_SIZE, MAX_SEGMENTS
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.blocks import numbering_of
from twisted_tftp.transfer.flow import Offer, Progress
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.timing import MEASURE_INTERVAL

try:
    from twisted_tftp.net import _offload
except ImportError:  # not built: no compiler, or not on Linux
    _offload = None  # type: ignore[assignment]

#: The most octets that are read of a packet from a downloading client: enough for an ACK, or an
#: ERROR with its text. A smaller buffer saves nothing: Python allocates this much anyway.
MAX_CLIENT_PACKET = 448

#: The highest descriptor that a table in C takes: it has a pointer for each of them.
MAX_DESCRIPTORS = 1 << 20

#: The numbering of all flows: 0 follows 65535.
_NUMBERING = numbering_of(Rollover.ZERO)

#: The event of a readable socket.
_EPOLLIN: int = getattr(select, "EPOLLIN", 1)

#: The most round trips that a flow measures before its machine must take it back.
MAX_ROUND_TRIPS = 32


class FlowOwner(Protocol):
    """The link whose socket a flow uses."""

    def resume(self, datagram: bytes | None, stranger: SocketAddress) -> None:
        """Take the flow back, and process the datagram that has ended it.

        @param datagram: None if the flow has ended for another reason.
        @param stranger: the address of its sender if that is not the peer, otherwise None.
        """

    def send_flow(self, datagrams: Sequence[Buffer]) -> None:
        """Send datagrams of a flow (header, octets, header, ...); `PythonFlowTable` calls this."""


#: Flows that have ended: the arguments of `FlowOwner.resume` after the owner.
EndedFlows = list[tuple[FlowOwner, bytes | None, SocketAddress]]

#: What a call of `poll` has found: the flows that have ended; the sockets that need their links,
#: as (descriptor, events of epoll); how many datagrams the flows have received.
Found = tuple[EndedFlows, list[tuple[int, int]], int]


class FlowTable(Protocol):
    """The flows of one hub, by the descriptors of their sockets.

    @ivar least_windows: the fewest windows for which a flow is worth its cost.
    @ivar sends_between_offers: how many windows a link sends after an offer of None before it asks
        its machine again.
    """

    least_windows: int
    sends_between_offers: int

    def add(
        self,
        sock: socket.socket,
        owner: FlowOwner,
        peer: SocketAddress,
        offer: Offer,
        segments: bool,
    ) -> bool:
        """Start a flow; return False if the table cannot take it.

        Until `take`, only the table reads from the socket. The owner must call `take` before it
        closes the socket.

        @param peer: the address of the peer; None if the socket is connected.
        @param segments: whether to send windows with segmentation offload.
        """

    def sent_at(self, descriptor: int) -> float:
        """Return when the last window was sent: by the flow, or by the machine before the flow."""

    def look(self, descriptor: int) -> Progress:
        """Return what a flow has done since it was asked last; it continues."""

    def take(self, descriptor: int) -> Progress:
        """End a flow, and return what it has done since it was asked last."""

    def poll(self, most: int, until: float, idle_until: float) -> Found:
        """Serve the flows whose sockets are readable, and find the sockets that need their links.

        @param most: how many sockets to serve before the answers are sent.
        @param until: return at this time, in seconds of the monotonic clock, or earlier.
        @param idle_until: if no socket is ready, poll until this time.
        """

    def close(self) -> None:
        """End all flows."""


class _Flow:
    """A flow of a `PythonFlowTable`."""

    __slots__ = (
        "acks",
        "blocks",
        "expected",
        "has_last",
        "is_first",
        "is_single",
        "measure_at",
        "offer",
        "owner",
        "peer",
        "position",
        "receive",
        "round_trips",
        "sent",
        "sent_at",
        "window",
        "window_size",
    )

    def __init__(
        self, sock: socket.socket, owner: FlowOwner, peer: SocketAddress, offer: Offer
    ) -> None:
        self.owner = owner
        self.peer = peer
        self.offer = offer
        self.receive = sock.recv if peer is None else sock.recvfrom
        self.expected: bytes | None = wire.ACKS[offer.awaited]
        self.sent = offer.awaited  # the last block that was sent: the low 16 bits are valid
        self.position = offer.position
        self.window_size = offer.windowsize * offer.blksize
        self.is_single = offer.windowsize == 1
        self.sent_at = offer.sent_at
        self.measure_at = offer.measure_at
        self.is_first = offer.is_first
        self.has_last = False
        self.acks = self.blocks = self.window = 0
        self.round_trips: list[float] = []

    def advance(self, now: float) -> Sequence[Buffer] | None:
        """Return the datagrams of the next window; None if the machine must send it."""
        offer, octets = self.offer, self.offer.octets
        start = self.position
        stop = start + self.window_size
        if stop > len(octets):
            if not offer.is_file_end or self.has_last:
                return None
            stop = len(octets)
            count = (stop - start) // offer.blksize + 1
        else:
            count = offer.windowsize
        is_last = count * offer.blksize > stop - start
        if self.is_first or is_last or now >= self.measure_at:
            if len(self.round_trips) == MAX_ROUND_TRIPS:
                return None
            self.round_trips.append(now - self.sent_at)
            if not (self.is_first or is_last):
                self.measure_at = now + MEASURE_INTERVAL
            self.is_first = False
        first = self.sent + 1
        self.sent += count
        self.position = stop
        self.sent_at = now
        self.has_last = is_last
        self.acks += 1
        self.blocks += count
        self.window = count
        self.expected = None if is_last else wire.ACKS[self.sent & 0xFFFF]
        if count == 1:
            return (wire.DATA_HEADERS[first & 0xFFFF], octets[start:stop])
        return _NUMBERING.packets(memoryview(octets)[start:stop], first, self.sent, offer.blksize)

    def report(self) -> Progress:
        """Return what it has done since the last report."""
        progress = Progress(
            *(self.acks, self.blocks, self.window, 0, self.has_last),
            *(self.sent_at, self.measure_at, tuple(self.round_trips)),
        )
        self.acks = self.blocks = 0
        self.round_trips.clear()
        return progress


class PythonFlowTable:
    """A L{FlowTable} in Python; it sends through the links."""

    least_windows = 64
    sends_between_offers = 16

    def __init__(self, epoll: select.epoll, clock: Callable[[], float]) -> None:
        """Set up, without flows.

        @param clock: the clock of the transfers, in seconds.
        """
        self._wait = epoll.poll
        self._clock = clock
        self._flows: dict[int, _Flow] = {}

    def add(
        self,
        sock: socket.socket,
        owner: FlowOwner,
        peer: SocketAddress,
        offer: Offer,
        segments: bool,
    ) -> bool:
        self._flows[sock.fileno()] = _Flow(sock, owner, peer, offer)
        return True

    def sent_at(self, descriptor: int) -> float:
        return self._flows[descriptor].sent_at

    def look(self, descriptor: int) -> Progress:
        return self._flows[descriptor].report()

    def take(self, descriptor: int) -> Progress:
        return self._flows.pop(descriptor).report()

    def poll(self, most: int, until: float, idle_until: float) -> Found:
        ended: EndedFlows = []
        events: list[tuple[int, int]] = []
        outbox: list[tuple[FlowOwner, Sequence[Buffer]]] = []
        ready = self._wait(0, most)
        served = 0
        now = self._clock()
        for descriptor, event in ready:
            flow = self._flows.get(descriptor)
            if flow is None or event != _EPOLLIN:
                if flow is not None:
                    ended.append((flow.owner, None, None))
                events.append((descriptor, event))
                continue
            try:
                received: Any = flow.receive(MAX_CLIENT_PACKET)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:  # an ICMP error about an earlier datagram
                ended.append((flow.owner, None, None))
                continue
            served += 1
            stranger = None
            if flow.peer is None:
                datagram = received
            else:
                datagram, address = received
                stranger = address if address != flow.peer else None
            if datagram == flow.expected and stranger is None:
                window = flow.advance(now)
                if window is not None:
                    outbox.append((flow.owner, window))
                    continue
            ended.append((flow.owner, datagram, stranger))
        for owner, window in outbox:
            owner.send_flow(window)
        return ended, events, served

    def close(self) -> None:
        self._flows.clear()


class NativeFlowTable:
    """A L{FlowTable} in C, which also waits and sends without the interpreter."""

    least_windows = 2
    sends_between_offers = 0

    def __init__(self, epoll: select.epoll) -> None:
        """Set up, without flows; `epoll` must stay open until `close`."""
        size = min(descriptor_limit(), MAX_DESCRIPTORS)
        self._table = _offload.Table(epoll.fileno(), MEASURE_INTERVAL, size)
        self._poll = self._table.poll

    def add(
        self,
        sock: socket.socket,
        owner: FlowOwner,
        peer: SocketAddress,
        offer: Offer,
        segments: bool,
    ) -> bool:
        step = 1
        if segments and offer.windowsize > 1:
            size = offer.blksize + wire.HEADER_SIZE
            step = max(1, min(MAX_SEGMENTS, MAX_OFFLOAD_SIZE // size))
        address = None if peer is None else packed(peer)
        return self._table.add(sock.fileno(), owner, address, step, *offer)

    def sent_at(self, descriptor: int) -> float:
        sent_at: float = self._table.report(descriptor, False, True)
        return sent_at

    def look(self, descriptor: int) -> Progress:
        return Progress._make(self._table.report(descriptor, False))

    def take(self, descriptor: int) -> Progress:
        return Progress._make(self._table.report(descriptor, True))

    def poll(self, most: int, until: float, idle_until: float) -> Found:
        ended, ready, served = self._poll(most, until, idle_until)
        if ended:
            ended = [
                (owner, datagram, None if source is None else unpacked(source))
                for owner, datagram, source in ended
            ]
        return ended, ready, served

    def close(self) -> None:
        self._table.close()


def is_native() -> bool:
    """Return whether the tables that `make_flow_table` makes are written in C."""
    return _offload is not None and os.environ.get("TFTP_OFFLOAD") != "0"


def description() -> str:
    """Return a line for the log: whether downloads use the C module, and if not, why."""
    if is_native():
        return "downloads use the C module"
    reason = "it is not installed" if _offload is None else "TFTP_OFFLOAD=0"
    return f"downloads do not use the C module: {reason}"


def make_flow_table(epoll: select.epoll, clock: Callable[[], float]) -> FlowTable:
    """Return the fastest table that there is.

    @param epoll: waits for the sockets of the hub.
    @param clock: the clock of the transfers. The table in C knows only `time.monotonic`.
    """
    can_be_native = is_native() and clock is time.monotonic
    return NativeFlowTable(epoll) if can_be_native else PythonFlowTable(epoll, clock)
