"""Test the client with our server, and with servers whose packets the test sends, on loopback."""

from __future__ import annotations

import io
import os
import select
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from tests.support.daemon import free_port
from tests.support.memory_server import FILE, MemoryServer, close_client, get, put, served
from tests.support.reactors import clocked, outcome, reactor, spin
from tests.support.scripted_server import ScriptedDownload, ScriptedServer, fake
from tests.support.sinks import SlowSink
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.context import Outcome
from twisted_tftp.errors import (
    AccessViolation,
    AnswersFromOtherHost,
    FileNotFound,
    IllegalOperation,
    OptionRefused,
    PortUnreachable,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.protocol import wire

__all__ = ["clocked", "fake", "reactor", "served"]


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
    close_client(served.reactor, client)


def test_options_may_be_given_for_one_transfer(served: MemoryServer) -> None:
    """The options passed to `get` are sent in their order, and no others."""
    client, sink = served.client(), io.BytesIO()
    result = outcome(served.reactor, client.get("file", sink, {"windowsize": "4"}))
    assert result.options == {"windowsize": "4"}
    assert sink.getvalue() == FILE
    close_client(served.reactor, client)


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
    close_client(served.reactor, client)
    assert client.running == []


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
    close_client(served.reactor, client)


def test_transfers_work_over_ipv6_and_with_a_single_port(reactor: Any) -> None:
    """Both directions work over IPv6, and with a server that answers from its request port."""
    for host, policy in (("::1", {}), ("127.0.0.1", {"single_port": True})):
        served = MemoryServer(reactor, host, **policy)
        assert get(served)[0] == FILE
        put(served, FILE)
        assert served.backend.files["new"] == FILE
        served.stop()


def test_server_may_ignore_the_options(fake: ScriptedServer) -> None:
    """If the server answers the options with DATA 1, the blocks have 512 octets."""
    job = ScriptedDownload(fake, blksize=1428, windowsize=16)
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
    job = ScriptedDownload(fake, blksize=1428, windowsize=16)
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
    "tail",
    [
        b"\0",
        bytes(300),
        b"tsize\0",
        b"tsize\0\0\0",
        b"tsize\x0012",
        b"\xff\xfejunk",
        b"\0\0blksize\x009\0",
    ],
)
def test_octets_after_the_options_of_an_oack_are_ignored(
    fake: ScriptedServer, tail: bytes
) -> None:
    """Some servers send a fixed number of octets, or the rest of an earlier packet."""
    download = ScriptedDownload(fake)
    fake.asked()
    oack = wire.oack([("blksize", "8")]) + tail
    fake.say(oack)
    assert fake.got() == wire.ack(0)
    fake.say(wire.DATA_HEADERS[1] + b"12345678")
    assert fake.got() == wire.ack(1)
    fake.say(wire.DATA_HEADERS[2] + b"9")
    fake.confirm(oack)
    result = download.end()
    assert download.sink.getvalue() == b"123456789"
    assert result.options == {"blksize": "8"}


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (wire.oack([("blksize", "9999")]), OptionRefused, 8),
        (wire.oack([("multicast", "")]), OptionRefused, 8),
        (b"\0\6blksize", IllegalOperation, 4),
        (b"\0\6tsize\x0016\0blksize\0", IllegalOperation, 4),  # of which size are the blocks?
        (b"\0\6blksize\0\0\0", OptionRefused, 8),
    ],
)
def test_invalid_oack_is_answered_with_error_8_or_4(
    fake: ScriptedServer, answer: bytes, kind: type[Exception], code: int
) -> None:
    """An OACK with a larger or unrequested value gets ERROR 8, a malformed one ERROR 4."""
    job = ScriptedDownload(fake, blksize=1428)
    for _ in range(2):  # the first OACK could be for another client, so the client asks again
        fake.asked()
        fake.say(answer)
        assert wire.parse_error(fake.got())[0] == code
    with pytest.raises(kind):
        job.end()


