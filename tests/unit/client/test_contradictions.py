"""Test the client when it also receives answers to other requests, over loopback."""

from __future__ import annotations

import errno
import io
import itertools
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.daemon import IPV6, free_port
from tests.support.reactors import ClockedReactor, clocked, outcome, reactor, spin
from twisted_tftp.client import TFTPClient
from twisted_tftp.client.held_writer import MAX_HELD
from twisted_tftp.context import Outcome
from twisted_tftp.errors import (
    AnswerNotConfirmed,
    AnswersContradict,
    AnswersFromOtherHost,
    FileAlreadyExists,
    FileNotFound,
    IllegalOperation,
    NoAnswer,
    OptionRefused,
    ServerUnreachable,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.interfaces import IFileReader
from twisted_tftp.net.client_ports import ClientPorts
from twisted_tftp.net.segmentation import HAS_OFFLOAD, UDP_SEGMENT
from twisted_tftp.net.udp import open_socket
from twisted_tftp.protocol import wire
from twisted_tftp.testing import Recorder
from twisted_tftp.transfer.first_answer import MAX_DOUBT, KnownServer, XidSupport

__all__ = ["clocked", "reactor"]

#: The answer to another request, with a whole file.
STALE = wire.DATA_HEADERS[1] + b"Z"

#: The answer to another request, with the first block of a file.
STALE_BEGINNING = wire.DATA_HEADERS[1] + b"Z" * 512


def error(code: int) -> bytes:
    """Return an ERROR packet."""
    return b"\0\5" + code.to_bytes(2, "big") + b"no\0"


class Host:
    """A server's host that the test scripts: a request port, and any number of transfer ports.

    @ivar reactor: the reactor of its clients, whose time passes only when the test lets it pass.
    """

    def __init__(self, reactor: ClockedReactor, address: str = "127.0.0.1") -> None:
        self.reactor = reactor
        self.address = address
        self.sockets: list[socket.socket] = []
        self.request = self.open()
        self.port: int = self.request.getsockname()[1]
        self.told: list[str] = []
        self.clients: list[TFTPClient] = []

    def open(self) -> socket.socket:
        """Open a transfer port."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((self.address, 0))
        self.sockets.append(sock)
        return sock

    def client(self, **settings: Any) -> TFTPClient:
        """Return a client of this host."""
        settings = {"on_notice": self.told.append, "in_thread": maybeDeferred, **settings}
        clock = self.reactor.seconds
        client = TFTPClient(self.reactor, self.address, self.port, clock=clock, **settings)
        self.clients.append(client)
        return client

    def receive(self, sock: socket.socket) -> tuple[bytes, Any]:
        """Wait for a datagram on `sock`; return it and its source address."""
        spin(self.reactor, lambda: select.select([sock], [], [], 0)[0])
        return sock.recvfrom(70000)

    def asked(self) -> tuple[Any, str]:
        """Wait for a request; return the client's address and the request's xid."""
        datagram, peer = self.receive(self.request)
        return peer, wire.parse_request(datagram).options.get("xid", "")

    def asked_again(self, peer: Any, xid: str) -> Any:
        """Wait for the same request from a second port of the client; return its address."""
        second, same = self.asked()
        assert second[1] != peer[1]
        assert same == xid
        return second

    def confirm(self, peer: Any, answer: bytes) -> None:
        """Answer the second request with `answer`, and check how the client ends that transfer."""
        sock = self.open()
        second, _ = self.asked()
        assert second[1] != peer[1]
        sock.sendto(answer, second)
        is_whole = answer[:2] == b"\0\3" and len(answer) < 516
        end = self.receive(sock)[0]
        assert end == wire.ack(1) if is_whole else wire.opcode_of(end) == wire.Opcode.ERROR

    def error_at(self, sock: socket.socket) -> int:
        """Receive on `sock` until an ERROR comes; return its code."""
        while True:
            datagram, _ = self.receive(sock)
            if wire.opcode_of(datagram) == wire.Opcode.ERROR:
                return wire.parse_error(datagram)[0]

    def serve(self, peer: Any, xid: str, content: bytes) -> None:
        """Send a file of one block with options, as our server does."""
        sock = self.open()
        sock.sendto(oack(xid), peer)
        assert self.receive(sock)[0] == wire.ack(0)
        sock.sendto(wire.DATA_HEADERS[1] + content, peer)
        assert self.receive(sock)[0] == wire.ack(1)

    def close(self) -> None:
        for client in self.clients:
            closed: list[Any] = []
            client.close().addBoth(closed.append)
            spin(self.reactor, lambda closed=closed: closed)
        for sock in self.sockets:
            sock.close()


def oack(xid: str = "", blksize: str = "1000") -> bytes:
    """Return an OACK with a block size, and with an xid unless it is empty."""
    return wire.oack([("blksize", blksize), *([("xid", xid)] if xid else [])])


@pytest.fixture
def host(clocked: ClockedReactor) -> Iterator[Host]:
    """Return a host."""
    host = Host(clocked)
    yield host
    host.close()


def doubt_for(seconds: float) -> KnownServer:
    """Return what a client knows of a server, so that its answers are in doubt for `seconds`."""
    return KnownServer(min_doubt=seconds, max_doubt=seconds)


def long_doubt() -> KnownServer:
    """Let the doubt last longer than the test, so that the test also passes on a slow computer."""
    return doubt_for(100.0)


def test_datagram_to_another_local_address_is_no_answer(host: Host) -> None:
    """A datagram to the client's port, but to another address of the client's host, is ignored."""
    sink = io.BytesIO()
    fetching = host.client(options=False).get("want", sink)
    peer, _ = host.asked()
    host.open().sendto(STALE, ("127.9.9.9", peer[1]))
    sock = host.open()
    sock.sendto(wire.DATA_HEADERS[1] + b"true", peer)
    assert outcome(host.reactor, fetching).octets == 4
    assert sink.getvalue() == b"true"


def true_answer(kind: str, xid: str) -> bytes:
    """Return the true answer of the given kind."""
    return {
        "options": oack(xid),
        "no xid": oack(),
        "data": wire.DATA_HEADERS[1] + b"true",
        "error": error(1),
    }[kind]


TRUE_ANSWERS = pytest.mark.parametrize("true", ["options", "no xid", "data", "error"])


@TRUE_ANSWERS
def test_true_answer_after_a_stale_block_makes_the_client_ask_again(host: Host, true: str) -> None:
    """If the true answer contradicts a stale block, the client ends both and asks again."""
    sink = io.BytesIO()
    fetching = host.client(known=long_doubt()).get("want", sink)
    peer, xid = host.asked()
    old, new = host.open(), host.open()
    old.sendto(STALE_BEGINNING, peer)
    new.sendto(true_answer(true, xid), peer)
    host.error_at(old)
    if true != "error":
        assert wire.parse_error(host.receive(new)[0])[0] == 5
    again, xid_again = host.asked()
    assert again[1] != peer[1]
    assert xid_again != xid
    host.serve(again, xid_again, b"true")
    assert outcome(host.reactor, fetching).octets == 4
    assert sink.getvalue() == b"true"
    (line,) = host.told
    assert str(peer[1]) in line
    assert str(again[1]) in line


def test_error_after_a_stale_block_is_confirmed_and_raised(host: Host) -> None:
    """If an ERROR contradicts a stale block, the client asks again and raises the next ERROR."""
    fetching = host.client(known=long_doubt()).get("missing", io.BytesIO())
    for number in range(2):
        peer, _ = host.asked()
        if not number:
            host.open().sendto(STALE_BEGINNING, peer)
        host.open().sendto(error(1), peer)
    with pytest.raises(FileNotFound):
        outcome(host.reactor, fetching)


def test_nothing_is_written_while_the_answer_is_in_doubt(host: Host) -> None:
    """Blocks are acknowledged but held back until a second port gets the same answer."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    sock = host.open()
    sock.sendto(STALE_BEGINNING, peer)
    assert host.receive(sock)[0] == wire.ack(1)
    sock.sendto(wire.DATA_HEADERS[2] + b"end", peer)
    second = host.asked_again(peer, xid)
    # A server that serves one client at a time reads the second request only after this ACK. A
    # second ACK could reach a server that has forgotten the transfer, and would get an ERROR.
    assert host.receive(sock)[0] == wire.ack(2)
    assert not select.select([sock], [], [], 0)[0]
    assert sink.getvalue() == b""
    host.request.sendto(STALE_BEGINNING, second)
    assert outcome(host.reactor, fetching).octets == 515
    assert sink.getvalue() == b"Z" * 512 + b"end"


@TRUE_ANSWERS
def test_different_answer_to_the_second_request_shows_a_stale_block(host: Host, true: str) -> None:
    """If the second request gets another answer, the first answer is dropped as stale."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    old, new = host.open(), host.open()
    old.sendto(STALE, peer)
    new.sendto(true_answer(true, xid), host.asked_again(peer, xid))
    host.error_at(old)
    if true == "data":
        assert host.receive(new)[0] == wire.ack(1)
    elif true != "error":
        host.error_at(new)
    again, xid = host.asked()
    host.serve(again, xid, b"true")
    assert outcome(host.reactor, fetching).octets == 4
    assert sink.getvalue() == b"true"
    assert len(host.told) == 1


@pytest.mark.skipif(not IPV6, reason="this machine has no ::1")
def test_stale_block_is_detected_over_ipv6(clocked: ClockedReactor) -> None:
    """The second request also detects a stale block over IPv6."""
    host = Host(clocked, "::1")
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    host.open().sendto(STALE, peer)
    host.open().sendto(oack(xid), host.asked_again(peer, xid))
    host.serve(*host.asked(), b"true")
    outcome(clocked, fetching)
    assert sink.getvalue() == b"true"
    host.close()


def test_download_in_doubt_fails_if_no_second_socket_can_be_opened(
    host: Host, tmp_path: Path
) -> None:
    """If no socket is left for the second request, the download fails and leaves no file."""

    class OnePort(ClientPorts):
        def open(self, server: Any) -> socket.socket:
            if opened:
                raise OSError(errno.EMFILE, "too many open files")
            opened.append(super().open(server))
            return opened[0]

    opened: list[socket.socket] = []
    fetching = host.client(ports=OnePort()).get("want", tmp_path / "local")
    peer, _ = host.asked()
    old = host.open()
    old.sendto(STALE, peer)
    host.error_at(old)
    with pytest.raises(TFTPError):
        outcome(host.reactor, fetching)
    assert list(tmp_path.iterdir()) == []


class ScriptedAnswers:
    """Answers for a host: to the first request, to the second one, and OACKs to all others."""

    def __init__(self, host: Host, first: bytes, second: str) -> None:
        self.host = host
        self.first = first
        self.second = second
        self.asked: list[Any] = []
        self.transfers: list[socket.socket] = []

    def turn(self) -> None:
        """Answer the requests that have arrived."""
        while select.select([self.host.request], [], [], 0)[0]:
            datagram, peer = self.host.request.recvfrom(70000)
            if peer not in self.asked:
                self.asked.append(peer)
                self._answer(peer, wire.parse_request(datagram).options["xid"])
        for sock in self.transfers:
            while select.select([sock], [], [], 0)[0]:
                datagram, peer = sock.recvfrom(70000)
                if datagram == wire.ack(0):
                    sock.sendto(STALE, peer)

    def _answer(self, peer: Any, xid: str) -> None:
        answers = {"same": self.first, "proof": oack(xid), "error": error(1)}
        answer = {1: self.first, 2: answers.get(self.second)}.get(len(self.asked), oack(xid))
        if answer is not None:
            self.transfers.append(self.host.open())
            self.transfers[-1].sendto(answer, peer)


@pytest.mark.parametrize("act", ["cancel", "close"])
@pytest.mark.parametrize("second", ["same", "proof", "error", "silence"])
@pytest.mark.parametrize("first", [STALE, oack()], ids=["data", "oack"])
def test_cancelled_download_in_doubt_leaves_nothing_at_any_time(
    host: Host, first: bytes, second: str, act: str, tmp_path: Path
) -> None:
    """A download in doubt leaves no file, socket or timer, whenever it is cancelled or closed."""
    path = tmp_path / "local"
    for turns in range(1, 30):
        client, script = host.client(), ScriptedAnswers(host, first, second)
        results: list[Any] = []
        fetching = client.get("want", path).addBoth(results.append)
        for _ in range(turns):
            script.turn()
            host.reactor.iterate(0.001)
        if act == "cancel":
            fetching.cancel()
        closed: list[Any] = []
        client.close().addBoth(closed.append)
        spin(host.reactor, lambda closed=closed: closed)
        assert len(results) == 1
        is_complete = not isinstance(results[0], Failure)
        assert [each.name for each in tmp_path.iterdir()] == ["local"] * is_complete
        path.unlink(missing_ok=True)
        for sock in script.transfers:
            host.sockets.remove(sock)
            sock.close()
    assert host.reactor.getDelayedCalls() == []


def test_answer_that_two_ports_have_got_is_accepted(host: Host) -> None:
    """After a stale block, an answer without options that two ports have got is accepted."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    host.open().sendto(STALE, peer)
    true = true_answer("data", "")
    host.open().sendto(true, host.asked_again(peer, xid))
    again, _ = host.asked()
    sock = host.open()
    sock.sendto(true, again)
    assert host.receive(sock)[0] == wire.ack(1)
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"
    assert not select.select([host.request], [], [], 0)[0]


def test_unconfirmed_answer_fails_the_download(host: Host, tmp_path: Path) -> None:
    """If the second request gets no answer, the download fails and leaves no file."""
    fetching = host.client(timeout=0.05, retries=3).get("want", tmp_path / "local")
    peer, xid = host.asked()
    host.open().sendto(STALE, peer)
    second = host.asked_again(peer, xid)
    host.reactor.pass_time(0.05)
    assert host.asked_again(peer, xid) == second
    host.reactor.pass_time(0.1)
    with pytest.raises(AnswerNotConfirmed):
        outcome(host.reactor, fetching)
    assert list(tmp_path.iterdir()) == []


def test_oack_with_another_xid_to_the_second_port_is_refused(host: Host) -> None:
    """An OACK with another xid is refused on the second port too; the true answer is awaited."""
    fetching = host.client().get("want", io.BytesIO())
    peer, xid = host.asked()
    host.open().sendto(true_answer("data", ""), peer)
    second = host.asked_again(peer, xid)
    old = host.open()
    old.sendto(oack("0badf00d"), second)
    assert host.error_at(old) == 5
    host.open().sendto(true_answer("data", ""), second)
    assert outcome(host.reactor, fetching).octets == 4


def test_last_ack_is_repeated_while_the_answer_is_checked(host: Host) -> None:
    """Each copy of the last block is acknowledged before the second request is answered."""
    fetching = host.client().get("want", io.BytesIO())
    peer, _ = host.asked()
    sock = host.open()
    for _ in range(3):
        sock.sendto(STALE, peer)
        assert host.receive(sock)[0] == wire.ack(1)
    host.confirm(peer, STALE)
    assert outcome(host.reactor, fetching).octets == 1


@pytest.mark.parametrize(
    ("answer", "end"), [(STALE, b"\0\4\0\1"), (STALE_BEGINNING, b"\0\5\0\0")], ids=["all", "some"]
)
def test_second_transfer_is_ended_each_time_its_answer_is_repeated(
    host: Host, answer: bytes, end: bytes
) -> None:
    """Each repeated answer to the second request gets an ACK (whole file) or an ERROR (a part)."""
    fetching = host.client().get("want", io.BytesIO())
    peer, xid = host.asked()
    sock, second = host.open(), host.open()
    sock.sendto(answer, peer)
    if answer == STALE_BEGINNING:
        assert host.receive(sock)[0] == wire.ack(1)
        sock.sendto(wire.DATA_HEADERS[2], peer)
    other = host.asked_again(peer, xid)
    for _ in range(3):
        second.sendto(answer, other)
        assert host.receive(second)[0][:4] == end
    outcome(host.reactor, fetching)


def test_data_1_after_a_rollover_is_not_a_second_answer(host: Host, tmp_path: Path) -> None:
    """DATA 1 after a rollover of the block number belongs to the same file."""
    fetching = host.client(windowsize=1).get("want", tmp_path / "local")
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(STALE_BEGINNING, peer)
    assert host.receive(sock)[0] == wire.ack(1)
    for number in range(2, 0x10000 + 1):
        sock.sendto(wire.DATA_HEADERS[number & 0xFFFF] + bytes(512), peer)
        host.reactor.iterate(0)
        assert host.receive(sock)[0] == wire.ack(number & 0xFFFF)
    sock.sendto(wire.DATA_HEADERS[1] + b"end", peer)
    host.confirm(peer, STALE_BEGINNING)
    assert outcome(host.reactor, fetching).octets == 512 * 0x10000 + 3
    assert host.told == []


def noting_acks(noted: list[str]) -> Callable[[str, bool], None]:
    """Return a trace that adds each ACK that the client has received to `noted`."""

    def trace(words: str, received: bool) -> None:
        if received and words.startswith("ACK"):
            noted.append(words)

    return trace


@pytest.mark.parametrize("act", ["put", "get"])
def test_answer_in_the_socket_counts_if_the_reactor_was_late(host: Host, act: str) -> None:
    """An answer that arrived before the end of the doubt counts, even if it is read after it."""
    port = free_port()
    acknowledged: list[str] = []
    client = host.client(
        bind="127.0.0.1",
        bind_port=port,
        trace=noting_acks(acknowledged),
        known=doubt_for(0.05),
    )
    file = io.BytesIO()
    acting = client.put(io.BytesIO(b"x"), "new") if act == "put" else client.get("want", file)
    peer, _ = host.asked()
    host.open().sendto(wire.ack(0) if act == "put" else STALE, peer)
    if act == "put":
        spin(host.reactor, lambda: acknowledged)
    else:
        spin(host.reactor, lambda: [each.octets for each in client.running] == [1])
    # This OACK has no xid: an OACK with the xid would also count after the doubt.
    host.open().sendto(oack(), peer)
    # The reactor is blocked for longer than the doubt lasts. Timers are handled before sockets.
    host.reactor.advance(0.06)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, acting)


