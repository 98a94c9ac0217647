"""The command `txtftp get`: which files it fetches, and where it stores them."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

from twisted_tftp.cli.argument_types import server_name
from twisted_tftp.cli.local_files import (
    STANDARD_STREAM,
    open_standard_output,
    open_target,
    target_path,
)
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
    "%(prog)s [options] HOST FILE [LOCAL]\n"
    "       %(prog)s [options] URL [LOCAL]\n"
    "       %(prog)s [options] -j N HOST FILE...\n"
    "       %(prog)s [options] -j N URL..."
)

#: The description of the command and of its arguments.
DESCRIPTION = f"""Fetch a file from a TFTP server, or several files with -j.

arguments:
  HOST   {HOST_HELP}
  FILE   the name of the file on the server
  URL    HOST and FILE in one: tftp://HOST[:PORT]/FILE[;mode=octet|netascii]
  LOCAL  the local file or directory to write to, or - for standard output
         [the last part of FILE, in the current directory]"""


def run(options: argparse.Namespace, reactor: Any) -> int:
    """Fetch the files, and return the exit status.

    @raise ValueError: the names are not valid arguments.
    @raise OSError: a local file can't be opened.
    """
    transfers = _make_transfers(options, reactor)
    check_targets((os.path.realpath(transfer.local), transfer.local) for transfer in transfers)
    # If the file is written to standard output, JSON is printed on standard error.
    is_file_on_stdout = options.names[-1] == STANDARD_STREAM
    printer = ResultPrinter(options, sys.stderr if is_file_on_stdout else sys.stdout)
    return TransferRunner(options, transfers, printer, reactor).run()


def _make_transfers(options: argparse.Namespace, reactor: Any) -> list[QueuedTransfer]:
    first, *rest = options.names
    check_scheme(first)
    if is_url(first):
        return _make_url_transfers(options, reactor)
    if not rest:
        raise ValueError("give HOST and FILE, or a URL")
    client = make_client(options, reactor, *server_of(options, server_name(first)))
    if options.simultaneous is not None:
        return [_make_transfer(reactor, client, filename) for filename in rest]
    if len(rest) > 2:
        raise ValueError("give one FILE and one LOCAL, or -j N and several FILEs")
    filename, *local = rest
    return [_make_transfer(reactor, client, filename, *local)]


def _make_url_transfers(options: argparse.Namespace, reactor: Any) -> list[QueuedTransfer]:
    if options.simultaneous is not None:
        return [
            _make_transfer(reactor, *make_client_of_url(options, reactor, url))
            for url in options.names
        ]
    url, *local = options.names
    if len(local) > 1:
        raise ValueError("give one URL and one LOCAL, or -j N and several URLs")
    return [_make_transfer(reactor, *make_client_of_url(options, reactor, url), *local)]


def _make_transfer(
    reactor: Any, client: TFTPClient, filename: str, local: str | None = None
) -> QueuedTransfer:
    path = target_path(filename, local)
    if local == STANDARD_STREAM:
        target = open_standard_output(reactor)
    else:
        target = open_target(reactor, path)
    stored = "" if local == STANDARD_STREAM else f"stored as {path}"
    start = partial(client.get, filename, target)
    return QueuedTransfer(client, filename, path, start, stored)
