"""Test the client with our server, and with servers that the tests script, over loopback."""

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
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.debug_links import FilteredLink, LossFilter, TraceFilter
from twisted_tftp.client.resolve import largest_blksize
from twisted_tftp.client.result import TransferResult
from twisted_tftp.client.streams import make_reader
from twisted_tftp.client.url_transfers import download, upload
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
    """Read a file from the server; return its content and the result of the transfer."""
    client, sink = served.client(**settings), io.BytesIO()
    try:
        result = outcome(served.reactor, client.get(filename, sink))
    finally:
        settle(served.reactor, client)
    return sink.getvalue(), result


def put(
    served: MemoryServer, data: bytes, filename: str = "new", **settings: Any
) -> TransferResult:
    """Write a file to the server; return the result of the transfer."""
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
def test_downloaded_file_equals_the_original(
    served: MemoryServer, name: str, settings: dict[str, Any]
) -> None:
    """A download has the content of the file, with any options and with none."""
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
def test_uploaded_file_equals_the_original(
    served: MemoryServer, size: int, settings: dict[str, Any]
) -> None:
    """An upload has the content of the source, with any options and with none."""
    data = os.urandom(size)
    result = put(served, data, **settings)
    assert served.backend.files["new"] == data
    assert result.octets == size


def test_size_request_is_a_size_probe_for_the_server(served: MemoryServer) -> None:
    """The server logs a request for a size as a size probe, not as a failed transfer."""
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
    """The options passed to `get` are sent in their order, and no others."""
    client, sink = served.client(), io.BytesIO()
    result = outcome(served.reactor, client.get("file", sink, {"windowsize": "4"}))
    assert result.options == {"windowsize": "4"}
    assert sink.getvalue() == FILE
    settle(served.reactor, client)


def test_upload_announces_the_size_of_a_path_and_of_a_reader(
    served: MemoryServer, tmp_path: Path
) -> None:
    """An upload sends tsize if its source is a path or a reader with a size, not for a stream."""
    assert "tsize" not in put(served, b"x", "stream").options
    (tmp_path / "local").write_bytes(b"12345")
    for name, source in (("path", tmp_path / "local"), ("reader", MemoryReader(b"12345"))):
        client = served.client()
        result = outcome(served.reactor, client.put(source, name))
        settle(served.reactor, client)
        assert result.options["tsize"] == "5"
        assert served.backend.files[name] == b"12345"


def test_netascii_transfers_keep_the_local_line_ends(served: MemoryServer) -> None:
    """In netascii mode an upload and a download have the local line ends again."""
    text = b"one\ntwo\rthree\r\n\n"
    put(served, text, "text", mode="netascii")
    assert served.backend.files["text"] == text
    assert get(served, "text", mode="netascii")[0] == text


def test_one_client_runs_many_transfers_at_once(served: MemoryServer) -> None:
    """One client runs 20 downloads at the same time."""
    client = served.client()
    sinks = [io.BytesIO() for _ in range(20)]
    transfers = [client.get("file", sink) for sink in sinks]
    assert len(client.running) == 20
    for transfer in transfers:
        outcome(served.reactor, transfer)
    assert all(sink.getvalue() == FILE for sink in sinks)
    settle(served.reactor, client)
    assert client.running == []


def test_download_to_a_path_replaces_the_file_when_it_is_complete(
    served: MemoryServer, tmp_path: Path
) -> None:
    """A download to a path replaces the old file, and leaves no temporary file."""
    (tmp_path / "local").write_bytes(b"old")
    client = served.client()
    outcome(served.reactor, client.get("file", str(tmp_path / "local")))
    assert os.listdir(tmp_path) == ["local"]
    assert (tmp_path / "local").read_bytes() == FILE
    settle(served.reactor, client)