def test_long_download_in_doubt_waits_or_writes_a_temporary_file(
    host: Host, tmp_path: Path
) -> None:
    """Above MAX_HELD octets, a stream waits for the end of the doubt; a path is not committed."""
    for sink, has_options in itertools.product((io.BytesIO(), tmp_path / "local"), (False, True)):
        fetching = host.client().get("want", sink)
        peer, xid = host.asked()
        sock = host.open()
        answer, blksize = STALE_BEGINNING, 512
        if has_options:
            blksize = 65464
            answer = oack(blksize=str(blksize))
            sock.sendto(answer, peer)
            assert host.receive(sock)[0] == wire.ack(0)
        blocks = MAX_HELD // blksize + 1
        for number in range(1, blocks + 1):
            sock.sendto(wire.DATA_HEADERS[number] + b"Z" * blksize, peer)
            assert host.receive(sock)[0] == wire.ack(number)
        end = wire.DATA_HEADERS[blocks + 1]
        if sink == tmp_path / "local":
            sock.sendto(end, peer)
        second = host.asked_again(peer, xid)
        if isinstance(sink, io.BytesIO):
            assert sink.getvalue() == b""
        else:
            assert not sink.exists()
        host.open().sendto(answer, second)
        if isinstance(sink, io.BytesIO):
            sock.sendto(end, peer)
        assert outcome(host.reactor, fetching).octets == blocks * blksize
        if isinstance(sink, io.BytesIO):
            sink.seek(0)
            sink.truncate()
        else:
            sink.unlink()


