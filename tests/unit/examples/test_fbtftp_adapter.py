"""Test the adapter for handlers of fbtftp, with fbtftp itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from fbtftp.base_handler import BaseHandler, ResponseData, StringResponseData
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from tests.support.adapters import adapter, fetch_with_losses
from tests.support.contexts import PEER, read_context
from twisted_tftp.context import Endpoint, Outcome
from twisted_tftp.errors import AccessViolation, FileNotFound, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.testing import BackendContract, MemoryNetwork

CONTENT = b"line\nreturn\r" + bytes(range(256)) * 10


class Response(ResponseData):  # type: ignore[misc]  # fbtftp has no types
    """A source that is read forward, and returns less than was asked for."""

    open: list[str] = []  # noqa: RUF012 - shared by all

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self._size = len(content)
        self.open.append("a source")

    def read(self, n: int) -> bytes:
        return self._file.read(min(n, 700))

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self._file.close()
        self.open.remove("a source")


class Handler(BaseHandler):  # type: ignore[misc]  # fbtftp has no types
    """A handler with an argument of its own, as fbtftp's example has it."""

    def __init__(self, server: Any, peer: Any, path: str, options: Any, files: Any) -> None:
        self.files = files
        super().__init__(server, peer, path, options, lambda statistics: None)

    def get_response_data(self) -> ResponseData:
        if self._path not in self.files:
            raise FileNotFoundError(f"/srv/secret/{self._path}")
        found = self.files[self._path]
        if isinstance(found, Exception):
            raise found
        return Response(found) if isinstance(found, bytes) else found


def backend(files: Mapping[str, Any], in_thread: Any = maybeDeferred) -> Any:
    """Return the adapter of a handler that has some files."""

    def get_handler(server: Any, peer: Any, path: str, options: Any) -> Handler:
        return Handler(server, peer, path, options, files)

    return adapter("fbtftp_backend").FbtftpBackend(get_handler, in_thread)


class TestContract(BackendContract):
    """The adapter keeps the promises of the interfaces."""

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        return backend(files, self.in_thread)

    def open_resources(self) -> list[str]:
        return Response.open

    def in_thread(self, function: Any, *arguments: object) -> Any:
        return maybeDeferred(function, *arguments)


class TestContractOfASlowHandler(TestContract):
    """The same, with threads that need some time."""

    def in_thread(self, function: Any, *arguments: object) -> Any:
        return deferLater(self.clock, 0.15, function, *arguments)


def test_lost_datagram_is_sent_again() -> None:
    """Blocks of a window that were lost are sent again, although the source runs forward only."""
    before = len(Response.open)
    network = MemoryNetwork(backend({"f": CONTENT}))
    link = network.request(wire.Opcode.RRQ, "f", {"windowsize": "4", "tsize": "0"})
    options = wire.parse_oack(link.take()[0])
    assert options["tsize"] == str(len(CONTENT))
    link.deliver(wire.ack(0))
    first = link.take()
    assert b"".join(each[4:] for each in first) == CONTENT[:2048]
    link.deliver(wire.ack(1))  # the blocks 2 to 4 were lost
    network.clock.advance(5)
    assert link.take()[:3] == first[1:]
    link.deliver(wire.ack(4))
    assert b"".join(each[4:] for each in link.take()) == CONTENT[2048:]
    link.deliver(wire.ack(6))
    assert network.recorder.outcomes == [Outcome.COMPLETED]
    assert len(Response.open) == before


def test_source_is_not_closed_during_a_read() -> None:
    """It is closed in a thread too, after the read that is under way."""
    calls: list[tuple[Any, Deferred[Any]]] = []

    def in_thread(function: Any, *arguments: object) -> Deferred[Any]:
        calls.append((partial(function, *arguments), Deferred()))
        return calls[-1][1]

    def run_next() -> None:
        function, result = calls.pop(0)
        result.callback(function())

    source = StringResponseData("text")
    closes: list[bool] = []
    source.close = lambda: closes.append(True)
    opening = backend({"f": source}, in_thread).open_reader("f", read_context())
    run_next()
    reader = opening.result
    reading = reader.read(0, 512)
    reader.close()
    assert len(calls) == 1, "the source is closed while it is read"
    run_next()
    assert reading.result == b"text"
    assert closes == []
    run_next()
    assert closes == [True]


def test_losses_change_no_octets_of_either_mode() -> None:
    """The converter for netascii reads the source too, and its blocks are sent again."""
    assert fetch_with_losses(MemoryNetwork(backend({"f": CONTENT})), "octet") == CONTENT
    converted = CONTENT.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    assert fetch_with_losses(MemoryNetwork(backend({"f": CONTENT})), "netascii") == converted


def test_netascii_is_converted_once() -> None:
    """The server converts, not the handler."""
    network = MemoryNetwork(backend({"f": CONTENT, "s": StringResponseData("a\nb")}))
    converted = CONTENT.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    assert network.fetch("f", mode="netascii") == converted
    assert network.fetch("s", mode="netascii") == b"a\r\nb"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("/srv/secret"), FileNotFound),
        (PermissionError("/srv/secret"), TFTPError),
        (ValueError("/srv/secret"), TFTPError),
    ],
)
def test_errors_have_the_codes_of_fbtftp(error: Exception, kind: type[TFTPError]) -> None:
    """The client gets the code; only the log gets the text."""
    network = MemoryNetwork(backend({"f": error}))
    with pytest.raises(TFTPError) as caught:
        network.fetch("f")
    assert type(caught.value) is kind
    assert "secret" not in caught.value.message
    assert "secret" in network.recorder.events[-1][1].detail


def test_source_without_a_size_is_closed() -> None:
    """The client gets an ERROR, and the open source is not left behind."""

    class Sizeless(Response):
        def size(self) -> int:
            raise OSError("/srv/secret")

    before = len(Response.open)
    network = MemoryNetwork(backend({"f": Sizeless(CONTENT)}))
    with pytest.raises(TFTPError, match="input/output error"):
        network.fetch("f")
    assert "secret" in network.recorder.events[-1][1].detail
    assert len(Response.open) == before


def test_request_without_a_handler_fails() -> None:
    """`get_handler` may return None."""
    network = MemoryNetwork(
        adapter("fbtftp_backend").FbtftpBackend(lambda *_: None, maybeDeferred)
    )
    with pytest.raises(TFTPError, match="the transfer failed"):
        network.fetch("f")


def test_uploads_are_refused() -> None:
    """fbtftp has none."""
    with pytest.raises(AccessViolation):
        MemoryNetwork(backend({})).store("f", b"x")


def test_handler_gets_what_fbtftp_gives_it() -> None:
    """The addresses, the name in Latin-1, the mode and the options; the client sets no others."""
    found: list[Any] = []

    def get_handler(*arguments: Any) -> Handler:
        found.append(arguments)
        return Handler(*arguments, files={"caf\xe9": b""})

    asking = adapter("fbtftp_backend").FbtftpBackend(get_handler, maybeDeferred)
    context = read_context(
        local=Endpoint("192.0.2.2", 69), options={"blksize": "1428", "retries": "x"}
    )
    asking.open_reader("caf\udce9", context).result.close()
    options = {"blksize": "1428", "retries": 5, "mode": "octet", "default_timeout": 1}
    assert found == [(("192.0.2.2", 69), tuple(PEER), "caf\xe9", options)]
