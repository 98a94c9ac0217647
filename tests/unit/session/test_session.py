"""Tests of whole transfers of the server, over links in memory and in virtual time."""

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
from twisted_tftp.context import Outcome, StoredFile, TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull
from twisted_tftp.policy import Policy, Retransmit, Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.wire import Opcode
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.session import ServerSession
from twisted_tftp.testing import MemoryLink, MemoryNetwork

#: The content of the file "f": four blocks of 512 octets.
FILE = bytes(range(256)) * 8


class ServerWithoutReadAhead(TFTPServer):
    """A server whose sessions read each window from the file only when they send it."""

    def build_session(self, context: TransferContext, **parts: Any) -> ServerSession:
        return super().build_session(context, **{**parts, "read_ahead": 0})


def network(
    backend: Any = None, server: type[TFTPServer] = TFTPServer, **policy: Any
) -> MemoryNetwork:
    backend = backend or MemoryBackend({"f": FILE, "empty": b""}, "overwrite")
    return MemoryNetwork(backend, Policy(**policy), server)


def error_of(link: MemoryLink) -> tuple[int, str]:
    """Return the code and the message of the only datagram that was sent, an ERROR."""
    (datagram,) = link.take()
    assert wire.opcode_of(datagram) == Opcode.ERROR
    return wire.parse_error(datagram)


def assert_nothing_is_left(net: MemoryNetwork) -> None:
    """Check that no session, no delayed call and no open link is left."""
    assert len(net.server.transfers) == 0
    assert net.server.transfers.running == 0
    assert net.clock.getDelayedCalls() == []
    assert all(link.closed for link in net.links)


class Slow:
    """A backend, reader and writer: each call returns a Deferred, which is added to `pending`."""

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
        """Fire the oldest Deferred with `result`."""
        self.pending.pop(0).callback(result)

    def fail(self, error: Exception) -> None:
        """Fire the oldest Deferred with `error`."""
        self.pending.pop(0).errback(error)


def test_a_file_is_read_in_lock_step() -> None:
    """A client without options gets blocks of 512 octets, and nothing is left afterwards."""
    net = network()
    assert net.fetch("f") == FILE
    assert net.fetch("empty") == b""
    assert net.recorder.outcomes == [Outcome.COMPLETED] * 2
    assert net.recorder.events[1][1].octets == len(FILE)
    assert_nothing_is_left(net)


def test_a_file_is_written_in_lock_step() -> None:
    """The backend has the file when the last block is acknowledged; then the session dallies."""
    backend = MemoryBackend(write="create")
    net = network(backend)
    net.store("new", FILE)
    assert backend.files == {"new": FILE}
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert net.server.transfers.running == 0
    net.clock.advance(20)
    assert_nothing_is_left(net)


class KnownPlace(MemoryBackend):
    """A backend whose writers tell where their files are."""

    def open_writer(self, path: str, context: TransferContext) -> Any:
        writer = super().open_writer(path, context)
        commit = writer.commit

        def commit_and_tell() -> StoredFile:
            commit()
            return StoredFile(b"/store/" + context.filename)

        writer.commit = commit_and_tell
        return writer


@pytest.mark.parametrize("mode", [wire.OCTET, wire.NETASCII])
def test_observers_get_the_path_of_a_stored_file(mode: str) -> None:
    """A backend that does not tell it leaves None."""
    for backend, path in ((KnownPlace, b"/store/new"), (MemoryBackend, None)):
        net = network(backend(write="create"))
        net.store("new", b"x", mode=mode)
        event, statistics = net.recorder.events[-1]
        assert (event, statistics.stored_path) == ("finished", path)


def test_netascii_is_converted_in_both_directions() -> None:
    """Lines end with CR LF on the wire, and with LF in the backend."""
    backend = MemoryBackend({"t": b"a\nb\r\n" * 300}, "create")
    net = network(backend)
    on_the_wire = b"a\r\nb\r\x00\r\n" * 300
    assert net.fetch("t", mode=wire.NETASCII) == on_the_wire
    net.store("u", on_the_wire, mode=wire.NETASCII)
    assert backend.files["u"] == backend.files["t"]