@pytest.mark.parametrize("true", ["no xid", "data"])
def test_answer_to_a_fixed_port_is_settled_by_time(host: Host, true: str) -> None:
    """With a fixed local port there is no second request: the doubt ends after some time."""
    port = free_port()
    client = host.client(bind="127.0.0.1", bind_port=port)
    fetching = client.get("want", io.BytesIO())
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(true_answer(true, ""), peer)
    if true == "no xid":
        assert host.receive(sock)[0] == wire.ack(0)
        sock.sendto(true_answer("data", ""), peer)
    spin(host.reactor, lambda: [each.octets for each in client.running] == [4])
    host.reactor.pass_time(MAX_DOUBT)
    assert host.receive(sock)[0] == wire.ack(1)
    assert outcome(host.reactor, fetching).octets == 4
    assert host.told == []


def test_answer_without_options_is_accepted_after_a_second_request(host: Host) -> None:
    """A server without options is asked from a second port, and then its answer is accepted."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, _ = host.asked()
    old = host.open()
    old.sendto(wire.DATA_HEADERS[1] + bytes(512), peer)
    assert host.receive(old)[0] == wire.ack(1)
    # The same octets from a second port: the server has received the request twice.
    second = host.open()
    second.sendto(wire.DATA_HEADERS[1] + bytes(512), peer)
    assert wire.parse_error(host.receive(second)[0])[0] == 5
    old.sendto(wire.DATA_HEADERS[2] + b"end", peer)
    assert host.receive(old)[0] == wire.ack(2)
    host.confirm(peer, wire.DATA_HEADERS[1] + bytes(512))
    assert outcome(host.reactor, fetching).octets == 515
    assert sink.getvalue() == bytes(512) + b"end"
    assert host.told == []


def test_oack_with_another_xid_is_refused(host: Host) -> None:
    """An OACK with another xid gets ERROR 5, and the client waits for the true answer."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    old = host.open()
    old.sendto(oack("0badf00d"), peer)
    assert wire.parse_error(host.receive(old)[0])[0] == 5
    host.serve(peer, xid, b"true")
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"
    assert host.told == []


