"""Compare the results of our server with the targets."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Results

#: The kinds of peers that are written in C.
C_PEERS = ("C",)

#: The kinds of all peers.
ALL_PEERS = ("C", "Python")


@dataclass(frozen=True)
class Verdict:
    """A target and the measured value.

    @ivar title: the load.
    @ivar against: what our server is compared with.
    @ivar wanted: the target.
    @ivar found: the measured value.
    @ivar at_least: whether the target is a lower bound.
    """

    title: str
    against: str
    wanted: float
    found: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted

    def row(self) -> list[str]:
        """Return the cells of this row of the table."""
        sign = "≥" if self.at_least else "≤"
        met = "yes" if self.met else "**no**"
        return [self.title, self.against, f"{sign} {self.wanted:g}", f"{self.found:.3g}", met]


def verdicts(results: Results) -> list[Verdict]:
    """Return the verdict on each target whose values were all measured."""
    found: list[Verdict] = []

    def against(names: tuple[str, ...], kinds: tuple[str, ...], wanted: float) -> None:
        for load in results.loads:
            ours, best = results.median(load.name, "ours"), results.best(load.name, kinds)
            if load.name in names and ours and best:
                title = "best C peer" if kinds == C_PEERS else "best peer"
                found.append(Verdict(load.title, title, wanted, ours / best))

    against(("clients32",), C_PEERS, 1.25)
    against(("lock1428", "lock512"), C_PEERS, 1.0)
    against(("small",), C_PEERS, 1.5)
    against(("window16", "window16-gro"), ALL_PEERS, 1.3)
    against(("window64", "window64-gro"), ALL_PEERS, 3)
    against(("put16", "put64"), ALL_PEERS, 1.3)
    for load in results.loads:
        ours, least = results.median(load.name, "ours"), results.median(load.name, "least")
        if ours and least:
            ratio = least / ours if load.hold else ours / least
            found.append(Verdict(load.title, "C yardstick", 0.6, ratio))
    found += _loss_verdicts(results)
    memory = results.memory("many10000", "ours")
    if memory:
        lost = max(s.lost or 0 for s in results.samples["many10000", "ours"])
        found.append(Verdict("10,000 transfers open", "KiB each", 12, memory / 1024, False))
        found.append(Verdict("10,000 transfers open", "transfers lost", 0, lost, False))
    few, many = results.median("many10", "ours"), results.median("many1000", "ours")
    if few and many:
        found.append(Verdict("a packet, of 1,000 transfers", "of 10", 1.15, many / few, False))
    loud, quiet = results.median("log", "ours"), results.median("log", "quiet")
    if loud and quiet:
        found.append(
            Verdict("3 kB files, times slower", "without a log", 1.1, quiet / loud, False)
        )
    return found


def _loss_verdicts(results: Results) -> list[Verdict]:
    found = []
    peers = [server.name for server in results.servers if server.kind in ALL_PEERS]
    for key in results.crossed():
        size, loss, round_trip, muddle = key
        title = f"2 MiB, window {size}, {key.harm}, {round_trip:g} ms"
        ours = results.crossing(key, "ours")[0]
        times = [results.crossing(key, peer)[0] for peer in peers]
        if (
            ours
            and times
            and size == 16
            and round_trip < 1
            and loss in (0.005, 0.02)
            and not muddle
        ):
            # If no peer completed, the time limit counts as the best time.
            best = min((time for time in times if time), default=float(results.way_limit))
            found.append(Verdict(title, "best peer", 5, best / ours))
        waste = results.waste(key, "ours")
        if waste and loss == 0.02 and size <= 16 and not muddle:
            found.append(Verdict(title, "sent over needed", 1.3, waste, False))
    return found
