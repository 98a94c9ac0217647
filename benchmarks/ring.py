"""Keep the last datagrams of each transfer, to print them if the transfer had a wrong octet."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from benchmarks.honest import WrongOctets
from twisted_tftp.client import TFTPClient
from twisted_tftp.net.addresses import SocketAddress
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Receive, ReceiveTrain
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.describe import describe
from twisted_tftp.transfer.machine import Buffer

#: Datagrams of a transfer that are kept.
KEPT = 10

#: Octets of a DATA that are kept.
OCTETS_OF_DATA = 64

#: Octets of other datagrams that are kept; most of them are text.
OCTETS_OF_OTHERS = 400

#: Octets of the file that are printed for each DATA.
PRINTED_OCTETS = 8

#: Wrong answers that are printed at length.
DESCRIBED = 5


class Ring:
    """The last datagrams of one transfer, on all its links.

    @ivar links: the links, in the order in which they were opened.
    """

    def __init__(self, kind: str, number: int, name: str) -> None:
        """Set up an empty ring.

        @param kind: what the transfer does, in a word.
        @param number: the number of the transfer.
        @param name: the name of the requested file.
        """
        self.links: list[RingLink] = []
        self._title = f"{kind} {number}, {name}"
        self._asked_at: float | None = None
        self._last: deque[tuple[float, str, int, SocketAddress, bytes, int]] = deque(maxlen=KEPT)

    def sent(self, link: RingLink, header: Buffer, octets: Buffer) -> None:
        """Keep a datagram that is sent: its header and its octets."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        head = bytes(header) + bytes(octets[:OCTETS_OF_DATA])
        size = len(header) + len(octets)
        self._last.append((now, "to", link.local[1], link.server, head, size))

    def received(
        self, link: RingLink, address: SocketAddress, datagram: Buffer, now: float, words: str
    ) -> None:
        """Keep a datagram that was received; `words` say how."""
        kept = OCTETS_OF_DATA if datagram[1:2] == b"\3" else OCTETS_OF_OTHERS
        head, size = bytes(datagram[:kept]), len(datagram)
        self._last.append((now, words, link.local[1], address, head, size))

    def lines(self) -> list[str]:
        """Return lines that describe the transfer, its addresses and its last datagrams."""
        asked_at = self._asked_at or 0.0
        return [
            self._title,
            *(
                f"  link {_written(link.local)} with {_written(link.server)}"
                for link in self.links
            ),
            *(
                f"  {at - asked_at:+.4f} s, port {port} {words} {_written(address)}: "
                f"{_shown(head, size)}"
                for at, words, port, address, head, size in self._last
            ),
        ]


def _written(address: SocketAddress) -> str:
    return f"{address[0]}:{address[1]}"


def _shown(head: bytes, size: int) -> str:
    if wire.opcode_of(head) == wire.Opcode.DATA and size >= wire.HEADER_SIZE:
        number, octets = int.from_bytes(head[2:4], "big"), head[wire.HEADER_SIZE :]
        shown = (
            f"{octets[:PRINTED_OCTETS].hex(' ')}{' ...' if len(octets) > PRINTED_OCTETS else ''}"
        )
        return f"DATA {number}, {size - wire.HEADER_SIZE} octets: {shown}"
    words = describe(head)
    return words if size == len(head) else f"{words}, of a datagram of {size}"


class _RecordingResponder:
    """A wrapper of `StrangerResponder` that keeps what strangers send to one link."""

    def __init__(self, responder: Any, link: RingLink) -> None:
        self._responder = responder
        self._link = link

    def answer(self, sock: Any, address: Any, datagram: Buffer, now: float) -> None:
        self._link.ring.received(self._link, address, datagram, now, "from the stranger")
        self._responder.answer(sock, address, datagram, now)


class RingLink(ClientLink):
    """A link whose datagrams are kept in a ring, also those of strangers."""

    __slots__ = ("_received_from", "ring")

    def __init__(self, ring: Ring, *parts: Any) -> None:
        """Make a link of the transfer that `ring` belongs to."""
        super().__init__(*parts)
        self.ring = ring
        self._received_from: SocketAddress = None
        self._responder: Any = _RecordingResponder(self._responder, self)
        ring.links.append(self)

    def send(self, datagrams: Sequence[Buffer]) -> None:
        last = datagrams[-2 * KEPT :] if len(datagrams) % 2 == 0 else datagrams
        for index in range(0, len(last), 2):
            octets = last[index + 1] if index + 1 < len(last) else b""
            self.ring.sent(self, last[index], octets)
        super().send(datagrams)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def received(datagram: Buffer, now: float) -> None:
            self.ring.received(self, self._received_from, datagram, now, "from")
            receive(datagram, now)

        def received_train(datagrams: memoryview, size: int, now: float) -> None:
            starts = range(0, len(datagrams), size)
            for start in starts[-KEPT:]:
                datagram = datagrams[start : start + size]
                self.ring.received(self, self._received_from, datagram, now, "from")
            assert receive_train is not None
            receive_train(datagrams, size, now)

        super().attach(received, None if receive_train is None else received_train)

    def _accept_source(self, address: SocketAddress) -> bool:
        self._received_from = address
        return super()._accept_source(address)


class RingClient(TFTPClient):
    """A client that runs one transfer after the other, and can describe the last one.

    A transfer that dallies after its end keeps its own ring.
    """

    _ring: Ring

    def begin(self, kind: str, number: int, name: str) -> None:
        """Name the next transfer."""
        self._ring = Ring(kind, number, name)

    def build_link(self, *parts: Any) -> ClientLink:
        """Return a link for the transfer that was named last."""
        return RingLink(self._ring, *parts)

    def describe_last(self) -> str:
        """Return a text about the transfer that was named last, with its last datagrams."""
        return "\n".join(self._ring.lines())


def is_wrong(error: BaseException | None) -> bool:
    """Return whether an error means that a transfer had wrong octets."""
    return isinstance(error, WrongOctets) or isinstance(error and error.__cause__, WrongOctets)


class WrongAnswers:
    """The number of wrong answers of each kind, and descriptions of the first ones.

    @ivar counts: kind to number.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._described: list[str] = []

    def add(self, kind: str, error: BaseException, client: RingClient) -> None:
        """Count a wrong answer of `kind` in the last transfer of `client`."""
        self.counts[kind] += 1
        if len(self._described) < DESCRIBED:
            cause = error if isinstance(error, WrongOctets) else error.__cause__
            self._described.append(f"{kind}: {cause}\n{client.describe_last()}")

    def problems(self) -> list[str]:
        """Return the descriptions, and a line with the number of each kind."""
        if not self.counts:
            return []
        kinds = ", ".join(f"{count} x {kind}" for kind, count in self.counts.most_common())
        return [*self._described, f"{self.counts.total()} wrong answers: {kinds}"]
