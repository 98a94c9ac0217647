"""Keep all samples of one run, and compute medians of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.loads import Load, Sample, Way
from benchmarks.servers import Server

Samples = dict[tuple[str, str], list[Sample]]

WaySamples = dict[tuple[Way, str], list[Sample]]


class Key(NamedTuple):
    """The properties of a simulated network without its seed."""

    windowsize: int
    loss: float
    round_trip_ms: float
    muddle: float

    @property
    def harm(self) -> str:
        """A text that says what happens to datagrams."""
        muddled = f", {self.muddle:.0%} repeated, {self.muddle:.0%} late" if self.muddle else ""
        return f"{self.loss:.1%} lost{muddled}"


@dataclass
class Results:
    """All samples of one run.

    @ivar rounds: how often each load was run.
    @ivar limit: the longest time for a run of a load, in seconds.
    @ivar way_limit: the longest time for a transfer over a simulated network, in seconds.
    @ivar unavailable: the reason why a server could not run, by its name.
    """

    servers: list[Server]
    loads: list[Load]
    rounds: int
    limit: int
    way_limit: int
    samples: Samples = field(default_factory=dict)
    ways: WaySamples = field(default_factory=dict)
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

    def memory(self, load: str, server: str) -> float | None:
        """Return the highest memory per open transfer, in octets: later rounds reuse memory."""
        found = [s.memory_per_transfer for s in self.samples.get((load, server), [])]
        return max((each for each in found if each is not None), default=None)

    def best(self, load: str, kinds: tuple[str, ...]) -> float | None:
        """Return the best median among the peers of these kinds."""
        medians = [self.median(load, s.name) for s in self.servers if s.kind in kinds]
        return max((each for each in medians if each is not None), default=None)

    def crossing(self, key: Key, server: str) -> tuple[float | None, str]:
        """Return the median time over simulated networks with these properties, and its text."""
        samples = [s for way, s in self._over(key, server)]
        if not samples:
            return None, "none"
        # A transfer that did not complete counts as longer than all that did.
        times = sorted(s.value if s.value is not None else float("inf") for s in samples)
        middle = times[len(times) // 2]
        if middle == float("inf"):
            return None, next(s.note for s in samples if s.note)
        return middle, f"{middle:.3g}"

    def waste(self, key: Key, server: str) -> float | None:
        """Return the median of the datagrams sent, divided by those needed."""
        return _median(s.sent_over_needed for _, s in self._over(key, server))

    def crossed(self) -> list[Key]:
        """Return the properties of each simulated network."""
        return list(dict.fromkeys(_key(way) for way, _ in self.ways))

    def _over(self, key: Key, server: str) -> list[tuple[Way, Sample]]:
        return [
            (way, sample)
            for (way, name), samples in self.ways.items()
            if name == server and _key(way) == key
            for sample in samples
            if sample.note != "no windowsize"
        ]


def _key(way: Way) -> Key:
    return Key(way.windowsize, way.loss, way.round_trip_ms, way.muddle)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
