"""Compare the results of our server with the targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.loads import Load
from benchmarks.results import Results

#: The languages of the servers that ours is compared with.
LANGUAGES = ("C", "Python")


@dataclass(frozen=True)
class Rival:
    """A group of servers; ours is compared with the fastest one.

    @ivar figure: what is compared with the target.
    @ivar names: their names; all other servers if empty.
    """

    figure: str
    names: tuple[str, ...] = ()

    def best(self, results: Results, load: str) -> float | None:
        """Return the best median of them for a load that measures a rate."""
        names = self.names or [s.name for s in results.servers if s.language in LANGUAGES]
        medians = [results.median(load, name) for name in names]
        return max((each for each in medians if each is not None), default=None)


FASTEST = Rival("our speed / fastest other server")
DNSMASQ = Rival("our speed / dnsmasq", ("dnsmasq",))
TFTPDS = Rival("our speed / faster of tftpd-hpa and atftpd", ("hpa", "atftpd"))

#: The least speed of ours in each load, divided by that of a rival.
RIVAL_TARGETS = (
    ("clients32", DNSMASQ, 1.0),
    ("clients32", TFTPDS, 2.2),
    ("clients1000", DNSMASQ, 0.85),
    ("small", DNSMASQ, 0.8),
    ("small", TFTPDS, 1.8),
    ("lock512", FASTEST, 2.3),
    ("lock1428", FASTEST, 2.3),
    ("clients32-window4", FASTEST, 1.8),
    ("window16", FASTEST, 1.3),
    ("window16-gro", FASTEST, 1.3),
    ("window64", FASTEST, 3.0),
    ("window64-gro", FASTEST, 3.0),
    ("put16", FASTEST, 1.3),
    ("put64", FASTEST, 1.3),
)

YARDSTICK = "our speed / C yardstick"

#: The least speed of ours divided by that of the yardstick.
YARDSTICK_TARGET = 0.6

#: The same for loads that have a target of their own.
YARDSTICK_TARGETS = {"clients32": 0.8, "clients32-window4": 0.65}

BEFORE = "our speed / before"

#: The least speed of ours divided by that of an earlier version.
BEFORE_TARGET = 0.97


@dataclass(frozen=True)
class TargetResult:
    """A target and the measured value.

    @ivar load: the title of the load.
    @ivar figure: what is compared with the target.
    @ivar target: the target.
    @ivar measured: the measured value.
    @ivar is_minimum: whether the target is a lower bound; otherwise it is an upper bound.
    """

    load: str
    figure: str
    target: float
    measured: float
    is_minimum: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the target was reached."""
        if self.is_minimum:
            return self.measured >= self.target
        return self.measured <= self.target

    def row(self) -> list[str]:
        """Return the cells of this row of the table."""
        sign = "≥" if self.is_minimum else "≤"
        met = "yes" if self.is_met else "**no**"
        return [self.load, self.figure, f"{sign} {self.target:g}", f"{self.measured:.3g}", met]


def target_results(results: Results) -> list[TargetResult]:
    """Return the result for each target whose values were all measured."""
    found = list(_rival_results(results))
    for load in results.loads:
        ratio = _ratio(results, load, "yardstick")
        if ratio and not load.pinned:
            target = YARDSTICK_TARGETS.get(load.name, YARDSTICK_TARGET)
            found.append(TargetResult(load.title, YARDSTICK, target, ratio))
    found += _scale_results(results)
    found += _loss_results(results)
    loud, quiet = results.median("log", "ours"), results.median("log", "quiet")
    if loud and quiet:
        found.append(
            TargetResult("3 kB files", "time with our log / without", 1.1, quiet / loud, False)
        )
    for load in results.loads:
        ratio = _ratio(results, load, "before")
        if ratio:
            found.append(TargetResult(load.title, BEFORE, BEFORE_TARGET, ratio))
    found += _memory_results(results)
    return found


def _ratio(results: Results, load: Load, other: str) -> float | None:
    """Return the speed of ours divided by that of another server; above 1 ours is faster."""
    ours, theirs = results.median(load.name, "ours"), results.median(load.name, other)
    if not ours or not theirs:
        return None
    return theirs / ours if load.lower_is_better else ours / theirs


def _rival_results(results: Results) -> Iterator[TargetResult]:
    titles = {load.name: load.title for load in results.loads}
    for name, rival, target in RIVAL_TARGETS:
        ours, best = results.median(name, "ours"), rival.best(results, name)
        if name in titles and ours and best:
            yield TargetResult(titles[name], rival.figure, target, ours / best)


def _scale_results(results: Results) -> Iterator[TargetResult]:
    """Return the results for targets about many transfers at once."""
    few, many = results.median("clients10", "ours"), results.median("clients1000", "ours")
    if few and many:
        yield TargetResult(
            "1,000 clients, lock step", "our speed / with 10 clients", 0.75, many / few
        )
    few, many = results.median("many10", "ours"), results.median("many1000", "ours")
    if few and many:
        figure = "time per packet / with 10 open"
        yield TargetResult("1,000 transfers open", figure, 1.15, many / few, False)
    memory = results.memory("many10000", "ours")
    if memory:
        title = "10,000 transfers open"
        lost = max(s.lost or 0 for s in results.samples["many10000", "ours"])
        yield TargetResult(title, "KiB for each transfer", 12, memory / 1024, False)
        yield TargetResult(title, "transfers that failed", 0, lost, False)


def _memory_results(results: Results) -> Iterator[TargetResult]:
    """Return the result for the memory of open transfers, compared with an earlier version."""
    ours, before = (results.memory("many5000", name) for name in ("ours", "before"))
    if ours and before:
        figure = "our memory for each transfer / that before"
        yield TargetResult("5,000 transfers open", figure, 1.0, ours / before, False)


def _loss_results(results: Results) -> Iterator[TargetResult]:
    others = [server.name for server in results.servers if server.language in LANGUAGES]
    for key in results.network_keys():
        size, loss, round_trip, disorder = key
        title = f"2 MiB, window {size}, {key.faults}, {round_trip:g} ms"
        ours = results.network_time(key, "ours")[0]
        times = [results.network_time(key, other)[0] for other in others]
        near = round_trip < 1 and loss in (0.005, 0.02) and not disorder
        if ours and times and size == 16 and near:
            # If no peer completed, the time limit counts as the best time.
            best = min((time for time in times if time), default=float(results.network_limit))
            yield TargetResult(title, FASTEST.figure, 5, best / ours)
        ratio = results.sent_over_needed(key, "ours")
        if ratio and loss == 0.02 and size <= 16 and not disorder:
            yield TargetResult(title, "datagrams sent / needed", 1.3, ratio, False)
