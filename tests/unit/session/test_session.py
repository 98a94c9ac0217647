"""One transfer, its timer and its end, in virtual time and over links in memory."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from twisted_tftp.backends.memory import MemoryBackend, MemoryReader, MemoryWriter
from twisted_tftp.context import Outcome, TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull
from twisted_tftp.policy import Policy, Retransmit, Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.testing import MemoryLink, MemoryNetwork

FILE = bytes(range(256)) * 8


def network(backend: Any = None, **policy: Any) -> MemoryNetwork:
    return MemoryNetwork(
        backend or MemoryBackend({"f": FILE, "empty": b""}, "overwrite"), Policy(**policy)
    )


@pytest.fixture
def no_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each window be read by itself."""
    monkeypatch.setattr("twisted_tftp.server.protocol.MAX_READ_AHEAD", 0)


def error_of(link: MemoryLink) -> tuple[int, str]:
    """Return code and message of the one ERROR sent."""
    (datagram,) = link.take()
    assert wire.opcode_of(datagram) == Opcode.ERROR
    return wire.parse_error(datagram)


def assert_nothing_is_left(net: MemoryNetwork) -> None:
    """No session, timer or open link remains."""
    assert len(net.server.transfers) == 0
    assert net.server.transfers.running == 0
    assert net.clock.getDelayedCalls() == []
    assert all(link.closed for link in net.links)


class Slow:
    """A backend whose every answer waits in `pending` until the test gives it."""

    def __init__(self, file: Any = None) -> None:
        self.file = file
        self.pending: list[Deferred[Any]] = []
        self.closed = self.aborted = self.committed = 0
        self.cancelled = 0
        self.size = None if file is None else len(file)
        self.data = b""

    def _later(self) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(self._cancel)
        self.pending.append(deferred)
        return deferred

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    def open_reader(self, path: str, context: TransferContext) -> Any:
        return self._later()

    open_writer = open_reader

    def read(self, offset: int, length: int) -> Any:
        deferred = self._later()
        return deferred.addCallback(lambda _: self.file[offset : offset + length])

    def write(self, data: bytes) -> Any:
        self.data += data
        return self._later()

    def commit(self) -> Any:
        self.committed += 1
        return self._later()

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1

    def go(self, result: Any = None) -> None:
        """Give the oldest answer."""
        self.pending.pop(0).callback(result)

    def fail(self, error: Exception) -> None:
        """Let the oldest answer be a failure."""
        self.pending.pop(0).errback(error)


def test_a_file_is_read_in_lock_step() -> None:
    """A request without options brings 512-octet blocks, and nothing is left afterwards."""
    net = network()
    assert net.fetch("f") == FILE
    assert net.fetch("empty") == b""
    assert net.recorder.outcomes == [Outcome.COMPLETED] * 2
    assert net.recorder.events[1][1].octets == len(FILE)
    assert_nothing_is_left(net)


def test_a_file_is_written_in_lock_step() -> None:
    """The file is visible when the last block is acknowledged; the session then dallies."""
    backend = MemoryBackend(write="create")
    net = network(backend)
    net.store("new", FILE)
    assert backend.files == {"new": FILE}
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert net.server.transfers.running == 0
    net.clock.advance(20)
    assert_nothing_is_left(net)


def test_netascii_is_translated_both_ways() -> None:
    """On the wire lines end with CR LF, in the store with LF."""
    backend = MemoryBackend({"t": b"a\nb\r\n" * 300}, "create")
    net = network(backend)
    on_the_wire = b"a\r\nb\r\x00\r\n" * 300
    assert net.fetch("t", mode=wire.NETASCII) == on_the_wire
    net.store("u", on_the_wire, mode=wire.NETASCII)
    assert backend.files["u"] == backend.files["t"]


def test_options_are_granted_byte_for_byte() -> None:
    """The OACK is exactly what was granted, in the order asked; ACK 0 starts the window."""
    net = network()
    link = net.request(
        Opcode.RRQ, "f", {"tsize": "0", "BLKSIZE": "01024", "windowsize": "4", "x": "y"}
    )
    assert link.take() == [b"\x00\x06tsize\x002048\x00blksize\x001024\x00windowsize\x004\x00"]
    link.deliver(wire.ack(0))
    assert [len(datagram) for datagram in link.take()] == [1028, 1028, 4]


