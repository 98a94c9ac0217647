"""Test how a client goes on without options, with servers that know none."""

from __future__ import annotations

import errno
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from tests.support.daemon import free_port
from tests.support.deferreds import results_of, value
from tests.support.memory_server import close_client
from tests.support.reactors import clocked, outcome, reactor
from tests.support.scripted_server import ScriptedServer, fake
from tests.support.virtual import CLIENT, SERVER, NetworkClient
from tests.support.virtual_server import TRANSFER_PORT, VirtualServer
from twisted_tftp.cli.failure_texts import describe_failure
from twisted_tftp.errors import FileNotFound, NoAnswer, OptionRefused, ServerUnreachable, TFTPError
from twisted_tftp.protocol import wire

__all__ = ["clocked", "fake", "reactor"]

#: A file of one block.
WHOLE = wire.DATA_HEADERS[1] + b"whole"

#: A function that answers requests.
Conduct = Callable[[wire.Request], bytes | None]


def error(code: int, text: bytes = b"unknown option") -> bytes:
    """Return an ERROR."""
    return b"\0\5" + code.to_bytes(2, "big") + text + b"\0"


def old_server(answer: bytes | None, plain: bytes | None = None) -> Conduct:
    """Return a server that knows no options.

    @param answer: its answer to a request with options.
    @param plain: its answer to one without options; None for that of a server that works.
    """

    def conduct(request: wire.Request) -> bytes | None:
        if request.options:
            return answer
        if plain is not None:
            return plain
        return WHOLE if request.opcode == wire.Opcode.RRQ else wire.ack(0)

    return conduct


def has_options(server: VirtualServer) -> list[bool]:
    """Return for each request that has arrived whether it has options."""
    return [bool(request.options) for _, request in server.requests]


@pytest.mark.parametrize("code", [0, 8])
def test_error_to_a_request_with_options_leads_to_one_without(code: int) -> None:
    """After ERROR 0 or 8 the file is fetched without options, and the user is told."""
    server = VirtualServer(old_server(error(code)))
    transfer = server.client().get("file", server.sink)
    server.run(1)
    assert value(transfer).options == {}
    assert server.sink.getvalue() == b"whole"
    assert has_options(server) == [True, False]
    assert server.notices == [f"file: ERROR {code}: unknown option; asking without options"]


def test_error_4_leads_to_a_request_without_options_when_another_port_gets_it_too() -> None:
    """ERROR 4 may be for another client, so that it counts from the second port on."""
    server = VirtualServer(old_server(error(4)))
    transfer = server.client().get("file", server.sink)
    server.run(1)
    value(transfer)
    assert has_options(server) == [True, True, True, True, False]


@pytest.mark.parametrize("code", [0, 4, 8])
def test_upload_goes_on_without_options(code: int) -> None:
    """A write request is sent without options too, and the file follows."""
    server = VirtualServer(old_server(error(code)))
    transfer = server.client().put(io.BytesIO(b"octets"), "file")
    server.run(1)
    assert server.datagrams[-1] == wire.DATA_HEADERS[1] + b"octets"
    assert has_options(server)[-1] is False
    transfer.addErrback(lambda _: None)
    transfer.cancel()


@pytest.mark.parametrize("act", ["get", "put"])
def test_server_that_ignores_options_is_asked_without_them(act: str) -> None:
    """After ten seconds of silence the request is sent without options, in both directions."""
    server = VirtualServer(old_server(None))
    client = server.client()
    transfer = (
        client.get("file", server.sink) if act == "get" else client.put(io.BytesIO(b"x"), "file")
    )
    server.run(11)
    times = [at for at, request in server.requests if not request.options]
    assert times[0] == pytest.approx(10, abs=0.1)
    assert (
        "file: no answer to requests with options; asking without options and with them in turn"
    ) in server.notices
    if act == "get":
        value(transfer)
    else:
        assert server.datagrams[-1] == wire.DATA_HEADERS[1] + b"x"
        transfer.addErrback(lambda _: None)
        transfer.cancel()


