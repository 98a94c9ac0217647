"""The client where answers that are not for it come beside the true one, over loopback."""

from __future__ import annotations

import errno
import io
import itertools
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from tests.support.daemon import IPV6
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.client import TFTPClient
from twisted_tftp.client.held_writer import MAX_HELD
from twisted_tftp.errors import (
    AnswerNotConfirmed,
    AnswersContradict,
    AnswersFromElsewhere,
    FileAlreadyExists,
    FileNotFound,
    IllegalOperation,
    NoAnswer,
    OptionRefused,
    TFTPError,
    TransferTimedOut,
)
from twisted_tftp.net.client_ports import ClientPorts
from twisted_tftp.net.udp import open_socket
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.first_answer import KnownServer

__all__ = ["reactor"]

#: The answer to another request: a whole file, and the beginning of one.
STALE = wire.DATA_HEADERS[1] + b"Z"
STALE_BEGINNING = wire.DATA_HEADERS[1] + b"Z" * 512


def error(code: int) -> bytes:
    """Return an ERROR."""
    return b"\0\5" + code.to_bytes(2, "big") + b"no\0"


class Host:
    """A server's host: a request port, and ports that say what a test wants."""

    def __init__(self, reactor: Any, address: str = "127.0.0.1") -> None:
        self.reactor = reactor
        self.address = address
        self.sockets: list[socket.socket] = []
        self.request = self.open()
        self.port: int = self.request.getsockname()[1]
        self.told: list[str] = []
        self.clients: list[TFTPClient] = []

    def open(self) -> socket.socket:
        """Open a port."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((self.address, 0))
        self.sockets.append(sock)
        return sock

    def client(self, **settings: Any) -> TFTPClient:
        """Return a client that asks here."""
        settings = {"tell": self.told.append, "in_thread": maybeDeferred, **settings}
        client = TFTPClient(self.reactor, self.address, self.port, **settings)
        self.clients.append(client)
        return client

    def receive(self, sock: socket.socket) -> tuple[bytes, Any]:
        """Wait for a datagram; return it and where it is from."""
        spin(self.reactor, lambda: select.select([sock], [], [], 0)[0])
        return sock.recvfrom(70000)

    def asked(self) -> tuple[Any, str]:
        """Wait for a request; return the client's address and the xid."""
        datagram, peer = self.receive(self.request)
        return peer, wire.parse_request(datagram).options.get("xid", "")

    def asked_again(self, peer: Any, xid: str) -> Any:
        """Wait for the same request from a second port; return its address."""
        second, same = self.asked()
        assert second[1] != peer[1]
        assert same == xid
        return second

    def confirm(self, peer: Any, answer: bytes) -> None:
        """Give the same answer to the second request, which ends what it began."""
        sock = self.open()
        second, _ = self.asked()
        assert second[1] != peer[1]
        sock.sendto(answer, second)
        is_whole = answer[:2] == b"\0\3" and len(answer) < 516
        end = self.receive(sock)[0]
        assert end == wire.ack(1) if is_whole else wire.opcode_of(end) == wire.Opcode.ERROR

    def error_at(self, sock: socket.socket) -> int:
        """Wait for an ERROR, whatever comes before it; return its code."""
        while True:
            datagram, _ = self.receive(sock)
            if wire.opcode_of(datagram) == wire.Opcode.ERROR:
                return wire.parse_error(datagram)[0]

    def serve(self, peer: Any, xid: str, content: bytes) -> None:
        """Send a small file with options, as our server does."""
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
    """Return an OACK, with an xid where there is one."""
    return wire.oack([("blksize", blksize), *([("xid", xid)] if xid else [])])


@pytest.fixture
def host(reactor: Any) -> Iterator[Host]:
    """Return a host."""
    host = Host(reactor)
    yield host
    host.close()


def doubt_for(seconds: float) -> KnownServer:
    """Return what a client must know of a server to doubt its answers for exactly so long."""
    return KnownServer(min_doubt=seconds, max_doubt=seconds)


def long_doubt() -> KnownServer:
    """Let the doubt last longer than the test, so that the machine's speed does not matter."""
    return doubt_for(100.0)


