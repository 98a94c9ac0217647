"""Test when the user is told that a server is silent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from twisted_tftp.client.silence_notice import FIRST_NOTICE, NEXT_NOTICE, SilenceNotice
from twisted_tftp.session.deadlines import Alarms


class Watched:
    """A transfer that is watched.

    @ivar machine: its machine, which has the counts; None before the answer.
    @ivar notices: the texts for the user.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.machine: Any = None
        self.notices: list[str] = []
        peer = SimpleNamespace(host="192.0.2.1", port=69)
        context = SimpleNamespace(path="file", peer=peer)
        services: Any = SimpleNamespace(
            session_services=SimpleNamespace(
                clock=self.clock.seconds, alarms=Alarms(self.clock, self.clock.seconds)
            ),
            on_notice=self.notices.append,
        )
        links: Any = SimpleNamespace(
            note_silence=lambda is_silent: None,
            unreachable_text="",
            plan=SimpleNamespace(patience=60.0),
        )
        session: Any = self  # only `machine` is used
        self.notice = SilenceNotice(session, services, links)
        attempt: Any = SimpleNamespace(repetitions=0, context=context)
        self.notice.watch(attempt)

    def wait(self, seconds: float, *, octets: int = 0, retransmissions: int = 0) -> int:
        """Wait after these counts; return how many notices came meanwhile."""
        self.notices.clear()
        self.machine = SimpleNamespace(octets=octets, retransmissions=retransmissions)
        self.clock.advance(seconds)
        return len(self.notices)


def test_silence_lasts_until_octets_are_transferred() -> None:
    """The server stays silent in a time without a retransmission too."""
    watched = Watched()
    watched.clock.advance(FIRST_NOTICE)
    assert len(watched.notices) == 1
    assert watched.wait(NEXT_NOTICE, octets=512) == 0
    assert watched.wait(FIRST_NOTICE, octets=1024) == 0
    assert watched.wait(FIRST_NOTICE, octets=1024, retransmissions=3) == 1
    assert watched.wait(NEXT_NOTICE, octets=1024, retransmissions=3) == 1
    assert watched.wait(NEXT_NOTICE, octets=1536, retransmissions=3) == 0
    watched.notice.stop()
    assert not watched.clock.getDelayedCalls()


def test_waiting_without_retransmissions_is_no_silence() -> None:
    """The transfer waits for the local file then."""
    watched = Watched()
    assert watched.wait(FIRST_NOTICE, octets=512) == 0
    assert watched.wait(FIRST_NOTICE, octets=512) == 0
