"""Compare the results of our server with the targets."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Results

#: The languages of the other servers that are written in C.
ONLY_C = ("C",)

#: The languages of all other servers.
ALL = ("C", "Python")

#: The figures that compare the speed of our server with that of another one.
FASTEST_IN_C = "our speed / fastest other server in C"
FASTEST = "our speed / fastest other server"
YARDSTICK = "our speed / C yardstick"


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
    found: list[TargetResult] = []

    def compare(names: tuple[str, ...], languages: tuple[str, ...], target: float) -> None:
        for load in results.loads:
            ours, best = results.median(load.name, "ours"), results.best(load.name, languages)
            if load.name in names and ours and best:
                figure = FASTEST_IN_C if languages == ONLY_C else FASTEST
                found.append(TargetResult(load.title, figure, target, ours / best))

    compare(("clients32",), ONLY_C, 1.25)
    compare(("lock1428", "lock512"), ONLY_C, 1.0)
    compare(("small",), ONLY_C, 1.5)
    compare(("window16", "window16-gro"), ALL, 1.3)
    compare(("window64", "window64-gro"), ALL, 3)
    compare(("put16", "put64"), ALL, 1.3)
    for load in results.loads:
        ours, yardstick = results.median(load.name, "ours"), results.median(load.name, "yardstick")
        if ours and yardstick:
            ratio = yardstick / ours if load.hold else ours / yardstick
            found.append(TargetResult(load.title, YARDSTICK, 0.6, ratio))
    found += _loss_results(results)
    memory = results.memory("many10000", "ours")
    if memory:
        lost = max(s.lost or 0 for s in results.samples["many10000", "ours"])
        found.append(
            TargetResult(
                "10,000 transfers open", "KiB for each transfer", 12, memory / 1024, False
            )
        )
        found.append(
            TargetResult("10,000 transfers open", "transfers that failed", 0, lost, False)
        )
    few, many = results.median("many10", "ours"), results.median("many1000", "ours")
    if few and many:
        figure = "time per packet / with 10 open"
        found.append(TargetResult("1,000 transfers open", figure, 1.15, many / few, False))
    loud, quiet = results.median("log", "ours"), results.median("log", "quiet")
    if loud and quiet:
        found.append(
            TargetResult("3 kB files", "time with our log / without", 1.1, quiet / loud, False)
        )
    return found


def _loss_results(results: Results) -> list[TargetResult]:
    found = []
    others = [server.name for server in results.servers if server.language in ALL]
    for key in results.network_keys():
        size, loss, round_trip, disorder = key
        title = f"2 MiB, window {size}, {key.faults}, {round_trip:g} ms"
        ours = results.network_time(key, "ours")[0]
        times = [results.network_time(key, other)[0] for other in others]
        if (
            ours
            and times
            and size == 16
            and round_trip < 1
            and loss in (0.005, 0.02)
            and not disorder
        ):
            # If no peer completed, the time limit counts as the best time.
            best = min((time for time in times if time), default=float(results.network_limit))
            found.append(TargetResult(title, FASTEST, 5, best / ours))
        ratio = results.sent_over_needed(key, "ours")
        if ratio and loss == 0.02 and size <= 16 and not disorder:
            found.append(TargetResult(title, "datagrams sent / needed", 1.3, ratio, False))
    return found