def test_oack_with_another_xid_from_the_request_port_gets_no_error(host: Host) -> None:
    """A wrong OACK from the request port gets no ERROR, which would end a single-port transfer."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    host.request.sendto(oack("0badf00d"), peer)
    host.request.sendto(oack(xid), peer)
    assert host.receive(host.request)[0] == wire.ack(0)
    host.request.sendto(wire.DATA_HEADERS[1] + b"true", peer)
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"


@pytest.mark.parametrize(
    "late", [oack(blksize="999"), STALE, error(1)], ids=["oack", "data", "error"]
)
def test_other_answer_after_the_doubt_is_ignored(host: Host, late: bytes) -> None:
    """Another answer that arrives after the end of the doubt does not stop the transfer."""
    sink = io.BytesIO()
    client = host.client(known=doubt_for(0.0))
    fetching = client.get("want", sink, {"blksize": "1000"})
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(oack(), peer)
    assert host.receive(sock)[0] == wire.ack(0)
    sock.sendto(wire.DATA_HEADERS[1] + bytes(1000), peer)
    assert host.receive(sock)[0] == wire.ack(1)
    rival = host.open()
    rival.sendto(late, peer)
    sock.sendto(wire.DATA_HEADERS[2] + b"end", peer)
    assert host.receive(sock)[0] == wire.ack(2)
    assert outcome(host.reactor, fetching).octets == 1003
    assert host.told == []


@pytest.mark.parametrize("kind", ["stream", "path"])
def test_oack_with_the_xid_overrides_another_answer_after_the_doubt(
    host: Host, kind: str, tmp_path: Path
) -> None:
    """A late OACK with the xid restarts an upload from a path; an upload from a stream fails."""
    (tmp_path / "local").write_bytes(bytes(700))
    source: Any = tmp_path / "local" if kind == "path" else io.BytesIO(bytes(700))
    storing = host.client(windowsize=1, known=doubt_for(0.0)).put(source, "new")
    peer, xid = host.asked()
    old = host.open()
    old.sendto(wire.ack(0), peer)
    host.receive(old)
    if kind == "stream":  # the last block of a stream is sent too
        old.sendto(wire.ack(1), peer)
        host.receive(old)
    host.open().sendto(oack(xid), peer)
    host.error_at(old)
    if kind == "stream":
        with pytest.raises(AnswersContradict):
            outcome(host.reactor, storing)
        return
    again, xid = host.asked()
    sock = host.open()
    sock.sendto(oack(xid), again)
    assert host.receive(sock)[0] == wire.DATA_HEADERS[1] + bytes(700)
    sock.sendto(wire.ack(1), again)
    assert outcome(host.reactor, storing).octets == 700


def test_late_oack_with_the_xid_from_a_single_port_fails_an_upload(host: Host) -> None:
    """A late OACK with the xid counts, if it comes from the port of the present transfer."""
    client = host.client(windowsize=1, known=doubt_for(0.0))
    storing = client.put(io.BytesIO(bytes(3000)), "new")
    peer, xid = host.asked()
    host.request.sendto(oack(), peer)
    for number in (1, 2):
        assert host.receive(host.request)[0][:4] == wire.DATA_HEADERS[number]
        host.request.sendto(wire.ack(number) if number == 1 else oack(xid), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, storing)


def test_upload_is_not_restarted_after_its_last_block_was_sent(host: Host) -> None:
    """After its last block was sent, a contradicted upload fails: the server may have the file."""
    storing = host.client().put(io.BytesIO(b"x"), "new", {"blksize": "1000"})
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(oack(), peer)
    assert host.receive(sock)[0] == wire.DATA_HEADERS[1] + b"x"
    host.open().sendto(oack(blksize="999"), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, storing)
    assert not select.select([host.request], [], [], 0)[0]


class LateRoute(ClientPorts):
    """The client's sockets on a host that has no route to the server at first."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[socket.socket] = []

    def open(self, server: Any) -> socket.socket:
        sock = super().open(server) if self.opened else open_socket(server, None)
        self.opened.append(sock)
        return sock