@pytest.mark.parametrize(
    ("filename", "mode", "options"),
    [
        ("empty", "octet", {"tsize": "0"}),
        ("f", "netascii", {"tsize": "0"}),
        ("f", "octet", {"blksize": "7"}),
        ("f", "octet", {"blksize": "abc", "unknown": "1"}),
    ],
)
def test_where_nothing_is_granted_there_is_no_oack(
    filename: str, mode: str, options: dict[str, str]
) -> None:
    """An empty OACK is never sent: the first block is."""
    net = network()
    link = net.request(Opcode.RRQ, filename, options, mode=mode)
    assert link.take()[0][:4] == wire.DATA_HEADERS[1]


def test_tsize_of_a_write_is_echoed() -> None:
    """The announced size comes back as it was, also where it is 0."""
    net = network()
    assert net.request(Opcode.WRQ, "n", {"tsize": "77"}).take() == [b"\x00\x06tsize\x0077\x00"]
    assert net.request(Opcode.WRQ, "n", {"tsize": "0"}).take() == [b"\x00\x06tsize\x000\x00"]


def test_an_upload_that_can_not_fit_is_refused_at_once() -> None:
    """An announced size above --max-upload or the room in the store gets ERROR 3."""
    net = network(max_upload=100)
    assert error_of(net.request(Opcode.WRQ, "n", {"tsize": "101"}))[0] == 3
    net = network(MemoryBackend(write="create", capacity=50))
    assert error_of(net.request(Opcode.WRQ, "n", {"tsize": "51"}))[0] == 3
    assert net.recorder.outcomes == [Outcome.REFUSED]
    assert_nothing_is_left(net)


def test_an_upload_that_grows_too_large_is_ended() -> None:
    """Without a tsize the octets are counted as they come."""
    backend = MemoryBackend(write="create")
    net = network(backend, max_upload=600)
    with pytest.raises(DiskFull):
        net.store("n", bytes(2000))
    assert backend.files == {}
    assert net.recorder.outcomes == [Outcome.FAILED]
    assert_nothing_is_left(net)


def test_a_full_store_ends_the_upload_with_error_3() -> None:
    """A disk that is full is told to the client, and nothing is left of the file."""
    backend = MemoryBackend(write="create", capacity=600)
    net = network(backend)
    with pytest.raises(DiskFull):
        net.store("n", bytes(2000))
    assert backend.files == {}


def test_a_lost_block_is_sent_again_in_good_time() -> None:
    """After a measured round trip of 10 ms a loss costs tens of milliseconds."""
    net = network()
    link = net.request(Opcode.RRQ, "f")
    (first,) = link.take()
    net.clock.advance(0.01)
    link.deliver(wire.ack(1))
    (second,) = link.take()
    assert second != first
    net.clock.advance(0.05)
    assert link.take() == [second]


def test_the_timer_is_not_touched_by_packets() -> None:
    """However many packets come, there is one timer, and it is not rescheduled for each."""
    net = network(MemoryBackend({"f": bytes(512 * 200)}))
    link = net.request(Opcode.RRQ, "f")
    net.clock.advance(0.0001)
    link.deliver(wire.ack(1))
    (timer,) = net.clock.getDelayedCalls()
    for number in range(2, 150):
        net.clock.advance(0.0001)
        link.deliver(wire.ack(number))
    assert net.clock.getDelayedCalls() == [timer]


def test_late_loop_reads_what_waits_before_it_acts_on_a_timeout() -> None:
    """When the loop stalls, the ACK in the socket counts, and no retry is burnt."""
    net = network()
    link = net.request(Opcode.RRQ, "f")
    link.take()
    link.waiting.append(wire.ack(1))
    net.clock.advance(30)
    assert [datagram[:4] for datagram in link.take()] == [wire.DATA_HEADERS[2]]
    assert net.recorder.events[0][1].retransmissions == 0