def test_oack_has_the_granted_options_in_the_order_of_the_request() -> None:
    """An unknown option is left out; after ACK 0 the first window is sent."""
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
def test_no_oack_is_sent_if_no_option_is_granted(
    filename: str, mode: str, options: dict[str, str]
) -> None:
    """An OACK without options is never sent: the answer is block 1."""
    net = network()
    link = net.request(Opcode.RRQ, filename, options, mode=mode)
    assert link.take()[0][:4] == wire.DATA_HEADERS[1]


def test_tsize_of_a_write_is_echoed() -> None:
    """The OACK to a WRQ has the announced size unchanged, even if it is 0."""
    net = network()
    assert net.request(Opcode.WRQ, "n", {"tsize": "77"}).take() == [b"\x00\x06tsize\x0077\x00"]
    assert net.request(Opcode.WRQ, "n", {"tsize": "0"}).take() == [b"\x00\x06tsize\x000\x00"]


def test_an_upload_that_can_not_fit_is_refused_at_once() -> None:
    """A tsize above --max-upload, or above the free space of the backend, gets ERROR 3."""
    net = network(max_upload=100)
    assert error_of(net.request(Opcode.WRQ, "n", {"tsize": "101"}))[0] == 3
    net = network(MemoryBackend(write="create", capacity=50))
    assert error_of(net.request(Opcode.WRQ, "n", {"tsize": "51"}))[0] == 3
    assert net.recorder.outcomes == [Outcome.REFUSED]
    assert_nothing_is_left(net)


def test_an_upload_without_tsize_fails_at_the_limit() -> None:
    """Without a tsize, the octets are counted against --max-upload while they arrive."""
    backend = MemoryBackend(write="create")
    net = network(backend, max_upload=600)
    with pytest.raises(DiskFull):
        net.store("n", bytes(2000))
    assert backend.files == {}
    assert net.recorder.outcomes == [Outcome.FAILED]
    assert_nothing_is_left(net)


def test_a_full_backend_ends_the_upload_with_error_3() -> None:
    """The client is told that the disk is full, and no part of the file is left."""
    backend = MemoryBackend(write="create", capacity=600)
    net = network(backend)
    with pytest.raises(DiskFull):
        net.store("n", bytes(2000))
    assert backend.files == {}


def test_a_lost_block_is_sent_again_after_a_few_round_trips() -> None:
    """After a round-trip time of 10 ms, a lost block is sent again within 50 ms."""
    net = network()
    link = net.request(Opcode.RRQ, "f")
    (first,) = link.take()
    net.clock.advance(0.01)
    link.deliver(wire.ack(1))
    (second,) = link.take()
    assert second != first
    net.clock.advance(0.05)
    assert link.take() == [second]


def test_packets_do_not_reschedule_the_timer() -> None:
    """A transfer has one delayed call, which stays the same while packets arrive."""
    net = network(MemoryBackend({"f": bytes(512 * 200)}))
    link = net.request(Opcode.RRQ, "f")
    net.clock.advance(0.0001)
    link.deliver(wire.ack(1))
    (timer,) = net.clock.getDelayedCalls()
    for number in range(2, 150):
        net.clock.advance(0.0001)
        link.deliver(wire.ack(number))
    assert net.clock.getDelayedCalls() == [timer]


def test_socket_is_read_before_a_timeout_is_handled() -> None:
    """If the reactor is late, an ACK that waits in the socket prevents a retransmission."""
    net = network()
    link = net.request(Opcode.RRQ, "f")
    link.take()
    link.waiting.append(wire.ack(1))
    net.clock.advance(30)
    assert [datagram[:4] for datagram in link.take()] == [wire.DATA_HEADERS[2]]
    assert net.recorder.events[0][1].retransmissions == 0