def test_client_remembers_other_hosts_when_its_port_changes(host: Host) -> None:
    """When the route appears and the port changes, other hosts that answered are still named."""
    client = host.client(ports=LateRoute(), timeout=0.1, retries=5, options=False)
    fetching = client.get("want", io.BytesIO())
    peer, _ = host.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(STALE, peer)
        spin(host.reactor, lambda: select.select([other], [], [], 0)[0])
        host.reactor.pass_time(0.35)
        ports = {host.asked()[0][1] for _ in range(3)}
        host.reactor.pass_time(0.2)
        with pytest.raises(AnswersFromOtherHost):
            outcome(host.reactor, fetching)
    assert len(ports - {peer[1]}) == 1


def test_requests_from_a_wildcard_bind_keep_their_port(host: Host) -> None:
    """If the user binds to 0.0.0.0, repeated requests come from the same port."""
    fetching = host.client(bind="0.0.0.0", timeout=0.05, retries=4).get("want", io.BytesIO())
    host.reactor.pass_time(0.2)
    assert len({host.asked()[0] for _ in range(3)}) == 1
    with pytest.raises(NoAnswer):
        outcome(host.reactor, fetching)


def test_nothing_contradicts_an_oack_with_the_xid(host: Host) -> None:
    """After an OACK with the request's xid, other answers of the server's host are ignored."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    sock, old = host.open(), host.open()
    sock.sendto(oack(xid), peer)
    assert host.receive(sock)[0] == wire.ack(0)
    for datagram in (STALE, oack(), oack("0badf00d"), error(1)):
        old.sendto(datagram, peer)
    sock.sendto(wire.DATA_HEADERS[1] + b"true", peer)
    assert host.receive(sock)[0] == wire.ack(1)
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"


@pytest.mark.parametrize("act", ["get", "put"])
def test_invalid_oack_is_confirmed_from_another_port(host: Host, act: str) -> None:
    """After an invalid OACK the client asks from another port; the same OACK there is an error."""
    for is_stale in (True, False):
        client = host.client()
        file = io.BytesIO()
        acting = client.get("want", file) if act == "get" else client.put(file, "want")
        peer, _ = host.asked()
        unasked = wire.oack([("multicast", "")])
        old = host.open()
        old.sendto(unasked, peer)
        assert host.error_at(old) == 8
        again, xid = host.asked()
        assert again[1] != peer[1]
        if not is_stale:
            host.open().sendto(unasked, again)
            with pytest.raises(OptionRefused):
                outcome(host.reactor, acting)
        elif act == "get":
            host.serve(again, xid, b"true")
            assert outcome(host.reactor, acting).octets == 4
        else:
            sock = host.open()
            sock.sendto(oack(xid), again)
            assert host.receive(sock)[0] == wire.DATA_HEADERS[1]
            sock.sendto(wire.ack(1), again)
            assert outcome(host.reactor, acting).octets == 0


def test_server_that_has_granted_an_xid_must_grant_it_again(host: Host) -> None:
    """Its answers without an xid are refused, until two retransmissions got no other answer."""
    client, sink = host.client(timeout=0.05, retries=100), io.BytesIO()
    first = client.get("want", io.BytesIO())
    peer, xid = host.asked()
    host.serve(peer, xid, b"true")
    outcome(host.reactor, first)
    second = client.get("want", sink)
    peer, _ = host.asked()
    old = host.open()
    for datagram in (STALE, oack()):
        sock = host.open()
        sock.sendto(datagram, peer)
        assert wire.parse_error(host.receive(sock)[0])[0] == 5
    for _ in range(2):
        host.reactor.pass_time(0.05)
        assert host.asked()[0] == peer
    old.sendto(oack(), peer)
    assert host.receive(old)[0] == wire.ack(0)
    old.sendto(wire.DATA_HEADERS[1] + b"true", peer)
    host.confirm(peer, oack())
    outcome(host.reactor, second)
    assert sink.getvalue() == b"true"


def test_contradiction_on_a_fixed_port_fails_at_once(host: Host) -> None:
    """With a fixed local port, contradicting answers fail the download at once."""
    port = free_port()
    fetching = host.client(bind="127.0.0.1", bind_port=port, known=long_doubt()).get(
        "want", io.BytesIO()
    )
    peer, _ = host.asked()
    assert peer == ("127.0.0.1", port)
    host.open().sendto(STALE, peer)
    host.open().sendto(oack(), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, fetching)


def test_client_asks_from_three_more_ports_at_most(host: Host) -> None:
    """After contradictions on four ports the client fails."""
    fetching = host.client(known=long_doubt()).get("want", io.BytesIO())
    ports = set()
    for number in range(4):
        peer, _ = host.asked()
        ports.add(peer[1])
        host.open().sendto(STALE_BEGINNING[:-1] + bytes([number]), peer)
        host.open().sendto(oack(), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, fetching)
    assert len(ports) == 4
    assert len(host.told) == 3


def test_download_to_a_path_is_restarted_after_a_contradiction(host: Host, tmp_path: Path) -> None:
    """When another OACK follows, what was written to a path is dropped and fetched again."""
    fetching = host.client().get("want", tmp_path / "local", {"blksize": "1000"})
    peer, _ = host.asked()
    old = host.open()
    old.sendto(oack(), peer)
    assert host.receive(old)[0] == wire.ack(0)
    old.sendto(wire.DATA_HEADERS[1] + bytes(1000), peer)
    assert host.receive(old)[0] == wire.ack(1)
    host.open().sendto(oack(blksize="999"), peer)
    again, _ = host.asked()
    host.serve(again, "", b"true")
    outcome(host.reactor, fetching)
    assert [path.name for path in tmp_path.iterdir()] == ["local"]
    assert (tmp_path / "local").read_bytes() == b"true"


def test_download_times_out_if_its_path_cannot_be_opened_again(host: Host, tmp_path: Path) -> None:
    """If the disk hangs when the path is opened again, the download times out."""
    is_stuck: list[bool] = []

    def in_thread(function: Any, *args: Any) -> Any:
        return Deferred() if is_stuck else maybeDeferred(function, *args)

    client = host.client(in_thread=in_thread, timeout=0.1, retries=10)
    fetching = client.get("want", tmp_path / "local")
    peer, xid = host.asked()
    old = host.open()
    blksize = 65464
    old.sendto(oack(blksize=str(blksize)), peer)
    assert host.receive(old)[0] == wire.ack(0)
    blocks = MAX_HELD // blksize + 1
    for number in range(1, blocks + 2):
        octets = bytes(blksize if number <= blocks else 0)
        old.sendto(wire.DATA_HEADERS[number] + octets, peer)
        assert host.receive(old)[0] == wire.ack(number)
    for _ in range(3):  # by then the transfer has no timer of its own
        second = host.asked_again(peer, xid)
        host.reactor.pass_time(0.1)
    is_stuck.append(True)
    host.open().sendto(oack(xid), second)
    spin(host.reactor, lambda: host.told)
    host.reactor.pass_time(1.1)
    with pytest.raises(TransferTimedOut):
        outcome(host.reactor, fetching)
    host.clients.clear()  # a client that waits for a disk can't be closed


def test_download_to_a_stream_fails_after_a_contradiction(host: Host) -> None:
    """Octets written to a stream can't be taken back, so a contradiction fails the download."""
    fetching = host.client().get("want", io.BytesIO(), {"blksize": "1000"})
    peer, _ = host.asked()
    old = host.open()
    old.sendto(oack(), peer)
    assert host.receive(old)[0] == wire.ack(0)
    old.sendto(wire.DATA_HEADERS[1] + bytes(1000), peer)
    assert host.receive(old)[0] == wire.ack(1)
    host.open().sendto(oack(blksize="999"), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, fetching)


