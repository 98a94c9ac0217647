"""The command `txtftp storm`: define its options, and run a storm until its end or Ctrl-C."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from twisted_tftp.cli.argument_types import decimal, fraction, seconds, whole_number
from twisted_tftp.cli.interrupt import INTERRUPTED, close_clients
from twisted_tftp.cli.shared_options import (
    add_family,
    add_host,
    add_port,
    add_retries,
    server_of,
)
from twisted_tftp.cli.storm_plot import is_plotting_possible, plot
from twisted_tftp.cli.storm_report import as_json, as_text, describe_progress
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.net.descriptors import raise_descriptor_limit
from twisted_tftp.policy import DEFAULT_RETRIES, TIMEOUT_RANGE, Policy, Range
from twisted_tftp.tools.profiles import PROFILES, BadProfile, BootStep, parse_profile
from twisted_tftp.tools.storm import Report, Storm

#: The description of the command.
DESCRIPTION = (
    "Simulate machines that boot from a TFTP server at the same time, and report how long they"
    " take. Exit status 1 if a machine did not boot."
)

#: The allowed numbers of machines.
MACHINES = Range(1, 1_000_000)

#: The largest fraction of datagrams that can be dropped.
MAX_LOSS = 0.9

#: The time between two lines of progress, in seconds.
PROGRESS_INTERVAL = 1.0

#: The file descriptors that are needed in addition to one for each machine.
OTHER_DESCRIPTORS = 100


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `txtftp storm`."""
    add = command.add_argument
    add_host(command)
    add_port(command)
    add_family(command)
    _add_machine_options(command)
    add(
        "--timeout",
        type=seconds(TIMEOUT_RANGE),
        default=Policy.timeout,
        metavar="S",
        help="wait at most S seconds before a retransmission [%(default)g]",
    )
    add_retries(command, DEFAULT_RETRIES)
    add(
        "--loss",
        type=fraction(MAX_LOSS),
        default=0.0,
        metavar="P",
        help=f"drop this fraction of all datagrams at random, 0 to {MAX_LOSS:g} [%(default)g]",
    )
    add(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="seed of the random intervals and pauses [%(default)s]",
    )
    add("--json", action="store_true", help="print the report as JSON")
    add(
        "--plot",
        metavar="FILE.svg",
        help="plot the durations and the progress to this file (needs matplotlib)",
    )
    add("-q", "--quiet", action="store_true", help="do not print the progress")


def _add_machine_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--clients",
        type=whole_number(MACHINES),
        default=100,
        metavar="N",
        help="simulate N machines [%(default)s]",
    )
    add(
        "--arrival",
        type=decimal,
        default=0.0,
        metavar="N/s",
        help="switch on N machines per second, at random intervals [all at once]",
    )
    add(
        "--profile",
        type=_profile,
        default="pxelinux",
        metavar="NAME|FILE",
        help="what each machine requests: a built-in profile"
        f" ({', '.join(PROFILES)}) or a file [%(default)s]",
    )
    add(
        "--think",
        type=decimal,
        default=0.0,
        metavar="S",
        help="pause before each request, S seconds on average [%(default)g]",
    )


def _profile(text: str) -> list[BootStep]:
    """Parse the name of a built-in profile or of a file."""
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


def run(options: argparse.Namespace, reactor: Any) -> int:
    """Run a storm and print its report; return the exit status, 1 if a machine has not booted.

    @raise ValueError: the storm can't run with these options.
    """
    if options.plot and not is_plotting_possible():
        raise ValueError("--plot needs matplotlib: pip install 'twisted-tftp[plot]'")
    raise_descriptor_limit(options.clients + OTHER_DESCRIPTORS)
    runner = _StormRunner(options, reactor)
    report = runner.run()
    print(json.dumps(as_json(report), indent=2) if options.json else as_text(report))
    if options.plot:
        plot(report, options.plot)
    if runner.is_interrupted:
        return INTERRUPTED
    return 1 if report.failures else 0


class _StormRunner:
    """Runs one storm in the reactor.

    @ivar is_interrupted: the reactor was stopped before all machines had finished.
    """

    def __init__(self, options: argparse.Namespace, reactor: Any) -> None:
        self.is_interrupted = False
        self._reactor = reactor
        self._is_quiet = options.quiet
        self._client = TFTPClient(
            reactor,
            *server_of(options, options.host),
            family=options.family,
            timeout=options.timeout,
            retries=options.retries,
            loss=options.loss,
        )
        self._storm = Storm(
            reactor,
            self._client,
            options.profile,
            machines=options.clients,
            arrival=options.arrival,
            think=options.think,
            seed=options.seed,
        )
        #: The report of the ended storm; None while the storm runs.
        self._report: Report | None = None

    def run(self) -> Report:
        """Run the reactor until the storm has ended; return the report."""
        self._reactor.callWhenRunning(self._start)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._reactor_stops)
        self._reactor.run()
        assert self._report is not None
        return self._report

    def _start(self) -> None:
        finished = self._storm.start()
        if not self._is_quiet:
            progress = LoopingCall(self._print_progress)
            progress.clock = self._reactor
            progress.start(PROGRESS_INTERVAL, now=False)
        finished.addCallback(self._storm_ended)

    def _print_progress(self) -> None:
        print(describe_progress(self._storm), file=sys.stderr)

    def _storm_ended(self, report: Report) -> None:
        if self._report is None:
            self._report = report
            self._reactor.stop()

    def _reactor_stops(self) -> Deferred[Any] | None:
        """Cancel the transfers if the reactor stops because of Ctrl-C or a signal."""
        if self._report is not None:
            return None
        self.is_interrupted = True
        self._report = self._storm.partial_report()
        return close_clients([self._client], self._reactor)