def test_late_loop_can_end_the_transfer_by_what_it_reads() -> None:
    """The last ACK may be what waits."""
    net = network()
    link = net.request(Opcode.RRQ, "empty")
    link.waiting.append(wire.ack(1))
    net.clock.advance(30)
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert_nothing_is_left(net)


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
@pytest.mark.parametrize("options", [{}, {"blksize": "1024"}])
def test_a_peer_that_never_answers_gets_four_datagrams(
    opcode: Opcode, options: dict[str, str]
) -> None:
    """Four in all, no ERROR after them, and nothing is left."""
    net = network()
    link = net.request(opcode, "f", options)
    net.clock.pump([0.1] * 200)
    assert len(link.sent) == 4
    assert len(set(link.sent)) == 1
    assert net.recorder.outcomes == [Outcome.TIMED_OUT]
    assert_nothing_is_left(net)


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_a_peer_that_falls_silent_is_told_and_given_up(opcode: Opcode) -> None:
    """After ten negotiated timeouts of silence it ends, with an ERROR."""
    net = network()
    link = net.request(opcode, "f", {"timeout": "2"})
    if opcode is Opcode.RRQ:
        link.deliver(wire.ack(0))
    else:
        link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    net.clock.pump([0.1] * 195)
    assert net.recorder.outcomes == []
    net.clock.pump([0.1] * 10)
    assert net.recorder.outcomes == [Outcome.TIMED_OUT]
    assert wire.parse_error(link.sent[-1]) == (0, "the transfer timed out")
    assert_nothing_is_left(net)


def test_fixed_retransmission_keeps_to_the_letter() -> None:
    """`--retransmit fixed` waits the negotiated time, each time."""
    net = network(retransmit=Retransmit.FIXED)
    link = net.request(Opcode.RRQ, "f", {"timeout": "3"})
    net.clock.advance(2.9)
    assert len(link.sent) == 1
    net.clock.advance(0.2)
    assert len(link.sent) == 2


def test_size_probe_is_no_failure() -> None:
    """UEFI asks for the size and answers the OACK with ERROR 8."""
    net = network()
    link = net.request(Opcode.RRQ, "f", {"tsize": "0"})
    link.deliver(b"\x00\x05\x00\x08User aborted\x00")
    assert net.recorder.outcomes == [Outcome.SIZE_PROBE]
    assert len(link.take()) == 1
    assert_nothing_is_left(net)


def test_error_of_the_client_ends_it_quietly() -> None:
    """An ERROR in mid-transfer aborts: nothing is answered, nothing stored."""
    backend = MemoryBackend(write="create")
    net = network(backend)
    link = net.request(Opcode.WRQ, "f")
    link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    link.take()
    link.deliver(b"\x00\x05\x00\x03out of\x1b[31m space\x00")
    assert net.recorder.outcomes == [Outcome.ABORTED]
    assert link.take() == []
    assert backend.files == {}
    assert_nothing_is_left(net)


def test_block_larger_than_agreed_gets_error_4() -> None:
    """A peer that breaks the protocol is told so."""
    net = network()
    link = net.request(Opcode.WRQ, "n")
    link.take()
    link.deliver(wire.DATA_HEADERS[1] + bytes(513))
    assert error_of(link)[0] == 4
    assert_nothing_is_left(net)


def test_repeated_last_block_is_answered_while_dallying() -> None:
    """The final ACK was lost: the client asks again and is told again."""
    net = network()
    link = net.request(Opcode.WRQ, "n")
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    assert link.take() == [wire.ack(0), wire.ack(1)]
    net.clock.advance(5)
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    assert link.take() == [wire.ack(1)]


def test_error_while_dallying_closes_the_link() -> None:
    """What comes after the end changes nothing but the end of the dallying."""
    net = network()
    link = net.request(Opcode.WRQ, "n")
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    link.deliver(b"\x00\x05\x00\x00\x00")
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert_nothing_is_left(net)


@pytest.mark.usefixtures("no_read_ahead")
def test_slow_open_and_slow_reads_delay_nothing_else() -> None:
    """A transfer whose backend is slow waits; others go on, and nothing is sent in between."""
    slow = Slow(FILE)
    net = network(slow)
    link = net.request(Opcode.RRQ, "f", {"blksize": "1024"})
    net.clock.advance(3)
    assert link.take() == []
    slow.go(slow)
    assert wire.opcode_of(link.take()[0]) == Opcode.OACK
    link.deliver(wire.ack(0))
    net.clock.advance(3)
    link.deliver(wire.ack(0))
    net.clock.advance(3)
    assert link.take() == []
    slow.go()
    assert link.take() == [wire.DATA_HEADERS[1] + FILE[:1024]]
    link.deliver(wire.ack(1))
    slow.go()
    link.deliver(wire.ack(2))
    assert slow.pending == []
    link.deliver(wire.ack(3))
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert slow.closed == 1
    assert_nothing_is_left(net)