def test_first_oack_without_an_xid_is_in_doubt(host: Host) -> None:
    """An OACK without xid is in doubt, even after a whole small file: one with xid may follow."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    old = host.open()
    old.sendto(oack(), peer)
    assert host.receive(old)[0] == wire.ack(0)
    old.sendto(STALE, peer)
    host.asked_again(peer, xid)
    host.open().sendto(oack(xid), peer)
    host.serve(*host.asked(), b"true")
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"


def test_only_the_first_transfer_with_a_server_without_xid_is_in_doubt(host: Host) -> None:
    """When a server is known to ignore the xid, its OACKs are not confirmed any more."""
    client = host.client()
    for is_first in (True, False):
        fetching = client.get("want", io.BytesIO())
        peer, _ = host.asked()
        host.serve(peer, "", b"true")
        if is_first:
            host.confirm(peer, oack())
        assert outcome(host.reactor, fetching).octets == 4
    assert not select.select([host.request], [], [], 0)[0]


def test_error_4_is_accepted_only_from_a_second_port(host: Host) -> None:
    """ERROR 4 may answer another client's request, so it counts if a second port gets it too."""
    sink = io.BytesIO()
    client = host.client()
    fetching = client.get("want", sink)
    peer, xid = host.asked()
    host.open().sendto(error(4), peer)
    assert host.asked() == (peer, xid)
    host.serve(peer, xid, b"true")
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"
    fetching = client.get("want", sink)
    peers = []
    for _ in range(4):
        peers.append(host.asked()[0])
        host.open().sendto(error(4), peers[-1])
    with pytest.raises(IllegalOperation):
        outcome(host.reactor, fetching)
    assert len(set(peers)) == 2


