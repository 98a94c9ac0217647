"""Progress bars for running transfers on a terminal, if the package `rich` is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall

from twisted_tftp.client.client import TFTPClient
from twisted_tftp.context import TransferStatistics
from twisted_tftp.protocol.printable import legible

#: The time between two updates, in seconds.
INTERVAL = 0.1


def show_progress(reactor: Any, clients: list[TFTPClient]) -> Callable[[], None]:
    """Show the running transfers of `clients`; return a function that hides them."""
    try:
        from rich import progress
    except ImportError:
        return lambda: None
    bars = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        auto_refresh=False,
        transient=True,
        console=_console(),
    )
    shown: dict[TransferStatistics, Any] = {}

    def look() -> None:
        running = [statistics for client in clients for statistics in client.running]
        for gone in shown.keys() - set(running):
            bars.remove_task(shown.pop(gone))
        for statistics in running:
            if statistics not in shown:
                shown[statistics] = bars.add_task(legible(statistics.context.path), total=None)
            total = dict(statistics.granted).get("tsize")
            bars.update(
                shown[statistics],
                completed=statistics.octets,
                total=int(total) if total else None,
            )
        bars.refresh()

    looking = LoopingCall(look)
    looking.clock = reactor
    bars.start()
    looking.start(INTERVAL, now=False)

    def hide() -> None:
        if looking.running:
            looking.stop()
        bars.stop()

    return hide


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