def test_datagram_to_another_local_address_is_no_answer(host: Host) -> None:
    """It was sent to the client's port, at an address that the route does not use."""
    sink = io.BytesIO()
    fetching = host.client(options=False).get("want", sink)
    peer, _ = host.asked()
    host.open().sendto(STALE, ("127.9.9.9", peer[1]))
    sock = host.open()
    sock.sendto(wire.DATA_HEADERS[1] + b"true", peer)
    assert outcome(host.reactor, fetching).octets == 4
    assert sink.getvalue() == b"true"


def true_answer(kind: str, xid: str) -> bytes:
    """Return what the server answers to the request."""
    return {
        "options": oack(xid),
        "no xid": oack(),
        "data": wire.DATA_HEADERS[1] + b"true",
        "error": error(1),
    }[kind]


TRUE_ANSWERS = pytest.mark.parametrize("true", ["options", "no xid", "data", "error"])


@TRUE_ANSWERS
def test_stale_block_is_not_taken_for_the_answer(host: Host, true: str) -> None:
    """The true answer contradicts it; the client tells both and asks from another port."""
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


def test_missing_file_stays_missing_after_a_stale_block(host: Host) -> None:
    """The server says so twice."""
    fetching = host.client(known=long_doubt()).get("missing", io.BytesIO())
    for number in range(2):
        peer, _ = host.asked()
        if not number:
            host.open().sendto(STALE_BEGINNING, peer)
        host.open().sendto(error(1), peer)
    with pytest.raises(FileNotFound):
        outcome(host.reactor, fetching)


def test_nothing_is_written_while_the_answer_is_in_doubt(host: Host) -> None:
    """Blocks are acknowledged, and kept, until a second port has had the same answer."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    sock = host.open()
    sock.sendto(STALE_BEGINNING, peer)
    assert host.receive(sock)[0] == wire.ack(1)
    sock.sendto(wire.DATA_HEADERS[2] + b"end", peer)
    second = host.asked_again(peer, xid)
    # A server that serves one client at a time would not read the second request before; and one
    # that has forgotten the transfer answers a second ACK with an ERROR.
    assert host.receive(sock)[0] == wire.ack(2)
    assert not select.select([sock], [], [], 0)[0]
    assert sink.getvalue() == b""
    host.request.sendto(STALE_BEGINNING, second)
    assert outcome(host.reactor, fetching).octets == 515
    assert sink.getvalue() == b"Z" * 512 + b"end"


@TRUE_ANSWERS
def test_answer_to_the_second_request_tells_that_the_first_one_was_stale(
    host: Host, true: str
) -> None:
    """The true answer to the first request was lost, or comes at any time."""
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
def test_stale_answer_is_recognised_over_ipv6(reactor: Any) -> None:
    """A second port is asked there too."""
    host = Host(reactor, "::1")
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, xid = host.asked()
    host.open().sendto(STALE, peer)
    host.open().sendto(oack(xid), host.asked_again(peer, xid))
    host.serve(*host.asked(), b"true")
    outcome(reactor, fetching)
    assert sink.getvalue() == b"true"
    host.close()


def test_file_that_can_not_be_checked_for_want_of_a_socket_fails(
    host: Host, tmp_path: Path
) -> None:
    """No descriptor is left for the second port; nothing of the file stays."""

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


class Scripted:
    """A server's host that answers each request by a script, as soon as it is turned."""

    def __init__(self, host: Host, first: bytes, second: str) -> None:
        self.host = host
        self.first = first
        self.second = second
        self.asked: list[Any] = []
        self.transfers: list[socket.socket] = []

    def turn(self) -> None:
        """Answer what has come."""
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
def test_transfer_in_doubt_leaves_nothing_whenever_it_is_cancelled(
    host: Host, first: bytes, second: str, act: str, tmp_path: Path
) -> None:
    """No file, no socket, no timer, and no Deferred that does not fire."""
    path = tmp_path / "local"
    for turns in range(1, 30):
        client, script = host.client(), Scripted(host, first, second)
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


def test_answer_that_two_ports_have_had_is_believed(host: Host) -> None:
    """A server without options whose answer came to the second port needs no third opinion."""
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