def test_requests_with_and_without_options_alternate() -> None:
    """A server that starts after 16 s is found with options, in the third round."""
    server = VirtualServer(lambda request: None)
    transfer = server.client().get("file", server.sink)
    results = results_of(transfer)
    server.run(26)
    rounds = {at // 5: bool(request.options) for at, request in server.requests}
    assert rounds == {0: True, 1: True, 2: False, 3: True, 4: False}
    assert results[0].check(NoAnswer)


@pytest.mark.parametrize(
    "settings", [{"blksize": 512}, {"windowsize": 1}, {"timeout": 1}, {"options": False}]
)
def test_options_that_were_chosen_are_not_dropped(settings: dict[str, Any]) -> None:
    """With explicit options, or with none, an ERROR is final."""
    server = VirtualServer(lambda request: error(8))
    results = results_of(server.client(**settings).get("file", server.sink))
    server.run(1)
    assert results[0].check(OptionRefused)
    assert len(server.requests) == 1


def test_options_of_one_transfer_are_not_dropped() -> None:
    """Options that are given for one transfer are explicit too."""
    server = VirtualServer(old_server(error(8)))
    results = results_of(server.client().get("file", server.sink, {"tsize": "0"}))
    server.run(1)
    assert results[0].check(OptionRefused)
    assert has_options(server) == [True]


def test_other_errors_are_final() -> None:
    """ERROR 1 is about the file, not about the options."""
    server = VirtualServer(lambda request: error(1))
    results = results_of(server.client().get("file", server.sink))
    server.run(1)
    assert results[0].check(FileNotFound)
    assert len(server.requests) == 1


def test_error_to_a_request_without_options_is_final() -> None:
    """If the request without options fails too, its ERROR is the reason."""
    server = VirtualServer(old_server(error(0), error(0, b"the disk is broken")))
    results = results_of(server.client().get("file", server.sink))
    server.run(1)
    (failure,) = results
    assert isinstance(failure, Failure)
    assert isinstance(failure.value, TFTPError)
    assert failure.value.message == "the disk is broken"
    assert has_options(server) == [True, False]


def test_socket_that_cannot_be_opened_ends_the_request() -> None:
    """If no socket can be opened for the next request, the transfer fails, and says why."""
    server = VirtualServer(lambda request: None)
    client = server.client()
    open_link = client.open_link
    opened: list[Any] = []

    def open_once(address: Any) -> Any:
        opened.append(address)
        if len(opened) > 1:
            assert len(opened) < 10
            raise OSError(errno.EMFILE, "Too many open files")
        return open_link(address)

    client.open_link = open_once  # type: ignore[method-assign]
    results = results_of(client.get("file", server.sink))
    server.run(10.1)
    assert results[0].check(ServerUnreachable)
    assert "Too many open files" in results[0].getErrorMessage()
    assert len(opened) == 2
    assert server.network.clock.getDelayedCalls() == []


@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("answer", [error(8), None])
@pytest.mark.parametrize("act", ["get", "put"])
def test_user_may_end_the_transfer_when_options_are_dropped(
    act: str, answer: bytes | None, cancels: bool
) -> None:
    """No request follows then, and no socket is left; an exception of the user changes nothing."""
    server = VirtualServer(old_server(answer))
    transfers: list[Any] = []

    def on_notice(line: str) -> None:
        if "asking without options" in line:
            if cancels:
                transfers[0].cancel()
            else:
                raise OSError("standard error is closed")

    client = NetworkClient(server.network, on_notice=on_notice)
    source = io.BytesIO(b"octets")
    transfers.append(
        client.get("file", server.sink) if act == "get" else client.put(source, "file")
    )
    results = results_of(transfers[0])
    server.run(90)
    assert has_options(server)[-1] is cancels
    if cancels:
        assert results[0].check(CancelledError)
    assert len(server.network.sockets) == 2
    assert server.network.clock.getDelayedCalls() == []


@pytest.mark.parametrize("grants_options", [False, True])
def test_text_of_a_failure_says_if_the_server_was_asked_without_options(
    grants_options: bool,
) -> None:
    """A server that has granted options before is not asked without them, and none is claimed."""
    answers = [wire.oack([("blksize", "512")])] if grants_options else []
    waiting = iter([*answers, error(0, b"broken"), error(0, b"broken")])
    server = VirtualServer(lambda request: next(waiting, None))
    client = server.client()
    if grants_options:
        client.get("other", server.sink).addErrback(lambda _: None)
        server.run(0.1)
    results = results_of(client.get("file", io.BytesIO()))
    server.run(0.1)
    (failure,) = results
    assert isinstance(failure, Failure)
    asked_twice = (
        ""
        if grants_options
        else " (the answer to a request without options; --no-options does not help)"
    )
    assert describe_failure(failure.value, client) == f"broken{asked_twice}"


def test_user_is_told_once_that_requests_without_options_are_tried() -> None:
    """Later rounds, with options and without them in turn, do not repeat the notice."""
    server = VirtualServer(lambda request: None)
    server.client().get("file", server.sink).addErrback(lambda _: None)
    server.run(30)
    rounds = [has for has, _ in itertools.groupby(has_options(server))]
    assert rounds == [True, False, True, False]
    assert sum("without options" in line for line in server.notices) == 1


def test_later_transfers_ask_for_no_options_for_a_minute() -> None:
    """The client remembers that the server knows no options, and forgets it after a minute."""
    server = VirtualServer(old_server(None))
    client = server.client()
    for pause in (12, 60, 12):
        transfer = client.get("file", io.BytesIO())
        server.run(pause)
        value(transfer)
    times = [at for at, request in server.requests if request.options]
    assert not [at for at in times if 10 < at < 72]
    assert [at for at in times if at >= 72]


def test_server_that_has_granted_options_keeps_them() -> None:
    """ERROR 0 of a server that has granted options before is not about the options."""
    answers = iter([wire.oack([("blksize", "512")]), error(0), error(0)])
    server = VirtualServer(lambda request: next(answers, None))
    client = server.client()
    client.get("file", server.sink).addErrback(lambda _: None)
    server.run(0.1)
    results = results_of(client.get("file", io.BytesIO()))
    server.run(0.1)
    assert results[0].check(TFTPError)
    assert has_options(server) == [True, True]


def test_chosen_port_is_kept_without_options(fake: ScriptedServer) -> None:
    """With a local port that the user has chosen, the second request comes from that port too."""
    port, sink = free_port(), io.BytesIO()
    client = fake.client(bind="127.0.0.1", bind_port=port)
    transfer = client.get("file", sink)
    assert fake.asked().options
    fake.say(error(8))
    assert not fake.asked().options
    assert fake.peer[1] == port
    fake.say(WHOLE)
    outcome(fake.reactor, transfer)
    assert sink.getvalue() == b"whole"
    close_client(fake.reactor, client)


#: An OACK to the request with options of an earlier attempt.
OACK = wire.oack([("blksize", "1428")])

#: Two ports of the server's transfers.
PORTS_OF_SERVER = [(SERVER[0], 50001), (SERVER[0], 50002)]


def asked_from_a_chosen_port(server: VirtualServer) -> NetworkClient:
    """Return a client that sends all its requests from the first port of the network."""
    return server.client(bind=CLIENT, bind_port=server.network.client_port)


def say_from(server: VirtualServer, port: int, datagram: bytes) -> None:
    """Send a datagram from a port of the server to the chosen port of the client."""
    source = (SERVER[0], port)
    server.network.sockets.setdefault(source, lambda sent, _: server.datagrams.append(sent))
    server.network.send(source, (CLIENT, server.network.client_port), datagram)
    server.run(0.1)


@pytest.mark.parametrize("is_oack_first", [True, False])
@pytest.mark.parametrize("act", ["get", "put"])
def test_late_oack_to_an_earlier_request_is_ignored(act: str, is_oack_first: bool) -> None:
    """It reaches a port that the user has chosen, before or after the answer without options."""
    server = VirtualServer(lambda request: None)
    client = asked_from_a_chosen_port(server)
    if act == "get":
        transfer, answer = client.get("file", server.sink), wire.DATA_HEADERS[1] + bytes(512)
    else:
        transfer, answer = client.put(io.BytesIO(b"octets"), "file"), wire.ack(0)
    server.run(10.5)
    answers = [(50001, OACK), (50002, answer)]
    for port, datagram in answers if is_oack_first else reversed(answers):
        say_from(server, port, datagram)
    say_from(server, 50002, wire.DATA_HEADERS[2] + b"end" if act == "get" else wire.ack(1))
    server.run(5)
    value(transfer)
    if act == "get":
        assert server.sink.getvalue() == bytes(512) + b"end"
    else:
        assert wire.DATA_HEADERS[1] + b"octets" in server.datagrams
    assert set(server.network.sockets) == {SERVER, TRANSFER_PORT, *PORTS_OF_SERVER}
    assert server.network.clock.getDelayedCalls() == []


@pytest.mark.parametrize("copies", [1, 2])
def test_second_error_to_a_repeated_request_is_ignored(copies: int) -> None:
    """A slow server answers each copy of the request with options; a further ERROR is final."""
    server = VirtualServer(lambda request: None)
    transfer = asked_from_a_chosen_port(server).get("file", server.sink)
    server.run(1.2)
    for port in range(50001, 50002 + copies):
        assert len(server.requests) >= 2
        say_from(server, port, error(8))
    if copies > 1:
        assert results_of(transfer)[0].check(OptionRefused)
        return
    assert has_options(server) == [True, True, False]
    say_from(server, 50003, WHOLE)
    server.run(5)
    value(transfer)
    assert server.sink.getvalue() == b"whole"
