"""Test how the doubt about an accepted answer ends, in memory and with a `Clock`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_tftp.client.doubt import RETRIES_WITH_XID, Doubt
from twisted_tftp.protocol import wire
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.services import SessionServices
from twisted_tftp.testing import MemoryLink
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.first_answer import (
    DOUBT_WITHOUT_ROUND_TRIP,
    FirstAnswer,
    KnownServer,
    Standing,
    XidSupport,
)
from twisted_tftp.transfer.timing import Timing

XID = "0123abcd"

REQUEST = b"\0\1file\0octet\0xid\0" + XID.encode() + b"\0"

#: An answer without options, which leaves a request with options in doubt.
PLAIN = wire.DATA_HEADERS[1] + b"content"

#: An answer that proves that it is for the request.
PROOF = wire.oack([("blksize", "1000"), ("xid", XID)])

#: An answer with options and without an xid.
WITHOUT_XID = wire.oack([("blksize", "1000")])


def timing() -> Timing:
    """Return fixed timeouts of one second."""
    return Timing(first=1.0, max_rto=1.0, retries=2, adaptive=False)


class SecondLink(MemoryLink):
    """The link of a second request, in memory."""

    knows_server_port = False

    def discard_waiting(self) -> None:
        self.waiting.clear()

    def learn_server_port(self) -> None:
        self.knows_server_port = True


class Transfer:
    """A transfer with a doubt; it records what the doubt reports to it.

    @ivar is_over: whether the transfer does not use the answer any more.
    @ivar is_failing: whether `on_settled` raises an exception.
    @ivar on_drain: what a datagram in the socket causes; called after the socket is read.
    """

    def __init__(self, *, has_second_port: bool = True) -> None:
        self.clock = Clock()
        self.known = KnownServer()
        self.link = MemoryLink(self.clock.seconds)
        self.second: list[SecondLink] = []
        self.events: list[Any] = []
        self.is_over = False
        self.is_failing = False
        self.on_drain: Callable[[], None] = lambda: None
        self.asker = Asker(REQUEST, is_read=True, timing=timing())
        self.asker.start(0.0)
        services = SessionServices(
            observer=None,
            clock=self.clock.seconds,
            alarms=Alarms(self.clock, self.clock.seconds),
            opening_time=10.0,
        )
        open_link: Any = self.open_link if has_second_port else None
        self.doubt = Doubt(
            FirstAnswer(is_read=True, has_options=True, xid=XID),
            REQUEST,
            self.known,
            services,
            self,
            open_link=open_link,
            make_timing=timing,
        )
        self.link.attach(self.receive)

    def open_link(self) -> SecondLink:
        self.second.append(SecondLink(self.clock.seconds))
        return self.second[-1]

    def accept(self, answer: bytes, *, is_confirmed: bool = False) -> None:
        self.asker.receive(answer, self.clock.seconds())
        self.doubt.accept(answer, self.clock.seconds(), self.asker, is_confirmed)

    def receive(self, datagram: Any, now: float) -> None:
        if self.doubt.is_contradicted(datagram, now, same_port=True):
            self.is_over = True

    def ask_again(self) -> SecondLink:
        """Let the doubt send its second request; return the link with the second port."""
        self.doubt.start_comparison()
        self.clock.advance(0)
        (second,) = self.second
        assert second.take() == [REQUEST]
        return second

    def receive_waiting(self) -> None:
        self.link.receive_waiting()
        self.on_drain()

    def relies_on(self, doubt: Doubt) -> bool:
        return not self.is_over

    def on_settled(self) -> None:
        if self.is_failing:
            raise ZeroDivisionError
        self.events.append("settled")

    def on_contradicted(self, answer: bytes | None) -> None:
        self.events.append(("contradicted", answer))

    def on_not_confirmed(self) -> None:
        self.events.append("not confirmed")

    def on_exception(self, failure: Failure) -> None:
        self.events.append(failure.type)


@pytest.fixture
def transfer() -> Transfer:
    return Transfer()


def test_answer_with_the_xid_is_never_in_doubt(transfer: Transfer) -> None:
    """An answer with the xid sets no alarm, and shows that the server grants xids."""
    transfer.accept(PROOF)
    assert transfer.doubt.first_answer.standing is Standing.PROVEN
    assert not transfer.doubt.is_open
    assert transfer.known.xid is XidSupport.SUPPORTED
    assert transfer.clock.getDelayedCalls() == []


def test_same_answer_to_a_second_port_ends_the_doubt(transfer: Transfer) -> None:
    """The client then trusts the first answer, and learns that the server grants no xid."""
    transfer.accept(PLAIN)
    assert transfer.doubt.is_open
    second = transfer.ask_again()
    second.deliver(PLAIN)
    assert transfer.events == ["settled"]
    assert not transfer.doubt.is_open
    assert transfer.known.xid is XidSupport.NOT_SUPPORTED
    assert second.take() == [wire.ack(1)]


@pytest.mark.parametrize("answer", [PROOF, wire.DATA_HEADERS[1] + b"other"])
def test_different_answer_to_a_second_port_contradicts_the_first(
    transfer: Transfer, answer: bytes
) -> None:
    """The owner gets the second answer, and recognizes it when the next port receives it."""
    transfer.accept(PLAIN)
    transfer.ask_again().deliver(answer)
    assert transfer.events == [("contradicted", answer)]


def test_error_to_a_second_port_contradicts_the_first_answer(transfer: Transfer) -> None:
    """DATA and an ERROR for the same request can't both be true."""
    transfer.accept(PLAIN)
    transfer.ask_again().deliver(b"\0\5\0\1no\0")
    assert transfer.events == [("contradicted", None)]


