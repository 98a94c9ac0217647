"""Tests of a session and its owner, with a link in memory and in virtual time."""

from __future__ import annotations

import errno
import gc
import weakref
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_tftp.backends.memory import MemoryBackend, MemoryReader, MemoryWriter
from twisted_tftp.context import Direction, Endpoint, Outcome, TransferContext
from twisted_tftp.errors import FileNotFound, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.receiving import ReceivingSession
from twisted_tftp.session.sending import SendingSession
from twisted_tftp.session.services import SessionServices
from twisted_tftp.session.state import SessionState
from twisted_tftp.testing import MemoryLink, Recorder
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.timing import Timing

#: The content of the file: four blocks of 512 octets.
FILE = bytes(range(256)) * 8

#: The context of a read.
CONTEXT = TransferContext(
    peer=Endpoint("192.0.2.1", 4000),
    local=None,
    direction=Direction.READ,
    filename=b"file",
    mode="octet",
    options={},
)


def make_timing() -> Timing:
    return Timing(first=1.0, max_rto=1.0, retries=10, adaptive=True)


class Owner:
    """The owner of a session that sends a file in blocks of 512 octets."""

    can_send_error = True

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = MemoryLink(self.clock.seconds)
        self.recorder = Recorder()
        self.ended = 0
        services = SessionServices(
            observer=self.recorder,
            clock=self.clock.seconds,
            alarms=Alarms(self.clock, self.clock.seconds),
            opening_time=10.0,
        )
        self.session: Any = self.make_session(services)

    def make_session(self, services: SessionServices) -> Any:
        return SendingSession(CONTEXT, self.link, services, self)

    def make_machine(self) -> Any:
        size = self.session.file.size
        return Sender(blksize=512, windowsize=1, size=size, oack=None, timing=make_timing())

    def on_open(self) -> None:
        machine = self.make_machine()
        self.link.attach(self.session.receive)
        self.session.begin(machine)

    def on_finished(self) -> None:
        pass

    def on_released(self) -> None:
        self.ended += 1


class ReceivingOwner(Owner):
    """The owner of a session that receives a file in blocks of 512 octets."""

    def make_session(self, services: SessionServices) -> ReceivingSession:
        return ReceivingSession(CONTEXT, self.link, services, self)

    def make_machine(self) -> Receiver:
        return Receiver(blksize=512, windowsize=1, first_answer=wire.ack(0), timing=make_timing())


def reader() -> MemoryReader:
    return MemoryReader(FILE)


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_transfer_begins_when_the_file_is_open(owner: Owner) -> None:
    """Before that nothing is sent; then the owner makes the machine, which sends block 1."""
    opening: Deferred[Any] = Deferred()
    owner.session.start(lambda: opening)
    assert (owner.session.state, owner.link.take()) == (SessionState.OPENING, [])
    opening.callback(reader())
    assert owner.session.state is SessionState.TRANSFERRING
    assert owner.link.take() == [wire.DATA_HEADERS[1] + FILE[:512]]


def test_owner_is_told_of_the_end_once(owner: Owner) -> None:
    """The owner and the observer are told of the end only once, and no timer is left."""
    owner.session.start(reader)
    for number in range(1, 6):
        owner.link.deliver(wire.ack(number))
    assert owner.session.state is SessionState.CLOSED
    owner.session.cancel("late")
    assert (owner.ended, owner.recorder.outcomes) == (1, [Outcome.COMPLETED])
    assert owner.clock.getDelayedCalls() == []


def test_rewound_session_sends_the_same_file_from_its_start(owner: Owner) -> None:
    """After `restart_negotiation`, a new machine sends the open file from block 1 on."""
    owner.session.start(reader)
    owner.link.deliver(wire.ack(1))
    owner.link.take()
    owner.session.restart_negotiation()
    assert (owner.session.state, owner.session.machine) == (SessionState.NEGOTIATING, None)
    owner.on_open()
    assert owner.link.take() == [wire.DATA_HEADERS[1] + FILE[:512]]


def test_restarted_opening_closes_the_file_and_sends_the_new_one(owner: Owner) -> None:
    """`restart_opening` closes the reader; then the new file is sent from block 1 on."""
    closed: list[None] = []

    class Watched(MemoryReader):
        def close(self) -> None:
            closed.append(None)

    owner.session.start(lambda: Watched(FILE))
    owner.link.take()
    owner.session.restart_opening(lambda: MemoryReader(b"other"))
    assert closed == [None]
    assert owner.link.take() == [wire.DATA_HEADERS[1] + b"other"]


def test_deadline_is_ignored_if_reading_the_socket_restarts_the_negotiation(owner: Owner) -> None:
    """A datagram in the socket may restart the negotiation; the old machine does not expire."""
    owner.session.start(reader)
    owner.link.take()
    owner.link.receive_waiting = owner.session.restart_negotiation  # type: ignore[method-assign]
    owner.clock.advance(1.0)
    assert (owner.session.state, owner.link.take()) == (SessionState.NEGOTIATING, [])
    assert owner.recorder.outcomes == []


