"""Send a request through a link until it is answered, again after each timeout."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.session.deadlines import LazyAlarm
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.machine import Buffer, Step
from twisted_tftp.transfer.states import AskerState


def _nothing() -> None:
    """Do nothing."""


class Requester:
    """Sends one request: it connects the machine L{Asker} with a link and an alarm.

    @ivar asker: the machine, which has the answer in the end.
    """

    def __init__(
        self,
        asker: Asker,
        link: ClientLink,
        services: SessionServices,
        *,
        on_end: Callable[[], None],
        on_exception: Callable[[Failure], None],
        before_resend: Callable[[], None] = _nothing,
    ) -> None:
        """Set up, without sending the request.

        @param on_end: called when the asker has ended: the request is answered or has failed.
        @param on_exception: called with an unexpected exception, which ends the request.
        @param before_resend: called before the request is sent again. It may call `replace_link`.
        """
        self.asker = asker
        self._link = link
        self._services = services
        self._on_end = on_end
        self._on_exception = on_exception
        self._before_resend = before_resend
        self._alarm = LazyAlarm(services.alarms, self._alarmed)

    def start(self) -> None:
        """Send the request."""
        self._perform(self.asker.start(self._services.clock()))

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram from the server's host."""
        self._perform(self.asker.receive(datagram, now))

    def replace_link(self, link: ClientLink) -> None:
        """Send the request through another link from now on."""
        self._link = link

    def note_unreachable(self, more_tries: int) -> None:
        """Note that the server can't be reached now; give up after `more_tries` more requests."""
        self.asker.note_unreachable(self._services.clock(), more_tries)
        self._alarm.arm(self.asker.deadline)

    def stop(self) -> None:
        """Do not send the request again."""
        self._alarm.stop()

    def _perform(self, step: Step) -> None:
        if step is Step.END:
            self.stop()
            self._on_end()
        elif step is Step.SEND:
            if self.asker.retransmissions:
                self._before_resend()
            self._link.send(self.asker.datagrams)
            self._alarm.arm(self.asker.deadline)

    def _alarmed(self) -> None:
        asker, clock = self.asker, self._services.clock
        try:
            if clock() >= asker.deadline:
                # If the reactor was late, the answer may wait in the socket.
                self._link.receive_waiting()
            if asker.state is AskerState.ASKING and not self._link.closed:
                self._perform(asker.expire(clock()))
                self._alarm.arm(asker.deadline)
        except Exception:
            self._on_exception(Failure())
