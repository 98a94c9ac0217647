"""Run the transfers of one command, some at a time, until all have ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from twisted_tftp.cli.interrupt import INTERRUPTED, close_clients
from twisted_tftp.cli.progress import show_progress
from twisted_tftp.cli.queued_transfer import QueuedTransfer
from twisted_tftp.cli.results import ResultPrinter
from twisted_tftp.client.result import TransferResult

#: The longest time for which the command stays to repeat the last ACK, in seconds.
MAX_DALLY_TIME = 0.2


def check_targets(targets: Iterable[tuple[str, str]]) -> None:
    """Check that no two transfers of a command write the same file.

    @param targets: for each transfer: an identifier of the file, and its name for the message.
    @raise ValueError: two transfers would write the same file.
    """
    seen = set()
    for identifier, name in targets:
        if identifier in seen:
            raise ValueError(f"two transfers would write {name}")
        seen.add(identifier)


class TransferRunner:
    """Runs the transfers of one command in the reactor, and prints their results."""

    def __init__(
        self,
        options: argparse.Namespace,
        transfers: Sequence[QueuedTransfer],
        printer: ResultPrinter,
        reactor: Any,
    ) -> None:
        """Prepare to run the transfers.

        @param options: how many transfers run at the same time, and whether progress is shown.
        @param transfers: the transfers, in the order in which they start.
        """
        self._options = options
        self._waiting = list(reversed(transfers))
        self._unfinished = len(transfers)
        self._clients = list(dict.fromkeys(transfer.client for transfer in transfers))
        self._printer = printer
        self._reactor = reactor
        self._status = 0
        self._hide_progress: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run the reactor until all transfers have ended; return the exit status."""
        self._reactor.callWhenRunning(self._start)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._reactor_stops)
        self._reactor.run()
        return self._status

    def _start(self) -> None:
        options = self._options
        if not (options.quiet or options.json or options.trace) and sys.stderr.isatty():
            self._hide_progress = show_progress(self._reactor, self._clients)
        for _ in range(options.simultaneous or 1):
            self._start_next()

    def _reactor_stops(self) -> Deferred[Any] | None:
        """Cancel the unfinished transfers: the reactor stops because of Ctrl-C or a signal."""
        if not self._unfinished:
            return None
        self._status = INTERRUPTED
        self._waiting.clear()
        self._hide_progress()
        return close_clients(self._clients, self._reactor)

    def _start_next(self) -> None:
        if not self._waiting:
            return
        transfer = self._waiting.pop()
        running = maybeDeferred(transfer.start)
        running.addCallbacks(self._succeeded, self._failed, (transfer,), {}, (transfer,), {})
        running.addErrback(self._printing_failed)
        running.addBoth(self._transfer_ended)

    def _succeeded(self, result: TransferResult, transfer: QueuedTransfer) -> None:
        self._printer.print_result(result, transfer)

    def _failed(self, failure: Failure, transfer: QueuedTransfer) -> None:
        if self._status == INTERRUPTED:
            return
        self._status = 1
        assert failure.value is not None
        self._printer.print_failure(failure.value, transfer)

    def _printing_failed(self, failure: Failure) -> None:
        self._status = 1
        self._printer.print_unexpected_failure(failure)

    def _transfer_ended(self, _: object) -> None:
        self._unfinished -= 1
        if self._waiting:
            self._reactor.callLater(0, self._start_next)
        elif not self._unfinished:
            self._hide_progress()
            if self._status != INTERRUPTED:
                self._stop_after_dallying()

    def _stop_after_dallying(self) -> None:
        """Stop when no server can need the last ACK again, or after `MAX_DALLY_TIME`."""
        seconds = min(MAX_DALLY_TIME, max(client.dally_time for client in self._clients))
        self._reactor.callLater(seconds, self._reactor.stop)