def test_second_request_without_an_answer_does_not_confirm_the_first(transfer: Transfer) -> None:
    """After the last timeout the owner has to fail: no file may be committed in doubt."""
    transfer.accept(PLAIN)
    second = transfer.ask_again()
    for _ in range(4):
        transfer.clock.advance(1.0)
    assert transfer.events == ["not confirmed"]
    assert second.closed


def test_second_request_is_sent_only_once(transfer: Transfer) -> None:
    """More calls of `start_comparison` change nothing, before and after the request is sent."""
    transfer.accept(PLAIN)
    transfer.doubt.start_comparison()
    transfer.doubt.start_comparison()
    transfer.ask_again()
    transfer.doubt.start_comparison()
    transfer.clock.advance(0)
    assert len(transfer.second) == 1


def test_second_request_is_sent_only_once_if_the_socket_has_the_last_block(
    transfer: Transfer,
) -> None:
    """A commit calls `start_comparison` again, while the socket is read before the alarm."""
    transfer.accept(PLAIN)
    transfer.on_drain = transfer.doubt.start_comparison
    transfer.ask_again()
    transfer.clock.advance(0)
    assert len(transfer.second) == 1
    assert transfer.second[0].take() == []


@pytest.mark.parametrize("answer", [PLAIN, WITHOUT_XID])
def test_without_a_second_port_the_doubt_ends_after_some_time(answer: bytes) -> None:
    """If no other answer has come, the answer is trusted."""
    transfer = Transfer(has_second_port=False)
    transfer.accept(answer)
    transfer.doubt.start_comparison()
    transfer.clock.advance(DOUBT_WITHOUT_ROUND_TRIP - 0.01)
    assert transfer.doubt.is_open
    transfer.clock.advance(0.02)
    assert transfer.events == ["settled"]
    assert not transfer.doubt.is_open


def test_other_answer_that_waits_in_the_socket_of_a_late_reactor_counts() -> None:
    """The socket is read before the alarm ends the doubt, so its datagram contradicts."""
    transfer = Transfer(has_second_port=False)
    transfer.accept(PLAIN)
    transfer.link.waiting.append(PROOF)
    transfer.clock.advance(60.0)
    assert transfer.events == []
    assert transfer.is_over


def test_answer_that_another_port_has_got_too_is_trusted_at_once(transfer: Transfer) -> None:
    """An answer that another port has received is trusted without a second request."""
    transfer.accept(PLAIN, is_confirmed=True)
    assert not transfer.doubt.is_open
    assert transfer.clock.getDelayedCalls() == []


def test_stopped_doubt_closes_the_second_port_and_reports_nothing(transfer: Transfer) -> None:
    """After `stop` there is no second socket, no timer and no call of the owner."""
    transfer.accept(PLAIN)
    second = transfer.ask_again()
    transfer.doubt.stop()
    second.deliver(PLAIN)
    assert second.closed
    assert transfer.clock.getDelayedCalls() == []
    assert transfer.events == []


def test_doubt_that_is_stopped_by_what_waits_in_the_socket_sends_no_second_request(
    transfer: Transfer,
) -> None:
    """The socket is read before the alarm: it has a contradiction, so the port is changed."""
    transfer.accept(PLAIN)
    transfer.doubt.start_comparison()
    transfer.on_drain = transfer.doubt.stop
    transfer.clock.advance(0)
    assert (transfer.second, transfer.events) == ([], [])
    assert transfer.clock.getDelayedCalls() == []


def test_doubt_that_is_stopped_by_what_waits_in_the_socket_is_not_settled(
    transfer: Transfer,
) -> None:
    """When the second answer arrives, the socket has a datagram that contradicts the first one."""
    transfer.accept(PLAIN)
    second = transfer.ask_again()
    transfer.on_drain = transfer.doubt.stop
    second.deliver(PLAIN)
    assert transfer.events == []


def test_stopped_doubt_does_not_end_by_time() -> None:
    """`stop` cancels the alarm that would end the doubt."""
    transfer = Transfer(has_second_port=False)
    transfer.accept(PLAIN)
    transfer.doubt.stop()
    assert transfer.clock.getDelayedCalls() == []
    transfer.clock.advance(60.0)
    assert transfer.events == []


def test_exception_of_the_owner_fails_the_transfer(transfer: Transfer) -> None:
    """If a method of the owner raises an exception, the owner is told to fail."""
    transfer.is_failing = True
    transfer.accept(PLAIN)
    transfer.ask_again().deliver(PLAIN)
    assert transfer.events == [ZeroDivisionError]


def test_xid_is_required_only_for_the_first_requests_to_a_server_that_grants_it(
    transfer: Transfer,
) -> None:
    """After several requests without an answer, another program may use the server's port."""
    transfer.known.xid = XidSupport.SUPPORTED
    assert transfer.doubt.is_foreign(PLAIN, RETRIES_WITH_XID - 1)
    assert not transfer.doubt.is_foreign(PLAIN, RETRIES_WITH_XID)
    transfer.doubt.note_no_answer()
    assert not transfer.doubt.is_foreign(PLAIN, 0)


def test_contradiction_with_the_xid_shows_that_the_server_grants_it(transfer: Transfer) -> None:
    """A contradiction without the xid does not show whether the server grants xids."""
    transfer.accept(PLAIN)
    transfer.doubt.note_contradiction(WITHOUT_XID)
    assert transfer.known.xid is XidSupport.UNKNOWN
    transfer.doubt.note_contradiction(PROOF)
    assert transfer.known.xid is XidSupport.SUPPORTED
