"""Print the result of each transfer of `txtftp get` and `txtftp put`, as text or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TextIO

from twisted.python.failure import Failure

from twisted_tftp.cli.failure_texts import describe_failure, describe_os_error
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.request_options import OptionUse
from twisted_tftp.client.result import TransferResult
from twisted_tftp.protocol.printable import printable_unicode


class ResultPrinter:
    """Prints the results of transfers in the form that the options choose."""

    def __init__(self, options: argparse.Namespace, json_output: TextIO | None) -> None:
        """Set the form of the results.

        @param options: whether JSON is printed, and whether successful transfers are reported.
        @param json_output: where JSON is printed; None if that stream is closed.
        """
        self._is_json = options.json
        self._is_quiet = options.quiet
        self._json_output = json_output

    def print_result(
        self, result: TransferResult, client: TFTPClient, filename: str, local: str
    ) -> None:
        """Print the result of a successful transfer.

        @raise OSError: JSON can't be written.
        """
        if self._is_json:
            self._print_json(
                {
                    "file": filename,
                    "local": local,
                    "octets": result.octets,
                    "seconds": round(result.seconds, 6),
                    "asked": dict(result.asked),
                    "options": dict(result.options),
                    "retransmissions": result.retransmissions,
                }
            )
        elif not self._is_quiet:
            with suppress(OSError):  # the transfer has succeeded, even if standard error is closed
                print(_describe_result(result, client, filename), file=sys.stderr)

    def print_failure(
        self, error: BaseException, client: TFTPClient, filename: str, local: str
    ) -> None:
        """Print why a transfer has failed.

        @raise OSError: the output can't be written.
        """
        text = describe_failure(error, client)
        if self._is_json:
            self._print_json({"file": filename, "local": local, "error": text})
        print(f"error: {printable_unicode(filename)}: {text}", file=sys.stderr)

    def print_unexpected_failure(self, failure: Failure) -> None:
        """Print an error that occurred when a result was printed."""
        if isinstance(failure.value, OSError):
            text = describe_os_error(failure.value)
            print(f"error: standard output: {text}", file=sys.stderr)
        else:
            failure.printTraceback(sys.stderr)

    def _print_json(self, result: dict[str, Any]) -> None:
        print(json.dumps(result), file=self._json_output, flush=True)


def _describe_result(result: TransferResult, client: TFTPClient, filename: str) -> str:
    """Return one line about a successful transfer."""
    remarks = ", ".join([f"{result.rate / 1e6:.1f} MB/s", *_speed_remarks(result, client)])
    return f"{filename}: {result.octets} octets in {result.seconds:.3f} s ({remarks})"


def _speed_remarks(result: TransferResult, client: TFTPClient) -> Iterator[str]:
    """Return the reasons why a transfer may have been slow."""
    requested, granted = result.asked, result.options
    if not requested and client.option_use is OptionUse.DROPPABLE:
        yield "the server answers only without options: --no-options saves time"
    elif requested and not granted:
        yield "no options granted"
    else:
        for name in ("blksize", "windowsize"):
            value = granted.get(name)
            if requested.get(name) != value:
                used = f"{value} instead of {requested[name]}" if value else "not granted"
                yield f"{name} {used}"
    if result.retransmissions:
        yield f"{result.retransmissions} retransmissions"
