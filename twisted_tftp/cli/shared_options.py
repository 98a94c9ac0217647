"""Define the arguments that several subcommands of `txtftp` have in common."""

from __future__ import annotations

import argparse
import socket

from twisted_tftp.cli.argument_types import server_name, udp_port, whole_number
from twisted_tftp.policy import RETRIES_RANGE, TFTP_PORT

#: The description of the argument HOST.
HOST_HELP = "the server: a host name or an IP address, or HOST:PORT or [ADDR]:PORT"


def add_host(command: argparse.ArgumentParser) -> None:
    """Add the argument HOST; its value is a host and a port, which is None if none is given."""
    command.add_argument("host", type=server_name, metavar="HOST", help=HOST_HELP)


def add_port(command: argparse.ArgumentParser) -> None:
    """Add `--port`."""
    command.add_argument(
        "--port",
        type=udp_port,
        default=TFTP_PORT,
        metavar="N",
        help="request port of the server [%(default)s]",
    )


def add_family(command: argparse.ArgumentParser) -> None:
    """Add `-4` and `-6`."""
    command.set_defaults(family=socket.AF_UNSPEC)
    group = command.add_mutually_exclusive_group()
    for option, family, name in (("-4", socket.AF_INET, "IPv4"), ("-6", socket.AF_INET6, "IPv6")):
        group.add_argument(
            option,
            dest="family",
            action="store_const",
            const=family,
            help=f"use only {name} addresses of the server",
        )


def server_of(options: argparse.Namespace, name: tuple[str, int | None]) -> tuple[str, int]:
    """Return the host and the port of a server; a port in `name` overrides `--port`."""
    host, port = name
    return host, options.port if port is None else port


def add_retries(command: argparse.ArgumentParser, default: int | None) -> None:
    """Add `--retries`; without a default, `--patience` decides."""
    shown = "--patience decides" if default is None else default
    command.add_argument(
        "--retries",
        type=whole_number(RETRIES_RANGE),
        default=default,
        metavar="N",
        help=f"give up if nothing arrives for N times the timeout [{shown}]",
    )
