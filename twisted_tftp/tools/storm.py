"""Simulate many machines that boot at the same time from one server (a boot storm)."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from twisted_tftp.client.client import TFTPClient, TransferResult
from twisted_tftp.errors import FileNotFound
from twisted_tftp.protocol.printable import legible
from twisted_tftp.tools.profiles import BootStep, Machine

#: The percentiles that are reported; 100 is the maximum.
PERCENTILES = (50, 95, 99, 100)


class Discard:
    """A binary stream that discards what is written to it."""

    def write(self, data: bytes) -> int:
        """Discard the octets."""
        return len(data)

    def flush(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Fetched:
    """One file that one machine has fetched.

    @ivar name: the name in the profile, with its braces.
    @ivar at: seconds from the start of the storm to the end of the transfer.
    """

    name: str
    at: float
    seconds: float
    octets: int
    retransmissions: int


@dataclass
class Report:
    """The results of a storm; times are in seconds.

    @ivar machines: the number of machines.
    @ivar boots: for each machine that booted: when it was ready, and how long it took.
    @ivar failures: the number of machines that failed, by reason.
    @ivar fetched: the files that were fetched.
    @ivar missing: the number of missing files that the profile allows to be missing.
    @ivar seconds: the time from the first request to the end.
    """

    machines: int = 0
    boots: list[tuple[float, float]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    fetched: list[Fetched] = field(default_factory=list)
    missing: int = 0
    seconds: float = 0.0

    @property
    def octets(self) -> int:
        """Octets of all fetched files."""
        return sum(each.octets for each in self.fetched)

    @property
    def retransmissions(self) -> int:
        """Datagrams that were sent again for the fetched files."""
        return sum(each.retransmissions for each in self.fetched)

    def files(self) -> Iterator[tuple[str, list[float]]]:
        """Return the name of each file and the durations of its transfers, in profile order."""
        for name in dict.fromkeys(each.name for each in self.fetched):
            yield name, [each.seconds for each in self.fetched if each.name == name]


def percentiles(values: Sequence[float]) -> list[float]:
    """Return the `PERCENTILES` of some values.

    @param values: at least one value.
    """
    ordered = sorted(values)
    return [ordered[max(0, -(-len(ordered) * each // 100) - 1)] for each in PERCENTILES]


class Storm:
    """A simulation of machines that boot from one server.

    @ivar report: the results so far.
    @ivar running: the number of machines that are booting.
    """

    def __init__(
        self,
        reactor: Any,
        client: TFTPClient,
        steps: Sequence[BootStep],
        *,
        machines: int,
        arrival: float,
        think: float = 0.0,
        seed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up a storm.

        @param client: a client of the server.
        @param steps: the profile of each machine.
        @param arrival: machines that are switched on per second, at random intervals; 0 for all
            at once.
        @param think: the mean of the random time between two files, in seconds.
        @param seed: the seed of the random numbers.
        """
        self.report = Report(machines)
        self.running = 0
        self._reactor = reactor
        self._client = client
        self._steps = steps
        self._arrival = arrival
        self._think = think
        self._random = random.Random(seed)
        self._clock = clock
        self._began = 0.0
        self._left = machines
        self._done: Deferred[Report] = Deferred()

    def start(self) -> Deferred[Report]:
        """Switch the machines on; the Deferred fires with the report when all have finished."""
        self._began = self._clock()
        at = 0.0
        for number in range(self.report.machines):
            if self._arrival:
                at += self._random.expovariate(self._arrival)
            self._reactor.callLater(at, self._switch_on, Machine(number))
        return self._done

    def so_far(self) -> Report:
        """Return the report of a storm that ends now."""
        report = self.report
        left = report.machines - len(report.boots) - sum(report.failures.values())
        failures = report.failures + Counter({"not done": left})
        return replace(report, failures=failures, seconds=self._clock() - self._began)

    def _switch_on(self, machine: Machine) -> None:
        self.running += 1
        began = self._clock()
        booting: Deferred[None] = self._boot(machine)
        booting.addCallback(lambda _: self._booted(began))
        booting.addErrback(lambda failure: self.report.failures.update([str(failure.value)]))
        booting.addBoth(lambda _: self._finished())

    def _booted(self, began: float) -> None:
        now = self._clock()
        self.report.boots.append((now - self._began, now - began))

    def _finished(self) -> None:
        self.running -= 1
        self._left -= 1
        if not self._left:
            self.report.seconds = self._clock() - self._began
            self._done.callback(self.report)

    @inlineCallbacks
    def _boot(self, machine: Machine) -> Any:
        for step in self._steps:
            if step.kind == "think":
                yield deferLater(self._reactor, step.seconds)
                continue
            if self._think:
                yield deferLater(self._reactor, self._random.expovariate(1 / self._think))
            try:
                yield self._request(step, machine.fill(step.name))
            except FileNotFound as error:
                if step.kind != "try":
                    raise BootFailed(step, error) from error
                self.report.missing += 1
            except Exception as error:
                raise BootFailed(step, error) from error

    @inlineCallbacks
    def _request(self, step: BootStep, name: str) -> Any:
        if step.kind == "size":
            yield self._client.size(name, step.options)
            return
        result: TransferResult = yield self._client.get(name, Discard(), step.options)
        at = self._clock() - self._began
        self.report.fetched.append(
            Fetched(step.name, at, result.seconds, result.octets, result.retransmissions)
        )


class BootFailed(Exception):
    """A machine did not get a file that it needs; the text has the file's name and the reason."""

    def __init__(self, step: BootStep, error: BaseException) -> None:
        super().__init__(f"{step.name}: {legible(str(error)) or type(error).__name__}")