@pytest.mark.parametrize(
    ("name", "kind"), [("missing", FileNotFound), ("../file", AccessViolation)]
)
def test_error_from_the_server_raises_the_exception_of_its_code(
    served: MemoryServer, tmp_path: Path, name: str, kind: type[Exception]
) -> None:
    """An ERROR becomes the exception of its code, and the old local file stays as it was."""
    (tmp_path / "local").write_bytes(b"old")
    client = served.client()
    with pytest.raises(kind):
        outcome(served.reactor, client.get(name, tmp_path / "local"))
    spin(served.reactor, lambda: os.listdir(tmp_path) == ["local"])
    assert (tmp_path / "local").read_bytes() == b"old"
    settle(served.reactor, client)


def test_refused_upload_raises_the_exception_of_its_code(served: MemoryServer) -> None:
    """An upload that the server refuses raises the exception of the ERROR's code."""
    with pytest.raises(FileAlreadyExists):
        put(served, b"x", "file")


def test_upload_of_a_missing_file_sends_no_request(served: MemoryServer, tmp_path: Path) -> None:
    """If the local file does not exist, the upload fails before a request is sent."""
    client = served.client()
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.put(tmp_path / "missing", "new"))
    assert served.recorder.events == []
    settle(served.reactor, client)


class FullStream(io.BytesIO):
    """A stream on a full disk: each write fails."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_write_error_of_the_sink_ends_the_transfer_with_an_error(served: MemoryServer) -> None:
    """If the sink has no space, the client raises DiskFull and sends the server an ERROR."""
    client = served.client(windowsize=1, blksize=512)
    with pytest.raises(DiskFull):
        outcome(served.reactor, client.get("file", FullStream()))
    spin(served.reactor, lambda: served.recorder.outcomes)
    assert served.recorder.outcomes[0].value == "aborted"  # type: ignore[union-attr]
    settle(served.reactor, client)


def test_cancelled_download_sends_an_error_and_leaves_no_file(
    served: MemoryServer, tmp_path: Path
) -> None:
    """Cancelling the Deferred of a download sends an ERROR and removes the unfinished file."""
    client = served.client(blksize=8, windowsize=1)
    transfer = client.get("file", tmp_path / "local")
    spin(served.reactor, lambda: any(each.octets for each in client.running))
    transfer.cancel()
    with pytest.raises(CancelledError):
        outcome(served.reactor, transfer)
    spin(served.reactor, lambda: served.recorder.outcomes and not os.listdir(tmp_path))
    assert served.recorder.outcomes[0].value == "aborted"  # type: ignore[union-attr]
    settle(served.reactor, client)


def test_transfers_work_over_ipv6_and_with_a_single_port(reactor: Any) -> None:
    """Both directions work over IPv6, and with a server that answers from its request port."""
    for host, policy in (("::1", {}), ("127.0.0.1", {"single_port": True})):
        served = MemoryServer(reactor, host, **policy)
        assert get(served)[0] == FILE
        put(served, FILE)
        assert served.backend.files["new"] == FILE
        served.stop()


class ScriptedServer:
    """A server without logic: the test reads each packet, and says what is sent."""

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
        """Wait for a request, and return it."""
        datagram = self._receive(self.request)
        return wire.parse_request(datagram)

    def got(self) -> bytes:
        """Wait for a packet to the transfer's port, and return it."""
        return self._receive(self.transfer)

    def say(self, datagram: bytes) -> None:
        """Send a datagram from the transfer's port to the client."""
        self.transfer.sendto(datagram, self.peer)

    def confirm(self, answer: bytes) -> None:
        """Answer the second request, which comes from another port, with `answer`."""
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
def fake(reactor: Any) -> Iterator[ScriptedServer]:
    """Return a server that the test scripts."""
    fake = ScriptedServer(reactor)
    yield fake
    fake.close()


class Download:
    """A download from a scripted server, which has sent its request."""

    def __init__(self, fake: ScriptedServer, **settings: Any) -> None:
        self.client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, **settings)
        self.reactor = fake.reactor
        self.sink = io.BytesIO()
        self.transfer = self.client.get("file", self.sink)

    def end(self) -> TransferResult:
        try:
            return outcome(self.reactor, self.transfer)
        finally:
            settle(self.reactor, self.client)


