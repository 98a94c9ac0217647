"""Keep all samples of one run, and compute medians of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.loads import FaultyNetwork, Load, Sample
from benchmarks.servers import Server

Samples = dict[tuple[str, str], list[Sample]]

NetworkSamples = dict[tuple[FaultyNetwork, str], list[Sample]]


class NetworkKey(NamedTuple):
    """The properties of a simulated network, without its seed."""

    windowsize: int
    loss: float
    round_trip_ms: float
    disorder: float

    @property
    def faults(self) -> str:
        """The faults as text."""
        lost = f"{self.loss:.1%} lost"
        if not self.disorder:
            return lost
        return f"{lost}, {self.disorder:.0%} repeated, {self.disorder:.0%} late"


@dataclass
class Results:
    """All samples of one run.

    @ivar rounds: how often each load was run.
    @ivar limit: the longest time for a run of a load, in seconds.
    @ivar network_limit: the longest time for a transfer over a simulated network, in seconds.
    @ivar unavailable: the reason why a server could not run, by its name.
    """

    servers: list[Server]
    loads: list[Load]
    rounds: int
    limit: int
    network_limit: int
    samples: Samples = field(default_factory=dict)
    network_samples: NetworkSamples = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def values(self, load: str, server: str) -> list[float]:
        """Return the values of all rounds, sorted."""
        samples = self.samples.get((load, server), [])
        return sorted(sample.value for sample in samples if sample.value is not None)

    def median(self, load: str, server: str) -> float | None:
        """Return the median of all rounds; None if a round has no value."""
        samples = self.samples.get((load, server), [])
        if not samples or any(sample.value is None for sample in samples):
            return None
        return statistics.median(self.values(load, server))

    def note(self, load: str, server: str) -> str:
        """Return why there is no median."""
        notes = [sample.note for sample in self.samples.get((load, server), []) if sample.note]
        return notes[0] if notes else "none"

    def cpu(self, load: str, server: str) -> float | None:
        """Return the median of the CPU seconds per gigabyte."""
        return _median(s.cpu_per_gb for s in self.samples.get((load, server), []))

    def cost(self, load: str, server: str) -> tuple[float, float] | None:
        """Return the parts of the median in user mode and in the kernel, for a pinned load.

        They are divided as the time of all rounds is.
        """
        total = self.median(load, server)
        samples = self.samples.get((load, server), [])
        user = [sample.user for sample in samples if sample.user is not None]
        system = [sample.system for sample in samples if sample.system is not None]
        whole = sum(user) + sum(system)
        if total is None or not whole:
            return None
        return total * sum(user) / whole, total * sum(system) / whole

    def memory(self, load: str, server: str) -> float | None:
        """Return the highest memory per open transfer, in octets: later rounds reuse memory."""
        found = [s.memory_per_transfer for s in self.samples.get((load, server), [])]
        return max((each for each in found if each is not None), default=None)

    def network_time(self, key: NetworkKey, server: str) -> tuple[float | None, str]:
        """Return the median time over simulated networks with these properties, and its text."""
        samples = [s for network, s in self._samples_over(key, server)]
        if not samples:
            return None, "none"
        # A transfer that did not complete counts as longer than all that did.
        times = sorted(s.value if s.value is not None else float("inf") for s in samples)
        middle = times[len(times) // 2]
        if middle == float("inf"):
            return None, next(s.note for s in samples if s.note)
        return middle, f"{middle:.3g}"

    def sent_over_needed(self, key: NetworkKey, server: str) -> float | None:
        """Return the median of the datagrams sent, divided by those needed."""
        return _median(s.sent_over_needed for _, s in self._samples_over(key, server))

    def network_keys(self) -> list[NetworkKey]:
        """Return the properties of each simulated network."""
        return list(dict.fromkeys(_key_of(network) for network, _ in self.network_samples))

    def _samples_over(self, key: NetworkKey, server: str) -> list[tuple[FaultyNetwork, Sample]]:
        return [
            (network, sample)
            for (network, name), samples in self.network_samples.items()
            if name == server and _key_of(network) == key
            for sample in samples
            if sample.note != "no windowsize"
        ]


def _key_of(network: FaultyNetwork) -> NetworkKey:
    return NetworkKey(network.windowsize, network.loss, network.round_trip_ms, network.disorder)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