def test_repeated_error_4_makes_the_client_change_its_port(host: Host) -> None:
    """After several ERROR 4 the client asks from another port, and gets the file there."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, _ = host.asked()
    for _ in range(5):
        host.open().sendto(error(4), peer)
    host.asked()
    again, xid = host.asked()
    assert again[1] != peer[1]
    host.serve(again, xid, b"true")
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"


def test_complete_download_in_doubt_can_be_cancelled(host: Host) -> None:
    """A download whose file is complete and waits for the end of the doubt can be cancelled."""
    client = host.client()
    fetching = client.get("want", io.BytesIO())
    peer, _ = host.asked()
    old = host.open()
    old.sendto(STALE, peer)
    spin(host.reactor, lambda: [each.octets for each in client.running] == [1])
    fetching.cancel()
    with pytest.raises(CancelledError):
        outcome(host.reactor, fetching)
    host.error_at(old)


@pytest.mark.parametrize("kind", ["stream", "forward stream", "path"])
def test_last_block_of_an_upload_waits_while_the_answer_is_in_doubt(
    host: Host, kind: str, tmp_path: Path
) -> None:
    """The server that sent a stale answer never gets the last block; the true server gets all."""
    content = b"x" * 512 * (kind != "stream") + b"end"
    (tmp_path / "local").write_bytes(content)
    source: Any = tmp_path / "local" if kind == "path" else io.BytesIO(content)
    acknowledged: list[str] = []
    client = host.client(
        windowsize=1, blksize=1000, trace=noting_acks(acknowledged), known=long_doubt()
    )
    storing = client.put(source, "new")
    peer, _ = host.asked()
    old = host.open()
    old.sendto(wire.ack(0), peer)
    if kind != "stream":
        assert host.receive(old)[0] == wire.DATA_HEADERS[1] + b"x" * 512
        old.sendto(wire.ack(1), peer)
    spin(host.reactor, lambda: len(acknowledged) == (1 if kind == "stream" else 2))
    assert not select.select([old], [], [], 0)[0]
    host.open().sendto(oack(), peer)
    assert wire.opcode_of(host.receive(old)[0]) == wire.Opcode.ERROR
    again, xid = host.asked()
    sock = host.open()
    sock.sendto(oack(xid), again)
    assert host.receive(sock)[0] == wire.DATA_HEADERS[1] + content
    sock.sendto(wire.ack(1), again)
    assert outcome(host.reactor, storing).octets == len(content)


def test_upload_in_doubt_leaves_no_timer_when_it_is_cancelled(host: Host) -> None:
    """An upload that is cancelled while its last block waits leaves no timer."""
    acknowledged: list[str] = []
    client = host.client(trace=noting_acks(acknowledged), known=long_doubt())
    storing = client.put(io.BytesIO(b"end"), "new").addErrback(lambda _: None)
    peer, _ = host.asked()
    host.open().sendto(wire.ack(0), peer)
    spin(host.reactor, lambda: acknowledged)
    storing.cancel()
    closed: list[Any] = []
    client.close().addBoth(closed.append)
    spin(host.reactor, lambda: closed)
    assert host.reactor.getDelayedCalls() == []


def test_same_answer_to_a_second_port_of_an_upload_proves_nothing(host: Host) -> None:
    """All write requests get the same ACK 0, so the last block waits after a port change too."""
    acknowledged: list[str] = []
    client = host.client(trace=noting_acks(acknowledged), known=long_doubt())
    storing = client.put(io.BytesIO(b"end"), "new")
    first, _ = host.asked()
    host.open().sendto(wire.ack(0), first)
    spin(host.reactor, lambda: len(acknowledged) == 1)
    host.open().sendto(oack(), first)
    second, xid = host.asked()
    stale = host.open()
    stale.sendto(wire.ack(0), second)
    spin(host.reactor, lambda: len(acknowledged) == 2)
    assert not select.select([stale], [], [], 0)[0]
    true = host.open()
    true.sendto(oack(xid), second)
    assert wire.opcode_of(host.receive(stale)[0]) == wire.Opcode.ERROR
    third, xid = host.asked()
    last = host.open()
    last.sendto(oack(xid), third)
    assert host.receive(last)[0] == wire.DATA_HEADERS[1] + b"end"
    last.sendto(wire.ack(1), third)
    assert outcome(host.reactor, storing).octets == 3


def test_observer_sees_how_often_the_request_was_sent_again(host: Host) -> None:
    """The observer gets the number of retransmissions of the request, answered or not."""
    recorder = Recorder()
    client = host.client(observer=recorder, timeout=0.02, retries=3)
    fetching = client.get("want", io.BytesIO())
    host.reactor.pass_time(0.1)
    with pytest.raises(NoAnswer):
        outcome(host.reactor, fetching)
    requests = 0
    while select.select([host.request], [], [], 0)[0]:
        host.request.recv(70000)
        requests += 1
    _, statistics = recorder.events[-1]
    assert requests > 1
    assert (statistics.outcome, statistics.retransmissions) == (Outcome.TIMED_OUT, requests - 1)


needs_offload = pytest.mark.skipif(not HAS_OFFLOAD, reason="the kernel has no UDP offload")


def send_as_train(sock: socket.socket, peer: Any, datagrams: list[bytes]) -> None:
    """Send datagrams of one size in one call, so that the client gets them in one buffer.

    The last one may be shorter.
    """
    segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", len(datagrams[0])))]
    sock.sendmsg([b"".join(datagrams)], segment, 0, peer)


@needs_offload
@pytest.mark.parametrize("has_xid", [True, False], ids=["xid", "no xid"])
def test_answer_and_the_whole_file_may_come_in_one_buffer(host: Host, has_xid: bool) -> None:
    """The client separates the OACK from the file if a server sends both in one buffer."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    answer = oack(xid if has_xid else "")
    sock = host.open()
    send_as_train(sock, peer, [answer, wire.DATA_HEADERS[1] + b"end"])
    assert host.receive(sock)[0] == wire.ack(0)
    assert host.receive(sock)[0] == wire.ack(1)
    if not has_xid:
        host.confirm(peer, answer)
    assert outcome(host.reactor, fetching).octets == 3
    assert sink.getvalue() == b"end"


@needs_offload
@pytest.mark.parametrize("grants_xid", [True, False], ids=["xid", "no xid"])
def test_size_probe_ignores_a_second_copy_of_its_answer(host: Host, grants_xid: bool) -> None:
    """If the network duplicates the answer, the size probe ignores the second copy."""
    asking = host.client().size("want")
    peer, xid = host.asked()
    answer = wire.oack([("tsize", "7"), *([("xid", xid)] if grants_xid else [])])
    sock = host.open()
    send_as_train(sock, peer, [answer, answer])
    assert wire.opcode_of(host.receive(sock)[0]) == wire.Opcode.ERROR
    if not grants_xid:
        host.confirm(peer, answer)
    assert outcome(host.reactor, asking) == 7


@implementer(IFileReader)
class PendingReader:
    """A reader whose only read is pending until the test ends it."""

    size = 3

    def __init__(self) -> None:
        self.reading: Deferred[bytes] = Deferred()

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        return self.reading

    def close(self) -> None:
        pass


def test_upload_is_not_restarted_while_its_source_is_read(host: Host) -> None:
    """A read that is under way can't be taken back, so a contradiction fails the upload."""
    acknowledged: list[str] = []
    client = host.client(trace=noting_acks(acknowledged), known=long_doubt())
    source = PendingReader()
    storing = client.put(source, "new")
    peer, _ = host.asked()
    host.open().sendto(wire.ack(0), peer)
    spin(host.reactor, lambda: acknowledged)
    host.open().sendto(oack(), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, storing)
    source.reading.callback(b"end")


def test_server_that_stops_answering_need_not_grant_an_xid_any_more(host: Host) -> None:
    """If a server stops answering, another program may use its port, so an xid is not required."""
    known = KnownServer(xid=XidSupport.SUPPORTED)
    client = host.client(known=known, timeout=0.02, retries=2)
    fetching = client.get("want", io.BytesIO())
    host.reactor.pass_time(0.1)
    with pytest.raises(NoAnswer):
        outcome(host.reactor, fetching)
    assert known.xid is XidSupport.UNKNOWN


