"""Define the options that `txtftp get` and `txtftp put` share, and make clients from them."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import suppress
from typing import Any

from twisted_tftp.cli.argument_types import local_address, seconds, whole_number
from twisted_tftp.cli.shared_options import add_family, add_port, add_retries
from twisted_tftp.client.client import DEFAULT_PATIENCE, DEFAULT_WINDOWSIZE, TFTPClient
from twisted_tftp.client.urls import Location, parse_url
from twisted_tftp.policy import (
    BLKSIZE_RANGE,
    DEFAULT_BLKSIZE,
    PATIENCE_RANGE,
    TIMEOUT_RANGE,
    Policy,
    Range,
)
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.printable import printable_unicode

#: The beginning of a URL of any scheme (RFC 3986 section 3.1).
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

#: The window sizes that can be requested, in blocks (RFC 7440 section 3).
WINDOWSIZES = Range(1, 65535)

#: The allowed numbers of simultaneous transfers.
SIMULTANEOUS_TRANSFERS = Range(1, 1000)


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `txtftp get` and `txtftp put`."""
    command.add_argument(
        "names", nargs="+", metavar="HOST, FILE, LOCAL or URL", help=argparse.SUPPRESS
    )
    _add_protocol_options(command)
    command.add_argument(
        "--bind",
        type=local_address,
        default=(None, 0),
        metavar="ADDR[:PORT]",
        help="send from this local address and port [the address of the route to the server, any"
        " port]",
    )
    command.add_argument(
        "-j",
        dest="simultaneous",
        type=whole_number(SIMULTANEOUS_TRANSFERS),
        metavar="N",
        help="transfer several files, N at the same time",
    )
    _add_output_options(command)


def _add_protocol_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add_port(command)
    add_family(command)
    add(
        "--blksize",
        type=whole_number(BLKSIZE_RANGE),
        metavar="N",
        help="ask for blocks of N octets [the largest that fit the MTU]",
    )
    add(
        "--windowsize",
        type=whole_number(WINDOWSIZES),
        metavar="N",
        help=f"ask for windows of N blocks [{DEFAULT_WINDOWSIZE}]",
    )
    add(
        "--timeout",
        type=seconds(TIMEOUT_RANGE),
        metavar="S",
        help="wait at most S seconds before a retransmission, and ask the server to do the same"
        f" [{Policy.timeout:g}, without asking the server]",
    )
    add(
        "--patience",
        type=seconds(PATIENCE_RANGE),
        default=DEFAULT_PATIENCE,
        metavar="S",
        help="give up if nothing arrives for S seconds [%(default)g]",
    )
    add_retries(command, None)
    add(
        "--mode",
        choices=(wire.OCTET, wire.NETASCII),
        help=f"transfer mode [that of the URL, otherwise {Location.mode}]",
    )
    add(
        "--no-options",
        action="store_true",
        help=f"ask for no options: one block of {DEFAULT_BLKSIZE} octets at a time (RFC 1350)",
    )


def _add_output_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--json", action="store_true", help="print one JSON object for each transfer")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("--trace", action="store_true", help="print each packet on standard error")


def is_url(name: str) -> bool:
    """Return whether a command-line argument is a TFTP URL."""
    return name.lower().startswith("tftp://")


def check_scheme(name: str) -> None:
    """Check that a command-line argument is not a URL of another scheme than `tftp`.

    @raise ValueError: it is.
    """
    if _URL.match(name) and not is_url(name):
        raise ValueError(f"{name}: only tftp:// URLs can be used")


def make_client(
    options: argparse.Namespace, reactor: Any, host: str, port: int, mode: str = Location.mode
) -> TFTPClient:
    """Return a client of a server.

    @param mode: the transfer mode if there is no `--mode`.
    """

    def print_notice(line: str) -> None:
        if not (options.quiet or options.json):
            with suppress(OSError):  # a closed standard error must not end the transfer
                print(printable_unicode(line), file=sys.stderr)

    return TFTPClient(
        reactor,
        host,
        port,
        blksize=options.blksize,
        windowsize=options.windowsize,
        timeout=options.timeout,
        patience=options.patience,
        retries=options.retries,
        mode=options.mode or mode,
        family=options.family,
        options=not options.no_options,
        bind=options.bind[0],
        bind_port=options.bind[1],
        on_notice=print_notice,
        trace=_print_packet if options.trace else None,
        write_behind=False,  # nothing else waits for the reactor
    )


def make_client_of_url(
    options: argparse.Namespace, reactor: Any, url: str
) -> tuple[TFTPClient, str]:
    """Return a client of the server that a URL names, and the file name of the URL.

    @raise ValueError: it is not a TFTP URL.
    """
    check_scheme(url)
    location = parse_url(url, options.port)
    client = make_client(options, reactor, location.host, location.port, location.mode)
    return client, location.filename


def _print_packet(text: str, is_received: bool) -> None:
    print("<" if is_received else ">", text, file=sys.stderr)
