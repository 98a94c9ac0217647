"""Run a sender against a receiver over a path that loses, repeats, delays and reorders."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
from twisted_tftp.transfer.sender import Buffer, Sender, SenderState
from twisted_tftp.transfer.timing import Timing


@dataclass
class Path:
    """What the network does to each datagram; delays in seconds."""

    loss: float = 0.0
    repeat: float = 0.0
    jitter: float = 0.0
    delay: float = 0.001
    #: Octets a second towards the receiver, and datagrams that the queue before it holds.
    rate: float = float("inf")
    queue: int = 10**9


@dataclass
class Simulation:
    """One file from a `Sender` to a `Receiver`, in virtual time."""

    data: bytes
    blksize: int = 512
    windowsize: int = 1
    path: Path = field(default_factory=Path)
    seed: int = 0
    rollover: Rollover = Rollover.ZERO
    known_size: bool = True
    adaptive: bool = True
    read_ahead: int = 0
    #: Seconds that the source takes to read; 0 for at once.
    read_time: float = 0.0
    longest: float = 1.0
    #: Overrides the path's fate of a datagram: (to_receiver, datagram, nth) -> lost?
    lose: Callable[[bool, bytes, int], bool] | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 0.0
        self.stored = bytearray()
        self.sent_data = 0
        self.sent_acks = 0
        self.largest_burst = 0
        self._queue: list[tuple[float, int, bool, bytes]] = []
        self._count = 0
        self._reading: tuple[float, int, int] | None = None
        self._buffer = bytearray()
        self._queued: list[float] = []
        self.dropped = 0
        self._receiving = False
        self.sender = Sender(
            blksize=self.blksize,
            windowsize=self.windowsize,
            size=len(self.data) if self.known_size else None,
            oack=wire.oack([("windowsize", str(self.windowsize))]),
            timing=self._timing(),
            rollover=self.rollover,
            read_ahead=self.read_ahead,
        )
        self.receiver = Receiver(
            blksize=self.blksize,
            windowsize=self.windowsize,
            first_reply=wire.ack(0),
            timing=self._timing(),
            rollover=self.rollover,
        )

    def _timing(self) -> Timing:
        return Timing(first=1.0, longest=self.longest, retries=10, adaptive=self.adaptive)

    def run(self) -> Simulation:
        """Go on until both have ended."""
        self._do_sender(self.sender.start(self.now))
        for _ in range(5_000_000):
            deadlines = [self.sender.deadline]
            if self._receiving:
                deadlines.append(self.receiver.deadline)
            at = min(deadlines)
            if (
                self._reading
                and self._reading[0] <= at
                and (not self._queue or self._reading[0] <= self._queue[0][0])
            ):
                self._finish_reading()
            elif self._queue and self._queue[0][0] <= at:
                self.now, _, to_receiver, datagram = heapq.heappop(self._queue)
                self._deliver(to_receiver, datagram)
            elif at < float("inf"):
                self.now = at
                self._do_sender(self.sender.expire(at))
                if self._receiving:
                    self._do_receiver(self.receiver.expire(at))
            else:
                return self
        raise AssertionError("the simulation does not end")

    @property
    def complete(self) -> bool:
        """Whether the receiver says that it has the whole file."""
        return self.receiver.state is ReceiverState.DONE

    def _deliver(self, to_receiver: bool, datagram: bytes) -> None:
        if not to_receiver:
            if self.sender.state in (SenderState.OFFERING, SenderState.SENDING):
                self._do_sender(self.sender.receive(datagram, self.now))
        elif datagram[1] == wire.Opcode.OACK:
            if not self._receiving:
                self._receiving = True
                self._do_receiver(self.receiver.start(self.now))
        elif self._receiving and self.receiver.state not in (
            ReceiverState.DONE,
            ReceiverState.FAILED,
        ):
            self._do_receiver(self.receiver.receive(datagram, self.now))

    def _do_sender(self, step: Step) -> None:
        sender = self.sender
        if step is Step.READ:
            if self._reading is None:
                # As a reader does that uses one buffer for all: the last octets are gone.
                self._buffer[:] = b"\xee" * len(self._buffer)
                self._reading = (self.now + self.read_time, sender.offset, sender.length)
            if not self.read_time:
                self._finish_reading()
        elif step is Step.SEND:
            self._send_burst(sender.datagrams)
        elif step is Step.END and sender.failure is not None:
            self._send(True, wire.error(sender.failure))

    def _finish_reading(self) -> None:
        """Give the octets that were read, or read again where others are wanted by now."""
        assert self._reading is not None
        sender = self.sender
        self.now, offset, length = self._reading
        self._reading = None
        if sender.state not in (SenderState.OFFERING, SenderState.SENDING):
            return
        if (offset, length) != (sender.offset, sender.length):
            self._do_sender(Step.READ)
            return
        self._buffer = bytearray(self.data[offset : offset + length])
        self._do_sender(sender.supply(memoryview(self._buffer), self.now))

    def _send_burst(self, burst: Sequence[Buffer]) -> None:
        if len(burst) == 1:
            self._send(True, bytes(burst[0]))  # the OACK
            return
        self.largest_burst = max(self.largest_burst, len(burst) // 2)
        for header, octets in zip(burst[::2], burst[1::2], strict=True):
            self.sent_data += 1
            self._send(True, bytes(header) + bytes(octets))

    def _do_receiver(self, step: Step) -> None:
        receiver = self.receiver
        if step is Step.STORE:
            self.stored += receiver.take()
            step = receiver.stored(self.now)
        if step is Step.SEND:
            self.sent_acks += 1
            self._send(False, bytes(receiver.datagrams[0]))
        elif step is Step.END and receiver.failure is not None:
            self._send(False, wire.error(receiver.failure))

    def _send(self, to_receiver: bool, datagram: bytes) -> None:
        draw, path = self.random.random, self.path
        copies = 2 if draw() < path.repeat else 1
        for _ in range(copies):
            self._count += 1
            if self.lose is not None and self.lose(to_receiver, datagram, self._count):
                continue
            if draw() < path.loss:
                continue
            departure = self.now
            if to_receiver and path.rate < float("inf"):
                self._queued = [at for at in self._queued if at > self.now]
                if len(self._queued) >= path.queue:
                    self.dropped += 1
                    continue
                busy_until = self._queued[-1] if self._queued else self.now
                departure = busy_until + len(datagram) / path.rate
                self._queued.append(departure)
            arrival = departure + path.delay + path.jitter * draw()
            heapq.heappush(self._queue, (arrival, self._count, to_receiver, datagram))
