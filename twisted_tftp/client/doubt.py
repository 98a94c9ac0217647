"""End the doubt whether the answer that a client has accepted belongs to its request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure

from twisted_tftp.client.second_request import Comparison, SecondRequest
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.session.deadlines import Alarm
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.first_answer import (
    IN_DOUBT,
    FirstAnswer,
    KnownServer,
    Standing,
    XidSupport,
)
from twisted_tftp.transfer.timing import Timing


class DoubtOwner(Protocol):
    """The transfer that has accepted the answer."""

    def still_accepts(self, doubt: Doubt) -> bool:
        """Read what waits in the socket; return whether the answer is still accepted then."""

    def on_settled(self) -> None:
        """Continue: the answer can be trusted now."""

    def on_contradicted(self, answer: bytes | None) -> None:
        """Give the answer up: a second request got another `answer`, or an ERROR (None)."""

    def on_not_confirmed(self) -> None:
        """Fail: the server has not answered the second request."""

    def on_broken(self, failure: Failure) -> None:
        """Fail: an exception of our own code would keep the transfer waiting for ever."""


class Doubt:
    """The assessment of the answers to one request, and the ways in which its doubt ends.

    For a read, a second request from another port is compared with the accepted answer. Otherwise
    the doubt ends when no other answer has come for some time: a second write request could create
    a second file, or damage the first one.

    @ivar first: the assessment of the accepted answer.
    @ivar can_compare: whether the request can be sent from a second port.
    """

    def __init__(
        self,
        first: FirstAnswer,
        request: bytes,
        known: KnownServer,
        services: SessionServices,
        owner: DoubtOwner,
        *,
        open_link: Callable[[], ClientLink] | None,
        make_timing: Callable[[], Timing],
    ) -> None:
        """Set up the doubt about an answer that has not come yet.

        @param request: the octets of the request.
        @param open_link: returns a link with a second port; None if there can be none.
        @param make_timing: returns the timeouts of a second request.
        """
        self.first = first
        self._request = request
        self._known = known
        self._services = services
        self._owner = owner
        self._open_link = open_link
        self._make_timing = make_timing
        self._alarm: Alarm | None = None  # the next step to end the doubt
        self._second: SecondRequest | None = None
        self._round_trip: float | None = None  # from the request to its answer, in seconds

    @property
    def is_open(self) -> bool:
        """Whether the answer is in doubt, so that no file may be committed."""
        return self.first.standing in IN_DOUBT

    @property
    def can_compare(self) -> bool:
        """Whether the request can be sent from a second port, to compare the answers."""
        return self._open_link is not None

    @property
    def will_compare(self) -> bool:
        """Whether a second request ends the doubt, and not a time."""
        return self.can_compare and self.is_open

    def accept(
        self, answer: bytes, now: float, round_trip: float | None, is_confirmed: bool
    ) -> None:
        """Accept the answer that the transfer continues from.

        @param round_trip: seconds from the request to the answer; None if that is not known.
        @param is_confirmed: whether another port has got the same answer.
        """
        first, known = self.first, self._known
        self._round_trip = round_trip
        first.take(answer, now, known)
        if self.is_open and is_confirmed:
            self._confirm()
        if first.standing is Standing.PROVEN:
            known.xid = XidSupport.GRANTED
            known.round_trip = round_trip or known.round_trip
        elif first.standing is not Standing.SETTLED and not self.will_compare:
            self._set_alarm(first.settled_at, self._settle)

    def compare(self) -> None:
        """Send the request from a second port, once: the file must wait until the doubt ends."""
        if self.can_compare and self._alarm is None and self._second is None:
            # Not at once, because the caller may be in the middle of a change.
            self._set_alarm(self._services.clock(), self._ask_again)

    def stop(self) -> None:
        """Do nothing more about the doubt."""
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            self._services.alarms.cancel(alarm)
        second, self._second = self._second, None
        if second is not None:
            second.cancel()

    def _ask_again(self) -> None:
        if self._second is not None:
            return
        assert self._open_link is not None
        self._second = SecondRequest(
            self._open_link(),
            self._request,
            self.first,
            self._make_timing(),
            services=self._services,
            on_compared=self._on_compared,
        )
        self._second.start()

    def _on_compared(self, comparison: Comparison) -> None:
        try:
            self._handle_comparison(comparison)
        except Exception:
            self._owner.on_broken(Failure())

    def _handle_comparison(self, comparison: Comparison) -> None:
        answer = self._second.answer if self._second is not None else None
        if comparison is Comparison.SAME:
            if self._owner.still_accepts(self):
                self._confirm()
                self._settle()
        elif comparison is Comparison.NONE:
            self._owner.on_not_confirmed()
        else:
            self._owner.on_contradicted(answer)

    def _confirm(self) -> None:
        """Trust an answer that two ports have got, and note that the server grants no xid."""
        if self.first.asks_for_xid:
            self._known.xid = XidSupport.LACKING
        self.first.settle()

    def _settle(self) -> None:
        """Trust the answer: it was confirmed, or not contradicted in time."""
        known = self._known
        known.round_trip = self._round_trip or known.round_trip
        if self.first.standing is Standing.UNPROVEN:
            known.xid = XidSupport.LACKING
        self.first.settle()
        self._owner.on_settled()

    def _set_alarm(self, at: float, act: Callable[[], None]) -> None:
        def acted() -> None:
            self._alarm = None
            try:
                # If the reactor was late, another answer may have arrived in time.
                if self._owner.still_accepts(self):
                    act()
            except Exception:
                self._owner.on_broken(Failure())

        self._alarm = self._services.alarms.set(at, acted)