def test_server_may_ignore_the_options(fake: ScriptedServer) -> None:
    """If the server answers the options with DATA 1, the blocks have 512 octets."""
    job = Download(fake, blksize=1428, windowsize=16)
    assert list(fake.asked().options) == ["blksize", "windowsize", "tsize", "xid"]
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    assert fake.got() == wire.ack(1)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    assert fake.got() == wire.ack(2)
    fake.confirm(wire.DATA_HEADERS[1] + bytes(512))
    result = job.end()
    assert job.sink.getvalue() == bytes(512) + b"end"
    assert result.options == {}


def test_server_may_grant_smaller_values(fake: ScriptedServer) -> None:
    """The client uses the smaller values of the OACK."""
    job = Download(fake, blksize=1428, windowsize=16)
    fake.asked()
    fake.say(wire.oack([("blksize", "8"), ("windowsize", "2")]))
    assert fake.got() == wire.ack(0)
    fake.say(wire.DATA_HEADERS[1] + bytes(8))
    fake.say(wire.DATA_HEADERS[2] + bytes(8))
    assert fake.got() == wire.ack(2)
    fake.say(wire.DATA_HEADERS[3])
    assert fake.got() == wire.ack(3)
    fake.confirm(wire.oack([("blksize", "8"), ("windowsize", "2")]))
    assert job.end().octets == 16


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (wire.oack([("blksize", "9999")]), OptionRefused, 8),
        (wire.oack([("multicast", "")]), OptionRefused, 8),
        (b"\0\6blksize", IllegalOperation, 4),
    ],
)
def test_invalid_oack_is_answered_with_error_8_or_4(
    fake: ScriptedServer, answer: bytes, kind: type[Exception], code: int
) -> None:
    """An OACK with a larger or unasked value gets ERROR 8, a malformed one ERROR 4 (RFC 2347)."""
    job = Download(fake, blksize=1428)
    for _ in range(2):  # the first OACK could be for another client, so the client asks again
        fake.asked()
        fake.say(answer)
        assert wire.parse_error(fake.got())[0] == code
    with pytest.raises(kind):
        job.end()


def test_download_shorter_than_its_tsize_fails(fake: ScriptedServer) -> None:
    """A download that has fewer octets than the server announced fails."""
    job = Download(fake)
    fake.asked()
    fake.say(wire.oack([("tsize", "1000")]))
    fake.got()
    fake.say(wire.DATA_HEADERS[1] + bytes(500))
    assert wire.opcode_of(fake.got()) == wire.Opcode.ERROR
    with pytest.raises(TFTPError, match="announced 1000 octets and sent 500"):
        job.end()


def test_answer_from_a_second_port_gets_error_5(fake: ScriptedServer) -> None:
    """If a repeated request starts a second transfer, its answer gets ERROR 5."""
    job = Download(fake, options=False)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    fake.got()
    fake.request.sendto(wire.DATA_HEADERS[1] + bytes(512), fake.peer)
    spin(fake.reactor, lambda: select.select([fake.request], [], [], 0)[0])
    assert wire.parse_error(fake.request.recv(100))[0] == 5
    fake.say(wire.DATA_HEADERS[2] + b"end")
    assert fake.got() == wire.ack(2)
    job.end()
    assert job.sink.getvalue() == bytes(512) + b"end"


def test_answer_from_another_host_gets_error_5(fake: ScriptedServer) -> None:
    """An answer from a host that was not asked gets ERROR 5, and the download goes on."""
    job = Download(fake, options=False)
    fake.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(wire.DATA_HEADERS[1] + b"forged", fake.peer)
        spin(fake.reactor, lambda: select.select([other], [], [], 0)[0])
        assert wire.parse_error(other.recv(100))[0] == 5
    fake.say(wire.DATA_HEADERS[1] + b"right")
    fake.got()
    job.end()
    assert job.sink.getvalue() == b"right"