def test_answer_that_the_server_does_not_confirm_fails(host: Host, tmp_path: Path) -> None:
    """It may be late by any time, so nothing is believed without it."""
    fetching = host.client(timeout=0.05, retries=3).get("want", tmp_path / "local")
    peer, xid = host.asked()
    host.open().sendto(STALE, peer)
    second = {host.asked_again(peer, xid) for _ in range(2)}
    assert len(second) == 1
    with pytest.raises(AnswerNotConfirmed):
        outcome(host.reactor, fetching)
    assert list(tmp_path.iterdir()) == []


def test_stale_answer_to_the_second_request_is_refused(host: Host) -> None:
    """Where it has another's xid; the true one is waited for."""
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
    """A server that serves one client at a time reads the second request only when it has it."""
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
def test_second_transfer_is_ended_until_the_server_knows(
    host: Host, answer: bytes, end: bytes
) -> None:
    """A whole file is acknowledged: small servers do not know what an ERROR means."""
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


def test_block_one_after_a_rollover_is_no_other_answer(host: Host, tmp_path: Path) -> None:
    """It has other octets than the first one, and belongs to the same file."""
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
def test_answer_that_waits_in_the_socket_of_a_late_loop_counts(host: Host, act: str) -> None:
    """The time for it is over, but it came in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
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
    # One without xid: with our xid it would count after the time too.
    host.open().sendto(oack(), peer)
    time.sleep(0.06)  # the loop stands still for longer than the doubt lasts
    host.reactor.runUntilCurrent()  # timers come before sockets
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, acting)


def test_stream_is_given_no_octets_of_a_file_in_doubt(host: Host, tmp_path: Path) -> None:
    """A long file waits for the second answer; one in a path goes on, and is not complete."""
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
def test_only_time_confirms_an_answer_to_a_port_that_the_user_has_fixed(
    host: Host, true: str
) -> None:
    """There is no second one to ask from; the server waits for some tenths of a second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    client = host.client(bind="127.0.0.1", bind_port=port)
    fetching = client.get("want", io.BytesIO())
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(true_answer(true, ""), peer)
    if true == "no xid":
        assert host.receive(sock)[0] == wire.ack(0)
        sock.sendto(true_answer("data", ""), peer)
    assert host.receive(sock)[0] == wire.ack(1)
    assert outcome(host.reactor, fetching).octets == 4
    assert host.told == []


def test_answer_that_nothing_contradicts_is_taken(host: Host) -> None:
    """A server that knows no options is asked twice, and then believed."""
    sink = io.BytesIO()
    fetching = host.client().get("want", sink)
    peer, _ = host.asked()
    old = host.open()
    old.sendto(wire.DATA_HEADERS[1] + bytes(512), peer)
    assert host.receive(old)[0] == wire.ack(1)
    # Equal octets from a second port are the answer to a request that came twice.
    second = host.open()
    second.sendto(wire.DATA_HEADERS[1] + bytes(512), peer)
    assert wire.parse_error(host.receive(second)[0])[0] == 5
    old.sendto(wire.DATA_HEADERS[2] + b"end", peer)
    assert host.receive(old)[0] == wire.ack(2)
    host.confirm(peer, wire.DATA_HEADERS[1] + bytes(512))
    assert outcome(host.reactor, fetching).octets == 515
    assert sink.getvalue() == bytes(512) + b"end"
    assert host.told == []


def test_oack_of_another_request_is_refused(host: Host) -> None:
    """Its xid is not ours; the true answer may come at any time after it."""
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


def test_foreign_answer_from_the_asked_port_gets_no_error(host: Host) -> None:
    """A server with a single port would end the transfer that it begins for us."""
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
def test_answer_is_not_contradicted_after_the_time_for_it(host: Host, late: bytes) -> None:
    """A transfer that runs is not given up for what comes minutes later."""
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
def test_proof_that_comes_after_the_time_for_it_counts(
    host: Host, kind: str, tmp_path: Path
) -> None:
    """An upload is begun again, or fails: it went to the server of another one."""
    (tmp_path / "local").write_bytes(bytes(700))
    source: Any = tmp_path / "local" if kind == "path" else io.BytesIO(bytes(700))
    storing = host.client(windowsize=1, known=doubt_for(0.0)).put(source, "new")
    peer, xid = host.asked()
    old = host.open()
    old.sendto(wire.ack(0), peer)
    host.receive(old)
    if kind == "stream":  # whose end is sent too
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


