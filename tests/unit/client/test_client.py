"""The client against our server, and against servers that do what they like, over loopback."""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import DNSLookupError
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from tests.support.memory_server import FILE, MemoryServer, settle
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.backends.memory import MemoryBackend, MemoryReader, MemoryWriter
from twisted_tftp.client.client import TFTPClient, TransferResult, download, upload
from twisted_tftp.client.debug_links import FilteredLink, LossFilter, TraceFilter
from twisted_tftp.client.resolve import largest_blksize
from twisted_tftp.client.streams import make_reader
from twisted_tftp.client.urls import BadURL, Location, parse_url
from twisted_tftp.context import Outcome
from twisted_tftp.errors import (
    AccessViolation,
    AnswersFromElsewhere,
    DiskFull,
    FileAlreadyExists,
    FileNotFound,
    IllegalOperation,
    OptionRefused,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.interfaces import IFileReader
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol import wire

__all__ = ["reactor"]


@pytest.fixture
def served(reactor: Any) -> Iterator[MemoryServer]:
    """Return a running server."""
    served = MemoryServer(reactor)
    yield served
    served.stop()


def get(
    served: MemoryServer, filename: str = "file", **settings: Any
) -> tuple[bytes, TransferResult]:
    """Fetch a file; return its octets and how it went."""
    client, sink = served.client(**settings), io.BytesIO()
    try:
        result = outcome(served.reactor, client.get(filename, sink))
    finally:
        settle(served.reactor, client)
    return sink.getvalue(), result


def put(
    served: MemoryServer, data: bytes, filename: str = "new", **settings: Any
) -> TransferResult:
    """Store a file."""
    client = served.client(**settings)
    try:
        return outcome(served.reactor, client.put(io.BytesIO(data), filename))
    finally:
        settle(served.reactor, client)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"options": False},
    {"blksize": 8, "windowsize": 1},
    {"blksize": 512, "windowsize": 1},
    {"blksize": 1428, "windowsize": 16},
    {"blksize": 1428, "windowsize": 64, "timeout": 2},
    {"blksize": 65464, "windowsize": 4},
    {"timeout": 0.5},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", ["file", "empty", "even"])
def test_file_is_fetched_octet_by_octet(
    served: MemoryServer, name: str, settings: dict[str, Any]
) -> None:
    """With every option and with none."""
    octets, result = get(served, name, **settings)
    assert octets == served.backend.files[name]
    assert result.octets == len(octets)
    assert result.filename == name
    assert result.seconds > 0
    if settings.get("options", True):
        assert "blksize" in result.options
    else:
        assert result.options == {}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1428 * 16, 100_000])
def test_file_is_stored_octet_by_octet(
    served: MemoryServer, size: int, settings: dict[str, Any]
) -> None:
    """With every option and with none."""
    data = os.urandom(size)
    result = put(served, data, **settings)
    assert served.backend.files["new"] == data
    assert result.octets == size


def test_size_is_asked_for_as_firmware_does(served: MemoryServer) -> None:
    """The server takes it for a size probe, and not for a failure."""
    client = served.client()
    sizes: list[Any] = []
    client.size("file", {"blksize": "1428"}).addBoth(sizes.append)
    client.size("empty").addBoth(sizes.append)
    spin(served.reactor, lambda: len(sizes) == 2)
    assert sizes == [len(FILE), None]
    spin(served.reactor, lambda: len(served.recorder.outcomes) == 2)
    assert Outcome.SIZE_PROBE in served.recorder.outcomes
    settle(served.reactor, client)


def test_options_may_be_given_for_one_transfer(served: MemoryServer) -> None:
    """In their order, and no others."""
    client, sink = served.client(), io.BytesIO()
    result = outcome(served.reactor, client.get("file", sink, {"windowsize": "4"}))
    assert result.options == {"windowsize": "4"}
    assert sink.getvalue() == FILE
    settle(served.reactor, client)


def test_size_is_told_where_it_is_known(served: MemoryServer, tmp_path: Path) -> None:
    """A stream's length is not; a path's and a reader's are announced."""
    assert "tsize" not in put(served, b"x", "stream").options
    (tmp_path / "local").write_bytes(b"12345")
    for name, source in (("path", tmp_path / "local"), ("reader", MemoryReader(b"12345"))):
        client = served.client()
        result = outcome(served.reactor, client.put(source, name))
        settle(served.reactor, client)
        assert result.options["tsize"] == "5"
        assert served.backend.files[name] == b"12345"


