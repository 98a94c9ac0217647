"""Limit the octets per second of transfers (`max_rate`), by delaying reads and writes.

A session waits for a slow backend without sending anything again. So the limit needs nothing in
the protocol: a read or a write that comes too early takes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from twisted_tftp.backends.explaining import explain
from twisted_tftp.context import TransferContext
from twisted_tftp.interfaces import (
    IBackendLifecycle,
    IExplainable,
    IFileBackend,
    IFileReader,
    IFileWriter,
    lifecycle_of,
)

#: A shorter delay is not made, in seconds: a timer costs more. The octets are counted, so that the
#: next ones wait longer.
MIN_DELAY = 0.002


class Pacer:
    """A limit of octets per second for all transfers that share it.

    Each call gets the next free time slot. So transfers that wait are served in turn.
    """

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        """Set up; the first octets need not wait.

        @param rate: octets per second, 1 or more.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    def reserve(self, octets: int) -> tuple[float, float]:
        """Take the next time slot that is long enough for `octets`.

        @return: how long to wait for its start, in seconds; and the time of its end.
        """
        now = self._clock()
        start = max(now, self._free_at)
        self._free_at = end = start + octets / self._rate
        return start - now, end

    def give_back(self, octets: int, end: float) -> None:
        """Shorten a time slot, because `octets` of it are not transferred; later calls wait less.

        @param end: the end of the slot. The part that has passed already can't be freed.
        """
        left = max(0.0, end - self._clock())
        self._free_at -= min(octets / self._rate, left)


@implementer(IFileBackend, IBackendLifecycle, IExplainable)
class PacedBackend:
    """A backend that reads and writes the files of another one at a limited rate."""

    def __init__(
        self,
        backend: Any,
        *,
        max_rate: int | None = None,
        shared: Pacer | None = None,
        reactor: Any = None,
        clock: Callable[[], float],
    ) -> None:
        """Wrap an L{IFileBackend}.

        @param max_rate: the limit of each transfer, in octets per second; None for no limit.
        @param shared: the limit of all transfers together, which other backends may share; None
            for no limit.
        @param reactor: an `IReactorTime`; None for the global one, which is looked up now.
        @param clock: returns the time in seconds of a monotonic clock.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._backend = backend
        self._max_rate = max_rate
        self._shared = shared
        self._reactor = reactor
        self._clock = clock
        lifecycle = lifecycle_of(backend)
        self.check, self.start = lifecycle.check, lifecycle.start
        self.forget, self.stop = lifecycle.forget, lifecycle.stop

    def open_reader(self, path: str, context: TransferContext) -> Any:
        """Open a file of the wrapped backend."""
        return self._paced(self._backend.open_reader(path, context), PacedReader)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        """Open a new file in the wrapped backend."""
        return self._paced(self._backend.open_writer(path, context), PacedWriter)

    def explain(self, path: str, context: TransferContext) -> Any:
        """Return what the wrapped backend says: the rate does not change the answer."""
        return explain(self._backend, path, context)

    def _paced(self, opened: Any, kind: Callable[[Any, TransferLimits], Any]) -> Any:
        pacers = [] if self._shared is None else [self._shared]
        if self._max_rate is not None:
            pacers.append(Pacer(self._max_rate, self._clock))
        limits = TransferLimits(pacers, self._reactor)
        if isinstance(opened, Deferred):
            return opened.addCallback(kind, limits)
        return kind(opened, limits)


class TransferLimits:
    """The rate limits of one transfer, and the time slots of its last read or write."""

    def __init__(self, pacers: list[Pacer], reactor: Any) -> None:
        self._pacers = pacers
        self._reactor = reactor
        self._timer: IDelayedCall | None = None
        self._delayed = 0  # the octets for which the timer runs
        self._slot_ends: tuple[float, ...] = ()  # one for each pacer

    def wait_for(self, octets: int) -> Deferred[None] | None:
        """Return a Deferred that fires when `octets` may be transferred; None if that is now."""
        delays, self._slot_ends = zip(
            *(pacer.reserve(octets) for pacer in self._pacers), strict=True
        )
        delay = max(delays)
        if delay < MIN_DELAY:
            return None
        allowed: Deferred[None] = Deferred()
        self._delayed = octets
        self._timer = self._reactor.callLater(delay, allowed.callback, None)
        return allowed

    def give_back(self, octets: int) -> None:
        """Shorten the time slots of the last read, because `octets` of it are not transferred."""
        for pacer, end in zip(self._pacers, self._slot_ends, strict=True):
            pacer.give_back(octets, end)

    def end_delay(self) -> int:
        """Cancel the delay, if there is one; return the octets that waited for it.

        The Deferred of the delay then never fires.
        """
        if self._timer is None or not self._timer.active():
            return 0
        self._timer.cancel()
        return self._delayed


@implementer(IFileReader)
class PacedReader:
    """A reader whose reads wait for their time slots."""

    def __init__(self, reader: Any, limits: TransferLimits) -> None:
        """Wrap an L{IFileReader}."""
        self.size = reader.size
        self._reader = reader
        self._limits = limits

    def read(self, offset: int, length: int) -> Any:
        """Read octets when they may be sent."""
        allowed = self._limits.wait_for(length)
        if allowed is None:
            return self._settle(self._reader.read(offset, length), length)
        allowed.addCallback(lambda _: self._reader.read(offset, length))
        return allowed.addCallback(self._settle, length)

    def _settle(self, data: Any, length: int) -> Any:
        """Return `data`; if it is shorter than `length`, free the rest of the time slot."""
        if isinstance(data, Deferred):
            return data.addCallback(self._settle, length)
        if len(data) < length:
            self._limits.give_back(length - len(data))
        return data

    def close(self) -> None:
        """Close the wrapped reader; cancel a read that waits, and free its time slot."""
        delayed = self._limits.end_delay()
        if delayed:
            self._limits.give_back(delayed)
        self._reader.close()


@implementer(IFileWriter)
class PacedWriter:
    """A writer that lets the client wait for the ACK until the next octets may come."""

    def __init__(self, writer: Any, limits: TransferLimits) -> None:
        """Wrap an L{IFileWriter}."""
        self._writer = writer
        self._limits = limits

    def write(self, data: bytes) -> Any:
        """Write octets at once, and return when the next ones may come."""
        written = self._writer.write(data)
        allowed = self._limits.wait_for(len(data))
        if allowed is None:
            return written
        if isinstance(written, Deferred):
            return written.addCallback(lambda _: allowed)
        return allowed

    def commit(self) -> Any:
        """Commit the wrapped writer."""
        return self._writer.commit()

    def abort(self) -> Any:
        """Abort the wrapped writer, also during a delay."""
        self._limits.end_delay()  # the octets were received already
        return self._writer.abort()