@pytest.mark.usefixtures("no_read_ahead")
def test_ack_that_comes_during_a_slow_read_changes_what_is_read() -> None:
    """The window after the newest ACK is sent, and not the one that was being read."""
    slow = Slow(FILE * 4)
    net = network(slow)
    link = net.request(Opcode.RRQ, "f", {"windowsize": "4"})
    slow.go(slow)
    link.take()
    link.deliver(wire.ack(0))
    slow.go()
    assert len(link.take()) == 4
    net.clock.advance(0.1)
    link.deliver(wire.ack(2))
    link.deliver(wire.ack(4))
    slow.go()
    assert link.take() == []
    slow.go()
    assert [datagram[3] for datagram in link.take()] == [5, 6, 7, 8]


def test_slow_writes_hold_the_ack_back() -> None:
    """Each ACK waits for the store, the last one for the commit."""
    slow = Slow()
    net = network(slow)
    link = net.request(Opcode.WRQ, "f")
    slow.go(slow)
    assert link.take() == [wire.ack(0)]
    link.deliver(wire.DATA_HEADERS[1] + FILE[:512])
    net.clock.advance(2)
    assert link.take() == []
    slow.go()
    assert link.take() == [wire.ack(1)]
    link.deliver(wire.DATA_HEADERS[2] + b"end")
    slow.go()
    assert slow.committed == 1
    net.clock.advance(60)
    link.deliver(wire.DATA_HEADERS[2] + b"end")
    assert link.take() == []
    assert net.recorder.outcomes == []
    slow.go()
    assert link.take() == [wire.ack(2)]
    assert slow.data == FILE[:512] + b"end"
    assert net.recorder.outcomes == [Outcome.COMPLETED]


def test_client_that_gives_up_during_a_slow_open_cancels_it() -> None:
    """When nobody asks any more the backend is told, and nothing is left."""
    slow = Slow(FILE)
    net = network(slow)
    net.request(Opcode.RRQ, "f", port=4000)
    net.clock.advance(8)
    net.request(Opcode.RRQ, "f", port=4000)
    net.clock.advance(8)
    assert slow.cancelled == 0
    net.clock.advance(3)
    assert slow.cancelled == 1
    assert net.recorder.outcomes == [Outcome.TIMED_OUT]
    assert_nothing_is_left(net)


def test_file_of_a_backend_that_can_not_cancel_is_closed_when_it_comes() -> None:
    """A Deferred that fires in answer to its cancellation leaks nothing."""
    for opcode in (Opcode.RRQ, Opcode.WRQ):
        slow = Slow(FILE)
        slow._cancel = lambda deferred, slow=slow: deferred.callback(slow)  # type: ignore[method-assign, misc]
        net = network(slow)
        net.request(opcode, "f")
        net.clock.advance(11)
        assert slow.closed + slow.aborted == 1
        assert_nothing_is_left(net)


def test_client_gone_during_a_slow_read_or_write_ends_it() -> None:
    """The file is released at once; what the backend says afterwards changes nothing."""
    slow = Slow(FILE)
    net = network(slow)
    link = net.request(Opcode.RRQ, "f")
    slow.go(slow)
    link.deliver(b"\x00\x05\x00\x00bye\x00")
    assert slow.closed == 1
    slow.go()
    slow = Slow()
    net = network(slow)
    link = net.request(Opcode.WRQ, "f")
    slow.go(slow)
    link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    link.deliver(b"\x00\x05\x00\x00bye\x00")
    assert slow.aborted == 1
    slow.go()
    assert link.take() == [wire.ack(0)]
    assert_nothing_is_left(net)


def test_backend_failures_are_told_by_their_code() -> None:
    """What a backend raises, now or later, reaches the client with its code and no path."""
    for error, expected in (
        (AccessViolation("keep out"), (2, "keep out")),
        (FileNotFoundError(2, "x", "/srv/secret"), (1, "no such file")),
        (OSError(5, "x", "/srv/secret"), (0, "input/output error")),
    ):
        slow = Slow(FILE)
        net = network(slow)
        link = net.request(Opcode.RRQ, "f")
        slow.fail(error)
        assert error_of(link) == expected
        link = net.request(Opcode.RRQ, "f")
        slow.go(slow)
        slow.fail(error)
        assert error_of(link) == expected
        assert slow.closed == 1
        link = net.request(Opcode.WRQ, "f")
        slow.go(slow)
        link.take()
        link.deliver(wire.DATA_HEADERS[1] + b"x")
        slow.go()
        slow.fail(error)
        assert error_of(link) == expected
        assert slow.aborted == 1
        assert_nothing_is_left(net)


