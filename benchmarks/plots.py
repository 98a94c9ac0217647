"""Draw results as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.loads import Load
from benchmarks.results import NetworkKey, Results
from benchmarks.servers import Server
from benchmarks.tables import as_text, kib

#: The colour of each server, by name.
COLOURS = {
    "ours": "#c1440e",
    "pure": "#dd8452",
    "before": "#eab899",
    "yardstick": "#b8b8b8",
    "hpa": "#1f5a8c",
    "atftpd": "#3f8fc4",
    "dnsmasq": "#8cbfe0",
    "pytftp": "#2f6b3a",
    "tftpy": "#5fa06a",
    "py3tftp": "#94c79a",
    "fbtftp": "#c5e2c6",
}

#: How opaque the part of a bar is that shows the time in the kernel.
KERNEL_ALPHA = 0.45


class Bar(NamedTuple):
    """A bar of a plot.

    @ivar kernel: the part of the median that is time in the kernel.
    """

    median: float
    lowest: float
    highest: float
    kernel: float = 0.0


def draw(results: Results, folder: Path) -> None:
    """Write all plots that the results are enough for into `folder`."""
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
    loads = [load for load in results.loads if not load.only]
    rates = [load for load in loads if not load.lower_is_better]
    if rates:
        _bars(results, rates, folder / "throughput.svg", "higher is better", _rate_bar)
    costs = [*(load for load in loads if load.pinned), *rates]
    if costs:
        remark = "lower is better; pale: in the kernel"
        _bars(results, costs, folder / "cpu.svg", remark, _cpu_bar)
    if results.network_samples:
        _plot_loss(results, folder / "loss.svg")
    held = [load for load in results.loads if load.hold]
    if held:
        _plot_many(results, held, folder / "many.svg")


def _rate_bar(results: Results, load: Load, server: Server) -> Bar | None:
    median = results.median(load.name, server.name)
    values = results.values(load.name, server.name)
    return None if median is None else Bar(median, values[0], values[-1])


def _cpu_bar(results: Results, load: Load, server: Server) -> Bar | None:
    if load.pinned:
        bar, parts = _rate_bar(results, load, server), results.cost(load.name, server.name)
        return bar._replace(kernel=parts[1]) if bar and parts else bar
    value = results.cpu(load.name, server.name)
    return None if value is None else Bar(value, value, value)


def _bars(
    results: Results,
    loads: list[Load],
    path: Path,
    remark: str,
    bar: Callable[[Results, Load, Server], Bar | None],
) -> None:
    """Draw a panel for each load with a bar and a value for each server."""
    from matplotlib import pyplot

    servers = [s for s in results.servers if s.name != "quiet"]
    columns = 3
    rows = -(-len(loads) // columns)
    height = 0.65 + 0.2 * len(servers)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(11, rows * height + 0.4), squeeze=False, layout="constrained"
    )
    figure.suptitle(remark, fontsize=9, color="#666666", x=0.995, ha="right")
    panels = list(axes.flat)
    for panel, load in zip(panels, loads, strict=False):
        _fill_panel(panel, servers, [bar(results, load, server) for server in servers])
        unit = load.unit if bar is _rate_bar or load.pinned else "CPU s / GB"
        panel.set_title(f"{load.title.removeprefix('CPU: ')}\n({unit})")
    for panel in panels[len(loads) :]:
        panel.set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


# Any: matplotlib is not installed everywhere, and a panel is an object of it.
def _fill_panel(panel: Any, servers: list[Server], bars: list[Bar | None]) -> None:
    """Draw the bar of each server into a panel."""
    top = max((bar.highest for bar in bars if bar), default=1.0)
    for place, (server, bar) in enumerate(zip(servers, bars, strict=True)):
        if bar is None:
            panel.text(0, place, " none", va="center", color="#999999", fontsize=8)
            continue
        style: dict[str, Any] = {"color": COLOURS[server.name], "height": 0.75}
        rest = bar.median - bar.kernel
        panel.barh(place, rest, **style)
        panel.barh(place, bar.kernel, left=rest, alpha=KERNEL_ALPHA, **style)
        if bar.highest > bar.lowest:
            panel.plot([bar.lowest, bar.highest], [place, place], color="#222222", linewidth=1)
        panel.text(
            bar.highest + top * 0.02,
            place,
            as_text(bar.median),
            va="center",
            fontsize=8,
            fontweight="bold" if server.name == "ours" else "normal",
        )
    panel.set_yticks(range(len(servers)), [server.title for server in servers], fontsize=8)
    panel.set_xlim(0, top * 1.18)
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(length=0)
    panel.set_ylim(len(servers) - 0.5, -0.5)


def _plot_loss(results: Results, path: Path) -> None:
    """Draw one panel for each window and round trip: time against loss."""
    from matplotlib import pyplot

    keys = [key for key in results.network_keys() if not key.disorder]
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
                    time, text = results.network_time(
                        NetworkKey(size, loss, trip, 0.0), server.name
                    )
                    if time is not None:
                        points.append((place, time))
                    elif text.startswith(">"):
                        panel.plot(
                            place,
                            results.network_limit,
                            marker="^",
                            color=COLOURS[server.name],
                            clip_on=False,
                        )
                if points:
                    own = server.name == "ours"
                    (lines[server.title],) = panel.plot(
                        *zip(*points, strict=True),
                        color=COLOURS[server.name],
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
    """Draw the cost of a packet and the memory of a transfer against the number of transfers."""
    from matplotlib import pyplot

    servers = [s for s in results.servers if s.name != "quiet"]
    figure, (cost, memory) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for server in reversed(servers):
        style = {
            "color": COLOURS[server.name],
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
                    (ld.transfers, kib(results.memory(ld.name, server.name)))
                    for ld in loads
                    if ld.transfers >= 100
                ],
            ),
        ):
            known = [(x, y) for x, y in points if y is not None and y > 0]
            if known:
                panel.plot(*zip(*known, strict=True), **style)
    for panel, title in ((cost, "µs per packet"), (memory, "KiB per open transfer")):
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