def test_late_proof_from_a_single_port_counts(host: Host) -> None:
    """It comes from the port that the transfer is with."""
    client = host.client(windowsize=1, known=doubt_for(0.0))
    storing = client.put(io.BytesIO(bytes(3000)), "new")
    peer, xid = host.asked()
    host.request.sendto(oack(), peer)
    for number in (1, 2):
        assert host.receive(host.request)[0][:4] == wire.DATA_HEADERS[number]
        host.request.sendto(wire.ack(number) if number == 1 else oack(xid), peer)
    with pytest.raises(AnswersContradict):
        outcome(host.reactor, storing)


def test_upload_whose_end_was_sent_is_not_begun_again(host: Host) -> None:
    """The first one may be stored by now, so a second one would find its file."""
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
    """Ports on a host that has no route to the server when the first one is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[socket.socket] = []

    def open(self, server: Any) -> socket.socket:
        sock = super().open(server) if self.opened else open_socket(server, None)
        self.opened.append(sock)
        return sock


def test_request_goes_on_from_another_port_when_there_is_a_route(host: Host) -> None:
    """Which hosts have answered the first port is not forgotten."""
    client = host.client(ports=LateRoute(), timeout=0.1, retries=5, options=False)
    fetching = client.get("want", io.BytesIO())
    peer, _ = host.asked()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(STALE, peer)
        ports = {host.asked()[0][1] for _ in range(3)}
        with pytest.raises(AnswersFromElsewhere):
            outcome(host.reactor, fetching)
    assert len(ports - {peer[1]}) == 1


def test_port_at_all_addresses_is_kept_where_the_user_wants_it(host: Host) -> None:
    """Repeated requests come from the same one."""
    fetching = host.client(bind="0.0.0.0", timeout=0.05, retries=4).get("want", io.BytesIO())
    assert len({host.asked()[0] for _ in range(3)}) == 1
    with pytest.raises(NoAnswer):
        outcome(host.reactor, fetching)


def test_answer_that_is_proven_is_not_contradicted(host: Host) -> None:
    """Whatever else comes from the server's host is a stranger's."""
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
def test_oack_that_does_not_fit_the_request_may_be_for_another(host: Host, act: str) -> None:
    """The request is sent from another port; the same answer there is the server's own."""
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


def test_server_that_has_granted_an_xid_is_expected_to(host: Host) -> None:
    """Its answers without one are refused, until two requests had no other answer."""
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
        assert host.asked()[0] == peer
    old.sendto(oack(), peer)
    assert host.receive(old)[0] == wire.ack(0)
    old.sendto(wire.DATA_HEADERS[1] + b"true", peer)
    host.confirm(peer, oack())
    outcome(host.reactor, second)
    assert sink.getvalue() == b"true"


def test_port_that_the_user_has_fixed_fails_at_once(host: Host) -> None:
    """There is no other one to ask from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
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
    """Then it fails: something is wrong with the server, or with who else answers."""
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


def test_path_is_opened_again_after_octets_of_another_file(host: Host, tmp_path: Path) -> None:
    """An OACK that may be ours is believed; what was written is dropped when another follows."""
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


def test_path_that_can_not_be_opened_again_ends_the_transfer(host: Host, tmp_path: Path) -> None:
    """A disk that does not answer any more is not waited for without end."""
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
    for _ in range(3):  # by then the transfer has nothing more to wait for by itself
        second = host.asked_again(peer, xid)
    is_stuck.append(True)
    host.open().sendto(oack(xid), second)
    with pytest.raises(TransferTimedOut):
        outcome(host.reactor, fetching)
    host.clients.clear()  # what waits for the disk can't be closed


def test_stream_with_octets_of_another_file_fails(host: Host) -> None:
    """They can't be taken back. (A client that asks for no xid has no doubt of an OACK.)"""
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
    """The OACK with the xid may come after a whole small file."""
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


