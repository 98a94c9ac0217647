"""Define the arguments that several subcommands of `txtftp` have in common."""

from __future__ import annotations

import argparse

from twisted_tftp.cli.argument_types import udp_port, whole_number
from twisted_tftp.policy import RETRIES_RANGE, TFTP_PORT


def add_host(command: argparse.ArgumentParser) -> None:
    """Add the argument HOST."""
    command.add_argument("host", metavar="HOST", help="the server: a host name or an IP address")


def add_port(command: argparse.ArgumentParser) -> None:
    """Add `--port`."""
    command.add_argument(
        "--port",
        type=udp_port,
        default=TFTP_PORT,
        metavar="N",
        help="request port of the server [%(default)s]",
    )


def add_retries(command: argparse.ArgumentParser, default: int) -> None:
    """Add `--retries`."""
    command.add_argument(
        "--retries",
        type=whole_number(RETRIES_RANGE),
        default=default,
        metavar="N",
        help="give up if nothing arrives for N times the timeout [%(default)s]",
    )
