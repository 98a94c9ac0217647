"""Write the page `docs/benchmarks.md` and its plots."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmarks import plots
from benchmarks.results import Results
from benchmarks.tables import (
    as_text,
    cost,
    kib,
    matrix,
    medians,
    network_table,
    ratios,
    target_table,
)


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
    lines = [*_head(results), *_over_networks(results), *_targets(results), *_many(results)]
    lines += [*_measured(results), *_cpu(results), *_not_measured(results)]
    (folder / "benchmarks.md").write_text("\n".join(lines))


def _head(results: Results) -> list[str]:
    shown = [s for s in results.servers if s.name not in ("quiet", "yardstick")]
    versions = ", ".join(f"{s.title} {s.version()}" for s in shown)
    limit = results.network_limit
    return [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks`; do not edit. All servers were measured in one run of",
        f"{results.rounds} rounds on loopback ({_machine()}). In each round, one server after the",
        "other had the same load. Compare only ratios: another machine has other figures.",
        "",
        f"Servers: {versions}.",
        "The *C yardstick* does the minimum that a server can do: files in memory, no timers, no",
        "logs, no checks. One load generator in C sent requests to all of them, and compared each",
        "octet that it received.",
        "",
        "A table may say why it has no figure:",
        "",
        "- *no windowsize*: the server does not grant the option windowsize (RFC 7440);",
        "- *no uploads*: it does not store files;",
        "- *too many*: it was not measured with so many transfers at once;",
        f"- *>{limit}*: the transfer was not complete after {limit} s;",
        "- *wrong octets*: the file that arrived differed from the file of the server;",
        "- *failed*: the transfer failed, for the reason given;",
        "- *none*: one of these reasons, which another table gives, or nothing was measured.",
        "",
        "![Throughput of each server under each load](throughput.svg)",
        "",
        "## Our server compared with the others",
        "",
        "The median of our server, and the speed of our server divided by that of each other one:",
        "above 1, ours is faster.",
        "",
        ratios(results),
        "",
    ]


def _over_networks(results: Results) -> list[str]:
    if not results.network_samples:
        return []
    return [
        "## Loss and distance",
        "",
        "The seconds that it takes to read 2 MiB with blksize 1428 through a relay, which delays",
        "datagrams and causes faults. In brackets: the datagrams sent, divided by those needed.",
        "",
        "![Time to fetch 2 MiB against loss](loss.svg)",
        "",
        network_table(results),
        "",
    ]


def _targets(results: Results) -> list[str]:
    return ["## Targets", "", target_table(results), ""]


def _many(results: Results) -> list[str]:
    if not any(load.hold for load in results.loads):
        return []
    return [
        "## Many transfers at once",
        "",
        "All transfers are opened first. Then each of them gets its next block in turn; eight",
        "datagrams are in flight at a time.",
        "",
        "![Cost of one packet and memory of one transfer](many.svg)",
        "",
        "KiB of memory for each open transfer. Memory that several processes share is divided",
        "among them.",
        "",
        matrix(
            results,
            lambda load, server: as_text(kib(results.memory(load.name, server.name))),
            lambda load: load.hold and load.transfers >= 100,
        ),
        "",
    ]


def _measured(results: Results) -> list[str]:
    return [
        "## What was measured",
        "",
        "Medians, in brackets the lowest and the highest value.",
        "",
        medians(results),
        "",
        "Uploads go to a file system in memory if there is one, because some servers wait for the",
        "disk and others do not. Ours does, before it acknowledges the last block.",
        "",
    ]


def _cpu(results: Results) -> list[str]:
    lines = [
        "## CPU time",
        "",
        "The CPU time of all threads and processes of the server, also of those that have ended.",
        "",
        "![CPU time](cpu.svg)",
        "",
    ]
    if any(load.pinned for load in results.loads):
        lines += _costs(results)
    return [
        *lines,
        "CPU seconds per gigabyte, where the server and the load generator may use all cores.",
        "",
        matrix(
            results,
            lambda load, server: as_text(results.cpu(load.name, server.name)),
            lambda load: not load.lower_is_better,
        ),
        "",
    ]


def _costs(results: Results) -> list[str]:
    lines = [
        "Here the server runs on one core and the load generator on another one. In brackets: the",
        "time in user mode, and the time in the kernel. A packet is a DATA packet with its ACK.",
    ]
    forks = [server.title for server in results.servers if server.forks]
    if forks:
        lines += [
            f"Not divided for {' and '.join(forks)}, which start a process for each transfer: the",
            "system counts all time of a process without a clock tick as time in user mode.",
        ]
    for server in results.servers:
        if server.discards_cpu:
            lines += [
                f"{server.title} lets the system discard the CPU time of each process that ends",
                "(`SA_NOCLDWAIT`). For this table, a library (`benchmarks/keep_times.c`) makes it",
                "wait for them, so that they count. In the next table it has no figures.",
            ]
    return [
        *lines,
        "",
        matrix(
            results, lambda load, server: cost(results, load, server), lambda load: load.pinned
        ),
        "",
    ]


def _not_measured(results: Results) -> list[str]:
    if not results.unavailable:
        return []
    reasons = [f"- {name}: {reason}" for name, reason in results.unavailable.items()]
    return ["## Not measured", "", *reasons, ""]
