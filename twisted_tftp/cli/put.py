"""The command `txtftp put`: which files it stores, and under which names."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

from twisted_tftp.cli.argument_types import server_name
from twisted_tftp.cli.local_files import STANDARD_STREAM, open_source, open_standard_input
from twisted_tftp.cli.queued_transfer import QueuedTransfer
from twisted_tftp.cli.results import ResultPrinter
from twisted_tftp.cli.shared_options import HOST_HELP, server_of
from twisted_tftp.cli.transfer_options import (
    check_scheme,
    is_url,
    make_client,
    make_client_of_url,
)
from twisted_tftp.cli.transfer_runner import TransferRunner, check_targets
from twisted_tftp.client.client import TFTPClient

#: The usage text of the command.
USAGE = (
    "%(prog)s [options] HOST LOCAL [FILE]\n"
    "       %(prog)s [options] LOCAL URL\n"
    "       %(prog)s [options] -j N HOST LOCAL..."
)

#: The description of the command and of its arguments.
DESCRIPTION = f"""Store a file on a TFTP server, or several files with -j.

arguments:
  HOST   {HOST_HELP}
  LOCAL  the local file, or - for standard input
  FILE   the name of the file on the server [the last part of LOCAL]
  URL    HOST and FILE in one: tftp://HOST[:PORT]/FILE[;mode=octet|netascii]"""


def run(options: argparse.Namespace, reactor: Any) -> int:
    """Store the files, and return the exit status.

    @raise ValueError: the names are not valid arguments.
    @raise OSError: a local file can't be opened.
    """
    transfers = _make_transfers(options, reactor)
    check_targets((transfer.filename, transfer.filename) for transfer in transfers)
    return TransferRunner(options, transfers, ResultPrinter(options, sys.stdout), reactor).run()


def _make_transfers(options: argparse.Namespace, reactor: Any) -> list[QueuedTransfer]:
    first, *rest = options.names
    check_scheme(first)
    check_scheme(rest[-1] if rest else "")
    if len(rest) == 1 and is_url(rest[0]):
        client, filename = make_client_of_url(options, reactor, rest[0])
        return [_make_transfer(reactor, client, first, filename)]
    if not rest:
        raise ValueError("give HOST and LOCAL, or LOCAL and a URL")
    client = make_client(options, reactor, *server_of(options, server_name(first)))
    if options.simultaneous is not None:
        return [_make_transfer(reactor, client, local) for local in rest]
    if len(rest) > 2:
        raise ValueError("give one LOCAL and one FILE, or -j N and several LOCALs")
    return [_make_transfer(reactor, client, *rest)]


def _make_transfer(
    reactor: Any, client: TFTPClient, local: str, filename: str | None = None
) -> QueuedTransfer:
    if local == STANDARD_STREAM:
        if filename is None:
            raise ValueError("for standard input, give FILE, the name on the server")
        source = open_standard_input(reactor)
    else:
        source = open_source(reactor, local)
    filename = filename or os.path.basename(local)
    stored = f"stored as {filename} on {client.host}"
    start = partial(client.put, source, filename)
    return QueuedTransfer(client, filename, local, start, stored)
