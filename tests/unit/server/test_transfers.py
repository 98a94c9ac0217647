"""The table of running transfers."""

from __future__ import annotations

from typing import Any

from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.server.process_memory import give_back
from twisted_tftp.server.transfers import Transfers


def asked_by(host: str) -> TransferContext:
    return TransferContext(Endpoint(host, 2000), None, Direction.READ, b"f", "octet", {})


class Stub:
    """As much of a session as the table sees."""

    def __init__(self, transfers: Transfers, key: str) -> None:
        self.transfers, self.key = transfers, key
        self.context = asked_by("192.0.2.1")
        self.ended = False
        self.cancelled: list[str] = []
        transfers.add(self)  # type: ignore[arg-type]

    def cancel(self, message: str) -> None:
        self.cancelled.append(message)

    def finish(self) -> None:
        self.transfers.finished(self)  # type: ignore[arg-type]

    def end(self) -> None:
        self.ended = True
        self.transfers.remove(self)  # type: ignore[arg-type]


def fired(deferred: Any) -> bool:
    return bool(deferred.called)


def test_waits_fire_when_the_last_one_goes() -> None:
    """No transfer runs, and later nothing is left: two different moments."""
    transfers = Transfers()
    assert fired(transfers.when_none_runs())
    assert fired(transfers.cancel_all("x"))
    one, two = Stub(transfers, "a"), Stub(transfers, "b")
    idle, gone = transfers.when_none_runs(), transfers.cancel_all("stop")
    assert one.cancelled == two.cancelled == ["stop"]
    one.finish()
    two.finish()
    assert fired(idle)
    assert not fired(gone)
    one.end()
    two.end()
    assert fired(gone)


def test_cancelled_wait_is_forgotten() -> None:
    """A drain that runs out of time leaves nothing behind."""
    transfers = Transfers()
    session = Stub(transfers, "a")
    wait = transfers.when_none_runs()
    wait.addErrback(lambda _: None)
    wait.cancel()
    session.finish()


def test_newest_session_of_a_key_is_found() -> None:
    """An older one of the same key may go on; its end does not hide the newer."""
    transfers = Transfers()
    old, new = Stub(transfers, "a"), Stub(transfers, "a")
    old.end()
    assert transfers.find("a") is new  # type: ignore[comparison-overlap]
    new.ended = True
    assert transfers.find("a") is None
    assert len(transfers) == 1


def test_memory_is_given_back_after_a_crowd() -> None:
    """Once most of the sessions have gone, and not again before the next crowd."""
    given_back: list[int] = []
    transfers = Transfers(give_back=lambda: given_back.append(len(transfers)))
    for count in (999, 2000, 1000, 50):
        for session in [Stub(transfers, str(number)) for number in range(count)]:
            session.finish()
            session.end()
    assert given_back == [199, 99]


def test_memory_can_be_given_back_here() -> None:
    """Whatever the system is, to ask it does no harm."""
    give_back()
