"""Simulate many machines that boot at the same time from one server (a boot storm)."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult
from twisted_tftp.errors import FileNotFound
from twisted_tftp.protocol.printable import printable_unicode
from twisted_tftp.tools.profiles import BootStep, SimulatedMachine, StepKind

#: The percentiles that are reported; 100 is the maximum.
PERCENTILES = (50, 95, 99, 100)

#: What a machine stores (step `put`).
STORED_TEXT = "This is the configuration of {mac} with the address {ip}.\n"


class NullStream:
    """A binary stream that discards what is written to it."""

    def write(self, data: bytes | memoryview) -> int:
        """Discard the octets."""
        return len(data)

    def flush(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Boot:
    """One machine that has booted.

    @ivar ended_at: seconds from the start of the storm to the end of the boot.
    @ivar seconds: the duration of the boot.
    """

    ended_at: float
    seconds: float


@dataclass(frozen=True)
class TransferredFile:
    """One file that one machine has fetched or stored.

    @ivar name: the name in the profile, in which placeholders are not replaced.
    @ivar seconds: the duration of the transfer.
    """

    name: str
    seconds: float
    octets: int
    retransmissions: int


@dataclass
class Report:
    """The results of a storm; times are in seconds.

    @ivar machines: the number of machines.
    @ivar boots: the machines that have booted.
    @ivar failures: the number of machines that failed, for each reason.
    @ivar transferred: the files that were fetched or stored.
    @ivar missing: how many requests for optional files (step `try`) found no file.
    @ivar seconds: the duration of the storm.
    """

    machines: int = 0
    boots: list[Boot] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    transferred: list[TransferredFile] = field(default_factory=list)
    missing: int = 0
    seconds: float = 0.0

    @property
    def octets(self) -> int:
        """Octets of all transferred files."""
        return sum(each.octets for each in self.transferred)

    @property
    def retransmissions(self) -> int:
        """Datagrams that were sent again for the transferred files."""
        return sum(each.retransmissions for each in self.transferred)

    def seconds_by_file(self) -> dict[str, list[float]]:
        """Return the durations of the transfers of each file; the first file is first."""
        durations: dict[str, list[float]] = {}
        for each in self.transferred:
            durations.setdefault(each.name, []).append(each.seconds)
        return durations


def percentiles(values: Sequence[float]) -> list[float]:
    """Return the `PERCENTILES` of some values, of which there is at least one."""
    ordered = sorted(values)
    count = len(ordered)
    # The smallest value that at least `percent` % of the values do not exceed; -(-a // b) is
    # a / b, rounded up.
    return [ordered[max(0, -(-count * percent // 100) - 1)] for percent in PERCENTILES]


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
        think: float,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a storm; nothing is sent yet.

        @param client: a client of the server.
        @param steps: what each machine does, in order.
        @param machines: the number of machines.
        @param arrival: machines that are switched on per second, at random intervals; 0 for all
            at once.
        @param think: the mean of the random pause before each request, in seconds.
        @param seed: the seed of the random numbers.
        @param clock: returns the current time in seconds; it never goes back.
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
        self._started_at = 0.0
        self._unfinished = machines
        self._ended: Deferred[Report] = Deferred()

    def start(self) -> Deferred[Report]:
        """Switch the machines on.

        @return: fires with the report when all machines have booted or failed.
        """
        self._started_at = self._clock()
        delay = 0.0
        for number in range(self.report.machines):
            if self._arrival:
                delay += self._random.expovariate(self._arrival)
            self._reactor.callLater(delay, self._switch_on, SimulatedMachine(number))
        return self._ended

    def partial_report(self) -> Report:
        """Return the report of an interrupted storm: unfinished machines count as failures."""
        report = self.report
        unfinished = report.machines - len(report.boots) - sum(report.failures.values())
        failures = report.failures + Counter({"interrupted": unfinished})
        return replace(report, failures=failures, seconds=self._clock() - self._started_at)

    def _switch_on(self, machine: SimulatedMachine) -> None:
        self.running += 1
        switched_on_at = self._clock()
        booting: Deferred[None] = self._boot(machine)
        booting.addCallback(lambda _: self._booted(switched_on_at))
        booting.addErrback(lambda failure: self.report.failures.update([str(failure.value)]))
        booting.addBoth(lambda _: self._finished())

    def _booted(self, switched_on_at: float) -> None:
        now = self._clock()
        self.report.boots.append(Boot(now - self._started_at, now - switched_on_at))

    def _finished(self) -> None:
        self.running -= 1
        self._unfinished -= 1
        if not self._unfinished:
            self.report.seconds = self._clock() - self._started_at
            self._ended.callback(self.report)

    @inlineCallbacks
    def _boot(self, machine: SimulatedMachine) -> Any:
        for step in self._steps:
            if step.kind is StepKind.THINK:
                yield deferLater(self._reactor, step.seconds)
                continue
            if self._think:
                yield deferLater(self._reactor, self._random.expovariate(1 / self._think))
            try:
                yield self._request(step, machine)
            except FileNotFound as error:
                if step.kind is not StepKind.TRY:
                    raise BootFailed(step, error) from error
                self.report.missing += 1
            except Exception as error:
                raise BootFailed(step, error) from error

    @inlineCallbacks
    def _request(self, step: BootStep, machine: SimulatedMachine) -> Any:
        name = machine.fill_in(step.name)
        if step.kind is StepKind.SIZE:
            yield self._client.size(name, step.options)
            return
        result: TransferResult
        if step.kind is StepKind.PUT:
            text = BytesIO(machine.fill_in(STORED_TEXT).encode())
            result = yield self._client.put(text, name, step.options)
        else:
            result = yield self._client.get(name, NullStream(), step.options)
        self.report.transferred.append(
            TransferredFile(step.name, result.seconds, result.octets, result.retransmissions)
        )


class BootFailed(Exception):
    """A machine could not transfer a file; the text names the file and the reason."""

    def __init__(self, step: BootStep, error: BaseException) -> None:
        super().__init__(f"{step.name}: {printable_unicode(str(error)) or type(error).__name__}")