class Broken:
    """A backend whose methods raise what no backend should."""

    size = 1000

    def open_reader(self, path: str, context: TransferContext) -> Any:
        if path == "open":
            raise ZeroDivisionError
        return self

    open_writer = open_reader

    def read(self, offset: int, length: int) -> bytes:
        raise ZeroDivisionError

    def write(self, data: bytes) -> None:
        raise ZeroDivisionError

    def close(self) -> None:
        raise ZeroDivisionError

    abort = close


@pytest.mark.parametrize("filename", ["open", "other"])
@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_bug_in_a_backend_ends_its_transfer_only(filename: str, opcode: Opcode) -> None:
    """Any exception is logged, told as ERROR 0 without its text, and nothing is left."""
    failures: list[Any] = []

    def observe(event: Any) -> None:
        if "log_failure" in event:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        net = network(Broken())
        link = net.request(opcode, filename)
        if opcode is Opcode.WRQ and filename == "other":
            assert link.take() == [wire.ack(0)]
            link.deliver(wire.DATA_HEADERS[1] + b"x")
        assert error_of(link) == (0, "internal error")
    finally:
        globalLogPublisher.removeObserver(observe)
    assert failures
    assert_nothing_is_left(net)


@pytest.mark.usefixtures("no_read_ahead")
def test_file_that_shrinks_fails_and_is_not_cut_short() -> None:
    """A short read before the announced size is a failure, not an end."""

    class Shrinking(MemoryBackend):
        def open_reader(self, path: str, context: TransferContext) -> MemoryReader:
            reader = super().open_reader(path, context)
            reader.size += 1000
            return reader

    net = network(Shrinking({"f": bytes(600)}))
    link = net.request(Opcode.RRQ, "f")
    link.take()
    link.deliver(wire.ack(1))
    assert error_of(link) == (0, "the file changed while it was read")
    assert net.recorder.outcomes == [Outcome.FAILED]


def test_reader_of_unknown_size_ends_where_it_ends() -> None:
    """Without a size a short read is the end, and tsize is left out."""

    class Unsized(MemoryBackend):
        def open_reader(self, path: str, context: TransferContext) -> Any:
            reader = super().open_reader(path, context)
            reader.size = None  # type: ignore[assignment]
            return reader

    net = network(Unsized({"f": FILE}))
    assert net.fetch("f") == FILE
    assert net.recorder.events[1][1].octets == len(FILE)


def test_file_too_long_without_rollover_is_refused() -> None:
    """`--rollover none` fails a transfer of more than 65,535 blocks, clearly."""
    net = network(MemoryBackend({"f": bytes(8 * 65_535)}), rollover=Rollover.NONE)
    link = net.request(Opcode.RRQ, "f", {"blksize": "8"})
    assert error_of(link)[0] == 0
    link = net.request(Opcode.RRQ, "f", {"blksize": "16", "rollover": "1"})
    assert link.take() == [b"\x00\x06blksize\x0016\x00rollover\x001\x00"]


def test_unknown_length_without_rollover_fails_at_its_block_65536() -> None:
    """A netascii read has no size beforehand, so it fails when the numbers run out."""
    net = network(MemoryBackend({"f": b"\n" * (4 * 65_536)}), rollover=Rollover.NONE)
    link = net.request(Opcode.RRQ, "f", {"blksize": "8", "windowsize": "64"}, mode="netascii")
    link.take()
    number = 0
    while not link.closed:
        link.deliver(wire.ack(number))
        number += sum(1 for datagram in link.take() if wire.opcode_of(datagram) == Opcode.DATA)
        net.clock.advance(0.001)
    assert number == 65_535
    assert net.recorder.outcomes == [Outcome.FAILED]


