"""Test how long a client waits for its server, in virtual time and on loopback."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tests.support.daemon import free_port
from tests.support.deferreds import results_of, value
from tests.support.memory_server import close_client
from tests.support.reactors import ClockedReactor, clocked, outcome, reactor
from tests.support.scripted_server import ScriptedServer, fake
from tests.support.virtual import NetworkClient
from tests.support.virtual_server import VirtualServer
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.errors import NoAnswer, PortUnreachable, TransferTimedOut
from twisted_tftp.interfaces import IFileReader
from twisted_tftp.protocol import wire

__all__ = ["clocked", "fake", "reactor"]

#: Settings of a client that follow from no route.
PLAIN: dict[str, Any] = {"blksize": 512, "windowsize": 1}


def silent(request: wire.Request) -> None:
    """Answer nothing."""


@implementer(IFileReader)
class SilentReader:
    """A local file that never supplies data, such as a pipe whose writer is slow."""

    size = None

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        """Return a Deferred that never fires."""
        return Deferred()

    def close(self) -> None:
        """Do nothing."""


def begun(request: wire.Request) -> bytes:
    """Answer with the first block, and send no other one."""
    return wire.DATA_HEADERS[1] + bytes(512)


@pytest.mark.parametrize("act", ["get", "put"])
def test_silent_server_is_given_up_after_25_seconds(act: str) -> None:
    """Without settings, a request waits 25 s for its answer, in both directions."""
    server = VirtualServer(silent)
    client = server.client(**PLAIN)
    failures: list[Any] = []
    transfer = (
        client.get("file", server.sink)
        if act == "get"
        else client.put(io.BytesIO(b"octets"), "file")
    )
    transfer.addErrback(failures.append)
    server.run(24.9)
    assert failures == []
    server.run(0.2)
    assert failures[0].check(NoAnswer)
    assert 10 < len(server.requests) < 25


def test_answer_after_eight_seconds_is_in_time() -> None:
    """A server that needs 8 s for its answer serves the file."""
    server = VirtualServer(lambda request: wire.DATA_HEADERS[1] + b"late" if late() else None)
    client = server.client(options=False)

    def late() -> bool:
        return server.network.clock.seconds() >= 8

    transfer = client.get("file", server.sink)
    server.run(12)
    value(transfer)
    assert server.sink.getvalue() == b"late"


def test_server_that_stops_in_a_transfer_is_given_up_after_25_seconds() -> None:
    """A server that has sent a block and then nothing is waited for 25 s too."""
    server = VirtualServer(begun)
    failures: list[Any] = []
    server.client(options=False).get("file", server.sink).addErrback(failures.append)
    server.run(24.9)
    assert failures == []
    server.run(0.2)
    assert failures[0].check(TransferTimedOut)
    assert not failures[0].check(NoAnswer)


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [({"patience": 3.0}, 3.0), ({"patience": 60.0}, 60.0), ({"timeout": 2, "retries": 4}, 8.0)],
)
def test_patience_or_retries_set_the_time(settings: dict[str, Any], seconds: float) -> None:
    """`patience` is the time in seconds; `retries` replaces it by a number of timeouts."""
    server = VirtualServer(silent)
    failures: list[Any] = []
    server.client(**PLAIN, **settings).get("file", server.sink).addErrback(failures.append)
    server.run(seconds - 0.1)
    assert failures == []
    server.run(0.2)
    assert failures[0].check(NoAnswer)


def test_user_is_told_while_no_answer_comes() -> None:
    """After 3 s of silence and then every 5 s, a line says how long the client has waited."""
    server = VirtualServer(silent)
    server.client(**PLAIN).get("file", server.sink).addErrback(lambda _: None)
    server.run(15)
    assert server.notices == [
        f"file: no answer yet from 192.0.2.69 port 69 for {seconds} s, giving up after 25 s"
        for seconds in (3, 8, 13)
    ]
    server.run(60)
    assert len(server.notices) == 5
    assert server.network.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("settings", "times"),
    [({}, [3, 8, 13, 18, 23]), ({"blksize": 512, "timeout": 12}, [3, 8, 13, 18, 23])],
)
def test_user_is_told_the_whole_time(settings: dict[str, Any], times: list[int]) -> None:
    """The time counts from the first request, also across requests and with long timeouts."""
    server = VirtualServer(silent)
    server.client(**settings).get("file", server.sink).addErrback(lambda _: None)
    server.run(30)
    told = [line for line in server.notices if "no answer yet" in line]
    assert [int(line.partition(" for ")[2].split()[0]) for line in told] == times


@pytest.mark.parametrize("cancels", [True, False])
def test_notice_may_end_the_transfer_or_fail(cancels: bool) -> None:
    """What the caller does with a line changes nothing for other transfers and their timers."""
    server = VirtualServer(silent)
    transfers: list[Deferred[Any]] = []
    lines: list[str] = []

    def on_notice(line: str) -> None:
        lines.append(line)
        if cancels:
            transfers[0].cancel()
        else:
            raise OSError("standard error is closed")

    client = NetworkClient(server.network, on_notice=on_notice, **PLAIN)
    transfers += [client.get(name, io.BytesIO()) for name in ("first", "second")]
    results = [results_of(transfer) for transfer in transfers]
    server.run(4)
    assert [bool(each) for each in results] == [cancels, False]
    server.run(30)
    assert all(results)
    assert len(lines) == (6 if cancels else 10)
    assert server.network.clock.getDelayedCalls() == []
    transfer = results_of(client.get("third", io.BytesIO()))
    server.run(30)
    assert transfer
    assert server.network.clock.getDelayedCalls() == []


def test_user_is_told_what_the_system_reports(clocked: ClockedReactor) -> None:
    """If the server can't be reached, the line says why; the client waits for the network."""
    notices: list[str] = []
    client = TFTPClient(
        clocked, "255.255.255.255", 20001, clock=clocked.seconds, on_notice=notices.append
    )
    transfer = client.get("file", io.BytesIO())
    clocked.pass_time(7)
    assert re.search(
        r"from 255\.255\.255\.255 port 20001 \((.* denied|Network is unreachable)\) for",
        notices[0],
    )
    transfer.addErrback(lambda _: None)
    close_client(clocked, client)


