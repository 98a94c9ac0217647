"""Test the trace and the loss of datagrams that a client can be given."""

from __future__ import annotations

import io
import select
from typing import Any

import pytest

from tests.support.memory_server import FILE, MemoryServer, close_client, get, served
from tests.support.reactors import clocked, outcome, reactor, spin
from tests.support.scripted_server import ScriptedServer, fake
from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.debug_links import FilteredLink, LossFilter, TraceFilter
from twisted_tftp.errors import TransferTimedOut
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol import wire

__all__ = ["clocked", "fake", "reactor", "served"]


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
    close_client(served.reactor, client)


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
    """A packet that is sent is in the trace, even if the loss filter drops it afterwards."""
    lines: list[tuple[str, bool]] = []
    client = fake.client(
        options=False,
        timeout=0.05,
        retries=2,
        loss=1.0,
        trace=lambda text, received: lines.append((text, received)),
    )
    transfer = client.get("file", io.BytesIO())
    fake.reactor.pass_time(0.1)
    with pytest.raises(TransferTimedOut):
        outcome(fake.reactor, transfer)
    assert len(lines) > 1
    assert set(lines) == {('RRQ "file" octet', False)}
    assert select.select([fake.request], [], [], 0)[0] == []
    close_client(fake.reactor, client)


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
    """With both filters, a received packet that the loss filter drops is not in the trace."""
    client = LosingClient(
        *(fake.reactor, "127.0.0.1", fake.port), clock=fake.reactor.seconds, options=False
    )
    # WRQ, ACK 0 (lost), ACK 0, DATA 1 (lost), DATA 1 again, ACK 1
    lines = client.prepare([False, True, False, True, False, False])
    transfer = client.put(io.BytesIO(b"abc"), "new")
    fake.asked()
    fake.say(wire.ack(0))
    fake.say(wire.ack(0))
    spin(fake.reactor, lambda: len(lines) == 3)
    fake.reactor.pass_time(0.03)
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
    close_client(fake.reactor, client)
