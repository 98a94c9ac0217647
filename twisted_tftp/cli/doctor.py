"""The command `txtftp doctor`: its options, and its output as text, JSON or one line."""

from __future__ import annotations

import argparse
import json
import socket
import sys

from twisted_tftp.cli.arguments import seconds, udp_port
from twisted_tftp.policy import TFTP_PORT, Range
from twisted_tftp.tools.doctor import Doctor, Finding, Verdict, worst_verdict
from twisted_tftp.tools.doctor.manual_transfer import DEFAULT_TIMEOUT, DEFAULT_WATCH

#: The allowed values of `--timeout` and `--watch`, in seconds.
DURATIONS = Range(0.01, 3600)

#: The exit status and the word of each verdict with `--check`, as for monitoring plugins.
_NAGIOS = {
    Verdict.OK: (0, "OK"),
    Verdict.WARNING: (1, "WARNING"),
    Verdict.PROBLEM: (2, "CRITICAL"),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `txtftp doctor`."""
    add = command.add_argument
    add("host", metavar="HOST")
    add("file", metavar="FILE", nargs="?", help="an existing file, best one of over 600 kB")
    add("--port", type=udp_port, default=TFTP_PORT, metavar="N", help="request port [%(default)s]")
    add(
        "--timeout",
        type=seconds(DURATIONS),
        default=DEFAULT_TIMEOUT,
        metavar="S",
        help="seconds to wait for an answer [%(default)g]",
    )
    add(
        "--watch",
        type=seconds(DURATIONS),
        default=DEFAULT_WATCH,
        metavar="S",
        help="seconds to watch for retransmissions [%(default)g]",
    )
    add("--json", action="store_true", help="print the findings as JSON")
    add(
        "--check",
        action="store_true",
        help="for monitoring: print one line, exit with 0, 1 (warning) or 2 (critical)",
    )


def run(chosen: argparse.Namespace) -> int:
    """Check the server, print the findings, and return the exit status.

    Without `--check`, the status is 1 if there is a problem; a warning does not change it.
    """
    try:
        server = socket.getaddrinfo(chosen.host, chosen.port, type=socket.SOCK_DGRAM)[0][4]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", "not a valid host name")
        print(f"error: {chosen.host}: {reason}", file=sys.stderr)
        return 2 if chosen.check else 1
    doctor = Doctor(server, chosen.file, chosen.timeout, chosen.watch)
    quiet = chosen.check or chosen.json
    findings = doctor.examine((lambda finding: None) if quiet else _tell)
    verdict = worst_verdict(findings)
    if chosen.check:
        status, word = _NAGIOS[verdict]
        shown = [each for each in findings if each.verdict is verdict]
        text = "; ".join(f"{each.check}: {each.text}" for each in shown)
        if verdict is Verdict.OK:
            plural = "s" if len(findings) > 1 else ""
            text = f"{findings[0].text}, {len(findings)} check{plural}"
        print(f"TFTP {word} - {text}")
        return status
    if chosen.json:
        print(
            json.dumps(
                [
                    {
                        "check": each.check,
                        "verdict": each.verdict.value,
                        "text": each.text,
                        "advice": each.advice,
                    }
                    for each in findings
                ],
                indent=2,
            )
        )
    return 1 if verdict is Verdict.PROBLEM else 0


def _tell(finding: Finding) -> None:
    print(f"{finding.verdict.value:>8}  {finding.check}: {finding.text}", flush=True)
    if finding.advice:
        print(f"{'':>10}{finding.advice}", flush=True)
