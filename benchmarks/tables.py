"""Write results as tables in Markdown, which are readable as text too."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.loads import Load
from benchmarks.results import Results
from benchmarks.servers import Server
from benchmarks.targets import target_results


def as_text(value: float | None, form: str = ".3g") -> str:
    """Return a number as text; "none" for None."""
    if value is None:
        return "none"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:{form}}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown with aligned columns, so that it is readable as text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def ratios(results: Results) -> str:
    """Return the table of ratios, our server over the other: above 1 ours is faster."""
    others = [s for s in results.servers if s.name not in ("ours", "quiet")]
    rows = []
    for load in results.loads:
        ours = results.median(load.name, "ours")
        if load.only:
            continue
        row = [load.title, f"{as_text(ours)} {load.unit}" if ours else "none"]
        for server in others:
            other = results.median(load.name, server.name)
            if not ours or not other:
                row.append("none")
            else:
                row.append(as_text(other / ours if load.lower_is_better else ours / other, ".2f"))
        rows.append(row)
    return table(["load", "ours", *(s.title for s in others)], rows)


def medians(results: Results) -> str:
    """Return the table of medians, with the lowest and the highest value."""
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
                row.append(f"{as_text(median)} ({as_text(values[0])} to {as_text(values[-1])})")
            else:
                row.append(as_text(median))
        rows.append(row)
    return table(["load", *(server.title for server in shown)], rows)


def cost(results: Results, load: Load, server: Server) -> str:
    """Return the CPU time of a pinned load as text: in all, in user mode and in the kernel."""
    total, parts = results.median(load.name, server.name), results.cost(load.name, server.name)
    if total is None:
        return results.note(load.name, server.name)
    if parts is None:
        return as_text(total)
    return f"{as_text(total)} ({as_text(parts[0])} + {as_text(parts[1])})"


def matrix(
    results: Results, cell: Callable[[Load, Server], str], only: Callable[[Load], bool]
) -> str:
    """Return a table with `cell` of each load for which `only` is true, and each server."""
    shown = [server for server in results.servers if server.name != "quiet"]
    rows = [
        [
            f"{load.title} ({load.unit})" if load.pinned else load.title,
            *(cell(load, server) for server in shown),
        ]
        for load in results.loads
        if not load.only and only(load)
    ]
    return table(["load", *(server.title for server in shown)], rows)


def network_table(results: Results) -> str:
    """Return the table of times over simulated networks with faults."""
    shown = [s for s in results.servers if s.retransmits and s.name != "quiet"]
    rows = []
    for key in results.network_keys():
        row = [f"{key.round_trip_ms:g} ms", str(key.windowsize), key.faults]
        for server in shown:
            text = results.network_time(key, server.name)[1]
            ratio = results.sent_over_needed(key, server.name)
            row.append(f"{text} ({ratio:.2f})" if ratio and text[0] != ">" else text)
        rows.append(row)
    return table(["round trip", "window", "faults", *(server.title for server in shown)], rows)


def target_table(results: Results) -> str:
    """Return the table of the targets."""
    head = ["load", "figure", "target", "measured", "met"]
    return table(head, [result.row() for result in target_results(results)])


def summary(results: Results) -> str:
    """Return the tables that are printed at the end of a run."""
    parts = [
        "Our speed divided by that of each other server, medians (above 1: ours is faster)",
        "",
        ratios(results),
        "",
    ]
    if results.network_samples:
        parts += ["2 MiB over networks with faults: seconds (datagrams sent / needed)", ""]
        parts += [network_table(results), ""]
    if target_results(results):
        parts += ["Targets", "", target_table(results), ""]
    for name, reason in results.unavailable.items():
        parts.append(f"{name}: not measured: {reason}")
    return "\n".join(parts)


def kib(octets: float | None) -> float | None:
    """Return a number of octets in KiB."""
    return None if octets is None else octets / 1024
