"""Run all loads against all servers, and print the results: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import page
from benchmarks.debian_packages import Unavailable
from benchmarks.loads import (
    LOSS_FILE,
    BuildError,
    FaultyNetwork,
    Load,
    Sample,
    Store,
    Tools,
    build,
    faulty_networks,
    loads,
    run_load,
    run_over,
)
from benchmarks.results import Results
from benchmarks.servers import REPOSITORY, Running, Server, servers, start
from benchmarks.tables import summary

#: The name of the load that uses simulated networks.
LOSS = "loss"

#: Seconds: a server that needed longer for a round gets no other round of the same load.
MAX_ROUND_SECONDS = 4.0

#: Seconds for a load that holds its transfers open: all of them must complete.
HOLD_SECONDS = 40

#: Seconds between the creation of small files and the first request: some caches keep only files
#: that have not changed for a while.
SETTLE_SECONDS = 3

#: Descriptors that each server may have open.
MAX_DESCRIPTORS = 32_768

#: Transfers over simulated networks at the same time; they mostly wait.
PARALLEL_TRANSFERS = 24


def _arguments() -> argparse.Namespace:
    names = [load.name for load in loads(False)]
    known = [server.name for server in servers(Path())]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small loads, one round, no page")
    parser.add_argument(
        "--load",
        action="append",
        choices=[*names, LOSS],
        metavar="NAME",
        help=f"only this load; repeatable: {', '.join([*names, LOSS])}",
    )
    parser.add_argument(
        "--server",
        action="append",
        choices=known,
        metavar="NAME",
        help=f"only this server; repeatable: {', '.join(known)}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds [5, or 1 if quick]")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the page into this folder [docs; none with --quick, --load or --server]",
    )
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 5
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    chosen = arguments.quick or arguments.load or arguments.server
    if arguments.output is None and not chosen:
        arguments.output = REPOSITORY / "docs"
    if arguments.output:
        try:
            import matplotlib  # noqa: F401 - report that it is missing before the run, not after it
        except ImportError:
            parser.error("the plots need matplotlib; pip install -e '.[bench]'")
    return arguments


def main() -> int:
    """Run all loads; return 1 if our server or the yardstick sent or stored a wrong octet."""
    arguments = _arguments()
    _raise_descriptors()
    with tempfile.TemporaryDirectory(prefix="tftp-bench-") as folder:
        try:
            tools = build(Path(folder))
        except BuildError as error:
            print(error, file=sys.stderr)
            return 2
        results = Results(
            servers=[
                server
                for server in servers(tools.yardstick)
                if not arguments.server or server.name in arguments.server
            ],
            loads=[
                load
                for load in loads(arguments.quick)
                if not arguments.load or load.name in arguments.load
            ],
            rounds=arguments.rounds,
            limit=1 if arguments.quick else 8,
            network_limit=4 if arguments.quick else 60,
        )
        began = time.monotonic()
        for load in results.loads:
            _run(load, results, tools, Path(folder))
        if not arguments.load or LOSS in arguments.load:
            _run_over_networks(faulty_networks(arguments.quick), results, tools, Path(folder))
        _say(f"{time.monotonic() - began:.0f} s in all\n")
    results.servers = [s for s in results.servers if s.name not in results.unavailable]
    print(summary(results))
    if arguments.output:
        page.write(results, arguments.output)
    return _wrong(results)


def _raise_descriptors() -> None:
    """Let servers have a socket and a file open for each of 10,000 transfers."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root may exceed the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, max(most, MAX_DESCRIPTORS)))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _started(
    chosen: list[Server], store: Store, results: Results, folder: Path
) -> Iterator[list[Running]]:
    """Start servers at the same time; leave out those that can't run on this machine."""

    def attempt(server: Server) -> Running | None:
        if server.name in results.unavailable:
            return None
        try:
            return start(server, store.root, folder / f"{server.name}.log")
        except Unavailable as reason:
            results.unavailable[server.name] = str(reason)
            return None

    with ThreadPoolExecutor(4) as pool:
        started = [each for each in pool.map(attempt, chosen) if each]
    try:
        yield started
    finally:
        for running in started:
            running.stop()


def _run(load: Load, results: Results, tools: Tools, folder: Path) -> None:
    able = []
    for server in results.servers:
        reason = load.skip_reason(server)
        if reason:
            results.samples[load.name, server.name] = [Sample(note=reason)]
        else:
            able.append(server)
    with Store(load) as store, _started(able, store, results, folder) as started:
        if load.unit == "files/s":
            time.sleep(SETTLE_SECONDS)
        # In each round all servers run in turn, so that other load on the machine affects all.
        for _ in range(results.rounds):
            for running in list(started):
                began = time.monotonic()
                limit = HOLD_SECONDS if load.hold else results.limit
                sample = run_load(load, running, store, tools, limit)
                results.samples.setdefault((load.name, running.server.name), []).append(sample)
                if sample.value is None or time.monotonic() - began > MAX_ROUND_SECONDS:
                    started.remove(running)
                    running.stop()
    _say(f"{load.name}: " + ", ".join(_brief(load, server, results) for server in able))


def _brief(load: Load, server: Server, results: Results) -> str:
    median = results.median(load.name, server.name)
    if median is not None:
        return f"{server.name} {median:,.4g}"
    return f"{server.name} ({results.note(load.name, server.name)})"


def _run_over_networks(
    chosen: list[FaultyNetwork], results: Results, tools: Tools, folder: Path
) -> None:
    able = [server for server in results.servers if server.retransmits and server.name != "quiet"]
    load = Load(LOSS, "2 MiB over a network with faults", (LOSS_FILE,))

    def one(job: tuple[FaultyNetwork, Running]) -> None:
        network, running = job
        sample = run_over(network, running, store, tools, results.network_limit)
        results.network_samples.setdefault((network, running.server.name), []).append(sample)

    with Store(load) as store, _started(able, store, results, folder) as started:
        jobs = [
            (network, running)
            for network in chosen
            for running in started
            if network.windowsize == 1 or running.server.windows
        ]
        # The rows have the order of the networks, whichever transfer completes first.
        for network, running in jobs:
            results.network_samples[network, running.server.name] = []
        # Without loss and delay a transfer works more than it waits, so these run one at a time.
        busy = [job for job in jobs if job[0].round_trip_ms < 1 and job[0].loss == 0]
        busy += [
            (network, running)
            for network, running in jobs
            if network.round_trip_ms < 1 and network.loss and running.server.name == "ours"
        ]
        for job in busy:
            one(job)
        with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
            for _ in pool.map(one, [job for job in jobs if job not in busy]):
                pass
    _say(f"{LOSS}: {len(jobs)} transfers")


def _wrong(results: Results) -> int:
    """Print which servers had wrong octets; return 1 if ours or the yardstick had."""
    counts: dict[str, int] = {}
    for measured in (results.samples, results.network_samples):
        for (_, name), samples in measured.items():
            counts[name] = counts.get(name, 0) + sum(sample.wrong for sample in samples)
    for name, count in counts.items():
        if count:
            print(f"WRONG OCTETS from {name}, in {count} runs", file=sys.stderr)
    return int(any(counts.get(name) for name in ("ours", "quiet", "yardstick")))


if __name__ == "__main__":
    sys.exit(main())
