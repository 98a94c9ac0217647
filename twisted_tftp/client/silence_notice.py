"""Notice that the server of a client's transfer is silent, and tell the user."""

from __future__ import annotations

from twisted_tftp.client.request_attempt import RequestAttempt
from twisted_tftp.client.request_links import RequestLinks
from twisted_tftp.client.services import ClientServices
from twisted_tftp.session.base import Session
from twisted_tftp.session.deadlines import Alarm

#: The silence of a server before the user is told, in seconds.
FIRST_NOTICE = 3.0

#: The time until the user is told again, in seconds.
NEXT_NOTICE = 5.0


class SilenceNotice:
    """Tells the user, every few seconds, that the server of one transfer does not answer.

    The server counts as silent until it answers the request. Later, it counts as silent if no
    octet was transferred, although something was sent again since the last octet. The transfer is
    looked at every few seconds only, so that this costs nothing for a packet.
    """

    def __init__(self, session: Session, services: ClientServices, links: RequestLinks) -> None:
        """Set up, without watching.

        @param links: the links of the transfer; they are told of the silence too.
        """
        self._session = session
        self._services = services
        self._links = links
        self._attempt: RequestAttempt | None = None
        self._alarm: Alarm | None = None
        self._is_silent = False
        self._silent_since = 0.0
        self._seen: tuple[int, int] | None = None  # at the last progress; None before the answer

    def watch(self, attempt: RequestAttempt) -> None:
        """Watch this request, and the transfer that follows it, from now on."""
        self._attempt = attempt
        if self._alarm is None:
            self._silent_since = self._services.session_services.clock()
            self._set_alarm(FIRST_NOTICE)

    def stop(self) -> None:
        """Stop watching."""
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self._services.session_services.alarms.cancel(alarm)

    def _set_alarm(self, seconds: float) -> None:
        services = self._services.session_services
        self._alarm = services.alarms.set(services.clock() + seconds, self._look)

    def _look(self) -> None:
        now = self._services.session_services.clock()
        counts = self._counts()
        is_silent = self._is_silent_at(counts)
        if counts is None or not is_silent:
            self._seen = counts
        if not is_silent:
            self._silent_since = now
        if is_silent is not self._is_silent:
            self._is_silent = is_silent
            self._links.note_silence(is_silent)
        # Before the user is told: that may end the transfer, and then cancels the alarm.
        self._set_alarm(NEXT_NOTICE if is_silent else FIRST_NOTICE)
        if is_silent:
            self._tell(now - self._silent_since)

    def _counts(self) -> tuple[int, int] | None:
        """Return how many octets and how many repetitions there were; None before the answer."""
        machine, attempt = self._session.machine, self._attempt
        if machine is None or attempt is None:
            return None
        return machine.octets, machine.retransmissions + attempt.repetitions

    def _is_silent_at(self, counts: tuple[int, int] | None) -> bool:
        """Return whether these counts, compared with those seen before, mean a silent server."""
        if counts is None:
            return True
        seen = self._seen
        return seen is not None and counts[0] == seen[0] and counts[1] != seen[1]

    def _tell(self, seconds: float) -> None:
        assert self._attempt is not None
        context = self._attempt.context
        self._services.on_notice(
            f"{context.path}: no answer yet from {context.peer.host} port {context.peer.port}"
            f"{self._links.unreachable_text} for {seconds:.0f} s, giving up after"
            f" {self._links.plan.patience:.15g} s"
        )