def test_timeout_names_the_other_host_that_has_answered(fake: ScriptedServer) -> None:
    """If only another host has answered, the exception names that host."""
    job = Download(fake, options=False, retries=1, timeout=0.3)
    fake.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(wire.DATA_HEADERS[1] + b"from elsewhere", fake.peer)
        with pytest.raises(AnswersFromElsewhere, match=r"come from 127\.0\.0\.2, which was not"):
            job.end()


class SlowSink(MemoryWriter):
    """A sink whose writes end when the test fires their Deferreds."""

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


def begin_download(
    fake: ScriptedServer, sink: SlowSink
) -> tuple[TFTPClient, Deferred[TransferResult]]:
    """Begin a download, up to the ACK of its first block; the sink has not finished that write."""
    client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, options=False)
    transfer = client.get("file", sink)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + bytes(512))
    assert fake.got() == wire.ack(1)
    return client, transfer


def test_ack_is_at_most_one_window_ahead_of_the_sink(fake: ScriptedServer) -> None:
    """A window is acknowledged while it is being written, the next one only after that."""
    sink = SlowSink()
    client, transfer = begin_download(fake, sink)
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
def test_lossy_download_to_a_slow_sink_is_written_once(
    served: MemoryServer, windowsize: int
) -> None:
    """Blocks that are lost or sent twice are written once, though the sink is slow."""
    client = served.client(blksize=512, windowsize=windowsize, loss=0.05, retries=50)
    sink = LateSink(served.reactor)
    assert outcome(served.reactor, client.get("file", sink)).octets == len(FILE)
    assert sink.backend.files["new"] == FILE
    settle(served.reactor, client)


def test_write_error_after_the_ack_ends_the_transfer(fake: ScriptedServer) -> None:
    """A write that fails after its ACK was sent ends the transfer with ERROR 3."""
    sink = SlowSink()
    client, transfer = begin_download(fake, sink)
    fake.say(wire.DATA_HEADERS[2] + b"end")
    sink.room[0].errback(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DiskFull):
        outcome(fake.reactor, transfer)
    assert wire.parse_error(fake.got())[0] == 3
    assert not sink.backend.files
    settle(fake.reactor, client)


def test_timeout_of_the_server_names_the_sink_that_took_no_data(fake: ScriptedServer) -> None:
    """If the server times out while the sink accepts no data, the exception says so."""
    sink = SlowSink()
    client, transfer = begin_download(fake, sink)
    fake.say(wire.error(TFTPError("timed out")))
    with pytest.raises(TFTPError, match="timed out, while the local output accepted no data"):
        outcome(fake.reactor, transfer)
    settle(fake.reactor, client)


def test_exception_of_the_sink_is_the_cause(served: MemoryServer) -> None:
    """The exception that the sink has raised is the `__cause__` of the client's exception."""

    class Broken(MemoryWriter):
        def write(self, data: bytes) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    client = served.client()
    with pytest.raises(TFTPError, match="input/output error") as raised:
        outcome(served.reactor, client.get("file", Broken(MemoryBackend(), "new")))
    assert isinstance(raised.value.__cause__, BrokenPipeError)
    settle(served.reactor, client)


def test_failing_trace_function_is_not_called_again(served: MemoryServer) -> None:
    """If the trace function raises, the transfer goes on without it."""
    told: list[str] = []

    def trace(text: str, received: bool) -> None:
        told.append(text)
        raise BrokenPipeError

    sink, client = io.BytesIO(), served.client(trace=trace)
    outcome(served.reactor, client.get("file", sink))
    assert sink.getvalue() == FILE
    assert len(told) == 1
    settle(served.reactor, client)


def test_upload_from_a_pipe_sends_each_block_when_it_is_full(fake: ScriptedServer) -> None:
    """An upload from a pipe sends a block as soon as it is full; it does not read ahead."""
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


def test_sink_may_cancel_its_write_when_it_is_aborted(
    served: MemoryServer,
) -> None:
    """A sink that cancels its pending write in `abort` causes no error in the log."""

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


