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
from twisted_tftp.cli.queued_transfer import QueuedTransfer
from twisted_tftp.client.request_options import OptionUse
from twisted_tftp.client.result import TransferResult
from twisted_tftp.errors import TFTPError
from twisted_tftp.protocol.printable import printable_unicode

#: The size of the smallest file for which a rate is shown, in octets: the rate of a smaller one
#: says nothing about the network.
SMALLEST_RATED_FILE = 1024


class ResultPrinter:
    """Prints the results of transfers in the form that the options choose."""

    def __init__(self, options: argparse.Namespace, json_output: TextIO | None) -> None:
        """Set the form of the results.

        @param options: whether JSON is printed, and whether successful transfers are reported.
        @param json_output: where JSON is printed; None if that stream is closed.
        """
        self._is_json = options.json
        self._is_quiet = options.quiet
        self._windowsize: int | None = options.windowsize
        self._json_output = json_output

    def print_result(self, result: TransferResult, transfer: QueuedTransfer) -> None:
        """Print the result of a successful transfer.

        @raise OSError: JSON can't be written.
        """
        if self._is_json:
            self._print_json(
                {
                    "file": transfer.filename,
                    "local": transfer.local,
                    "octets": result.octets,
                    "seconds": round(result.seconds, 6),
                    "asked": dict(result.asked),
                    "options": dict(result.options),
                    "retransmissions": result.retransmissions,
                }
            )
        elif not self._is_quiet:
            with suppress(OSError):  # the transfer has succeeded, even if standard error is closed
                print(self._describe_result(result, transfer), file=sys.stderr)

    def print_failure(self, error: BaseException, transfer: QueuedTransfer) -> None:
        """Print why a transfer has failed.

        @raise OSError: the output can't be written.
        """
        text = describe_failure(error, transfer.client)
        if self._is_json:
            self._print_json(
                {
                    "file": transfer.filename,
                    "local": transfer.local,
                    "error": text,
                    "code": error.code if isinstance(error, TFTPError) else 0,
                    "kind": type(error).__name__,
                }
            )
        print(f"error: {printable_unicode(transfer.filename)}: {text}", file=sys.stderr)

    def print_unexpected_failure(self, failure: Failure) -> None:
        """Print an error that occurred when a result was printed."""
        if isinstance(failure.value, OSError):
            text = describe_os_error(failure.value)
            print(f"error: standard output: {text}", file=sys.stderr)
        else:
            failure.printTraceback(sys.stderr)

    def _print_json(self, result: dict[str, Any]) -> None:
        print(json.dumps(result), file=self._json_output, flush=True)

    def _describe_result(self, result: TransferResult, transfer: QueuedTransfer) -> str:
        """Return one line about a successful transfer."""
        remarks = list(self._speed_remarks(result, transfer))
        if result.octets >= SMALLEST_RATED_FILE:
            remarks.insert(0, f"{result.rate / 1e6:.1f} MB/s")
        name = printable_unicode(transfer.filename)
        text = f"{name}: {result.octets} octets in {result.seconds:.3f} s"
        if remarks:
            text += f" ({', '.join(remarks)})"
        return f"{text}, {printable_unicode(transfer.stored)}" if transfer.stored else text

    def _speed_remarks(self, result: TransferResult, transfer: QueuedTransfer) -> Iterator[str]:
        """Return the reasons why a transfer may have been slow."""
        requested, granted = result.asked, result.options
        if not requested and transfer.client.option_use is OptionUse.DROPPABLE:
            yield "the server answers only without options: --no-options saves time"
        elif requested and not granted:
            yield "no options granted"
        else:
            for name in ("blksize", "windowsize"):
                value = granted.get(name)
                if requested.get(name) != value:
                    used = f"{value} instead of {requested[name]}" if value else "not granted"
                    yield f"{name} {used}"
        wanted, asked = self._windowsize, int(requested.get("windowsize", "1"))
        if requested and wanted is not None and asked < wanted:
            yield (
                f"windowsize {asked} instead of {wanted}: the client's limit for blocks of"
                f" {requested['blksize']} octets"
            )
        count = result.retransmissions
        if count:
            yield f"{count} retransmission{'s' if count > 1 else ''}"