def test_last_ack_that_waits_in_the_socket_completes_the_transfer() -> None:
    """If the reactor is late, the socket is read before a timeout; this may end the transfer."""
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
    """The peer gets the first answer four times and no ERROR, and nothing is left."""
    net = network()
    link = net.request(opcode, "f", options)
    net.clock.pump([0.1] * 200)
    assert len(link.sent) == 4
    assert len(set(link.sent)) == 1
    assert net.recorder.outcomes == [Outcome.TIMED_OUT]
    assert_nothing_is_left(net)


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_a_peer_that_stops_answering_gets_an_error_and_is_given_up(opcode: Opcode) -> None:
    """After a minute without a packet, the transfer times out."""
    net = network()
    link = net.request(opcode, "f", {"timeout": "2"})
    if opcode is Opcode.RRQ:
        link.deliver(wire.ack(0))
    else:
        link.deliver(wire.DATA_HEADERS[1] + bytes(512))
    net.clock.pump([0.1] * 595)
    assert net.recorder.outcomes == []
    net.clock.pump([0.1] * 10)
    assert net.recorder.outcomes == [Outcome.TIMED_OUT]
    assert wire.parse_error(link.sent[-1]) == (0, "the transfer timed out")
    assert_nothing_is_left(net)


@pytest.mark.parametrize("opcode", [Opcode.RRQ, Opcode.WRQ])
def test_client_that_answered_and_whose_port_is_closed_is_given_up_after_ten_seconds(
    opcode: Opcode,
) -> None:
    """It is dead, and another program may open its port; but if it answers, it is alive."""
    net = network()
    link = net.request(opcode, "f", {"timeout": "1"})
    answers = [wire.ack(0), wire.ack(1)]
    if opcode is Opcode.WRQ:
        answers = [wire.DATA_HEADERS[number] + bytes(512) for number in (1, 2)]
    link.deliver(answers[0])
    net.clock.pump([0.1] * 50)
    link.report_port_unreachable()
    net.clock.pump([0.1] * 45)
    link.deliver(answers[1])
    net.clock.pump([0.1] * 300)
    assert net.recorder.outcomes == []
    link.report_port_unreachable()
    net.clock.pump([0.1] * 11)
    assert net.recorder.outcomes == [Outcome.TIMED_OUT]
    assert_nothing_is_left(net)


def test_fixed_retransmission_waits_the_negotiated_timeout() -> None:
    """With `--retransmit fixed` and a timeout of 3 s, the OACK is sent again after 3 s."""
    net = network(retransmit=Retransmit.FIXED)
    link = net.request(Opcode.RRQ, "f", {"timeout": "3"})
    net.clock.advance(2.9)
    assert len(link.sent) == 1
    net.clock.advance(0.2)
    assert len(link.sent) == 2


def test_size_probe_is_no_failure() -> None:
    """UEFI firmware requests tsize, and answers the OACK with ERROR 8."""
    net = network()
    link = net.request(Opcode.RRQ, "f", {"tsize": "0"})
    link.deliver(b"\x00\x05\x00\x08User aborted\x00")
    assert net.recorder.outcomes == [Outcome.SIZE_PROBE]
    assert len(link.take()) == 1
    assert_nothing_is_left(net)


def test_error_of_the_client_aborts_an_upload() -> None:
    """An ERROR in the middle of an upload is not answered, and no file is stored."""
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


def test_block_larger_than_blksize_gets_error_4() -> None:
    """A DATA packet that is too long ends the transfer as an illegal operation."""
    net = network()
    link = net.request(Opcode.WRQ, "n")
    link.take()
    link.deliver(wire.DATA_HEADERS[1] + bytes(513))
    assert error_of(link)[0] == 4
    assert_nothing_is_left(net)


def test_repeated_last_block_is_acknowledged_while_dallying() -> None:
    """If the last ACK is lost, the client repeats the last block, and the ACK is sent again."""
    net = network()
    link = net.request(Opcode.WRQ, "n")
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    assert link.take() == [wire.ack(0), wire.ack(1)]
    net.clock.advance(5)
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    assert link.take() == [wire.ack(1)]


def test_error_while_dallying_closes_the_link() -> None:
    """An ERROR after the last ACK ends the dallying; the outcome is still COMPLETED."""
    net = network()
    link = net.request(Opcode.WRQ, "n")
    link.deliver(wire.DATA_HEADERS[1] + b"end")
    link.deliver(b"\x00\x05\x00\x00\x00")
    assert net.recorder.outcomes == [Outcome.COMPLETED]
    assert_nothing_is_left(net)


