"""Show progress bars of running transfers on a terminal, if the package `rich` is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall

from twisted_tftp.client.client import TFTPClient
from twisted_tftp.context import TransferStatistics
from twisted_tftp.protocol.printable import printable_unicode

#: The duration of transfers after which the hint at the extra `cli` is printed, in seconds.
HINT_DELAY = 1.0

#: The time between two updates, in seconds.
UPDATE_INTERVAL = 0.1


def show_progress(reactor: Any, clients: Sequence[TFTPClient]) -> Callable[[], None]:
    """Show the running transfers of `clients`; return a function that hides them.

    Without `rich`, a hint is printed once if they take a while.
    """
    try:
        bars = _make_bars()
    except ImportError:
        return _hint_later(reactor)
    display = _ProgressDisplay(bars, clients)
    updates = LoopingCall(display.update)
    updates.clock = reactor
    bars.start()
    updates.start(UPDATE_INTERVAL, now=False)

    def hide() -> None:
        if updates.running:
            updates.stop()
        bars.stop()

    return hide


def _hint_later(reactor: Any) -> Callable[[], None]:
    """Print after `HINT_DELAY` how to get progress bars; return a function that prevents it."""

    def print_hint() -> None:
        print("for progress bars: pip install 'twisted-tftp[cli]'", file=sys.stderr)

    hint = reactor.callLater(HINT_DELAY, print_hint)

    def prevent() -> None:
        if hint.active():
            hint.cancel()

    return prevent


def _make_bars() -> Any:
    """Return an empty set of progress bars on standard error.

    @raise ImportError: `rich` is not installed.
    """
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        auto_refresh=False,
        transient=True,
        console=Console(stderr=True),
    )


class _ProgressDisplay:
    """The progress bars of some clients, one for each running transfer."""

    def __init__(self, bars: Any, clients: Sequence[TFTPClient]) -> None:
        self._bars = bars
        self._clients = clients
        #: The number of the bar of each transfer that is shown.
        self._shown: dict[TransferStatistics, Any] = {}

    def update(self) -> None:
        """Add bars of new transfers, remove those of ended ones, and draw all bars."""
        running = [statistics for client in self._clients for statistics in client.running]
        for ended in self._shown.keys() - set(running):
            self._bars.remove_task(self._shown.pop(ended))
        for statistics in running:
            if statistics not in self._shown:
                name = printable_unicode(statistics.context.path)
                self._shown[statistics] = self._bars.add_task(name, total=None)
            size = dict(statistics.granted).get("tsize")
            self._bars.update(
                self._shown[statistics],
                completed=statistics.octets,
                total=int(size) if size else None,
            )
        self._bars.refresh()