def test_close_cancels_everything_and_closes_all_sockets(served: MemoryServer) -> None:
    """`close` cancels transfers and look-ups, ends dallying and closes all sockets at once."""
    idle = len(served.reactor.getReaders())
    client, sink = served.client(), SlowSink()
    outcome(served.reactor, client.get("file", io.BytesIO()))
    assert client.dally_time
    storing = client.get("file", sink)
    spin(served.reactor, lambda: sink.room)
    lost = TFTPClient(served.reactor, "localhost", served.port)
    looking = lost.get("file", io.BytesIO())
    assert client.close().called  # it closes at once, because no thread is busy
    settle(served.reactor, lost)
    assert len(served.reactor.getReaders()) == idle
    for transfer in (storing, looking):
        with pytest.raises(CancelledError):
            outcome(served.reactor, transfer)
    assert outcome(served.reactor, client.get("file", io.BytesIO())).octets == len(FILE)
    settle(served.reactor, client)


@implementer(IFileReader)
class SilentSource:
    """A source that never supplies data."""

    size = None

    def read(self, offset: int, length: int) -> Any:
        return Deferred()

    def close(self) -> None:
        pass


def test_timeout_names_the_source_that_supplied_no_data(fake: ScriptedServer) -> None:
    """If client or server times out while the source supplies no data, the exception says so."""
    client = TFTPClient(fake.reactor, "127.0.0.1", fake.port, retries=1, timeout=0.2)
    transfer = client.put(SilentSource(), "new")
    fake.asked()
    fake.say(wire.ack(0))
    with pytest.raises(TransferTimedOut, match="timed out, while the local input"):
        outcome(fake.reactor, transfer)
    transfer = client.put(SilentSource(), "new")
    fake.asked()
    fake.say(wire.ack(0))
    fake.say(wire.error(AccessViolation("enough")))
    with pytest.raises(
        AccessViolation, match="enough, while the local input supplied too little data"
    ) as raised:
        outcome(fake.reactor, transfer)
    assert raised.value.from_peer
    settle(fake.reactor, client)


def test_lost_last_ack_is_sent_again(fake: ScriptedServer) -> None:
    """After the end of a download the client still repeats its last ACK for a while."""
    job = Download(fake, options=False)
    fake.asked()
    fake.say(wire.DATA_HEADERS[1] + b"all")
    assert fake.got() == wire.ack(1)
    outcome(fake.reactor, job.transfer)
    assert job.client.dally_time
    fake.say(wire.DATA_HEADERS[1] + b"all")
    assert fake.got() == wire.ack(1)
    settle(fake.reactor, job.client)


def test_request_is_repeated_and_then_times_out(fake: ScriptedServer) -> None:
    """A request without an answer is repeated unchanged, and then the client gives up."""
    job = Download(fake, timeout=0.02, retries=3)
    first, second = fake.asked(), fake.asked()
    assert first == second
    with pytest.raises(TransferTimedOut, match="does not answer"):
        job.end()


def test_closed_port_raises_port_unreachable(reactor: Any) -> None:
    """If no program listens on the port, the client raises PortUnreachable after its retries."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    client = TFTPClient(reactor, "127.0.0.1", port, timeout=0.02, retries=2)
    with pytest.raises(PortUnreachable, match="refused"):
        outcome(reactor, client.get("file", io.BytesIO()))
    settle(reactor, client)


def test_unreachable_network_raises_server_unreachable(reactor: Any) -> None:
    """If the system refuses to send, here to a broadcast address, ServerUnreachable is raised."""
    client = TFTPClient(reactor, "255.255.255.255", 20001, retries=1, timeout=0.1)
    with pytest.raises(ServerUnreachable, match=r"denied|Network is unreachable") as raised:
        outcome(reactor, client.get("file", io.BytesIO()))
    assert not isinstance(raised.value, PortUnreachable)
    settle(reactor, client)


def test_transfer_cancelled_before_an_answer_sends_no_error(fake: ScriptedServer) -> None:
    """A transfer that is cancelled before an answer sends nothing more to the request port."""
    job = Download(fake)
    fake.asked()
    job.transfer.cancel()
    with pytest.raises(CancelledError):
        job.end()
    assert select.select([fake.request], [], [], 0)[0] == []


def test_host_name_is_looked_up(served: MemoryServer) -> None:
    """A host name is looked up with Twisted's resolver; an unknown name raises DNSLookupError."""
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


