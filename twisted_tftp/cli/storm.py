"""The command `txtftp storm`: its options, and its report as text, JSON or a plot."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from typing import Any

from twisted.internet.task import LoopingCall

from twisted_tftp.cli.arguments import seconds, udp_port, whole_number
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.net.descriptors import raise_descriptor_limit
from twisted_tftp.policy import RETRIES_RANGE, TFTP_PORT, TIMEOUT_RANGE, Policy, Range
from twisted_tftp.tools.profiles import PROFILES, BadProfile, BootStep, parse_profile
from twisted_tftp.tools.storm import PERCENTILES, Report, Storm, percentiles

#: The exit status after Ctrl-C, as shells define it.
INTERRUPTED = 130

#: The longest time in which transfers end after Ctrl-C, in seconds.
MAX_STOP_TIME = 2.0

#: The time between two lines of progress, in seconds.
INTERVAL = 1.0

#: File descriptors that are needed in addition to one for each machine.
OTHER_DESCRIPTORS = 100

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:/s)?\Z")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `txtftp storm`."""
    add = command.add_argument
    add("host", metavar="HOST")
    add("--port", type=udp_port, default=TFTP_PORT, metavar="N", help="request port [%(default)s]")
    add(
        "--clients",
        type=whole_number(Range(1, 1_000_000)),
        default=100,
        metavar="N",
        help="number of machines [%(default)s]",
    )
    add(
        "--arrival",
        type=_rate,
        default=0.0,
        metavar="N/s",
        help="machines switched on per second, at random intervals [all at once]",
    )
    add(
        "--profile",
        type=_profile,
        default="pxelinux",
        metavar="NAME|FILE",
        help=f"what a machine asks for: {', '.join(PROFILES)}, or a file [%(default)s]",
    )
    add(
        "--loss",
        type=_share,
        default=0.0,
        metavar="P",
        help="share of datagrams to lose, 0 to 0.9 [%(default)g]",
    )
    add(
        "--think",
        type=_rate,
        default=0.0,
        metavar="S",
        help="mean seconds between files [%(default)g]",
    )
    add(
        "--timeout",
        type=seconds(TIMEOUT_RANGE),
        default=Policy.timeout,
        metavar="S",
        help="longest wait before a retransmission, in seconds [%(default)g]",
    )
    add(
        "--retries",
        type=whole_number(RETRIES_RANGE),
        default=Policy.retries,
        metavar="N",
        help="give the server up after N timeouts without an answer [%(default)s]",
    )
    add(
        "--seed", type=int, default=1, metavar="N", help="seed of the random numbers [%(default)s]"
    )
    add("--json", action="store_true", help="print the report as JSON")
    add(
        "--plot", metavar="FILE.svg", help="draw the durations and the progress (needs matplotlib)"
    )
    add("-q", "--quiet", action="store_true", help="print no progress")


def _rate(text: str) -> float:
    found = _RATE.match(text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number such as 20 or 0.5")
    return float(found[1])


def _share(text: str) -> float:
    share = _rate(text)
    if share > 0.9:
        raise argparse.ArgumentTypeError("must be from 0 to 0.9")
    return share


def _profile(text: str) -> list[BootStep]:
    profile = PROFILES.get(text)
    try:
        if profile is None:
            with open(text, encoding="utf-8") as file:
                profile = file.read()
        return parse_profile(profile)
    except OSError as error:
        names = ", ".join(PROFILES)
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither one of {names} nor a file: {error.strerror}"
        ) from None
    except BadProfile as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def check(chosen: argparse.Namespace) -> None:
    """Check the options.

    @raise ValueError: the storm can't run with these options.
    """
    Policy(timeout=chosen.timeout, retries=chosen.retries)
    if chosen.plot:
        try:
            import matplotlib  # noqa: F401 - fail now, and not after the storm
        except ImportError:
            raise ValueError("--plot needs matplotlib: pip install 'twisted-tftp[plot]'") from None


