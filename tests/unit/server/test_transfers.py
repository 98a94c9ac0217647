"""Tests of the table of running transfers."""

from __future__ import annotations

from typing import Any

from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.server.process_memory import trim_memory
from twisted_tftp.server.transfers import Transfers


def asked_by(host: str) -> TransferContext:
    return TransferContext(Endpoint(host, 2000), None, Direction.READ, b"f", "octet", {})


class Stub:
    """The part of a session that the table uses."""

    def __init__(self, transfers: Transfers, key: str) -> None:
        self.transfers, self.key = transfers, key
        self.context = asked_by("192.0.2.1")
        self.is_closed = False
        self.cancelled: list[str] = []
        transfers.add(self)  # type: ignore[arg-type]

    def cancel(self, message: str, detail: str) -> None:
        self.cancelled.append(message)

    def finish(self) -> None:
        self.transfers.note_finished(self)  # type: ignore[arg-type]

    def end(self) -> None:
        self.is_closed = True
        self.transfers.remove(self)  # type: ignore[arg-type]


def fired(deferred: Any) -> bool:
    return bool(deferred.called)


def test_deferreds_fire_when_the_last_transfer_ends() -> None:
    """ "No transfer runs" and "no session is left" are different moments."""
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


def test_cancelled_deferred_is_forgotten() -> None:
    """The end of a transfer does not fire a Deferred that was cancelled."""
    transfers = Transfers()
    session = Stub(transfers, "a")
    wait = transfers.when_none_runs()
    wait.addErrback(lambda _: None)
    wait.cancel()
    session.finish()


def test_newest_session_of_a_key_is_found() -> None:
    """The end of an older session with the same key does not remove the newer one."""
    transfers = Transfers()
    old, new = Stub(transfers, "a"), Stub(transfers, "a")
    old.end()
    assert transfers.find("a") is new  # type: ignore[comparison-overlap]
    new.is_closed = True
    assert transfers.find("a") is None
    assert len(transfers) == 1


def test_memory_is_given_back_after_many_transfers() -> None:
    """It is given back once, when a tenth of the sessions is left."""
    given_back: list[int] = []
    transfers = Transfers(trim_memory=lambda: given_back.append(len(transfers)))
    for count in (999, 2000, 1000, 50):
        for session in [Stub(transfers, str(number)) for number in range(count)]:
            session.finish()
            session.end()
    assert given_back == [199, 99]


def test_trim_memory_raises_nothing() -> None:
    """The call works, or does nothing, on this system."""
    trim_memory()