def test_netascii_is_local_text_at_both_ends(served: MemoryServer) -> None:
    """Line ends are those of this system, in and out."""
    text = b"one\ntwo\rthree\r\n\n"
    put(served, text, "text", mode="netascii")
    assert served.backend.files["text"] == text
    assert get(served, "text", mode="netascii")[0] == text


def test_many_transfers_go_on_at_once(served: MemoryServer) -> None:
    """One client has as many of them as are asked for."""
    client = served.client()
    sinks = [io.BytesIO() for _ in range(20)]
    transfers = [client.get("file", sink) for sink in sinks]
    assert len(client.running) == 20
    for transfer in transfers:
        outcome(served.reactor, transfer)
    assert all(sink.getvalue() == FILE for sink in sinks)
    settle(served.reactor, client)
    assert client.running == []


def test_path_appears_whole(served: MemoryServer, tmp_path: Path) -> None:
    """A file on disk is there when it is complete, under its name."""
    (tmp_path / "local").write_bytes(b"old")
    client = served.client()
    outcome(served.reactor, client.get("file", str(tmp_path / "local")))
    assert os.listdir(tmp_path) == ["local"]
    assert (tmp_path / "local").read_bytes() == FILE
    settle(served.reactor, client)


@pytest.mark.parametrize(
    ("name", "kind"), [("missing", FileNotFound), ("../file", AccessViolation)]
)
def test_refusal_is_the_exception_of_its_code(
    served: MemoryServer, tmp_path: Path, name: str, kind: type[Exception]
) -> None:
    """And nothing is left of the file that was to be."""
    (tmp_path / "local").write_bytes(b"old")
    client = served.client()
    with pytest.raises(kind):
        outcome(served.reactor, client.get(name, tmp_path / "local"))
    spin(served.reactor, lambda: os.listdir(tmp_path) == ["local"])
    assert (tmp_path / "local").read_bytes() == b"old"
    settle(served.reactor, client)


def test_store_that_is_refused_says_why(served: MemoryServer) -> None:
    """The server's code is the exception's."""
    with pytest.raises(FileAlreadyExists):
        put(served, b"x", "file")


def test_source_that_is_missing_asks_for_nothing(served: MemoryServer, tmp_path: Path) -> None:
    """What fails here is not the server's business."""
    client = served.client()
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.put(tmp_path / "missing", "new"))
    assert served.recorder.events == []
    settle(served.reactor, client)


class Full(io.BytesIO):
    """A stream on a full disk."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_sink_that_is_full_ends_the_transfer_and_tells_the_server(served: MemoryServer) -> None:
    """The server does not send on into nowhere."""
    client = served.client(windowsize=1, blksize=512)
    with pytest.raises(DiskFull):
        outcome(served.reactor, client.get("file", Full()))
    spin(served.reactor, lambda: served.recorder.outcomes)
    assert served.recorder.outcomes[0].value == "aborted"  # type: ignore[union-attr]
    settle(served.reactor, client)


def test_cancelled_transfer_tells_the_server_and_leaves_nothing(
    served: MemoryServer, tmp_path: Path
) -> None:
    """`cancel()` on the Deferred is the way to stop."""
    client = served.client(blksize=8, windowsize=1)
    transfer = client.get("file", tmp_path / "local")
    spin(served.reactor, lambda: any(each.octets for each in client.running))
    transfer.cancel()
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    spin(served.reactor, lambda: served.recorder.outcomes and not os.listdir(tmp_path))
    assert served.recorder.outcomes[0].value == "aborted"  # type: ignore[union-attr]
    settle(served.reactor, client)


def test_ipv6_and_single_port_are_served(reactor: Any) -> None:
    """The answer may come from the port that was asked."""
    for host, policy in (("::1", {}), ("127.0.0.1", {"single_port": True})):
        served = MemoryServer(reactor, host, **policy)
        assert get(served)[0] == FILE
        put(served, FILE)
        assert served.backend.files["new"] == FILE
        served.stop()


class Fake:
    """A server that does as the test says."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.request = self._socket()
        self.transfer = self._socket()
        self.port = self.request.getsockname()[1]
        self.peer: Any = None

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def asked(self) -> wire.Request:
        """Wait for a request."""
        datagram = self._receive(self.request)
        return wire.parse_request(datagram)

    def got(self) -> bytes:
        """Wait for a packet of the transfer."""
        return self._receive(self.transfer)

    def say(self, datagram: bytes) -> None:
        """Send from the transfer's port."""
        self.transfer.sendto(datagram, self.peer)

    def confirm(self, answer: bytes) -> None:
        """Give the same answer to the second request, which is from another port."""
        first = self.peer
        self.asked()
        assert self.peer != first
        with self._socket() as sock:
            sock.sendto(answer, self.peer)
            assert wire.opcode_of(self._receive(sock)) == wire.Opcode.ERROR

    def _receive(self, sock: socket.socket) -> bytes:
        spin(self.reactor, lambda: select.select([sock], [], [], 0)[0])
        datagram, self.peer = sock.recvfrom(70000)
        return datagram

    def close(self) -> None:
        self.request.close()
        self.transfer.close()


