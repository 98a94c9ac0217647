"""What a session needs from the server or the client that runs it: services and an owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.logger import Logger

from twisted_tftp.context import TransferStatistics
from twisted_tftp.session.deadlines import Alarms

#: An observer is notified of the progress after so many octets, when the next deadline comes.
PROGRESS_SIZE = 32 * 1024 * 1024

_log = Logger()


def _nothing() -> None:
    """Do nothing."""


@dataclass
class SessionServices:
    """What all sessions of a server or of a client share.

    @ivar observer: an L{ITransferObserver}.
    @ivar clock: returns the time in seconds of a monotonic clock.
    @ivar opening_time: how long to wait for a file that is being opened, in seconds.
    @ivar on_no_descriptors: called if a file could not be opened because no descriptor is left.
    """

    observer: Any  # observers need not declare the interface
    clock: Callable[[], float]
    alarms: Alarms
    opening_time: float
    on_no_descriptors: Callable[[], None] = _nothing

    def observe(self, event: str, statistics: TransferStatistics) -> None:
        """Call the method `event` of the observer; its exceptions are logged."""
        try:
            getattr(self.observer, event)(statistics)
        except BaseException:  # some libraries raise SystemExit
            _log.failure("an observer failed")


class SessionOwner(Protocol):
    """The object that starts a session: it opens the file and makes the machine."""

    @property
    def can_send_error(self) -> bool:
        """Whether the peer has a port for this transfer, so that an ERROR can be sent to it."""

    def on_open(self) -> None:
        """Make the machine, now or later, and pass it to `Session.begin`: the file is open."""

    def on_finished(self) -> None:
        """Note that the outcome is known. The last block may still be acknowledged again."""

    def on_released(self) -> None:
        """Forget the session: it has closed its link, and released its alarm and its file."""