def test_user_is_told_of_silence_in_a_transfer() -> None:
    """A server that stops in the middle of a transfer causes the same lines."""
    server = VirtualServer(begun)
    server.client(options=False).get("file", server.sink).addErrback(lambda _: None)
    server.run(7)
    assert len(server.notices) == 1
    server.run(60)


def test_user_is_told_nothing_if_the_local_input_is_silent() -> None:
    """An upload that waits for its local input is not the server's silence."""
    server = VirtualServer(lambda request: wire.ack(0))
    server.client(options=False).put(SilentReader(), "file").addErrback(lambda _: None)
    server.run(20)
    assert server.notices == []


@pytest.mark.parametrize("act", ["get", "put"])
def test_port_that_closes_in_a_transfer_ends_it_before_the_patience(
    fake: ScriptedServer, act: str
) -> None:
    """If the server's program ends, ICMP ends the transfer soon after its first silent seconds."""
    client = fake.client(options=False, timeout=0.2)
    if act == "get":
        transfer = client.get("file", io.BytesIO())
        fake.asked()
        fake.say(wire.DATA_HEADERS[1] + bytes(512))
    else:
        transfer = client.put(io.BytesIO(bytes(2000)), "file")
        fake.asked()
        fake.say(wire.ack(0))
    fake.got()
    fake.transfer.close()
    fake.reactor.pass_time(15)
    with pytest.raises(PortUnreachable, match="refused"):
        outcome(fake.reactor, transfer)
    close_client(fake.reactor, client)


def test_closed_port_ends_the_request_after_two_more_tries(clocked: ClockedReactor) -> None:
    """ICMP "port unreachable" ends a request after three datagrams, not after the patience."""
    sent: list[str] = []

    def trace(text: str, is_received: bool) -> None:
        sent.append(text)

    settings = {"timeout": 0.2, "trace": trace, "clock": clocked.seconds}
    client = TFTPClient(clocked, "127.0.0.1", free_port(), **settings)
    transfer = client.get("file", io.BytesIO())
    clocked.pass_time(10)
    with pytest.raises(PortUnreachable, match="refused"):
        outcome(clocked, transfer)
    assert len(sent) == 3
    close_client(clocked, client)