def test_download_and_upload_functions_take_urls(served: MemoryServer, tmp_path: Path) -> None:
    """`download` and `upload` take a URL (RFC 3617) and a local path."""
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
def test_url_is_parsed_into_host_port_name_and_mode(url: str, location: Location) -> None:
    """A URL gives the host, the port, the file name and the mode."""
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
def test_invalid_url_raises_bad_url(url: str) -> None:
    """An invalid URL raises BadURL, with the URL in its text."""
    with pytest.raises(BadURL, match="tftp"):
        parse_url(url)


def test_largest_blksize_fits_the_mtu_of_loopback() -> None:
    """The largest block size on loopback is the largest that TFTP allows."""
    assert largest_blksize(("127.0.0.1", 69)) == 65464
    assert largest_blksize(("::1", 69, 0, 0)) == 65464


def test_trace_describes_each_packet_in_order(served: MemoryServer) -> None:
    """The trace function gets a text for each packet that is sent or received, in order."""
    lines: list[tuple[str, bool]] = []
    get(
        served,
        "empty",
        blksize=512,
        windowsize=1,
        trace=lambda text, received: lines.append((text, received)),
    )
    xid = lines[0][0].rpartition(" xid=")[2]
    assert lines == [
        (f'RRQ "empty" octet blksize=512 tsize=0 xid={xid}', False),
        (f"OACK blksize=512 xid={xid}", True),
        ("ACK 0", False),
        ("DATA 1, 0 octets", True),
        ("ACK 1", False),
    ]


def test_trace_has_packets_that_the_loss_filter_drops(fake: ScriptedServer) -> None:
    """A sent packet is in the trace, even if the option `loss` drops it then."""
    lines: list[tuple[str, bool]] = []
    client = TFTPClient(
        fake.reactor,
        "127.0.0.1",
        fake.port,
        options=False,
        timeout=0.05,
        retries=2,
        loss=1.0,
        trace=lambda text, received: lines.append((text, received)),
    )
    with pytest.raises(TransferTimedOut):
        outcome(fake.reactor, client.get("file", io.BytesIO()))
    assert len(lines) > 1
    assert set(lines) == {('RRQ "file" octet', False)}
    assert select.select([fake.request], [], [], 0)[0] == []
    settle(fake.reactor, client)


class LosingClient(TFTPClient):
    """A client that drops the datagrams that the test chooses, and traces the others."""

    def prepare(self, lost: list[bool]) -> list[tuple[str, bool]]:
        """Set which datagrams are dropped, in their order; return the list of traced packets."""
        self._chances = iter([0.0 if each else 1.0 for each in lost])
        self._lines: list[tuple[str, bool]] = []
        return self._lines

    def build_link(self, *parts: Any) -> ClientLink:
        trace = TraceFilter(lambda text, received: self._lines.append((text, received)))
        return FilteredLink([trace, LossFilter(0.5, lambda: next(self._chances))], *parts)


def test_trace_and_loss_filters_can_be_combined(fake: ScriptedServer) -> None:
    """With a trace filter and a loss filter, a dropped packet that was received is not traced."""
    client = LosingClient(fake.reactor, "127.0.0.1", fake.port, options=False)
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


