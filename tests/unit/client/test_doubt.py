"""The doubt about an answer, which ends in one way only."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_tftp.client.doubt import Doubt
from twisted_tftp.protocol import wire
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.services import SessionServices
from twisted_tftp.testing import MemoryLink
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.first_answer import FirstAnswer, KnownServer
from twisted_tftp.transfer.timing import Timing

REQUEST = b"\0\1file\0octet\0blksize\x001000\0"

#: An answer without options, so that it is in doubt.
ANSWER = wire.DATA_HEADERS[1] + b"content"


class SecondLink(MemoryLink):
    """The link of a second request."""

    is_unbound = False

    def discard(self) -> None:
        pass

    def lock(self) -> None:
        pass


class Owner:
    """A transfer that has accepted `ANSWER`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.links: list[SecondLink] = []
        self.events: list[str] = []
        self.on_drain: Any = lambda: None
        services = SessionServices(
            observer=None,
            clock=self.clock.seconds,
            alarms=Alarms(self.clock, self.clock.seconds),
            opening_time=10.0,
        )
        first = FirstAnswer(reading=True, has_options=True, xid=None)
        self.doubt = Doubt(
            first,
            REQUEST,
            KnownServer(),
            services,
            self,
            open_link=self.open_link,  # type: ignore[arg-type]
            make_timing=self.make_timing,
        )
        asker = Asker(REQUEST, reading=True, timing=self.make_timing())
        asker.start(0.0)
        asker.receive(ANSWER, 0.0)
        self.doubt.accept(ANSWER, 0.0, asker, is_confirmed=False)

    def make_timing(self) -> Timing:
        return Timing(first=1.0, longest=1.0, retries=3, adaptive=False)

    def open_link(self) -> SecondLink:
        self.links.append(SecondLink(self.clock.seconds))
        return self.links[-1]

    def receive_waiting(self) -> None:
        self.on_drain()

    def relies_on(self, doubt: Doubt) -> bool:
        return True

    def on_settled(self) -> None:
        self.events.append("settled")

    def on_contradicted(self, answer: bytes | None) -> None:
        self.events.append("contradicted")

    def on_not_confirmed(self) -> None:
        self.events.append("not confirmed")

    def on_broken(self, failure: Failure) -> None:
        failure.raiseException()


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_same_answer_to_a_second_request_settles_the_doubt(owner: Owner) -> None:
    """The owner is told once."""
    owner.doubt.compare()
    owner.clock.advance(0.0)
    (link,) = owner.links
    assert link.take() == [REQUEST]
    link.deliver(ANSWER)
    assert owner.events == ["settled"]
    assert not owner.doubt.is_open


def test_doubt_that_is_stopped_by_what_waits_in_the_socket_sends_no_second_request(
    owner: Owner,
) -> None:
    """A contradiction is read before the alarm is handled; the transfer goes another way then."""
    owner.doubt.compare()
    owner.on_drain = owner.doubt.stop
    owner.clock.advance(0.0)
    assert (owner.links, owner.events) == ([], [])
    assert owner.clock.getDelayedCalls() == []


def test_doubt_that_is_stopped_by_what_waits_in_the_socket_is_not_settled(owner: Owner) -> None:
    """The second request was answered, but the first answer was given up meanwhile."""
    owner.doubt.compare()
    owner.clock.advance(0.0)
    owner.on_drain = owner.doubt.stop
    owner.links[0].deliver(ANSWER)
    assert owner.events == []


def test_silence_after_the_second_request_is_told(owner: Owner) -> None:
    """The answer can't be confirmed."""
    owner.doubt.compare()
    for _ in range(5):
        owner.clock.advance(1.0)
    assert owner.events == ["not confirmed"]


def test_other_answer_to_the_second_request_contradicts(owner: Owner) -> None:
    """One of the two is for another request."""
    owner.doubt.compare()
    owner.clock.advance(0.0)
    owner.links[0].deliver(wire.DATA_HEADERS[1] + b"other")
    assert owner.events == ["contradicted"]
