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

from benchmarks import page, processes
from benchmarks.debian_packages import Unavailable
from benchmarks.load_list import LOSS_FILE, faulty_networks, loads
from benchmarks.loads import (
    BuildError,
    FaultyNetwork,
    Load,
    Sample,
    Store,
    Tools,
    build,
    run_load,
    run_over,
)
from benchmarks.results import Results
from benchmarks.server_list import VARIANTS, servers, variants
from benchmarks.servers import REPOSITORY, Running, Server, start
from benchmarks.tables import summary

#: The name of the load that uses simulated networks.
LOSS = "loss"

#: Seconds: a server that needed longer for a round gets no other round of the same load.
MAX_ROUND_SECONDS = 4.0

#: Seconds for a load that holds its transfers open: all of them must complete.
HOLD_SECONDS = 40

#: Seconds for a load that measures CPU time, also in a quick run: the first packets of 1,000
#: clients cost a server more than the others.
COST_SECONDS = 4

#: Seconds between the creation of files and the first request: some caches keep only files that
#: have not changed for a while, so the server that is measured first would be slower.
SETTLE_SECONDS = 3

#: Descriptors that each server may have open.
MAX_DESCRIPTORS = 32_768

#: Transfers over simulated networks at the same time; they mostly wait.
PARALLEL_TRANSFERS = 24


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small loads, one round, no page")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds [5, or 1 if quick]")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the page into this folder [docs; none if an option chooses what is measured]",
    )
    names = [*(load.name for load in loads(False)), LOSS]
    _add_choices(parser, names)
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 5
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.before:
        arguments.before = arguments.before.resolve()
        if not (arguments.before / "twisted_tftp" / "__init__.py").exists():
            parser.error(f"--before: there is no twisted_tftp in {arguments.before}")
        if _lacks_modules(arguments.before) or _lacks_modules(REPOSITORY):
            parser.error(
                "--before: build the C modules in both checkouts, so that equals are compared:"
                " python setup.py build_ext --inplace"
            )
    chosen = arguments.quick or arguments.load or arguments.without or arguments.server
    chosen = chosen or arguments.pure or arguments.before
    arguments.load = set(arguments.load or names).difference(arguments.without)
    if arguments.output is None and not chosen:
        arguments.output = REPOSITORY / "docs"
    if arguments.output:
        try:
            import matplotlib  # noqa: F401 - report that it is missing before the run, not after it
        except ImportError:
            parser.error("the plots need matplotlib; pip install -e '.[bench]'")
    return arguments


def _lacks_modules(checkout: Path) -> bool:
    """Return whether a checkout has the sources of C modules that were not built in it."""
    sources = (checkout / "twisted_tftp").rglob("_*.c")
    return any(not list(source.parent.glob(f"{source.stem}*.so")) for source in sources)


def _add_choices(parser: argparse.ArgumentParser, names: list[str]) -> None:
    """Add the options that choose what is measured; `names` are those of the loads."""
    known = [server.name for server in servers(Path())]
    for option, remark, choices in (
        ("--load", f"only this load; repeatable: {', '.join(names)}", names),
        ("--without", "not this load; repeatable", names),
        ("--server", f"only this server; repeatable: {', '.join(known)}", known),
    ):
        parser.add_argument(
            option, action="append", default=[], choices=choices, metavar="NAME", help=remark
        )
    parser.add_argument(
        "--pure", action="store_true", help="also our server without its extension module"
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="DIR",
        help="also our server from another checkout of this repository, such as a git worktree",
    )


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
            servers=_chosen_servers(arguments, tools),
            loads=[load for load in loads(arguments.quick) if load.name in arguments.load],
            rounds=arguments.rounds,
            limit=1 if arguments.quick else 8,
            network_limit=4 if arguments.quick else 60,
        )
        began = time.monotonic()
        for load in results.loads:
            _run(load, results, tools, Path(folder))
        if LOSS in arguments.load:
            _run_over_networks(faulty_networks(arguments.quick), results, tools, Path(folder))
        _say(f"{time.monotonic() - began:.0f} s in all\n")
    results.servers = [s for s in results.servers if s.name not in results.unavailable]
    print(summary(results))
    if arguments.output:
        page.write(results, arguments.output)
    return _wrong(results)


def _chosen_servers(arguments: argparse.Namespace, tools: Tools) -> list[Server]:
    """Return the servers to measure, those of our own first."""
    chosen = [
        server
        for server in servers(tools.yardstick)
        if not arguments.server or server.name in arguments.server
    ]
    own = [server for server in chosen if server.name == "ours"]
    others = [server for server in chosen if server.name != "ours"]
    return [*own, *variants(arguments.pure, arguments.before), *others]


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
    load: Load, chosen: list[Server], store: Store, results: Results, tools: Tools, folder: Path
) -> Iterator[list[Running]]:
    """Start servers at the same time; leave out those that can't run on this machine."""

    def attempt(server: Server) -> Running | None:
        if server.name in results.unavailable:
            return None
        try:
            log = folder / f"{server.name}.log"
            if not load.pinned:
                return start(server, store.root, log)
            keep_times = tools.keep_times if server.discards_cpu else None
            return start(server, store.root, log, processes.server_core(), keep_times)
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
    with Store(load) as store, _started(load, able, store, results, tools, folder) as started:
        if not load.upload:
            time.sleep(SETTLE_SECONDS)
        # In each round all servers run in turn, so that other load on the machine affects all. The
        # order changes, because the server that is first or last may have an advantage.
        for number in range(results.rounds):
            for running in list(reversed(started) if number % 2 else started):
                began = time.monotonic()
                limit = _limit(load, results)
                sample = run_load(load, running, store, tools, limit)
                results.samples.setdefault((load.name, running.server.name), []).append(sample)
                if sample.value is None or time.monotonic() - began > MAX_ROUND_SECONDS:
                    started.remove(running)
                    running.stop()
    _say(f"{load.name}: " + ", ".join(_brief(load, server, results) for server in able))


def _limit(load: Load, results: Results) -> int:
    """Return the longest time for a run of a load, in seconds."""
    if load.hold:
        return HOLD_SECONDS
    return COST_SECONDS if load.pinned else results.limit


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

    with Store(load) as store, _started(load, able, store, results, tools, folder) as started:
        jobs = [
            (network, running)
            for network in chosen
            for running in started
            if network.windowsize == 1 or running.server.grants_windows
        ]
        # The rows have the order of the networks, whichever transfer completes first.
        for network, running in jobs:
            results.network_samples[network, running.server.name] = []
        # Without loss and delay a transfer works more than it waits, so these run one at a time.
        busy = [job for job in jobs if job[0].round_trip_ms < 1 and job[0].loss == 0]
        busy += [
            (network, running)
            for network, running in jobs
            if network.round_trip_ms < 1 and network.loss and running.server.name in VARIANTS
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
    return int(any(counts.get(name) for name in (*VARIANTS, "quiet", "yardstick")))


if __name__ == "__main__":
    sys.exit(main())
