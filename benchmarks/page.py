"""Write the page `docs/benchmarks.md` and its plots."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmarks import plots
from benchmarks.results import Results
from benchmarks.tables import crossings, kib, matrix, medians, ratios, table
from benchmarks.verdicts import verdicts


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
    """Write the page and its plots into `folder`."""
    folder.mkdir(exist_ok=True)
    plots.draw(results, folder)
    available = [s for s in results.servers if s.name != "quiet"]
    versions = ", ".join(f"{s.title} {s.version()}" for s in available if s.name != "least")
    head = ["load", "against", "wanted", "found", "met"]
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks`; do not edit. All servers ran side by side in one run,",
        f"in turn, {results.rounds} rounds, on loopback ({_machine()}).",
        "Only ratios can be compared: another machine has other numbers.",
        "",
        f"Servers: {versions}.",
        "The *C yardstick* does the minimum that a server can do: files in memory, no timers, no",
        "logs, no checks. One load generator in C sent requests to all of them, and compared each",
        "octet that it got. *none* means that a server cannot do this.",
        "",
        "![Throughput of each server under each load](throughput.svg)",
        "",
        "## Our server over the others",
        "",
        "Medians; above 1 our server is faster.",
        "",
        ratios(results),
        "",
    ]
    if results.ways:
        lines += [
            "## Loss and distance",
            "",
            "2 MiB at blksize 1428 through a relay that delays and drops datagrams. Seconds, and",
            "in brackets the datagrams sent, divided by those needed.",
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
            "All are opened first and then advanced in turn, with eight datagrams in flight.",
            "",
            "![Cost of one packet and memory of one transfer](many.svg)",
            "",
            "KiB of memory for each open transfer (processes count with their share):",
            "",
            matrix(
                results,
                lambda load, server: kib(results.memory(load.name, server.name)),
                lambda load: load.hold and load.transfers >= 100,
            ),
            "",
        ]
    lines += [
        "## What was measured",
        "",
        "Medians, in brackets the lowest and the highest value.",
        "",
        medians(results),
        "",
        "Uploads go to a file system in memory if there is one, because some servers wait for the",
        "disk and others do not. Ours does, before it acknowledges the last block.",
        "",
        "## CPU seconds per gigabyte",
        "",
        "Of the server with its threads and its processes.",
        "",
        "![CPU seconds per gigabyte](cpu.svg)",
        "",
        matrix(
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
