"""Tests of downloads whose steady part is left to flows: a whole server and real sockets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.downloads import DownloadClient, FlowServer
from tests.support.reactors import reactor
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.context import Outcome
from twisted_tftp.net import offload
from twisted_tftp.protocol import wire

__all__ = ["reactor"]

#: Makes the server of a test: the files, and settings of its policy.
MakeServer = Callable[..., FlowServer]

needs_module = pytest.mark.skipif(offload._offload is None, reason="the C module is not built")


@pytest.fixture(params=["0", pytest.param("1", marks=needs_module)], ids=["python", "native"])
def make_server(
    request: Any, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeServer]:
    """Return a function that makes servers; all of them must leave no flow."""
    monkeypatch.setenv("TFTP_OFFLOAD", request.param)
    with ExitStack() as closing:

        def make(files: Any, **policy: Any) -> FlowServer:
            backend = MemoryBackend(files) if isinstance(files, dict) else files
            server = FlowServer(reactor, backend, monkeypatch, **policy)
            closing.callback(server.stop)
            return server

        yield make


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Close what a test has opened, before its server is stopped."""
    with ExitStack() as stack:
        yield stack


def fetch(server: FlowServer, **options: Any) -> DownloadClient:
    """Read the file "f" and close the client."""
    client = DownloadClient(server, **options)
    try:
        finished = len(server.recorder.outcomes)
        server.spin(lambda: client.is_over and len(server.recorder.outcomes) > finished)
    finally:
        client.close()
    return client


def last(server: FlowServer) -> Any:
    """Return the statistics of the transfer that ended last."""
    event, statistics = server.recorder.events[-1]
    assert event == "finished"
    return statistics


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (0, {"blksize": 512}),
        (1, {"blksize": 8}),
        (8 * 300, {"blksize": 8}),
        (8 * 300 + 3, {"blksize": 8, "windowsize": 7}),
        (4096, {"blksize": 512}),
        (512 * 200, {"blksize": 512}),
        (512 * 200 + 1, {"blksize": 512, "windowsize": 16}),
        (8 * 65_600, {"blksize": 8, "windowsize": 64}),
        (1_000_000, {"blksize": 1428}),
        (1_000_000, {"blksize": 1428, "windowsize": 16}),
        (65464 * 3, {"blksize": 65464}),
        (65464 * 3, {"blksize": 65464, "windowsize": 65535}),
    ],
)
def test_files_arrive_intact(make_server: MakeServer, size: int, options: dict[str, int]) -> None:
    """With all sizes of files, blocks and windows."""
    content = os.urandom(size)
    server = make_server({"f": content})
    client = fetch(server, **options)
    assert client.content == content
    assert last(server).outcome is Outcome.COMPLETED
    assert last(server).octets == size
    assert not server.flows.active


def acknowledge_all_at_once(server: FlowServer, late: int) -> None:
    """Read 99 blocks with a client that sends all ACKs at once, and the ACK `late` again."""

    def acknowledge(block: int) -> bool:
        client.is_silent = True
        numbers: tuple[int, ...] = {0: tuple(range(99)), 99: (late, 99)}.get(block, ())
        for number in numbers:
            client.send(wire.ack(number))
        return True

    client = DownloadClient(server, blksize=512, on_block=acknowledge)
    try:
        server.spin(lambda: client.is_done and not server.sessions)
    finally:
        client.close()


def test_late_packets_in_the_first_socket_end_the_flow_of_the_second(
    make_server: MakeServer,
) -> None:
    """Otherwise the machine and the flow would both advance, and miss the last ACK."""
    content = os.urandom(512 * 98 + 100)
    server = make_server({"f": content})
    for late in range(60, 98):  # one of them is the ACK that the flow would wait for
        acknowledge_all_at_once(server, late)
        assert last(server).outcome is Outcome.COMPLETED
        assert last(server).octets == len(content)