def test_server_without_an_xid_is_asked_twice_once(host: Host) -> None:
    """Only the first transfer with it is in doubt."""
    client = host.client()
    for is_first in (True, False):
        fetching = client.get("want", io.BytesIO())
        peer, _ = host.asked()
        host.serve(peer, "", b"true")
        if is_first:
            host.confirm(peer, oack())
        assert outcome(host.reactor, fetching).octets == 4
    assert not select.select([host.request], [], [], 0)[0]


def test_error_that_is_hardly_the_answer_is_believed_from_another_port(host: Host) -> None:
    """It may be the answer to a malformed request of the port's last owner."""
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


def test_errors_to_a_port_whose_last_owner_has_sent_nonsense_are_not_believed(host: Host) -> None:
    """There may be several of them; another port is asked from then."""
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


def test_transfer_in_doubt_can_be_cancelled(host: Host) -> None:
    """Though its file is whole and only waits."""
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
    """The server of an earlier upload does not get a whole file; the true one does."""
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
    """Its last block waits for the end of the doubt."""
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


@pytest.mark.parametrize("content", [b"", b"end", bytes(512), bytes(700), bytes(3000)])
def test_upload_to_a_server_without_options_completes(host: Host, content: bytes) -> None:
    """Its last block waits for some tenths of a second."""
    storing = host.client().put(io.BytesIO(content), "new")
    peer, _ = host.asked()
    sock = host.open()
    sock.sendto(wire.ack(0), peer)
    got = b""
    for number in range(1, len(content) // 512 + 2):
        datagram, _ = host.receive(sock)
        assert datagram[:4] == wire.DATA_HEADERS[number]
        got += datagram[4:]
        sock.sendto(wire.ack(number), peer)
    assert outcome(host.reactor, storing).octets == len(content)
    assert got == content


def test_second_copy_of_a_write_request_may_find_the_file(host: Host) -> None:
    """A server that answers both copies says that the file exists: no contradiction."""
    storing = host.client(timeout=0.05, retries=100).put(io.BytesIO(b"x"), "new")
    peer, _ = host.asked()
    host.asked()
    sock = host.open()
    sock.sendto(oack(), peer)
    assert host.receive(sock)[0] == wire.DATA_HEADERS[1] + b"x"
    host.open().sendto(error(FileAlreadyExists.code), peer)
    sock.sendto(wire.ack(1), peer)
    assert outcome(host.reactor, storing).octets == 1
    assert host.told == []


@pytest.mark.parametrize("stale", [STALE, wire.oack([("tsize", "1")])], ids=["data", "oack"])
def test_size_is_not_told_while_the_answer_is_in_doubt(host: Host, stale: bytes) -> None:
    """The OACK to the second request has it."""
    asking = host.client().size("want")
    peer, xid = host.asked()
    old = host.open()
    old.sendto(stale, peer)
    assert host.error_at(old) == 8
    old.sendto(error(4), peer)  # what a small server makes of an ERROR
    second = host.asked_again(peer, xid)
    host.open().sendto(wire.oack([("tsize", "5"), ("xid", xid)]), second)
    again, xid = host.asked()
    host.open().sendto(wire.oack([("tsize", "5"), ("xid", xid)]), again)
    assert outcome(host.reactor, asking) == 5


def test_request_without_an_xid_tells_nothing_of_the_server(host: Host) -> None:
    """Ours answers without options too, where it knows none of those that were asked for."""
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


def test_size_of_a_server_without_an_xid_is_asked_twice(host: Host) -> None:
    """The same answer to another port confirms it."""
    asking = host.client().size("want")
    peer, _ = host.asked()
    sock, answer = host.open(), wire.oack([("tsize", "5")])
    sock.sendto(answer, peer)
    assert host.error_at(sock) == 8
    host.confirm(peer, answer)
    assert outcome(host.reactor, asking) == 5


def test_what_came_before_the_request_is_no_answer(host: Host) -> None:
    """It waits in the socket, which is open before the file is."""

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


def test_error_from_the_same_port_ends_what_is_in_doubt(host: Host) -> None:
    """A server with a single port answers from there, also after a stale block."""
    fetching = host.client(known=long_doubt()).get("missing", io.BytesIO())
    peer, _ = host.asked()
    host.request.sendto(STALE, peer)
    host.request.sendto(error(1), peer)
    with pytest.raises(FileNotFound):
        outcome(host.reactor, fetching)
    assert host.told == []
