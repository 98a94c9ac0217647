"""Wait for a file that a backend opens, but not longer than the peer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_tftp.session.deadlines import LazyAlarm
from twisted_tftp.session.services import SessionServices


class PendingFile:
    """A file whose opening takes time: a Deferred, and an alarm that limits it."""

    def __init__(
        self,
        opening: Deferred[Any],
        services: SessionServices,
        on_open: Callable[[Any], None],
        on_failed: Callable[[Failure], None],
        on_late: Callable[[], None],
    ) -> None:
        """Set up; `wait` begins to wait.

        @param on_open: called with the file, also after `cancel`, if the backend ignores that.
        @param on_failed: called with a failure of the backend.
        @param on_late: called if the file is not open in time.
        """
        self._opening = opening
        self._services = services
        self._on_open = on_open
        self._on_failed = on_failed
        self._on_late = on_late
        self._wanted_at = services.clock()
        self._alarm = LazyAlarm(services.alarms, self._alarmed)

    def wait(self) -> None:
        """Wait for the file, for `opening_time` seconds."""
        self._alarm.arm(self._deadline)
        self._opening.addBoth(self._opened)
        self._opening.addCallbacks(self._on_open, self._on_failed)
        self._opening.addErrback(self._on_failed)

    def keep_waiting(self) -> None:
        """Wait for the whole time again: the peer has shown that it still waits."""
        self._wanted_at = self._services.clock()

    def cancel(self) -> None:
        """Tell the backend that the file is not wanted any more."""
        self._alarm.stop()
        self._opening.cancel()

    @property
    def _deadline(self) -> float:
        return self._wanted_at + self._services.opening_time

    def _opened(self, result: Any) -> Any:
        self._alarm.stop()
        return result

    def _alarmed(self) -> None:
        if self._services.clock() >= self._deadline:
            self._on_late()
        else:
            self._alarm.arm(self._deadline)
