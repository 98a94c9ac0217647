"""Find out whether the answer that a client has accepted is for its request.

L{FirstAnswer} assesses each datagram. This module acts on the result: it sends a second request,
or waits for some time. No file is committed before the doubt has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure

from twisted_tftp.client.second_request import Comparison, SecondRequest
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.session.deadlines import Alarm
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.first_answer import (
    IN_DOUBT,
    FirstAnswer,
    KnownServer,
    Standing,
    XidSupport,
)
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.timing import Timing

#: From a server that has granted an xid, an answer without one is only accepted after this number
#: of retransmissions: another program may use the server's port now.
RETRIES_WITH_XID = 2


class DoubtOwner(Protocol):
    """The transfer that has accepted the answer."""

    def receive_waiting(self) -> None:
        """Process the datagrams that wait in the socket; one may contradict the answer."""

    def relies_on(self, doubt: Doubt) -> bool:
        """Return whether the transfer has not ended, and still uses the answer of `doubt`."""

    def on_settled(self) -> None:
        """Continue, because the answer can be trusted now."""

    def on_contradicted(self, answer: bytes | None) -> None:
        """Give up the accepted answer.

        @param answer: the different answer to the second request; None if that was an ERROR.
        """

    def on_not_confirmed(self) -> None:
        """Fail, because the server has not answered the second request."""

    def on_exception(self, failure: Failure) -> None:
        """Fail because of an unexpected exception: nothing else would end the transfer."""


class Doubt:
    """Decides whether the accepted answer to one request can be trusted, and when the doubt ends.

    For a read, the answer to a second request from another port is compared with the accepted
    answer. A second write request could create a second file, or damage the first one. So for a
    write, and if no second port may be used, the doubt ends if no different answer arrives for
    some time.

    @ivar first_answer: the assessment of the accepted answer.
    """

    def __init__(
        self,
        first_answer: FirstAnswer,
        request: bytes,
        known: KnownServer,
        services: SessionServices,
        owner: DoubtOwner,
        *,
        open_link: Callable[[], ClientLink] | None,
        make_timing: Callable[[], Timing],
    ) -> None:
        """Set up, before there is an answer.

        @param first_answer: the assessment of the answers.
        @param request: the datagram of the request.
        @param known: what is known about the server; it is updated.
        @param open_link: returns a link with a second port; None if there can be none.
        @param make_timing: returns the timeouts of a second request.
        """
        self.first_answer = first_answer
        self._request = request
        self._known = known
        self._services = services
        self._owner = owner
        self._open_link = open_link
        self._make_timing = make_timing
        self._alarm: Alarm | None = None  # the next step to end the doubt
        self._second: SecondRequest | None = None
        self._round_trip: float | None = None  # from the request to its answer, in seconds
        self._was_sent_again = False
        self._is_stopped = False

    @property
    def is_open(self) -> bool:
        """Whether the answer is in doubt, so that no file may be committed."""
        return self.first_answer.standing in IN_DOUBT

    @property
    def can_compare(self) -> bool:
        """Whether the request can be sent from a second port, to compare the answers."""
        return self._open_link is not None

    @property
    def will_compare(self) -> bool:
        """Whether the answer is in doubt, and a second request can end the doubt."""
        return self.can_compare and self.is_open

    @property
    def repetitions(self) -> int:
        """How many times the second request was sent again."""
        return 0 if self._second is None else self._second.repetitions

    def is_foreign(self, datagram: Buffer, retransmissions: int) -> bool:
        """Return whether `datagram` can't be the answer to the request.

        @param retransmissions: how many times the request was sent again.
        """
        grants_xid = self._known.xid is XidSupport.SUPPORTED
        return self.first_answer.is_foreign(
            datagram, grants_xid and retransmissions < RETRIES_WITH_XID
        )

    def is_contradicted(self, datagram: Buffer, now: float, *, same_port: bool) -> bool:
        """Return whether `datagram`, from the server's host, contradicts the accepted answer.

        @param same_port: whether it came from the same port as the accepted answer.
        """
        return self.first_answer.is_contradicted(
            datagram, now, same_port=same_port, asked_twice=self._was_sent_again
        )

    def accept(self, answer: bytes, now: float, asker: Asker, is_confirmed: bool) -> None:
        """Accept the answer that the transfer continues from.

        @param asker: the machine that has sent the request and got the answer.
        @param is_confirmed: whether another port has got the same answer.
        """
        first, known, round_trip = self.first_answer, self._known, asker.round_trip
        self._round_trip = round_trip
        self._was_sent_again = asker.retransmissions > 0
        first.accept(answer, now, known)
        if self.is_open and is_confirmed:
            self._confirm()
        if first.standing is Standing.PROVEN:
            known.xid = XidSupport.SUPPORTED
            known.round_trip = round_trip or known.round_trip
        elif first.standing is not Standing.SETTLED and not self.will_compare:
            self._set_alarm(first.settled_at, self._settle)

    def note_no_answer(self) -> None:
        """Note that the request was not answered: another program may use the server's port."""
        self._known.xid = XidSupport.UNKNOWN
        self._known.grants_options = False

    def note_contradiction(self, datagram: Buffer) -> None:
        """Note what `datagram`, which contradicts the accepted answer, tells about the server."""
        if self.first_answer.has_request_xid(datagram):
            self._known.xid = XidSupport.SUPPORTED

    def start_comparison(self) -> None:
        """Send the request from a second port soon, unless that was done or is impossible."""
        if self.can_compare and self._alarm is None and self._second is None:
            # Not in this call: the caller may be in the middle of a change of its state.
            self._set_alarm(self._services.clock(), self._ask_again)

    def stop(self) -> None:
        """Cancel the second request and the alarm, because the doubt does not matter any more."""
        self._is_stopped = True
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self._services.alarms.cancel(alarm)
        second, self._second = self._second, None
        if second is not None:
            second.cancel()

    def _ask_again(self) -> None:
        if self._second is not None:
            return  # `start_comparison` was called again while the alarm read the socket
        assert self._open_link is not None
        self._second = SecondRequest(
            self._open_link(),
            self._request,
            self.first_answer,
            self._make_timing(),
            services=self._services,
            on_compared=self._on_compared,
        )
        self._second.start()

    def _on_compared(self, comparison: Comparison) -> None:
        try:
            self._handle_comparison(comparison)
        except Exception:
            self._owner.on_exception(Failure())

    def _handle_comparison(self, comparison: Comparison) -> None:
        if self._is_stopped:
            return
        answer = self._second.answer if self._second is not None else None
        if comparison is Comparison.SAME:
            self._owner.receive_waiting()
            if self._is_answer_in_use:
                self._confirm()
                self._settle()
        elif comparison is Comparison.NONE:
            self._owner.on_not_confirmed()
        else:
            self._owner.on_contradicted(answer)

    def _confirm(self) -> None:
        """Trust the answer, because two ports have got it; note that the server grants no xid."""
        if self.first_answer.asks_for_xid:
            self._known.xid = XidSupport.NOT_SUPPORTED
        self.first_answer.settle()

    def _settle(self) -> None:
        """Trust the answer, because it was confirmed, or not contradicted in time."""
        known = self._known
        known.round_trip = self._round_trip or known.round_trip
        if self.first_answer.standing is Standing.XID_MISSING:
            known.xid = XidSupport.NOT_SUPPORTED
        self.first_answer.settle()
        self._owner.on_settled()

    @property
    def _is_answer_in_use(self) -> bool:
        """Whether the owner still uses the answer. A datagram that it has read may end that."""
        return not self._is_stopped and self._owner.relies_on(self)

    def _set_alarm(self, at: float, act: Callable[[], None]) -> None:
        def alarmed() -> None:
            self._alarm = None
            try:
                # If the reactor was late, another answer may have arrived in time.
                self._owner.receive_waiting()
                if self._is_answer_in_use:
                    act()
            except Exception:
                self._owner.on_exception(Failure())

        self._alarm = self._services.alarms.set(at, alarmed)
