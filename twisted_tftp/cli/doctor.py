"""The command `txtftp doctor`: its options, and its output as text, JSON or one line."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from twisted_tftp.cli.argument_types import seconds
from twisted_tftp.cli.shared_options import add_family, add_host, add_port, server_of
from twisted_tftp.policy import Range
from twisted_tftp.tools.doctor import Doctor, Finding, Verdict, worst_verdict
from twisted_tftp.tools.doctor.finding import RECOMMENDED_FILE_KB
from twisted_tftp.tools.doctor.manual_transfer import DEFAULT_TIMEOUT, DEFAULT_WATCH

#: The description of the command.
DESCRIPTION = (
    "Check a TFTP server: whether it answers, which options it grants, and how it handles lost,"
    " repeated and foreign packets. Give advice about each problem."
)

#: The allowed values of `--timeout` and `--watch`, in seconds.
DURATIONS = Range(0.01, 3600)

#: The exit status and the word for each verdict with `--check`, as Nagios plugins define them.
_MONITORING_STATUS = {
    Verdict.OK: (0, "OK"),
    Verdict.WARNING: (1, "WARNING"),
    Verdict.PROBLEM: (2, "CRITICAL"),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `txtftp doctor`."""
    add = command.add_argument
    add_host(command)
    add(
        "file",
        metavar="FILE",
        nargs="?",
        help="the name of an existing file on the server, of at least"
        f" {RECOMMENDED_FILE_KB} kB for all checks; without FILE, the only check is whether the"
        " server answers",
    )
    add_port(command)
    add_family(command)
    add(
        "--timeout",
        type=seconds(DURATIONS),
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="wait at most S seconds for each answer [%(default)g]",
    )
    add(
        "--watch",
        type=seconds(DURATIONS),
        default=DEFAULT_WATCH,
        metavar="S",
        help="send no ACK for S seconds, and count the retransmissions [%(default)g]",
    )
    add("--json", action="store_true", help="print the findings as JSON")
    add(
        "--check",
        action="store_true",
        help="for monitoring: print one line; exit status 0 (ok), 1 (warning) or 2 (critical)",
    )


def run(options: argparse.Namespace, reactor: Any) -> int:
    """Check the server, print the findings, and return the exit status.

    Without `--check`, the status is 1 if there is a problem; a warning does not change it.

    @param reactor: not used, because the checks use blocking sockets.
    """
    host, port = server_of(options, options.host)
    try:
        found = socket.getaddrinfo(host, port, options.family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", "not a valid host name")
        print(f"error: {host}: {reason}", file=sys.stderr)
        return 2 if options.check else 1
    server, *others = (address for *_, address in found)
    doctor = Doctor(server, options.file, options.timeout, options.watch, others)
    if options.check:
        return _print_status_line(doctor.examine())
    if options.json:
        findings = doctor.examine()
        print(json.dumps(list(map(_as_json, findings)), indent=2))
    else:
        findings = doctor.examine(_print_finding)
    return 1 if worst_verdict(findings) is Verdict.PROBLEM else 0


def _print_status_line(findings: Sequence[Finding]) -> int:
    """Print one line for a monitoring system, and return the exit status."""
    verdict = worst_verdict(findings)
    status, word = _MONITORING_STATUS[verdict]
    if verdict is Verdict.OK:
        made = [each for each in findings if each.verdict is not Verdict.SKIPPED]
        plural = "s" if len(made) > 1 else ""
        text = f"{made[0].text} ({len(made)} check{plural})"
    else:
        shown = [each for each in findings if each.verdict is verdict]
        text = "; ".join(f"{each.check}: {each.text}" for each in shown)
    print(f"TFTP {word} - {text}")
    return status


def _as_json(finding: Finding) -> dict[str, str]:
    return {**asdict(finding), "verdict": finding.verdict.value}


def _print_finding(finding: Finding) -> None:
    print(f"{finding.verdict.value:>8}  {finding.check}: {finding.text}", flush=True)
    if finding.advice:
        print(f"{'':>10}{finding.advice}", flush=True)