def test_read_from_before_a_restart_is_ignored(owner: Owner) -> None:
    """The octets of a read that was under way at the restart are not sent."""
    reads: list[Deferred[bytes]] = []

    class Slow(MemoryReader):
        def read(self, offset: int, length: int) -> Any:
            reads.append(Deferred())
            return reads[-1]

    owner.session.start(lambda: Slow(FILE))
    owner.session.restart_negotiation()
    owner.on_open()
    reads[0].callback(b"x" * 512)
    assert owner.link.take() == []
    reads[1].callback(FILE[:512])
    assert owner.link.take() == [wire.DATA_HEADERS[1] + FILE[:512]]


def test_no_error_is_sent_before_the_port_of_the_peer_is_known(owner: Owner) -> None:
    """A client can't send an ERROR before its server has answered from a port."""
    owner.can_send_error = False
    owner.session.start(lambda: Deferred())
    owner.session.end(Outcome.FAILED, TFTPError("broken"))
    assert (owner.link.take(), owner.recorder.outcomes) == ([], [Outcome.FAILED])


def test_ended_session_and_its_owner_are_freed_without_the_garbage_collector() -> None:
    """The session drops its reference to the owner, so there is no reference cycle."""
    owner = Owner()
    gc.disable()
    try:
        owner.session.start(reader)
        for number in range(1, 6):
            owner.link.deliver(wire.ack(number))
        owner.link.attach(lambda datagram, now: None)  # sockets forget their receiver when closed
        dead = weakref.ref(owner.link)  # the session refers to it
        del owner
        assert dead() is None
    finally:
        gc.enable()


def is_freed(opened: Any) -> bool:
    """Return whether an owner is freed without the garbage collector after its file is opened.

    @param opened: called with the Deferred of the opening; it fires that.
    """
    owner = Owner()
    gc.disable()
    try:
        opening: Deferred[Any] = Deferred()
        owner.session.start(lambda: opening)
        opened(opening)
        for number in range(1, 6):
            owner.link.deliver(wire.ack(number))
        owner.link.attach(lambda datagram, now: None)  # sockets forget their receiver when closed
        owner.recorder.events.clear()
        dead = weakref.ref(owner.link)  # the session refers to it
        del owner
        return dead() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "opened",
    [
        lambda opening: opening.callback(reader()),
        lambda opening: opening.errback(OSError(errno.ENOENT, "no such file")),
        lambda opening: opening.errback(FileNotFound()),
    ],
    ids=["file", "OSError", "TFTPError"],
)
def test_session_whose_file_opens_later_is_freed_without_the_garbage_collector(
    opened: Any,
) -> None:
    """Neither the alarm of the opening nor the traceback of a failure keeps a reference to it."""
    assert is_freed(opened)


def test_session_whose_backend_raises_is_freed_without_the_garbage_collector() -> None:
    """The traceback, whose frames refer to the session, is not kept."""
    gc.disable()
    try:
        owner = Owner()
        owner.session.start(missing)
        owner.recorder.events.clear()
        dead = weakref.ref(owner.link)  # the session refers to it
        del owner
        assert dead() is None
    finally:
        gc.enable()


def missing() -> Any:
    raise OSError(errno.ENOENT, "no such file")


def test_observer_may_cancel_a_session_when_it_finishes() -> None:
    """The owner is told that the outcome is known, and then of the end, once each."""
    owner = ReceivingOwner()
    told: list[str] = []
    owner.on_finished = lambda: told.append("finished")  # type: ignore[method-assign]
    owner.on_released = lambda: told.append("ended")  # type: ignore[method-assign]
    owner.recorder.finished = lambda statistics: owner.session.cancel()  # type: ignore[method-assign]
    owner.session.start(lambda: MemoryWriter(MemoryBackend(write="create"), "new"))
    owner.link.deliver(wire.DATA_HEADERS[1] + b"end")
    assert told == ["finished", "ended"]
    assert owner.session.state is SessionState.CLOSED
    assert owner.clock.getDelayedCalls() == []


def test_observer_may_cancel_a_session_when_it_starts(owner: Owner) -> None:
    """Then the file is not opened, and no timer is left."""
    opened: list[None] = []
    owner.recorder.started = lambda statistics: owner.session.cancel()  # type: ignore[method-assign]
    owner.session.start(lambda: opened.append(None))
    assert opened == []
    assert owner.session.state is SessionState.CLOSED
    assert owner.clock.getDelayedCalls() == []


def test_restart_resets_the_transferred_octets(owner: Owner) -> None:
    """The octets that were sent before a restart do not count in the statistics."""
    owner.session.start(reader)
    owner.link.deliver(wire.ack(1))
    owner.session.update_statistics()
    assert owner.session.statistics.octets == 512
    owner.session.restart_negotiation()
    assert owner.session.statistics.octets == 0


def test_write_from_before_a_restart_is_not_acknowledged() -> None:
    """The result of a write that was under way at the restart causes no ACK."""
    writes: list[Deferred[None]] = []

    class Slow(MemoryWriter):
        def write(self, data: bytes) -> Any:
            writes.append(Deferred())
            return writes[-1]

    owner = ReceivingOwner()
    owner.session.start(lambda: Slow(MemoryBackend(write="create"), "new"))
    owner.link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    owner.link.take()
    owner.session.restart_negotiation()
    owner.on_open()
    assert owner.link.take() == [wire.ack(0)]
    writes[0].callback(None)
    assert owner.link.take() == []
    owner.link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    writes[1].callback(None)
    assert owner.link.take() == [wire.ack(1)]