class Pattern:
    """Octets of any amount, made where they are read."""

    period = bytes(range(251)) * (64 * 65464 // 251 + 2)

    def __init__(self, size: int) -> None:
        self.size = size

    def open_reader(self, path: str, context: TransferContext) -> Pattern:
        return self

    def read(self, offset: int, length: int) -> memoryview:
        start = offset % 251
        return memoryview(self.period)[start : start + length]

    def close(self) -> None:
        pass


def test_more_than_four_gibibytes_are_read() -> None:
    """A transfer past 2**32 octets and past 65,535 blocks has each octet in its place."""
    size = 2**32 + 12_345_678
    net = network(Pattern(size))
    link = net.request(Opcode.RRQ, "f", {"blksize": "65464", "windowsize": "64", "tsize": "0"})
    assert b"tsize\x00%d\x00" % size in link.take()[0]
    number = total = 0
    link.deliver(wire.ack(0))
    while not link.closed:
        burst = link.take()
        for datagram in burst:
            number += 1
            assert datagram[:4] == wire.DATA_HEADERS[number % 65536]
            assert datagram[4] == total % 251
            total += len(datagram) - 4
            assert datagram[-1] == (total - 1) % 251
        link.deliver(wire.ack(number % 65536))
    assert total == size
    assert net.recorder.outcomes == [Outcome.COMPLETED]


def test_more_than_65535_blocks_are_written() -> None:
    """A write rolls over too and arrives whole."""
    backend = MemoryBackend(write="create")
    net = network(backend)
    link = net.request(Opcode.WRQ, "f", {"blksize": "8", "windowsize": "64"})
    data = b"".join(number.to_bytes(8, "big") for number in range(70_000))
    for number in range(1, 70_001):
        block = data[8 * number - 8 : 8 * number]
        link.deliver(wire.DATA_HEADERS[number % 65536] + block)
    link.deliver(wire.DATA_HEADERS[70_001 % 65536])
    assert link.take()[-1] == wire.ack(70_001 % 65536)
    assert backend.files["f"] == data


def test_progress_is_told_every_32_mebibytes() -> None:
    """An observer hears of a large transfer while it runs."""
    net = network(Pattern(2**30))
    link = net.request(Opcode.RRQ, "f", {"blksize": "65464", "windowsize": "64"})
    for number in range(0, 64 * 40, 64):
        link.deliver(wire.ack(number))
        net.clock.advance(0.1)
    told = [stats for event, stats in net.recorder.events if event == "progressed"]
    assert len(told) == 4
    assert told[0].octets >= 4 * 2**25


def test_observer_that_fails_changes_nothing() -> None:
    """An exception in an observer is logged; the transfer goes on."""
    net = network()
    net.server.observer = object()
    assert net.fetch("f") == FILE


def test_cancelled_session_tells_its_peer_once() -> None:
    """A stop in mid-transfer sends one ERROR and drops the unfinished file."""
    slow = Slow()
    net = network(slow)
    link = net.request(Opcode.WRQ, "f")
    slow.go(slow)
    link.take()
    done = net.server.transfers.cancel_all("stopping")
    assert done.called
    assert error_of(link) == (0, "stopping")
    assert slow.aborted == 1
    assert net.recorder.outcomes == [Outcome.CANCELLED]
    assert_nothing_is_left(net)


@pytest.mark.parametrize("fails", [True, False])
def test_commit_under_way_is_not_undone_by_a_stop(fails: bool) -> None:
    """A whole file goes to its place, or is dropped when that fails; the stop waits for it."""
    slow = Slow()
    net = network(slow)
    link = net.request(Opcode.WRQ, "f")
    slow.go(slow)
    link.deliver(wire.DATA_HEADERS[1] + b"x")
    slow.go()
    done = net.server.transfers.cancel_all("stopping")
    assert not done.called
    assert slow.aborted == 0
    if fails:
        slow.fail(OSError(28, "full"))
    else:
        slow.go()
    assert done.called
    assert slow.aborted == fails
    assert_nothing_is_left(net)


def test_link_makes_room_for_the_windows_of_a_write() -> None:
    """The socket's buffer is asked to hold a window."""
    net = network()
    link = net.request(Opcode.WRQ, "f", {"blksize": "1000", "windowsize": "8"})
    assert link.room == 8 * 1004


def test_write_ends_with_the_writer_it_was_given() -> None:
    """A writer is committed or aborted, never both."""
    calls: list[str] = []

    class Counting(MemoryWriter):
        def commit(self) -> None:
            calls.append("commit")
            super().commit()

        def abort(self) -> None:
            calls.append("abort")

    class Backend(MemoryBackend):
        def open_writer(self, path: str, context: TransferContext) -> MemoryWriter:
            return Counting(self, path)

    net = network(Backend(write="create"))
    net.store("f", b"x")
    net.clock.advance(30)
    assert calls == ["commit"]


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_without_descriptors_a_request_gets_silence(opcode: Opcode) -> None:
    """The client asks again, and is served when there are some; an ERROR would end its boot."""
    slow = Slow(FILE)
    net = network(slow)
    link = net.request(opcode, "f")
    slow.fail(OSError(errno.EMFILE, "Too many open files"))
    assert link.take() == []
    assert net.recorder.outcomes == [Outcome.REFUSED]
    assert_nothing_is_left(net)


def test_last_ack_of_an_upload_is_sent_when_a_stop_waits_for_it() -> None:
    """The end of the last transfer ends all sessions; its client must hear of its file first."""
    slow = Slow()
    net = network(slow)
    transfers = net.server.transfers
    link = net.request(Opcode.WRQ, "f")
    slow.go(slow)
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    slow.go()
    transfers.when_none_runs().addCallback(lambda _: transfers.cancel_all("stopping"))
    assert link.take() == [wire.ack(0)]
    slow.go()
    assert link.take() == [wire.ack(1)]
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert_nothing_is_left(net)


@st.composite
def trains(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, list[int]]]]:
    """Return the blocks of a file, a window, and trains of blocks as a bad network has them."""
    blocks = draw(st.integers(1, 70))
    windowsize = draw(st.sampled_from([2, 5, 16, 64]))
    runs: list[tuple[int, list[int]]] = []
    at = 1
    for _ in range(draw(st.integers(1, 30))):
        length = draw(st.integers(1, 20))
        run = list(range(at, min(at + length, blocks + 1)))
        if draw(st.booleans()) and run:
            run[draw(st.integers(0, len(run) - 1))] = draw(st.integers(0, blocks))
        if run:
            runs.append((draw(st.sampled_from([0, 0, 0, 1])), run))
        at = draw(st.sampled_from([at + length, at + length, at, max(1, at - 3)]))
    return blocks, windowsize, runs