def test_server_that_has_answered_is_not_called_unreachable(clocked: ClockedReactor) -> None:
    """An ICMP error before the answer does not explain a timeout after it."""
    port = free_port()
    sent: list[str] = []
    client = TFTPClient(
        clocked,
        "127.0.0.1",
        port,
        clock=clocked.seconds,
        options=False,
        timeout=0.2,
        retries=20,
        trace=lambda words, received: None if received else sent.append(words),
    )
    fetching = client.get("want", io.BytesIO())
    clocked.pass_time(0.2)
    assert len(sent) == 2  # the answer to the first request was an ICMP error
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        clocked.pass_time(0.2)
        spin(clocked, lambda: select.select([server], [], [], 0)[0])
        _, peer = server.recvfrom(70000)
        server.sendto(STALE_BEGINNING, peer)
        spin(clocked, lambda: select.select([server], [], [], 0)[0])
        assert server.recv(70000) == wire.ack(1)
        clocked.pass_time(4.0)
        with pytest.raises(TransferTimedOut) as raised:
            outcome(clocked, fetching)
    assert not isinstance(raised.value, ServerUnreachable)
    closed: list[Any] = []
    client.close().addBoth(closed.append)
    spin(clocked, lambda: closed)


@pytest.mark.parametrize("content", [b"", b"end", bytes(512), bytes(700), bytes(3000)])
def test_upload_to_a_server_without_options_completes(host: Host, content: bytes) -> None:
    """An upload to a server without options waits once, for the end of the doubt."""
    acknowledged: list[str] = []
    storing = host.client(trace=noting_acks(acknowledged)).put(io.BytesIO(content), "new")
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(wire.ack(0), peer)
    got = b""
    last = len(content) // 512 + 1
    held = min(last, 2)  # a stream is not read further than its first window
    for number in range(1, last + 1):
        if number == held:
            spin(host.reactor, lambda: len(acknowledged) == held)
            assert not select.select([sock], [], [], 0)[0]
            host.reactor.pass_time(MAX_DOUBT)
        datagram, _ = host.receive(sock)
        assert datagram[:4] == wire.DATA_HEADERS[number]
        got += datagram[4:]
        sock.sendto(wire.ack(number), peer)
    assert outcome(host.reactor, storing).octets == len(content)
    assert got == content


def test_file_exists_after_a_repeated_write_request_is_no_contradiction(host: Host) -> None:
    """If a write request was sent twice, the ERROR 6 of its second copy is ignored."""
    received: list[str] = []
    client = host.client(
        timeout=0.05,
        retries=100,
        trace=lambda text, is_received: received.append(text) if is_received else None,
    )
    storing = client.put(io.BytesIO(b"x"), "new")
    peer, _ = host.asked()
    host.reactor.pass_time(0.05)
    host.asked()
    sock = host.open()
    sock.sendto(oack(), peer)
    spin(host.reactor, lambda: received)
    host.reactor.pass_time(MAX_DOUBT)
    assert host.receive(sock)[0] == wire.DATA_HEADERS[1] + b"x"
    host.open().sendto(error(FileAlreadyExists.code), peer)
    sock.sendto(wire.ack(1), peer)
    assert outcome(host.reactor, storing).octets == 1
    assert host.told == []


@pytest.mark.parametrize("stale", [STALE, wire.oack([("tsize", "1")])], ids=["data", "oack"])
def test_size_is_taken_from_the_confirmed_answer(host: Host, stale: bytes) -> None:
    """A stale answer to a size request is dropped; the OACK with the xid gives the size."""
    asking = host.client().size("want")
    peer, xid = host.asked()
    old = host.open()
    old.sendto(stale, peer)
    assert host.error_at(old) == 8
    old.sendto(error(4), peer)  # the answer of a small server to an ERROR
    second = host.asked_again(peer, xid)
    host.open().sendto(wire.oack([("tsize", "5"), ("xid", xid)]), second)
    again, xid = host.asked()
    host.open().sendto(wire.oack([("tsize", "5"), ("xid", xid)]), again)
    assert outcome(host.reactor, asking) == 5


def test_request_without_xid_does_not_show_whether_the_server_knows_it(host: Host) -> None:
    """A transfer that asks for no xid shows nothing; the next answer can still be in doubt."""
    client = host.client()
    fetching = client.get("want", io.BytesIO(), {"blocksize": "1000"})
    peer, _ = host.asked()
    host.open().sendto(STALE, peer)
    host.confirm(peer, STALE)
    outcome(host.reactor, fetching)
    fetching = client.get("want", io.BytesIO())
    peer, xid = host.asked()
    old = host.open()
    old.sendto(oack(), peer)
    assert host.receive(old)[0] == wire.ack(0)
    old.sendto(STALE, peer)
    host.open().sendto(oack(xid), host.asked_again(peer, xid))
    host.serve(*host.asked(), b"true")
    assert outcome(host.reactor, fetching).octets == 4


def test_size_from_a_server_without_xid_is_confirmed(host: Host) -> None:
    """A size from a server without xid counts when a second port gets the same answer."""
    asking = host.client().size("want")
    peer, _ = host.asked()
    sock, answer = host.open(), wire.oack([("tsize", "5")])
    sock.sendto(answer, peer)
    assert host.error_at(sock) == 8
    host.confirm(peer, answer)
    assert outcome(host.reactor, asking) == 5


def test_datagram_that_arrived_before_the_request_is_discarded(host: Host) -> None:
    """A datagram that was in the socket before the request was sent is no answer to it."""

    class EarlyDatagram(ClientPorts):
        def open(self, server: Any) -> socket.socket:
            opened = super().open(server)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(STALE, opened.getsockname())
            return opened

    sink = io.BytesIO()
    fetching = host.client(options=False, ports=EarlyDatagram()).get("want", sink)
    peer, _ = host.asked()
    host.open().sendto(wire.DATA_HEADERS[1] + b"true", peer)
    outcome(host.reactor, fetching)
    assert sink.getvalue() == b"true"


def test_error_from_the_same_port_ends_a_download_in_doubt(host: Host) -> None:
    """An ERROR from the port of the answer in doubt is accepted: the server may use one port."""
    fetching = host.client(known=long_doubt()).get("missing", io.BytesIO())
    peer, _ = host.asked()
    host.request.sendto(STALE, peer)
    host.request.sendto(error(1), peer)
    with pytest.raises(FileNotFound):
        outcome(host.reactor, fetching)
    assert host.told == []