@pytest.fixture
def fake(reactor: Any) -> Iterator[Fake]:
    """Return a server without a mind of its own."""
    fake = Fake(reactor)
    yield fake
    fake.close()


class Fetching:
    """A fetch from a fake server."""

    def __init__(self, fake: Fake, **settings: Any) -> None:
        self.client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, **settings)
        self.reactor = fake.reactor
        self.sink = io.BytesIO()
        self.transfer = self.client.get("file", self.sink)

    def end(self) -> TransferResult:
        try:
            return outcome(self.reactor, self.transfer)
        finally:
            settle(self.reactor, self.client)


def test_server_that_ignores_options_is_understood(fake: Fake) -> None:
    """It answers with the first block of 512 octets."""
    fetching = Fetching(fake, blksize=1428, windowsize=16)
    assert list(fake.asked().options) == ["blksize", "windowsize", "tsize", "xid"]
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    assert fake.got() == wire.ack(1)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    assert fake.got() == wire.ack(2)
    fake.confirm(wire.DATA_HEADERS[1] + bytes(512))
    result = fetching.end()
    assert fetching.sink.getvalue() == bytes(512) + b"end"
    assert result.options == {}


def test_server_that_grants_less_is_understood(fake: Fake) -> None:
    """Its values hold."""
    fetching = Fetching(fake, blksize=1428, windowsize=16)
    fake.asked()
    fake.say(wire.oack([("blksize", "8"), ("windowsize", "2")]))
    assert fake.got() == wire.ack(0)
    fake.say(wire.DATA_HEADERS[1] + bytes(8))
    fake.say(wire.DATA_HEADERS[2] + bytes(8))
    assert fake.got() == wire.ack(2)
    fake.say(wire.DATA_HEADERS[3])
    assert fake.got() == wire.ack(3)
    fake.confirm(wire.oack([("blksize", "8"), ("windowsize", "2")]))
    assert fetching.end().octets == 16


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (wire.oack([("blksize", "9999")]), OptionRefused, 8),
        (wire.oack([("multicast", "")]), OptionRefused, 8),
        (b"\0\6blksize", IllegalOperation, 4),
    ],
)
def test_server_that_grants_what_was_not_asked_is_told(
    fake: Fake, answer: bytes, kind: type[Exception], code: int
) -> None:
    """The transfer ends with ERROR 8 (RFC 2347 section 4)."""
    fetching = Fetching(fake, blksize=1428)
    for _ in range(2):  # the first one may be for another client
        fake.asked()
        fake.say(answer)
        assert wire.parse_error(fake.got())[0] == code
    with pytest.raises(kind):
        fetching.end()


def test_server_that_sends_another_size_than_it_told_fails(fake: Fake) -> None:
    """A file that was cut short on the way into the server is not taken for whole."""
    fetching = Fetching(fake)
    fake.asked()
    fake.say(wire.oack([("tsize", "1000")]))
    fake.got()
    fake.say(wire.DATA_HEADERS[1] + bytes(500))
    assert wire.opcode_of(fake.got()) == wire.Opcode.ERROR
    with pytest.raises(TFTPError, match="announced 1000 octets and sent 500"):
        fetching.end()


