"""Turn samples into medians, ratios, verdicts, a page and plots."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.loads import Load, Sample, Way
from benchmarks.servers import Server

Samples = dict[tuple[str, str], list[Sample]]
WaySamples = dict[tuple[Way, str], list[Sample]]


class Key(NamedTuple):
    """What ways that differ by their seeds only have in common."""

    windowsize: int
    loss: float
    round_trip_ms: float
    muddle: float

    @property
    def harm(self) -> str:
        """What happens to datagrams, for people."""
        muddled = f", {self.muddle:.0%} repeated, {self.muddle:.0%} late" if self.muddle else ""
        return f"{self.loss:.1%} lost{muddled}"


_COLOURS = {
    "ours": "#c1440e",
    "least": "#b8b8b8",
    "hpa": "#1f5a8c",
    "atftpd": "#3f8fc4",
    "dnsmasq": "#8cbfe0",
    "pytftp": "#2f6b3a",
    "tftpy": "#5fa06a",
    "py3tftp": "#94c79a",
    "fbtftp": "#c5e2c6",
}


@dataclass
class Results:
    """All that was measured in one run."""

    servers: list[Server]
    loads: list[Load]
    rounds: int
    limit: int
    way_limit: int
    samples: Samples = field(default_factory=dict)
    ways: WaySamples = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def values(self, load: str, server: str) -> list[float]:
        """Return what was measured in all rounds, sorted."""
        samples = self.samples.get((load, server), [])
        return sorted(sample.value for sample in samples if sample.value is not None)

    def median(self, load: str, server: str) -> float | None:
        """Return the median of all rounds, None if one was not done."""
        samples = self.samples.get((load, server), [])
        if not samples or any(sample.value is None for sample in samples):
            return None
        return statistics.median(self.values(load, server))

    def note(self, load: str, server: str) -> str:
        """Return why there is no median."""
        notes = [sample.note for sample in self.samples.get((load, server), []) if sample.note]
        return notes[0] if notes else "none"

    def cpu(self, load: str, server: str) -> float | None:
        """Return the median of CPU seconds a gigabyte."""
        return _median(s.cpu_per_gb for s in self.samples.get((load, server), []))

    def memory(self, load: str, server: str) -> float | None:
        """Return the most octets that an open transfer took: later rounds reuse the first's."""
        found = [s.memory_per_transfer for s in self.samples.get((load, server), [])]
        return max((each for each in found if each is not None), default=None)

    def best(self, load: str, kinds: tuple[str, ...]) -> float | None:
        """Return the best median among the peers of these kinds."""
        medians = [self.median(load, s.name) for s in self.servers if s.kind in kinds]
        return max((each for each in medians if each is not None), default=None)

    def crossing(self, key: Key, server: str) -> tuple[float | None, str]:
        """Return the median time over a way of this window, loss and round trip, and its text."""
        samples = [s for way, s in self._over(key, server)]
        if not samples:
            return None, "none"
        # A crossing that did not end is longer than any that did.
        times = sorted(s.value if s.value is not None else float("inf") for s in samples)
        middle = times[len(times) // 2]
        if middle == float("inf"):
            return None, next(s.note for s in samples if s.note)
        return middle, f"{middle:.3g}"

    def waste(self, key: Key, server: str) -> float | None:
        """Return the median of datagrams sent over needed."""
        return _median(s.sent_over_needed for _, s in self._over(key, server))

    def crossed(self) -> list[Key]:
        """Return each window, loss and round trip that was crossed."""
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


def _text(value: float | None, form: str = ".3g") -> str:
    if value is None:
        return "none"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:{form}}"


# -- Verdicts ----------------------------------------------------------------------------------

