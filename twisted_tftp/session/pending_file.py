"""Wait for a file that a backend opens, with a time limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_tftp.session.deadlines import LazyAlarm
from twisted_tftp.session.services import SessionServices


class PendingFile:
    """A file that is being opened: the backend's Deferred, and an alarm for the time limit."""

    def __init__(
        self,
        opening: Deferred[Any],
        services: SessionServices,
        on_open: Callable[[Any], None],
        on_failed: Callable[[Failure], None],
        on_timeout: Callable[[], None],
    ) -> None:
        """Set up; `wait` begins to wait.

        @param on_open: called with the file, even after `cancel` if the backend delivers it.
        @param on_failed: called with a failure of the backend.
        @param on_timeout: called if the file is not open in time.
        """
        self._opening = opening
        self._services = services
        self._on_open = on_open
        self._on_failed = on_failed
        self._on_timeout = on_timeout
        self._waits_since = services.clock()
        self._alarm = LazyAlarm(services.alarms, self._on_alarm)

    def wait(self) -> None:
        """Wait for the file, for `opening_time` seconds."""
        self._alarm.arm(self._deadline)
        self._opening.addBoth(self._stop_alarm)
        self._opening.addCallbacks(self._on_open, self._on_failed)
        self._opening.addErrback(self._on_failed)

    def extend(self) -> None:
        """Restart the time limit: the peer has shown that it still waits."""
        self._waits_since = self._services.clock()

    def cancel(self) -> None:
        """Tell the backend that the file is not wanted any more."""
        self._alarm.stop()
        self._opening.cancel()

    @property
    def _deadline(self) -> float:
        return self._waits_since + self._services.opening_time

    def _stop_alarm(self, result: Any) -> Any:
        self._alarm.stop()
        return result

    def _on_alarm(self) -> None:
        if self._services.clock() >= self._deadline:
            self._on_timeout()
        else:
            self._alarm.arm(self._deadline)