def test_second_answer_from_another_port_is_a_strangers(fake: Fake) -> None:
    """A request that was repeated on the way starts two transfers; one of them is ours."""
    fetching = Fetching(fake, options=False)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    fake.got()
    fake.request.sendto(wire.DATA_HEADERS[1] + bytes(512), fake.peer)
    spin(fake.reactor, lambda: select.select([fake.request], [], [], 0)[0])
    assert wire.parse_error(fake.request.recv(100))[0] == 5
    fake.say(wire.DATA_HEADERS[2] + b"end")
    assert fake.got() == wire.ack(2)
    fetching.end()
    assert fetching.sink.getvalue() == bytes(512) + b"end"


def test_answer_from_another_host_is_not_taken(fake: Fake) -> None:
    """Who was not asked does not answer."""
    fetching = Fetching(fake, options=False)
    fake.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(wire.DATA_HEADERS[1] + b"forged", fake.peer)
        spin(fake.reactor, lambda: select.select([other], [], [], 0)[0])
        assert wire.parse_error(other.recv(100))[0] == 5
    fake.say(wire.DATA_HEADERS[1] + b"right")
    fake.got()
    fetching.end()
    assert fetching.sink.getvalue() == b"right"


def test_answers_from_another_host_are_told_from_silence(fake: Fake) -> None:
    """A server of several addresses may answer from another one: then it says which."""
    fetching = Fetching(fake, options=False, retries=1, timeout=0.3)
    fake.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(wire.DATA_HEADERS[1] + b"from elsewhere", fake.peer)
        with pytest.raises(AnswersFromElsewhere, match=r"come from 127\.0\.0\.2, which was not"):
            fetching.end()


class SlowSink(MemoryWriter):
    """A sink whose first writes wait to be told that there is room."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self.room: list[Deferred[None]] = []
        self.committed = False

    def write(self, data: bytes) -> Any:
        assert not self.committed
        assert all(each.called for each in self.room), "one write at a time"
        super().write(data)
        self.room.append(Deferred())
        return self.room[-1]

    def commit(self) -> None:
        assert all(each.called for each in self.room)
        self.committed = True
        super().commit()


def begin_fetching(fake: Fake, sink: SlowSink) -> tuple[TFTPClient, Deferred[TransferResult]]:
    """Fetch until the first block is acknowledged; the sink has not stored it yet."""
    client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, options=False)
    transfer = client.get("file", sink)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    assert fake.got() == wire.ack(1)
    return client, transfer


def test_window_is_acknowledged_before_it_is_stored_and_the_next_after(fake: Fake) -> None:
    """The server is not kept waiting for our disk, and it is never more than a window ahead."""
    sink = SlowSink()
    client, transfer = begin_fetching(fake, sink)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    spin(fake.reactor, lambda: client.running[0].octets == 515)
    assert not select.select([fake.transfer], [], [], 0)[0]
    sink.room[0].callback(None)
    assert not select.select([fake.transfer], [], [], 0)[0]
    assert not sink.committed
    sink.room[1].callback(None)
    assert fake.got() == wire.ack(2)
    assert outcome(fake.reactor, transfer).octets == 515
    assert sink.backend.files["new"] == bytes(512) + b"end"
    settle(fake.reactor, client)


class LateSink(MemoryWriter):
    """A sink that takes some turns of the reactor for each write."""

    def __init__(self, reactor: Any) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self._reactor = reactor
        self._writing = False

    def write(self, data: bytes) -> Any:
        assert not self._writing, "one write at a time"
        self._writing = True
        super().write(data)
        return deferLater(self._reactor, 0.002, self._wrote)

    def _wrote(self) -> None:
        self._writing = False

    def commit(self) -> None:
        assert not self._writing
        super().commit()


@pytest.mark.parametrize("windowsize", [1, 4, 16, 64])
def test_window_that_comes_again_while_its_sink_is_busy_is_stored_once(
    served: MemoryServer, windowsize: int
) -> None:
    """What is lost either way is asked for and sent again, whatever was acknowledged early."""
    client = served.client(blksize=512, windowsize=windowsize, loss=0.05, retries=50)
    sink = LateSink(served.reactor)
    assert outcome(served.reactor, client.get("file", sink)).octets == len(FILE)
    assert sink.backend.files["new"] == FILE
    settle(served.reactor, client)


def test_sink_that_fails_late_ends_the_transfer(fake: Fake) -> None:
    """The server is told, though it has been answered, and what came meanwhile is dropped."""
    sink = SlowSink()
    client, transfer = begin_fetching(fake, sink)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    sink.room[0].errback(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DiskFull):
        outcome(fake.reactor, transfer)
    assert wire.parse_error(fake.got())[0] == 3
    assert not sink.backend.files
    settle(fake.reactor, client)


def test_sink_that_takes_nothing_is_blamed(fake: Fake) -> None:
    """Not the server, whose patience ends."""
    sink = SlowSink()
    client, transfer = begin_fetching(fake, sink)
    fake.say(wire.error(TFTPError("timed out")))
    with pytest.raises(TFTPError, match="timed out, while the local output accepted no data"):
        outcome(fake.reactor, transfer)
    settle(fake.reactor, client)


def test_what_a_sink_raises_is_the_cause(served: MemoryServer) -> None:
    """The server is told less, its owner all."""

    class Broken(MemoryWriter):
        def write(self, data: bytes) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    client = served.client()
    with pytest.raises(TFTPError, match="input/output error") as raised:
        outcome(served.reactor, client.get("file", Broken(MemoryBackend(), "new")))
    assert isinstance(raised.value.__cause__, BrokenPipeError)
    settle(served.reactor, client)


def test_trace_that_fails_is_left_out(served: MemoryServer) -> None:
    """The transfer goes on without it."""
    told: list[str] = []

    def trace(words: str, received: bool) -> None:
        told.append(words)
        raise BrokenPipeError

    sink, client = io.BytesIO(), served.client(trace=trace)
    outcome(served.reactor, client.get("file", sink))
    assert sink.getvalue() == FILE
    assert len(told) == 1
    settle(served.reactor, client)


def test_window_of_a_slow_source_is_sent_when_it_is_full(fake: Fake) -> None:
    """What is read ahead of a file would keep a pipe's octets back."""
    ours, theirs = os.pipe()
    client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, options=False)
    transfer = client.put(make_reader(fake.reactor, ours), "new")
    fake.asked()
    fake.say(wire.ack(0))
    os.write(theirs, bytes(600))
    assert fake.got() == wire.DATA_HEADERS[1] + bytes(512)
    os.close(theirs)
    fake.say(wire.ack(1))
    assert fake.got() == wire.DATA_HEADERS[2] + bytes(88)
    fake.say(wire.ack(2))
    assert outcome(fake.reactor, transfer).octets == 600
    settle(fake.reactor, client)
    os.close(ours)


