"""Test the limit of octets per second, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.contexts import read_context, write_context
from twisted_tftp.backends.memory import MemoryBackend
from twisted_tftp.backends.paced import PacedBackend, Pacer
from twisted_tftp.errors import FileNotFound
from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.testing import MemoryNetwork, Recorder

#: Octets per second.
RATE = 1000


def paced(clock: Clock, backend: Any, **limits: Any) -> PacedBackend:
    """Return `backend` with these limits."""
    return PacedBackend(backend, reactor=clock, clock=clock.seconds, **limits)


def both_limits(clock: Clock) -> list[dict[str, Any]]:
    """Return each way to set the limit."""
    return [{"max_rate": RATE}, {"shared": Pacer(RATE, clock.seconds)}]


def network(files: dict[str, bytes], **limits: Any) -> MemoryNetwork:
    """Return a server whose transfers have these limits."""
    made = MemoryNetwork(MemoryBackend(files, "overwrite"))
    shared = limits.pop("shared_rate", None)
    if shared is not None:
        limits["shared"] = Pacer(shared, made.clock.seconds)
    made.server.backend = paced(made.clock, made.server.backend, **limits)
    return made


def retransmissions(recorder: Recorder) -> list[int]:
    """Return the number of retransmissions of each finished transfer."""
    return [each.retransmissions for event, each in recorder.events if event == "finished"]


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 3)), max_size=30))
def test_rate_is_never_exceeded(calls: list[tuple[int, float]]) -> None:
    """Whatever the calls are, octets that came before never exceed the rate, by more than one."""
    clock = Clock()
    pacer = Pacer(RATE, clock.seconds)
    end = 0.0  # when the octets so far have been sent
    for octets, pause in calls:
        clock.advance(pause)
        start = clock.seconds() + pacer.reserve(octets)[0]
        assert start >= end - 1e-6
        assert start == pytest.approx(max(clock.seconds(), end))
        end = start + octets / RATE


@pytest.mark.parametrize("which", [0, 1], ids=["each transfer", "all together"])
def test_read_waits_for_its_place(which: int) -> None:
    """The first read is made at once, and the next one when the first could have been sent."""
    clock = Clock()
    backend = paced(clock, MemoryBackend({"f": b"abcdef" * 500}), **both_limits(clock)[which])
    reader = backend.open_reader("f", read_context("f"))
    assert reader.size == 3000
    assert bytes(reader.read(0, 2000)) == (b"abcdef" * 500)[:2000]
    later = reader.read(2000, 1000)
    assert isinstance(later, Deferred)
    got: list[bytes] = []
    later.addCallback(lambda octets: got.append(bytes(octets)))
    clock.advance(1.99)
    assert not got
    clock.advance(0.02)
    assert got == [(b"abcdef" * 500)[2000:]]


def test_transfers_that_share_a_limit_are_served_in_turn() -> None:
    """Two readers of one limit get one place each, then the next ones."""
    clock = Clock()
    backend = paced(clock, MemoryBackend({"f": bytes(9000)}), shared=Pacer(RATE, clock.seconds))
    first, second = (backend.open_reader("f", read_context("f")) for _ in range(2))
    order: list[str] = []
    first.read(0, 1000)
    for name, reader, offset in (("b", second, 0), ("a", first, 1000), ("b", second, 1000)):
        reader.read(offset, 1000).addCallback(lambda _, name=name: order.append(name))
    for seconds in (1, 2, 3):
        clock.advance(1)
        assert len(order) == seconds
    assert order == ["b", "a", "b"]


def test_transfers_have_limits_of_their_own() -> None:
    """`max_rate` holds for each transfer, not for all together."""
    clock = Clock()
    backend = paced(clock, MemoryBackend({"f": bytes(9000)}), max_rate=RATE)
    for _ in range(3):
        reader = backend.open_reader("f", read_context("f"))
        assert not isinstance(reader.read(0, 1000), Deferred)


def test_close_ends_the_delay() -> None:
    """A reader that is closed while it waits reads nothing, and leaves no timer."""
    clock = Clock()
    backend = paced(clock, MemoryBackend({"f": bytes(9000)}), max_rate=RATE)
    reader = backend.open_reader("f", read_context("f"))
    reader.read(0, 1000)
    called: list[Any] = []
    reader.read(1000, 1000).addBoth(called.append)
    reader.close()
    assert not clock.getDelayedCalls()
    clock.advance(10)
    assert not called


def test_write_lets_the_client_wait() -> None:
    """Octets are written at once; the client may send more when the rate allows them."""
    clock = Clock()
    memory = MemoryBackend({}, "create")
    writer = paced(clock, memory, max_rate=RATE).open_writer("f", write_context("f"))
    assert writer.write(bytes(500)) is None
    done: list[Any] = []
    writer.write(bytes(500)).addCallback(done.append)
    clock.advance(0.4)
    assert not done
    clock.advance(0.2)
    assert done == [None]
    writer.write(bytes(10))
    writer.abort()
    assert not clock.getDelayedCalls()
    assert not memory.files


def test_blocks_are_sent_at_the_rate() -> None:
    """If the server knows the rate, each window waits for its own octets."""
    clock = Clock()
    backend = paced(clock, MemoryBackend({"f": bytes(1 << 20)}), max_rate=2048)
    net = MemoryNetwork(backend)
    net.clock = clock
    net.server = TFTPServer(
        backend,
        observer=net.recorder,
        max_rate=2048,
        reactor=clock,
        clock=clock.seconds,
        shared=SharedParts.for_policy(Policy(), clock, clock.seconds, opener=net),
    )
    link = net.request(wire.Opcode.RRQ, "f", {"blksize": "1024", "windowsize": "64"})
    assert b"windowsize\x001\0" in link.take()[0]
    link.deliver(wire.ack(0))
    blocks = 0
    for step in range(1000):
        for datagram in link.take():
            blocks += 1
            link.deliver(b"\0\4" + datagram[2:4])
        assert blocks * 1024 <= 1024 + 2048 * 0.01 * step + 1
        clock.advance(0.01)
    assert blocks >= 19
    link.deliver(b"\0\5\0\0end\0")
    assert retransmissions(net.recorder) == [0]


@pytest.mark.parametrize("limits", [{"max_rate": 2048}, {"shared_rate": 2048}])
def test_file_takes_its_time_without_retransmissions(limits: dict[str, Any]) -> None:
    """The server waits without sending again, although blocks take longer than its timeout."""
    net = network({"f": bytes(8 * 65536)}, **limits)
    start = net.clock.seconds()
    link = net.request(wire.Opcode.RRQ, "f", {"blksize": "8192", "windowsize": "1"})
    assert link.take()[0][:2] == b"\0\6"
    blocks = 0
    link.deliver(b"\0\4\0\0")
    while blocks < 10:
        sent = link.take()
        for datagram in sent:
            blocks += 1
            assert datagram[2:4] == blocks.to_bytes(2, "big")
            link.deliver(b"\0\4" + datagram[2:4])
        # Up to 64 KiB are read at a time; all that were read may be sent.
        assert blocks * 8192 <= 65536 + 2048 * (net.clock.seconds() - start)
        net.clock.advance(0.01)
    assert not net.recorder.outcomes
    link.deliver(b"\0\5\0\0end\0")
    assert retransmissions(net.recorder) == [0]


def test_upload_takes_its_time() -> None:
    """The ACK of a block comes when the next block may come."""
    net = network({}, max_rate=512)
    start = net.clock.seconds()
    net.store("f", bytes(4 * 512))
    assert net.clock.seconds() - start >= 3
    assert retransmissions(net.recorder) == [0]


def test_errors_of_the_backend_are_passed_on() -> None:
    """A file that is missing is missing at once."""
    net = network({}, max_rate=1)
    with pytest.raises(FileNotFound):
        net.fetch("missing")


class OfUnknownSize:
    """A backend whose readers return 10 octets, and do not say how many there are."""

    def open_reader(self, path: str, context: Any) -> Any:
        """Open a reader."""
        reader = MemoryBackend({"f": bytes(10)}).open_reader("f", context)
        reader.size = None  # type: ignore[assignment]
        return reader


def test_octets_that_were_not_read_do_not_use_up_the_line() -> None:
    """A large read of a small file lets the others wait for the octets of the file only."""
    clock = Clock()
    backend = paced(clock, OfUnknownSize(), shared=Pacer(RATE, clock.seconds))
    first, second, third = (backend.open_reader("f", read_context()) for _ in range(3))
    assert len(first.read(0, 4_000_000)) == 10
    waiting = second.read(0, 4_000_000)
    clock.advance(0.011)
    assert len(waiting.result) == 10
    waiting = third.read(0, 4_000_000)
    clock.advance(0.011)
    assert len(waiting.result) == 10


def test_readers_that_are_closed_while_they_wait_do_not_use_up_the_line() -> None:
    """A client that ends all its transfers keeps nobody waiting."""
    clock = Clock()
    files = MemoryBackend({"f": bytes(4000)})
    backend = paced(clock, files, shared=Pacer(RATE, clock.seconds))
    readers = [backend.open_reader("f", read_context()) for _ in range(100)]
    reads = [reader.read(0, 4000) for reader in readers]
    assert len(reads[0]) == 4000
    for reader in readers:
        reader.close()
        reader.close()
    other = backend.open_reader("f", read_context()).read(0, 4000)
    clock.advance(4)
    assert len(other.result) == 4000


def test_time_that_has_passed_is_not_given_back() -> None:
    """A short read that ends late leaves the others waiting for their slots."""
    clock = Clock()
    pacer = Pacer(RATE, clock.seconds)
    _, end = pacer.reserve(4000)
    clock.advance(5)
    assert pacer.reserve(4000) == (0.0, 9.0)
    pacer.give_back(3000, end)
    assert pacer.reserve(4000) == (4.0, 13.0)