_C = ("C",)
_ANY = ("C", "Python")


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured."""

    title: str
    against: str
    wanted: float
    found: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted

    def row(self) -> list[str]:
        """Return the cells of a table."""
        sign = "≥" if self.at_least else "≤"
        met = "yes" if self.met else "**no**"
        return [self.title, self.against, f"{sign} {self.wanted:g}", f"{self.found:.3g}", met]


def verdicts(results: Results) -> list[Verdict]:
    """Return all targets of which both sides were measured."""
    found: list[Verdict] = []

    def against(names: tuple[str, ...], kinds: tuple[str, ...], wanted: float) -> None:
        for load in results.loads:
            ours, best = results.median(load.name, "ours"), results.best(load.name, kinds)
            if load.name in names and ours and best:
                title = "best C peer" if kinds == _C else "best peer"
                found.append(Verdict(load.title, title, wanted, ours / best))

    against(("clients32",), _C, 1.25)
    against(("lock1428", "lock512"), _C, 1.0)
    against(("small",), _C, 1.5)
    against(("window16", "window16-gro"), _ANY, 1.3)
    against(("window64", "window64-gro"), _ANY, 3)
    against(("put16", "put64"), _ANY, 1.3)
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
    peers = [server.name for server in results.servers if server.kind in _ANY]
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
            # Where no peer arrived, the bound stands for the best one.
            best = min((time for time in times if time), default=float(results.way_limit))
            found.append(Verdict(title, "best peer", 5, best / ours))
        waste = results.waste(key, "ours")
        if waste and loss == 0.02 and size <= 16 and not muddle:
            found.append(Verdict(title, "sent over needed", 1.3, waste, False))
    return found


# -- Tables ------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, its columns aligned so that it can be read as text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def ratios(results: Results) -> str:
    """Return the table of ratios, ours over the other: above 1 ours is ahead."""
    others = [s for s in results.servers if s.name not in ("ours", "quiet")]
    rows = []
    for load in results.loads:
        ours = results.median(load.name, "ours")
        if load.only:
            continue
        row = [load.title, f"{_text(ours)} {load.unit}" if ours else "none"]
        for server in others:
            other = results.median(load.name, server.name)
            if not ours or not other:
                row.append("none")
            else:
                row.append(_text(other / ours if load.hold else ours / other, ".2f"))
        rows.append(row)
    return table(["load", "ours", *(s.title for s in others)], rows)


def _medians(results: Results) -> str:
    shown = [server for server in results.servers if server.name != "quiet"]
    rows = []
    for load in results.loads:
        if load.only:
            continue
        row = [f"{load.title} ({load.unit})"]
        for server in shown:
            median = results.median(load.name, server.name)
            values = results.values(load.name, server.name)
            if median is None:
                row.append(results.note(load.name, server.name))
            elif len(values) > 1:
                row.append(f"{_text(median)} ({_text(values[0])} to {_text(values[-1])})")
            else:
                row.append(_text(median))
        rows.append(row)
    return table(["load", *(server.title for server in shown)], rows)


def _matrix(
    results: Results, cell: Callable[[Load, Server], float | None], only: Callable[[Load], bool]
) -> str:
    shown = [server for server in results.servers if server.name != "quiet"]
    rows = [
        [load.title, *(_text(cell(load, server)) for server in shown)]
        for load in results.loads
        if not load.only and only(load)
    ]
    return table(["load", *(server.title for server in shown)], rows)


def crossings(results: Results) -> str:
    """Return the table of times over bad networks."""
    shown = [s for s in results.servers if s.retransmits and s.name != "quiet"]
    rows = []
    for key in results.crossed():
        row = [f"{key.round_trip_ms:g} ms", str(key.windowsize), key.harm]
        for server in shown:
            text = results.crossing(key, server.name)[1]
            waste = results.waste(key, server.name)
            row.append(f"{text} ({waste:.2f})" if waste and text[0] != ">" else text)
        rows.append(row)
    return table(["round trip", "window", "datagrams", *(server.title for server in shown)], rows)


def summary(results: Results) -> str:
    """Return the tables that a terminal shows."""
    parts = ["Ours over the other, medians (above 1: ours is ahead)", "", ratios(results), ""]
    if results.ways:
        parts += ["2 MiB over bad networks: seconds (datagrams sent over needed)", ""]
        parts += [crossings(results), ""]
    judged = verdicts(results)
    if judged:
        head = ["load", "against", "wanted", "found", "met"]
        parts += ["Targets", "", table(head, [verdict.row() for verdict in judged]), ""]
    for name, reason in results.unavailable.items():
        parts.append(f"{name}: not measured: {reason}")
    return "\n".join(parts)


# -- The page ----------------------------------------------------------------------------------


def _machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    python = platform.python_version()
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    return f"{model}, {os.cpu_count()} CPUs, {system}, Python {python}"


def write(results: Results, folder: Path) -> None:
    """Write the page and its plots."""
    folder.mkdir(exist_ok=True)
    _plots(results, folder)
    available = [s for s in results.servers if s.name != "quiet"]
    versions = ", ".join(f"{s.title} {s.version()}" for s in available if s.name != "least")
    head = ["load", "against", "wanted", "found", "met"]
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks`; do not edit. All servers ran side by side in one run,",
        f"in turn, {results.rounds} rounds, on loopback ({_machine()}).",
        "Only ratios mean something: another machine has other numbers.",
        "",
        f"Servers: {versions}.",
        "The *C yardstick* is the least that a server can do: files in memory, no timers, no",
        "logs, no checks. One load generator in C asked them all, and compared each octet that it",
        "got. *none* means that a server cannot do this.",
        "",
        "![Throughput of each server under each load](throughput.svg)",
        "",
        "## Ours over the other",
        "",
        "Medians; above 1 ours is ahead.",
        "",
        ratios(results),
        "",
    ]
    if results.ways:
        lines += [
            "## Loss and distance",
            "",
            "2 MiB at blksize 1428 through a relay that delays and drops. Seconds, and in",
            "brackets datagrams sent over needed.",
            "",
            "![Time to fetch 2 MiB against loss](loss.svg)",
            "",
            crossings(results),
            "",
        ]
    lines += ["## Targets", "", table(head, [verdict.row() for verdict in verdicts(results)]), ""]
    if any(load.hold for load in results.loads):
        lines += [
            "## Many transfers at once",
            "",
            "All are opened and held, then stepped in turn, eight datagrams in flight.",
            "",
            "![Cost of one packet and memory of one transfer](many.svg)",
            "",
            "KiB that one open transfer takes (processes count with their share of memory):",
            "",
            _matrix(
                results,
                lambda load, server: _kib(results.memory(load.name, server.name)),
                lambda load: load.hold and load.transfers >= 100,
            ),
            "",
        ]
    lines += [
        "## What was measured",
        "",
        "Medians, in brackets the least and the most.",
        "",
        _medians(results),
        "",
        "Uploads go to a file system in memory where there is one, as servers differ in whether",
        "they wait for the disk; ours does, each time, before it says that a file has arrived.",
        "",
        "## CPU seconds a gigabyte",
        "",
        "Of the server, its threads and its processes.",
        "",
        "![CPU seconds a gigabyte](cpu.svg)",
        "",
        _matrix(
            results,
            lambda load, server: results.cpu(load.name, server.name),
            lambda load: not load.hold,
        ),
        "",
    ]
    if results.unavailable:
        lines += ["## Not measured", ""]
        lines += [f"- {name}: {reason}" for name, reason in results.unavailable.items()]
        lines.append("")
    (folder / "benchmarks.md").write_text("\n".join(lines))


def _kib(octets: float | None) -> float | None:
    return None if octets is None else octets / 1024


# -- Plots -------------------------------------------------------------------------------------


def _plots(results: Results, folder: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "twisted-tftp",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
        }
    )
    rates = [load for load in results.loads if not load.hold and not load.only]
    if rates:
        _bars(results, rates, folder / "throughput.svg", "higher is better", _rate_bar)
        _bars(results, rates, folder / "cpu.svg", "lower is better", _cpu_bar)
    if results.ways:
        _plot_loss(results, folder / "loss.svg")
    held = [load for load in results.loads if load.hold]
    if held:
        _plot_many(results, held, folder / "many.svg")


Bar = tuple[float, float, float]  # median, least, most


def _rate_bar(results: Results, load: Load, server: Server) -> Bar | None:
    median = results.median(load.name, server.name)
    values = results.values(load.name, server.name)
    return None if median is None else (median, values[0], values[-1])


def _cpu_bar(results: Results, load: Load, server: Server) -> Bar | None:
    value = results.cpu(load.name, server.name)
    return None if value is None else (value, value, value)


def _bars(
    results: Results,
    loads: list[Load],
    path: Path,
    remark: str,
    bar: Callable[[Results, Load, Server], Bar | None],
) -> None:
    """Draw one panel a load, one bar a server, its value beside it."""
    from matplotlib import pyplot

    servers = [s for s in results.servers if s.name != "quiet"]
    columns = 3
    rows = -(-len(loads) // columns)
    height = 0.5 + 0.2 * len(servers)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(11, rows * height + 0.4), squeeze=False, layout="constrained"
    )
    figure.suptitle(remark, fontsize=9, color="#666666", x=0.995, ha="right")
    panels = list(axes.flat)
    for panel, load in zip(panels, loads, strict=False):
        found = {s.name: bar(results, load, s) for s in servers}
        top = max((each[2] for each in found.values() if each), default=1.0)
        for place, server in enumerate(servers):
            each = found[server.name]
            if each is None:
                panel.text(0, place, " none", va="center", color="#999999", fontsize=8)
                continue
            median, least, most = each
            panel.barh(place, median, color=_COLOURS[server.name], height=0.75)
            if most > least:
                panel.plot([least, most], [place, place], color="#222222", linewidth=1)
            panel.text(
                most + top * 0.02,
                place,
                _text(median),
                va="center",
                fontsize=8,
                fontweight="bold" if server.name == "ours" else "normal",
            )
        unit = load.unit if bar is _rate_bar else "CPU s a GB"
        panel.set_title(f"{load.title} ({unit})")
        panel.set_yticks(range(len(servers)), [server.title for server in servers], fontsize=8)
        panel.set_xlim(0, top * 1.18)
        panel.set_xticks([])
        panel.spines["bottom"].set_visible(False)
        panel.tick_params(length=0)
        panel.invert_yaxis()
    for panel in panels[len(loads) :]:
        panel.set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _plot_loss(results: Results, path: Path) -> None:
    """Draw one panel for each window and round trip: time against loss."""
    from matplotlib import pyplot

    keys = [key for key in results.crossed() if not key.muddle]
    sizes = sorted({key.windowsize for key in keys})
    trips = sorted({key.round_trip_ms for key in keys})
    losses = sorted({key.loss for key in keys})
    servers = [s for s in results.servers if s.retransmits and s.name != "quiet"]
    figure, axes = pyplot.subplots(
        len(trips),
        len(sizes),
        figsize=(11, 0.7 + 2.2 * len(trips)),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    lines = {}
    for row, trip in enumerate(trips):
        for column, size in enumerate(sizes):
            panel = axes[row][column]
            for server in reversed(servers):
                points = []
                for place, loss in enumerate(losses):
                    time, text = results.crossing(Key(size, loss, trip, 0.0), server.name)
                    if time is not None:
                        points.append((place, time))
                    elif text.startswith(">"):
                        panel.plot(
                            place,
                            results.way_limit,
                            marker="^",
                            color=_COLOURS[server.name],
                            clip_on=False,
                        )
                if points:
                    own = server.name == "ours"
                    (lines[server.title],) = panel.plot(
                        *zip(*points, strict=True),
                        color=_COLOURS[server.name],
                        marker="o",
                        markersize=5 if own else 3.5,
                        linewidth=2.4 if own else 1.3,
                        zorder=3 if own else 2,
                        label=server.title,
                    )
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter("{x:g}")
            panel.set_title(f"window {size}, {trip:g} ms")
            panel.set_xticks(range(len(losses)), [f"{loss:.1%}" for loss in losses])
            panel.grid(axis="y", color="#eeeeee")
            if column == 0:
                panel.set_ylabel("seconds")
            if row == len(trips) - 1:
                panel.set_xlabel("datagrams lost")
    shown = [lines[s.title] for s in servers if s.title in lines]
    figure.legend(handles=shown, loc="outside upper center", ncols=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _plot_many(results: Results, loads: list[Load], path: Path) -> None:
    """Draw the cost of a packet and the memory of a transfer against how many are open."""
    from matplotlib import pyplot

    servers = [s for s in results.servers if s.name != "quiet"]
    figure, (cost, memory) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for server in reversed(servers):
        style = {
            "color": _COLOURS[server.name],
            "marker": "o",
            "markersize": 4,
            "linewidth": 2.4 if server.name == "ours" else 1.3,
            "label": server.title,
        }
        for panel, points in (
            (cost, [(ld.transfers, results.median(ld.name, server.name)) for ld in loads]),
            (
                memory,
                [
                    (ld.transfers, _kib(results.memory(ld.name, server.name)))
                    for ld in loads
                    if ld.transfers >= 100
                ],
            ),
        ):
            known = [(x, y) for x, y in points if y is not None and y > 0]
            if known:
                panel.plot(*zip(*known, strict=True), **style)
    for panel, title in ((cost, "µs a packet"), (memory, "KiB an open transfer")):
        panel.set_title(title)
        panel.set_xscale("log")
        panel.set_xlabel("transfers open")
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.grid(axis="y", color="#eeeeee")
    cost.set_ylim(0)
    memory.set_yscale("log")
    memory.yaxis.set_major_formatter("{x:,g}")
    handles, labels = cost.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=9, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