def test_sink_that_gives_up_its_write_when_it_is_aborted_alarms_nobody(
    served: MemoryServer,
) -> None:
    """As files of Twisted do: they cancel what is under way."""

    class Cancels(SlowSink):
        def abort(self) -> None:
            self.room[0].cancel()

    client, sink = served.client(), Cancels()
    transfer = client.get("file", sink)
    spin(served.reactor, lambda: sink.room)
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        transfer.cancel()
    finally:
        globalLogPublisher.removeObserver(events.append)
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    assert [event for event in events if "log_failure" in event] == []
    settle(served.reactor, client)


def test_closed_client_holds_nothing(served: MemoryServer) -> None:
    """What runs is cancelled, also what is being looked up, and no last ACK is waited with."""
    idle = len(served.reactor.getReaders())
    client, sink = served.client(), SlowSink()
    outcome(served.reactor, client.get("file", io.BytesIO()))
    assert client.lingers
    storing = client.get("file", sink)
    spin(served.reactor, lambda: sink.room)
    lost = TFTPClient(served.reactor, "localhost", served.port)
    looking = lost.get("file", io.BytesIO())
    assert client.close().called  # at once: nothing here needs time
    settle(served.reactor, lost)
    assert len(served.reactor.getReaders()) == idle
    for transfer in (storing, looking):
        with pytest.raises(CancelledError):
            outcome(served.reactor, transfer)
    assert outcome(served.reactor, client.get("file", io.BytesIO())).octets == len(FILE)
    settle(served.reactor, client)


@implementer(IFileReader)
class Silent:
    """A source that never says anything."""

    size = None

    def read(self, offset: int, length: int) -> Any:
        return Deferred()

    def close(self) -> None:
        pass