def test_nothing_is_sent_while_the_backend_opens_or_reads() -> None:
    """The transfer continues at each result of the backend, without retransmissions."""
    slow = Slow(FILE)
    net = network(slow, ServerWithoutReadAhead)
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


def test_ack_during_a_slow_read_changes_what_is_sent_next() -> None:
    """The window that is being read is not sent; the one after the newest ACK is."""
    slow = Slow(FILE * 4)
    net = network(slow, ServerWithoutReadAhead)
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


def test_block_is_acknowledged_after_it_is_stored() -> None:
    """An ACK is sent after its block is written, and the last one after the commit."""
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


def test_slow_open_is_cancelled_if_the_client_stops_asking() -> None:
    """The opening is cancelled ten seconds after the last copy of the request."""
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


def test_file_that_opens_in_spite_of_the_cancellation_is_released() -> None:
    """A Deferred may fire with a file when it is cancelled; the file is closed or aborted."""
    for opcode in (Opcode.RRQ, Opcode.WRQ):
        slow = Slow(FILE)
        slow._cancel = lambda deferred, slow=slow: deferred.callback(slow)  # type: ignore[method-assign, misc]
        net = network(slow)
        net.request(opcode, "f")
        net.clock.advance(11)
        assert slow.closed + slow.aborted == 1
        assert_nothing_is_left(net)


def test_error_during_a_slow_read_or_write_releases_the_file_at_once() -> None:
    """The file is closed or aborted, and the result of the read or write is ignored."""
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


def test_errors_of_the_backend_are_sent_with_their_code() -> None:
    """An error of an opening, a read or a commit reaches the client without the file's path."""
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
    """A backend, reader and writer whose methods raise an unexpected exception."""

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
def test_unexpected_exception_of_a_backend_ends_the_transfer(
    filename: str, opcode: Opcode
) -> None:
    """The exception is logged, and the client gets ERROR 0 without its text."""
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


def test_file_that_shrinks_fails_the_transfer() -> None:
    """A read that returns fewer octets than announced is a failure, and not the end."""

    class Shrinking(MemoryBackend):
        def open_reader(self, path: str, context: TransferContext) -> MemoryReader:
            reader = super().open_reader(path, context)
            reader.size += 1000
            return reader

    net = network(Shrinking({"f": bytes(600)}), ServerWithoutReadAhead)
    link = net.request(Opcode.RRQ, "f")
    link.take()
    link.deliver(wire.ack(1))
    assert error_of(link) == (0, "the file changed while it was read")
    assert net.recorder.outcomes == [Outcome.FAILED]


def test_short_read_ends_a_file_of_unknown_size() -> None:
    """If the reader has no size, a read that returns fewer octets is the end of the file."""

    class Unsized(MemoryBackend):
        def open_reader(self, path: str, context: TransferContext) -> Any:
            reader = super().open_reader(path, context)
            reader.size = None  # type: ignore[assignment]
            return reader

    net = network(Unsized({"f": FILE}))
    assert net.fetch("f") == FILE
    assert net.recorder.events[1][1].octets == len(FILE)


def test_file_too_long_without_rollover_is_refused() -> None:
    """`--rollover none` refuses more than 65,535 blocks; with larger blocks the file fits."""
    net = network(MemoryBackend({"f": bytes(8 * 65_535)}), rollover=Rollover.NONE)
    link = net.request(Opcode.RRQ, "f", {"blksize": "8"})
    assert error_of(link)[0] == 0
    link = net.request(Opcode.RRQ, "f", {"blksize": "16", "rollover": "1"})
    assert link.take() == [b"\x00\x06blksize\x0016\x00rollover\x001\x00"]


def test_netascii_read_without_rollover_fails_at_block_65536() -> None:
    """The size of a netascii read is unknown, so it fails when the block numbers run out."""
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
    """A backend and reader of a large file, whose octets are not stored."""

    #: The octets 0 to 250, repeated: enough for a window from any offset.
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
    """In a read of more than 2**32 octets and 65,535 blocks, each block has the right octets."""
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
    """An upload continues after the rollover of the block numbers, and the file is complete."""
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