def run(chosen: argparse.Namespace, reactor: Any) -> int:
    """Run a storm and print its report; return the exit status, 1 if a machine has not booted."""
    raise_descriptor_limit(chosen.clients + OTHER_DESCRIPTORS)
    client = TFTPClient(
        reactor,
        chosen.host,
        chosen.port,
        timeout=chosen.timeout,
        retries=chosen.retries,
        loss=chosen.loss,
    )
    storm = Storm(
        reactor,
        client,
        chosen.profile,
        machines=chosen.clients,
        arrival=chosen.arrival,
        think=chosen.think,
        seed=chosen.seed,
    )
    reports: list[Report] = []
    status = 0

    def interrupted() -> Any:
        nonlocal status
        if reports:
            return None
        status = INTERRUPTED
        reports.append(storm.so_far())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program is stopping already
        return client.close().addTimeout(MAX_STOP_TIME, reactor).addErrback(lambda _: None)

    def begin() -> None:
        done = storm.start()
        if not chosen.quiet:
            telling = LoopingCall(_tell, storm)
            telling.clock = reactor
            telling.start(INTERVAL, now=False)
        done.addCallback(over)

    def over(report: Report) -> None:
        if not reports:
            reports.append(report)
            reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    reactor.run()
    report = reports[0]
    print(json.dumps(as_json(report), indent=2) if chosen.json else as_text(report))
    if chosen.plot:
        plot(report, chosen.plot)
    return status or (1 if report.failures else 0)


def _tell(storm: Storm) -> None:
    report = storm.report
    print(
        f"{storm.running} booting, {len(report.boots)} booted,"
        f" {sum(report.failures.values())} failed of {report.machines};"
        f" {len(report.fetched)} files, {report.octets / 1e6:.0f} MB",
        file=sys.stderr,
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as values for JSON, with times in seconds."""

    def times(values: list[float]) -> dict[str, float]:
        names = [f"p{each}" if each < 100 else "max" for each in PERCENTILES]
        found = [round(value, 6) for value in percentiles(values)]
        return dict(zip(names, found, strict=True))

    boots = [took for _, took in report.boots]
    return {
        "machines": report.machines,
        "booted": len(report.boots),
        "failures": dict(report.failures),
        "seconds": round(report.seconds, 6),
        "boots_a_second": round(len(report.boots) / report.seconds, 3) if report.seconds else 0,
        "boot": times(boots) if boots else None,
        "files": {name: {"count": len(took), **times(took)} for name, took in report.files()},
        "transfers": len(report.fetched),
        "missing": report.missing,
        "octets": report.octets,
        "octets_a_second": round(report.octets / report.seconds) if report.seconds else 0,
        "retransmissions": report.retransmissions,
    }


def as_text(report: Report) -> str:
    """Return the report as text."""
    said = as_json(report)
    lines = [
        f"{said['booted']} of {report.machines} machines booted in {report.seconds:.2f} s"
        f" ({said['boots_a_second']:.1f} a second)",
        f"{said['transfers']} files, {report.octets / 1e6:.1f} MB"
        f" ({said['octets_a_second'] / 1e6:.1f} MB/s), {report.missing} missing,"
        f" {report.retransmissions} datagrams sent again",
    ]
    lines += [f"failed: {count} x {reason}" for reason, count in report.failures.most_common()]
    rows = [("boot", len(report.boots), said["boot"])] if report.boots else []
    rows += [(name, each["count"], each) for name, each in said["files"].items()]
    if rows:
        width = max(len(name) for name, _, _ in rows)
        lines.append(f"{'seconds':<{width}}  {'count':>7}      p50      p95      p99      max")
    for name, count, times in rows:
        columns = [f"{times[key]:9.3f}" for key in ("p50", "p95", "p99", "max")]
        lines.append(f"{name:<{width}}  {count:>7}{''.join(columns)}")
    return "\n".join(lines)


def plot(report: Report, path: str) -> None:
    """Plot the durations of boots and files, and the progress of the storm, as SVG or PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (shares, progress) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    series = [("boot", [took for _, took in report.boots]), *report.files()]
    for name, took in series:
        if not took:
            continue
        ordered = sorted(took)
        heights = [100 * (rank + 1) / len(ordered) for rank in range(len(ordered))]
        shares.step(ordered, heights, where="post", label=name, lw=2.2 if name == "boot" else 1.2)
    shares.set(xlabel="seconds", ylabel="% done", title="durations", ylim=(0, 102))
    if report.boots:
        shares.set_xscale("log")
        shares.legend(frameon=False, fontsize=8)
    ends = sorted(at for at, _ in report.boots)
    begins = sorted(at - took for at, took in report.boots)
    progress.step(begins, range(1, len(begins) + 1), where="post", label="switched on")
    progress.step(ends, range(1, len(ends) + 1), where="post", label="booted", lw=2.2)
    progress.set(xlabel="seconds", ylabel="machines", title="progress of the storm")
    progress.legend(frameon=False, fontsize=8)
    for axes in (shares, progress):
        axes.grid(color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)