def test_source_that_is_silent_for_too_long_is_blamed(fake: Fake) -> None:
    """Not the server, though it is the server's patience that ends, or ours with it."""
    client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, retries=1, timeout=0.2)
    transfer = client.put(Silent(), "new")
    fake.asked()
    fake.say(wire.ack(0))
    with pytest.raises(TransferTimedOut, match="timed out, while the local input"):
        outcome(fake.reactor, transfer)
    transfer = client.put(Silent(), "new")
    fake.asked()
    fake.say(wire.ack(0))
    fake.say(wire.error(AccessViolation("enough")))
    with pytest.raises(
        AccessViolation, match="enough, while the local input supplied too little data"
    ) as raised:
        outcome(fake.reactor, transfer)
    assert raised.value.from_peer
    settle(fake.reactor, client)


def test_lost_last_ack_is_sent_again(fake: Fake) -> None:
    """The result is there at once, and the server is answered for a while."""
    fetching = Fetching(fake, options=False)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + b"all")
    assert fake.got() == wire.ack(1)
    outcome(fake.reactor, fetching.transfer)
    assert fetching.client.lingers
    fake.say(wire.DATA_HEADERS[1] + b"all")
    assert fake.got() == wire.ack(1)
    settle(fake.reactor, fetching.client)


def test_silence_is_given_up(fake: Fake) -> None:
    """The request is repeated, the same each time."""
    fetching = Fetching(fake, timeout=0.02, retries=3)
    first, second = fake.asked(), fake.asked()
    assert first == second
    with pytest.raises(TransferTimedOut, match="does not answer"):
        fetching.end()


def test_port_that_nobody_listens_on_is_told_from_silence(reactor: Any) -> None:
    """The system says so; the server may be starting, so it is asked for a while all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    client = TFTPClient(reactor, "127.0.0.1", port, timeout=0.02, retries=2)
    with pytest.raises(PortUnreachable, match="refused"):
        outcome(reactor, client.get("file", io.BytesIO()))
    settle(reactor, client)


def test_way_that_there_is_not_is_told_from_silence(reactor: Any) -> None:
    """A broadcast address may not be sent to, which stands here for a network that is down."""
    client = TFTPClient(reactor, "255.255.255.255", 20001, retries=1, timeout=0.1)
    with pytest.raises(ServerUnreachable, match=r"denied|Network is unreachable") as raised:
        outcome(reactor, client.get("file", io.BytesIO()))
    assert not isinstance(raised.value, PortUnreachable)
    settle(reactor, client)


def test_transfer_cancelled_while_it_asks_tells_nobody(fake: Fake) -> None:
    """An ERROR to the request port would be no answer to anything."""
    fetching = Fetching(fake)
    fake.asked()
    fetching.transfer.cancel()
    with pytest.raises(CancelledError):
        fetching.end()
    assert select.select([fake.request], [], [], 0)[0] == []


def test_host_name_is_looked_up(served: MemoryServer) -> None:
    """By Twisted's resolver; who is not there is an error."""
    pool = served.reactor.getThreadPool()
    pool.start()
    client = TFTPClient(served.reactor, "localhost", served.port)
    sink = io.BytesIO()
    outcome(served.reactor, client.get("file", sink))
    assert sink.getvalue() == FILE
    settle(served.reactor, client)
    nobody = TFTPClient(served.reactor, "nobody.invalid", served.port)
    with pytest.raises(DNSLookupError):
        outcome(served.reactor, nobody.get("file", sink))
    pool.stop()


def test_urls_are_fetched_and_stored(served: MemoryServer, tmp_path: Path) -> None:
    """RFC 3617, with files on this side."""
    url = f"tftp://127.0.0.1:{served.port}"
    idle = len(served.reactor.getReaders())
    path, settings = str(tmp_path / "a"), {"in_thread": maybeDeferred, "windowsize": 1}
    outcome(served.reactor, download(f"{url}/file", path, served.reactor, **settings))
    outcome(served.reactor, upload(path, f"{url}/a%20b", served.reactor, **settings))
    assert served.backend.files["a b"] == FILE
    spin(served.reactor, lambda: len(served.reactor.getReaders()) == idle)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("tftp://host/file", Location("host", 69, "file")),
        ("TFTP://Host:6969/dir/file", Location("host", 6969, "dir/file")),
        ("tftp://[::1]:70//abs", Location("::1", 70, "/abs")),
        ("tftp://h/f;mode=netascii", Location("h", 69, "f", "netascii")),
        ("tftp://h/f;mode=octet", Location("h", 69, "f", "octet")),
        ("tftp://h/a%2Fb%20c", Location("h", 69, "a/b c")),
        ("tftp://h/a?b#c", Location("h", 69, "a?b#c")),
    ],
)
def test_urls_name_a_file(url: str, location: Location) -> None:
    """Host, port, name and mode."""
    assert parse_url(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "http://host/file",
        "tftp://host",
        "tftp://host/",
        "tftp:///file",
        "tftp://host:99999/file",
        "tftp://host:x/file",
        "tftp://host/file;mode=mail",
        "tftp://host/a%00b",
        "tftp://[::1/file",
        "file",
        "",
    ],
)
def test_what_is_no_url_is_said_so(url: str) -> None:
    """With the URL in the text."""
    with pytest.raises(BadURL, match="tftp"):
        parse_url(url)