def test_answer_from_a_second_port_gets_error_5(fake: ScriptedServer) -> None:
    """If a repeated request starts a second transfer, its answer gets ERROR 5."""
    job = ScriptedDownload(fake, options=False)
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
    job = ScriptedDownload(fake, options=False)
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
    job = ScriptedDownload(fake, options=False, retries=1, timeout=0.3)
    fake.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(wire.DATA_HEADERS[1] + b"from elsewhere", fake.peer)
        spin(fake.reactor, lambda: select.select([other], [], [], 0)[0])
        fake.reactor.pass_time(0.3)
        with pytest.raises(AnswersFromOtherHost, match=r"come from 127\.0\.0\.2, which was not"):
            job.end()


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
    close_client(served.reactor, lost)
    assert len(served.reactor.getReaders()) == idle
    for transfer in (storing, looking):
        with pytest.raises(CancelledError):
            outcome(served.reactor, transfer)
    assert outcome(served.reactor, client.get("file", io.BytesIO())).octets == len(FILE)
    close_client(served.reactor, client)


def test_request_is_repeated_and_then_times_out(fake: ScriptedServer) -> None:
    """A request without an answer is repeated unchanged, and then the client gives up."""
    job = ScriptedDownload(fake, timeout=0.02, retries=3)
    first = fake.asked()
    fake.reactor.pass_time(0.02)
    assert fake.asked() == first
    fake.reactor.pass_time(0.05)
    with pytest.raises(TransferTimedOut, match="does not answer"):
        job.end()


def test_closed_port_raises_port_unreachable(reactor: Any) -> None:
    """If no program listens on the port, the client raises PortUnreachable after its retries."""
    client = TFTPClient(reactor, "127.0.0.1", free_port(), timeout=0.02, retries=2)
    with pytest.raises(PortUnreachable, match="refused"):
        outcome(reactor, client.get("file", io.BytesIO()))
    close_client(reactor, client)


def test_unreachable_network_raises_server_unreachable(reactor: Any) -> None:
    """If the system refuses to send, here to a broadcast address, ServerUnreachable is raised."""
    client = TFTPClient(reactor, "255.255.255.255", 20001, retries=1, timeout=0.1)
    with pytest.raises(ServerUnreachable, match=r"denied|Network is unreachable") as raised:
        outcome(reactor, client.get("file", io.BytesIO()))
    assert not isinstance(raised.value, PortUnreachable)
    close_client(reactor, client)


def test_transfer_cancelled_before_an_answer_sends_no_error(fake: ScriptedServer) -> None:
    """A transfer that is cancelled before an answer sends nothing more to the request port."""
    job = ScriptedDownload(fake)
    fake.asked()
    job.transfer.cancel()
    with pytest.raises(CancelledError):
        job.end()
    assert select.select([fake.request], [], [], 0)[0] == []


def test_first_block_may_be_late_after_the_oack(fake: ScriptedServer) -> None:
    """The client repeats ACK 0 until its timeouts are used up, if DATA 1 is late after an OACK."""
    job = ScriptedDownload(fake, timeout=1.0, retries=3)
    fake.asked()
    fake.say(wire.oack([("blksize", "512")]))
    assert fake.got() == wire.ack(0)
    fake.reactor.pass_time(1.0)
    # An address that has never answered gets only four datagrams.
    assert {fake.got() for _ in range(5)} == {wire.ack(0)}
    fake.say(wire.DATA_HEADERS[1] + b"late")
    fake.confirm(wire.oack([("blksize", "512")]))
    job.end()
    assert job.sink.getvalue() == b"late"


def test_two_oacks_in_one_gro_buffer_are_separated(fake: ScriptedServer) -> None:
    """Two OACKs that receive offload joins in one buffer are handled as two datagrams."""
    job = ScriptedDownload(fake, blksize=1428, windowsize=4)
    fake.asked()
    oack = wire.oack([("blksize", "8"), ("windowsize", "4")])
    size = [(socket.IPPROTO_UDP, 103, len(oack).to_bytes(2, sys.byteorder))]
    fake.transfer.sendmsg([oack, oack], size, 0, fake.peer)
    assert fake.got() == wire.ack(0)
    fake.say(wire.DATA_HEADERS[1] + b"end")
    fake.confirm(oack)
    job.end()
    assert job.sink.getvalue() == b"end"


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
    close_client(served.reactor, client)


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
    close_client(served.reactor, client)


@pytest.mark.parametrize("name", ["", "file\0octet\0blksize"])
def test_file_name_that_is_empty_or_has_a_nul_is_refused(served: MemoryServer, name: str) -> None:
    """An empty file name, or one with a NUL, raises ValueError and sends nothing."""
    client = served.client()
    for transfer in (client.get(name, io.BytesIO()), client.put(io.BytesIO(), name)):
        with pytest.raises(ValueError, match="contain a NUL"):
            outcome(served.reactor, transfer)
    assert served.recorder.events == []
