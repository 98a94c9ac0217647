"""Keep the transfers of a client from their start until their sockets are closed.

A download that is complete keeps its socket for some seconds and dallies: it acknowledges the last
block again if its ACK was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_tftp.client.resolve import Addresses
from twisted_tftp.client.result import TransferResult, result_of
from twisted_tftp.client.transfer import ClientTransfer
from twisted_tftp.context import Outcome, TransferStatistics

_T = TypeVar("_T")


class OpenTransfers:
    """The transfers of one client, until their sockets are closed and their files are released."""

    def __init__(self, on_idle: Callable[[], None]) -> None:
        """Set up without a transfer.

        @param on_idle: called when the last transfer is released.
        """
        self._on_idle = on_idle
        self._results: set[Deferred[TransferResult]] = set()  # those that have not fired
        self._running: dict[ClientTransfer, Deferred[TransferResult]] = {}
        self._finished: set[ClientTransfer] = set()
        self._closing: list[Deferred[None]] = []  # fired when the client is idle

    @property
    def statistics(self) -> list[TransferStatistics]:
        """The statistics of the running transfers, up to date."""
        for transfer in self._running:
            transfer.update_statistics()
        return [transfer.statistics for transfer in self._running]

    @property
    def dally_time(self) -> float:
        """How long a server may need to send its last block again, in seconds: two timeouts.

        0 if no transfer dallies.
        """
        return max(
            (2 * transfer.retransmission_timeout for transfer in self._dallying()), default=0.0
        )

    @property
    def is_idle(self) -> bool:
        """Whether all transfers are released."""
        return not self._running and not self._finished

    def start(
        self,
        looking_up: Deferred[Addresses],
        make_transfer: Callable[[Addresses], ClientTransfer],
    ) -> Deferred[TransferResult]:
        """Start a transfer when the addresses of its server are known.

        @param looking_up: fires with the addresses; it is cancelled if the result is.
        @param make_transfer: returns the transfer, with an open link. Its `on_finished` and
            `on_released` must be those of this object.
        """
        started: list[ClientTransfer] = []

        def cancel(_: object) -> None:
            if started:
                started[0].cancel("the transfer was cancelled")
            else:
                looking_up.cancel()

        def found(addresses: Addresses) -> None:
            transfer = make_transfer(addresses)
            started.append(transfer)
            self._running[transfer] = result
            transfer.start()

        def failed(failure: Failure) -> None:
            if not result.called:
                result.errback(failure)

        result: Deferred[TransferResult] = Deferred(cancel)
        self._results.add(result)
        result.addBoth(self._forget_result, result)
        looking_up.addCallback(found)
        looking_up.addErrback(failed)
        return result

    def close(self) -> Deferred[None]:
        """Cancel the running transfers, and end those that dally.

        @return: fires when all transfers are released.
        """
        for result in list(self._results):
            result.cancel()
        for transfer in self._dallying():
            transfer.cancel()
        closing: Deferred[None] = Deferred()
        self._closing.append(closing)
        if self.is_idle:
            self._fire_closing()
        return closing

    def on_finished(self, transfer: ClientTransfer) -> None:
        """Fire the result of a transfer, because its outcome is known."""
        result = self._running.pop(transfer)
        self._finished.add(transfer)
        if result.called:
            return  # it was cancelled during the commit
        statistics = transfer.statistics
        if statistics.outcome is Outcome.COMPLETED:
            result.callback(result_of(transfer.context, statistics))
        elif statistics.outcome is not Outcome.CANCELLED:
            result.errback(transfer.reason)

    def on_released(self, transfer: ClientTransfer) -> None:
        """Forget a transfer, because its socket is closed and its file is released."""
        self._finished.discard(transfer)
        if self.is_idle:
            self._on_idle()
            self._fire_closing()

    def _dallying(self) -> list[ClientTransfer]:
        return [transfer for transfer in self._finished if transfer.is_dallying]

    def _forget_result(self, value: _T, result: Deferred[TransferResult]) -> _T:
        self._results.discard(result)
        return value

    def _fire_closing(self) -> None:
        closing, self._closing = self._closing, []
        for each in closing:
            each.callback(None)