def test_blocks_fit_the_path() -> None:
    """As large as loopback takes whole; Ethernet's where there is no way."""
    assert largest_blksize(("127.0.0.1", 69)) == 65464
    assert largest_blksize(("::1", 69, 0, 0)) == 65464


def test_packets_are_traced_in_words(served: MemoryServer) -> None:
    """Each one sent and received, in its order."""
    lines: list[tuple[str, bool]] = []
    get(
        served,
        "empty",
        blksize=512,
        windowsize=1,
        trace=lambda words, received: lines.append((words, received)),
    )
    xid = lines[0][0].rpartition(" xid=")[2]
    assert lines == [
        (f'RRQ "empty" octet blksize=512 tsize=0 xid={xid}', False),
        (f"OACK blksize=512 xid={xid}", True),
        ("ACK 0", False),
        ("DATA 1, 0 octets", True),
        ("ACK 1", False),
    ]


def test_lost_packets_are_traced_too(fake: Fake) -> None:
    """What the client sends is in the trace, also where the loss then keeps it from the server."""
    lines: list[tuple[str, bool]] = []
    client = TFTPClient(
        fake.reactor,
        "127.0.0.1",
        fake.port,
        options=False,
        timeout=0.05,
        retries=2,
        loss=1.0,
        trace=lambda words, received: lines.append((words, received)),
    )
    with pytest.raises(TransferTimedOut):
        outcome(fake.reactor, client.get("file", io.BytesIO()))
    assert len(lines) > 1
    assert set(lines) == {('RRQ "file" octet', False)}
    assert select.select([fake.request], [], [], 0)[0] == []
    settle(fake.reactor, client)


class Unlucky(TFTPClient):
    """A client that loses the datagrams that the test names, and traces what goes on."""

    def prepare(self, lost: list[bool]) -> list[tuple[str, bool]]:
        """Set which datagrams are lost, in their order; return where the trace will be."""
        self._chances = iter([0.0 if each else 1.0 for each in lost])
        self._lines: list[tuple[str, bool]] = []
        return self._lines

    def build_link(self, *parts: Any) -> ClientLink:
        trace = TraceFilter(lambda words, received: self._lines.append((words, received)))
        return FilteredLink([trace, LossFilter(0.5, lambda: next(self._chances))], *parts)


def test_lost_packet_is_not_delivered_and_the_trace_has_both_ends(fake: Fake) -> None:
    """A filter of loss and one of traces: the trace has what is sent and what is received."""
    client = Unlucky(fake.reactor, "127.0.0.1", fake.port, options=False)
    # WRQ, ACK 0 (lost), ACK 0, DATA 1 (lost), DATA 1 again, ACK 1
    lines = client.prepare([False, True, False, True, False, False])
    transfer = client.put(io.BytesIO(b"abc"), "new")
    fake.asked()
    fake.say(wire.ack(0))
    fake.say(wire.ack(0))
    assert fake.got() == wire.DATA_HEADERS[1] + b"abc"
    fake.say(wire.ack(1))
    assert outcome(fake.reactor, transfer).retransmissions == 1
    assert lines == [
        ('WRQ "new" octet', False),
        ("ACK 0", True),
        ("DATA 1, 3 octets", False),
        ("DATA 1, 3 octets", False),
        ("ACK 1", True),
    ]
    settle(fake.reactor, client)


def test_first_block_may_take_its_time_after_the_oack(fake: Fake) -> None:
    """A disk that is cold is waited for as long as the patience says."""
    fetching = Fetching(fake, timeout=1.0, retries=3)
    fake.asked()
    fake.say(wire.oack([("blksize", "512")]))
    seen = [fake.got() for _ in range(6)]  # more than an address that never answered would get
    assert set(seen) == {wire.ack(0)}
    fake.say(wire.DATA_HEADERS[1] + b"late")
    fake.confirm(wire.oack([("blksize", "512")]))
    fetching.end()
    assert fetching.sink.getvalue() == b"late"


