"""Simulate a sender and a receiver, and a path that loses, repeats, delays and reorders."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Buffer, Sender
from twisted_tftp.transfer.states import ReceiverState, SenderState
from twisted_tftp.transfer.timing import Timing


@dataclass
class Path:
    """The properties of a network path between the two machines."""

    #: The probability that a datagram is lost.
    loss: float = 0.0
    #: The probability that a datagram is sent twice.
    repeat: float = 0.0
    #: The longest random delay in addition to `delay`, in seconds.
    jitter: float = 0.0
    #: The delay of each datagram, in seconds.
    delay: float = 0.001
    #: The rate towards the receiver, in octets per second.
    rate: float = float("inf")
    #: The most datagrams in the queue towards the receiver; if it is full, datagrams are lost.
    queue: int = 10**9


@dataclass
class Simulation:
    """The transfer of one file from a `Sender` to a `Receiver`, in virtual time."""

    data: bytes
    blksize: int = 512
    windowsize: int = 1
    path: Path = field(default_factory=Path)
    seed: int = 0
    rollover: Rollover = Rollover.ZERO
    known_size: bool = True
    adaptive: bool = True
    read_ahead: int = 0
    #: How long each read of the file takes, in seconds; 0 for reads that return at once.
    read_time: float = 0.0
    longest: float = 1.0
    #: Returns whether a datagram is lost, in addition to the losses of the path. It is called
    #: with whether the datagram goes to the receiver, the datagram, and its number.
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
            first_answer=wire.ack(0),
            timing=self._timing(),
            rollover=self.rollover,
        )

    def _timing(self) -> Timing:
        return Timing(first=1.0, max_rto=self.longest, retries=10, adaptive=self.adaptive)

    def run(self) -> Simulation:
        """Run until both machines have ended."""
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
        """Whether the receiver is done, so that it has the whole file."""
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
                # Like a reader with one buffer for all reads: overwrite the last octets.
                self._buffer[:] = b"\xee" * len(self._buffer)
                self._reading = (self.now + self.read_time, sender.offset, sender.length)
            if not self.read_time:
                self._finish_reading()
        elif step is Step.SEND:
            self._send_burst(sender.datagrams)
        elif step is Step.END and sender.failure is not None:
            self._send(True, wire.error(sender.failure))

    def _finish_reading(self) -> None:
        """Supply the octets that were read; if the sender now wants others, read those instead."""
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