def test_observer_is_told_of_progress_after_32_mebibytes() -> None:
    """The observer is called several times while a large file is transferred."""
    net = network(Pattern(2**30))
    link = net.request(Opcode.RRQ, "f", {"blksize": "65464", "windowsize": "64"})
    for number in range(0, 64 * 40, 64):
        link.deliver(wire.ack(number))
        net.clock.advance(0.1)
    told = [stats for event, stats in net.recorder.events if event == "progressed"]
    assert len(told) == 4
    assert told[0].octets >= 4 * 2**25


def test_observer_that_raises_does_not_stop_the_transfer() -> None:
    """An object without methods raises at each event; the file is still transferred."""
    net = network()
    net.server.observer = object()
    assert net.fetch("f") == FILE


def test_cancelled_upload_sends_one_error() -> None:
    """The unfinished file is aborted, and the outcome is CANCELLED."""
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
def test_stopping_the_server_waits_for_a_commit_under_way(fails: bool) -> None:
    """The file is aborted only if its commit fails; then the sessions have all ended."""
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


def test_receive_buffer_has_room_for_a_window_of_an_upload() -> None:
    """The link is asked for room for a window of DATA packets, with their headers."""
    net = network()
    link = net.request(Opcode.WRQ, "f", {"blksize": "1000", "windowsize": "8"})
    assert link.buffer_size == 8 * 1004


def test_writer_of_a_complete_upload_is_committed_once() -> None:
    """It is not aborted, and not committed again when the dallying ends."""
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
def test_request_is_not_answered_if_no_descriptor_is_free(opcode: Opcode) -> None:
    """The client repeats its request and may then be served; an ERROR would end its boot."""
    slow = Slow(FILE)
    net = network(slow)
    link = net.request(opcode, "f")
    slow.fail(OSError(errno.EMFILE, "Too many open files"))
    assert link.take() == []
    assert net.recorder.outcomes == [Outcome.REFUSED]
    assert_nothing_is_left(net)


def test_last_ack_of_an_upload_is_sent_before_the_server_stops() -> None:
    """If all sessions are cancelled when the last transfer ends, its client still gets the ACK."""
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
    """Draw the number of blocks of a file, a windowsize, and trains of blocks.

    A train has consecutive block numbers, of which one may be replaced by another. The number
    before it is added to the length of its blocks. Trains may leave gaps and repeat blocks.
    """
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
def test_train_has_the_same_effect_as_its_datagrams_one_by_one(
    drawn: tuple[int, int, list[tuple[int, list[int]]]],
) -> None:
    """The answers, the file and the outcome do not depend on how the datagrams are received."""
    blocks, windowsize, runs = drawn
    size = 32

    def block(number: int, longer: int = 0) -> bytes:
        octets = bytes([number]) * (size if number < blocks else 7)
        return wire.DATA_HEADERS[number] + octets + bytes(longer)

    seen = []
    for as_trains in (True, False):
        net = network(MemoryBackend(write="create"))
        options = {"blksize": str(size), "windowsize": str(windowsize)}
        link = net.request(Opcode.WRQ, "new", options)
        answers = [link.take()]
        for longer, run in [*runs, (0, list(range(1, blocks + 1)))]:
            datagrams = [block(number, longer) for number in run]
            # The datagrams of a train have one size; only the last one may be shorter.
            sizes = [len(each) for each in datagrams]
            if as_trains and len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]:
                link.deliver_train(b"".join(datagrams), len(datagrams[0]))
            else:
                for datagram in datagrams:
                    link.deliver(datagram)
            answers.append(link.take())
            net.clock.advance(0.001)
        seen.append((answers, net.server.backend.files, net.recorder.outcomes))
    assert seen[0] == seen[1]


def test_upload_that_is_received_as_trains_is_complete() -> None:
    """The octets are copied before the buffer is used again, also after a rollover."""
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


def test_exception_in_the_call_of_the_alarm_ends_the_transfer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a retransmission raises, the session fails: without its alarm it would never end."""
    net = network()
    link = net.request(Opcode.RRQ, "f")
    link.take()

    def broken(datagrams: Any) -> None:
        raise RuntimeError("the link is broken")

    monkeypatch.setattr(link, "send", broken)
    net.clock.advance(5)
    assert net.recorder.outcomes == [Outcome.FAILED]
    assert_nothing_is_left(net)