def test_first_block_may_be_late_after_the_oack(fake: ScriptedServer) -> None:
    """The client repeats ACK 0 until its timeouts are used up, if DATA 1 is late after an OACK."""
    job = Download(fake, timeout=1.0, retries=3)
    fake.asked()
    fake.say(wire.oack([("blksize", "512")]))
    seen = [fake.got() for _ in range(6)]  # an address that has never answered gets only four
    assert set(seen) == {wire.ack(0)}
    fake.say(wire.DATA_HEADERS[1] + b"late")
    fake.confirm(wire.oack([("blksize", "512")]))
    job.end()
    assert job.sink.getvalue() == b"late"


def test_two_oacks_in_one_gro_buffer_are_separated(fake: ScriptedServer) -> None:
    """Two OACKs that receive offload joins in one buffer are handled as two datagrams."""
    job = Download(fake, blksize=1428, windowsize=4)
    fake.asked()
    oack = wire.oack([("blksize", "8"), ("windowsize", "4")])
    size = [(socket.IPPROTO_UDP, 103, len(oack).to_bytes(2, sys.byteorder))]
    fake.transfer.sendmsg([oack, oack], size, 0, fake.peer)
    assert fake.got() == wire.ack(0)
    fake.say(wire.DATA_HEADERS[1] + b"end")
    fake.confirm(oack)
    job.end()
    assert job.sink.getvalue() == b"end"


@pytest.mark.parametrize(("tsize", "right"), [("0", True), ("5", True), ("4", False)])
def test_tsize_0_means_that_the_size_is_unknown(
    fake: ScriptedServer, tsize: str, right: bool
) -> None:
    """A tsize of 0 in an OACK means unknown; a file larger than its tsize fails."""
    job = Download(fake)
    fake.asked()
    fake.say(wire.oack([("tsize", tsize)]))
    fake.got()
    fake.say(wire.DATA_HEADERS[1] + b"12345")
    if right:
        fake.confirm(wire.oack([("tsize", tsize)]))
        assert job.end().octets == 5
    else:
        with pytest.raises(TFTPError, match="announced 4"):
            job.end()


class PartialStream:
    """A stream that reads and writes at most 700 octets in a call."""

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


def test_streams_may_read_and_write_less_than_asked(served: MemoryServer) -> None:
    """A stream may read and write fewer octets than asked for, as a pipe does; none is lost."""
    client, stream = served.client(), PartialStream(FILE)
    outcome(served.reactor, client.put(stream, "new"))
    assert served.backend.files["new"] == FILE
    outcome(served.reactor, client.get("new", stream))
    assert stream.taken == FILE
    settle(served.reactor, client)


class NonBlockingStream(PartialStream):
    """A stream that has no data and no room now."""

    def read(self, length: int) -> Any:
        return None

    def write(self, data: Any) -> Any:
        return None


def test_stream_that_would_block_fails_the_transfer(served: MemoryServer) -> None:
    """A stream that returns None fails the transfer; it is not the end of the file."""
    client = served.client()
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.put(NonBlockingStream(), "new"))
    with pytest.raises(TFTPError):
        outcome(served.reactor, client.get("file", NonBlockingStream()))
    assert "new" not in served.backend.files
    settle(served.reactor, client)


@pytest.mark.parametrize("name", ["", "file\0octet\0blksize"])
def test_file_name_that_is_empty_or_has_a_nul_is_refused(served: MemoryServer, name: str) -> None:
    """An empty file name, or one with a NUL, raises ValueError and sends nothing."""
    client = served.client()
    for transfer in (client.get(name, io.BytesIO()), client.put(io.BytesIO(), name)):
        with pytest.raises(ValueError, match="contain a NUL"):
            outcome(served.reactor, transfer)
    assert served.recorder.events == []


class SlowCommit(MemoryWriter):
    """A sink whose commit ends when the test fires a Deferred."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(write="create")
        super().__init__(self.backend, "new")
        self.done: Deferred[None] = Deferred()
        self.committing = False

    def commit(self) -> Any:
        self.committing = True
        return self.done.addCallback(lambda _: MemoryWriter.commit(self))


def test_cancel_during_commit_keeps_the_file(served: MemoryServer) -> None:
    """A download that is cancelled during its commit keeps the file, and logs no failure."""
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
