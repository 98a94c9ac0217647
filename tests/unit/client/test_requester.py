"""Test how a client sends a request until it is answered, in memory and with a `Clock`."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_tftp.client.requester import Requester
from twisted_tftp.protocol import wire
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.services import SessionServices
from twisted_tftp.testing import MemoryLink
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.timing import Timing

REQUEST = b"\0\1file\0octet\0"

#: The first block of the file, which answers the request.
ANSWER = wire.DATA_HEADERS[1] + b"content"


class Asking:
    """A requester, and an owner that counts what the requester calls."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = MemoryLink(self.clock.seconds)
        self.ends = 0
        self.resends = 0
        self.failures: list[Failure] = []
        services = SessionServices(
            observer=None,
            clock=self.clock.seconds,
            alarms=Alarms(self.clock, self.clock.seconds),
            opening_time=10.0,
        )
        timing = Timing(first=1.0, max_rto=1.0, retries=3, adaptive=False)
        self.requester = Requester(
            Asker(REQUEST, is_read=True, timing=timing),
            self.link,  # type: ignore[arg-type]
            services,
            on_end=self.on_end,
            on_exception=self.failures.append,
            before_resend=self.before_resend,
        )
        self.link.attach(self.requester.receive)

    def on_end(self) -> None:
        self.ends += 1

    def before_resend(self) -> None:
        self.resends += 1


@pytest.fixture
def asking() -> Asking:
    asking = Asking()
    asking.requester.start()
    assert asking.link.take() == [REQUEST]
    return asking


def test_answer_ends_the_request_and_leaves_no_timer(asking: Asking) -> None:
    """An answer ends the request, is available as `asker.answer`, and stops the timer."""
    asking.link.deliver(ANSWER)
    assert (asking.ends, asking.requester.asker.answer) == (1, ANSWER)
    assert asking.clock.getDelayedCalls() == []


def test_request_is_sent_again_until_it_is_given_up(asking: Asking) -> None:
    """The request is sent again after each timeout, and the owner is called before that."""
    for _ in range(5):
        asking.clock.advance(1.0)
    assert asking.link.take() == [REQUEST, REQUEST]
    assert (asking.resends, asking.ends) == (2, 1)
    assert asking.requester.asker.failure is not None
    assert asking.clock.getDelayedCalls() == []


def test_answer_that_waits_in_the_socket_of_a_late_reactor_counts(asking: Asking) -> None:
    """The socket is read before the deadline is handled, so the request is not sent again."""
    asking.link.waiting.append(ANSWER)
    asking.clock.advance(1.0)
    assert (asking.ends, asking.link.take()) == (1, [])


def test_request_goes_through_another_link_after_a_change(asking: Asking) -> None:
    """After `replace_link` the request is sent through the new link."""
    other = MemoryLink(asking.clock.seconds)
    asking.requester.replace_link(other)  # type: ignore[arg-type]
    asking.clock.advance(1.0)
    assert (asking.link.take(), other.take()) == ([], [REQUEST])


def test_stopped_request_is_not_sent_again(asking: Asking) -> None:
    """`stop` cancels the timer, and may be called twice."""
    asking.requester.stop()
    asking.requester.stop()
    assert asking.clock.getDelayedCalls() == []


def test_exception_while_it_is_sent_again_reaches_the_owner(asking: Asking) -> None:
    """An exception while the request is sent again is passed to `on_exception`."""

    def broken(datagrams: Any) -> None:
        raise OSError("no route")

    asking.link.send = broken  # type: ignore[method-assign]
    asking.clock.advance(1.0)
    (failure,) = asking.failures
    assert failure.check(OSError)