@given(trains())
@hypothesis_settings(max_examples=300, deadline=None)
def test_datagrams_in_one_piece_are_taken_as_one_by_one(
    drawn: tuple[int, int, list[tuple[int, list[int]]]],
) -> None:
    """Whatever is in a train, the answers and the file are those of its datagrams."""
    blocks, windowsize, runs = drawn
    size = 32

    def block(number: int, longer: int = 0) -> bytes:
        octets = bytes([number]) * (size if number < blocks else 7)
        return wire.DATA_HEADERS[number] + octets + bytes(longer)

    seen = []
    for in_one_piece in (True, False):
        net = network(MemoryBackend(write="create"))
        options = {"blksize": str(size), "windowsize": str(windowsize)}
        link = net.request(Opcode.WRQ, "new", options)
        answers = [link.take()]
        for longer, run in [*runs, (0, list(range(1, blocks + 1)))]:
            datagrams = [block(number, longer) for number in run]
            # A piece has datagrams of one size but for the last, which may be shorter.
            sizes = [len(each) for each in datagrams]
            if in_one_piece and len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]:
                link.deliver_train(b"".join(datagrams), len(datagrams[0]))
            else:
                for datagram in datagrams:
                    link.deliver(datagram)
            answers.append(link.take())
            net.clock.advance(0.001)
        seen.append((answers, net.server.backend.files, net.recorder.outcomes))
    assert seen[0] == seen[1]


def test_windows_in_one_piece_make_a_file() -> None:
    """The octets are copied before the buffer is used again, over a rollover too."""
    net = network(MemoryBackend(write="create"))
    link = net.request(Opcode.WRQ, "new", {"blksize": "8", "windowsize": "64"})
    data = bytes(number % 251 for number in range(8 * 65_600 + 3))
    number = 0
    for start in range(0, len(data), 8 * 64):
        window = b""
        for at in range(start, min(start + 8 * 64, len(data)), 8):
            number += 1
            window += wire.DATA_HEADERS[number % 65536] + data[at : at + 8]
        link.deliver_train(window, 12)
    assert net.server.backend.files["new"] == data
    assert link.take()[-1] == wire.ack(number % 65536)


def test_alarm_that_breaks_ends_its_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its alarm nothing would ever end it."""
    net = network()
    link = net.request(Opcode.RRQ, "f")
    link.take()

    def broken(datagrams: Any) -> None:
        raise RuntimeError("a link of somebody else's")

    monkeypatch.setattr(link, "send", broken)
    net.clock.advance(5)
    assert net.recorder.outcomes == [Outcome.FAILED]
    assert_nothing_is_left(net)