def test_answer_that_comes_twice_in_one_piece_is_one(fake: Fake) -> None:
    """Receive offload is on before the first answer."""
    fetching = Fetching(fake, blksize=1428, windowsize=4)
    fake.asked()
    oack = wire.oack([("blksize", "8"), ("windowsize", "4")])
    size = [(socket.IPPROTO_UDP, 103, len(oack).to_bytes(2, sys.byteorder))]
    fake.transfer.sendmsg([oack, oack], size, 0, fake.peer)
    assert fake.got() == wire.ack(0)
    fake.say(wire.DATA_HEADERS[1] + b"end")
    fake.confirm(oack)
    fetching.end()
    assert fetching.sink.getvalue() == b"end"


@pytest.mark.parametrize(("tsize", "right"), [("0", True), ("5", True), ("4", False)])
def test_size_that_is_not_known_is_no_size(fake: Fake, tsize: str, right: bool) -> None:
    """Some servers answer 0 then; a file that is larger than it was told ends at once."""
    fetching = Fetching(fake)
    fake.asked()
    fake.say(wire.oack([("tsize", tsize)]))
    fake.got()
    fake.say(wire.DATA_HEADERS[1] + b"12345")
    if right:
        fake.confirm(wire.oack([("tsize", tsize)]))
        assert fetching.end().octets == 5
    else:
        with pytest.raises(TFTPError, match="announced 4"):
            fetching.end()


class Reluctant:
    """A stream that takes and gives a little at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.taken = b""

    def read(self, length: int) -> Any:
        piece, self.data = self.data[: min(700, length)], self.data[min(700, length) :]
        return piece

    def write(self, data: Any) -> Any:
        self.taken += bytes(data[:700])
        return min(700, len(data))

    def flush(self) -> None:
        pass


def test_streams_may_take_and_give_a_little_at_a_time(served: MemoryServer) -> None:
    """A pipe does; nothing is lost."""
    client, stream = served.client(), Reluctant(FILE)
    outcome(served.reactor, client.put(stream, "new"))
    assert served.backend.files["new"] == FILE
    outcome(served.reactor, client.get("new", stream))
    assert stream.taken == FILE
    settle(served.reactor, client)


class Nonblocking(Reluctant):
    """A stream that has nothing now."""

    def read(self, length: int) -> Any:
        return None

    def write(self, data: Any) -> Any:
        return None


def test_stream_that_does_not_block_is_an_error_and_not_the_end(served: MemoryServer) -> None:
    """An upload is not cut short because its source was slow."""
    client = served.client()
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.put(Nonblocking(), "new"))
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.get("file", Nonblocking()))
    assert "new" not in served.backend.files
    settle(served.reactor, client)


@pytest.mark.parametrize("name", ["", "file\0octet\0blksize"])
def test_name_that_is_none_asks_for_nothing(served: MemoryServer, name: str) -> None:
    """A NUL would end the name, and make options of the rest."""
    client = served.client()
    for transfer in (client.get(name, io.BytesIO()), client.put(io.BytesIO(), name)):
        with pytest.raises(ValueError, match="no NUL"):
            outcome(served.reactor, transfer)
    assert served.recorder.events == []


class SlowCommit(MemoryWriter):
    """A sink that takes its time to put its file in place."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self.done: Deferred[None] = Deferred()
        self.committing = False

    def commit(self) -> Any:
        self.committing = True
        return self.done.addCallback(lambda _: MemoryWriter.commit(self))


def test_transfer_cancelled_while_its_file_is_put_in_place_ends_once(served: MemoryServer) -> None:
    """The file is whole and stays; the Deferred has fired already, and nothing breaks."""
    client, sink = served.client(), SlowCommit()
    transfer = client.get("file", sink)
    spin(served.reactor, lambda: sink.committing)
    transfer.cancel()
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    failures: list[Any] = []
    globalLogPublisher.addObserver(failures.append)
    try:
        sink.done.callback(None)
    finally:
        globalLogPublisher.removeObserver(failures.append)
    assert [event for event in failures if "log_failure" in event] == []
    assert sink.backend.files["new"] == FILE
    settle(served.reactor, client)
