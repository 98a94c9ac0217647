"""Keep the last datagrams of each transfer of a client, so that a wrong octet can be proved."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from benchmarks.honest import WrongOctets
from twisted_tftp.client import TFTPClient
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.udp import Buffer, Receive, ReceiveTrain, SocketAddress
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.describe import describe

#: Datagrams of a transfer that are kept.
KEPT = 10
#: Octets of a datagram that are kept: of a DATA, and of others, which are words.
OF_DATA, OF_OTHERS = 64, 400
#: Octets of a file that are shown for each DATA.
SHOWN = 8
#: Descriptions that are kept of each kind of wrong answers.
DESCRIBED = 5


class Ring:
    """The last datagrams of one transfer, on all its links.

    @ivar links: its links, in their order.
    """

    def __init__(self, kind: str, number: int, name: str) -> None:
        """Keep nothing yet.

        @param kind: what the transfer does, in a word.
        @param number: which one it is.
        @param name: of the file that is asked for.
        """
        self.links: list[RingLink] = []
        self._title = f"{kind} {number}, {name}"
        self._asked_at: float | None = None
        self._last: deque[tuple[float, str, int, SocketAddress, bytes, int]] = deque(maxlen=KEPT)

    def sent(self, link: RingLink, header: Buffer, octets: Buffer) -> None:
        """Keep a datagram that leaves: a header, and what follows it."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        head = bytes(header) + bytes(octets[:OF_DATA])
        size = len(header) + len(octets)
        self._last.append((now, "to", link.local[1], link.server, head, size))

    def received(
        self, link: RingLink, address: SocketAddress, datagram: Buffer, now: float, words: str
    ) -> None:
        """Keep a datagram that came; `words` say how."""
        kept = OF_DATA if datagram[1:2] == b"\3" else OF_OTHERS
        head, size = bytes(datagram[:kept]), len(datagram)
        self._last.append((now, words, link.local[1], address, head, size))

    def lines(self) -> list[str]:
        """Return the transfer, its addresses and its last datagrams in words."""
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
        shown = f"{octets[:SHOWN].hex(' ')}{' ...' if len(octets) > SHOWN else ''}"
        return f"DATA {number}, {size - wire.HEADER_SIZE} octets: {shown}"
    words = describe(head)
    return words if size == len(head) else f"{words}, of a datagram of {size}"


class _HeardStrangers:
    """What answers strangers, and keeps what they sent to one link."""

    def __init__(self, strangers: Any, link: RingLink) -> None:
        self._strangers = strangers
        self._link = link

    def received(self, sock: Any, address: Any, datagram: Buffer, now: float) -> None:
        self._link.ring.received(self._link, address, datagram, now, "from the stranger")
        self._strangers.received(sock, address, datagram, now)


class RingLink(ClientLink):
    """A link whose datagrams a ring keeps, those of strangers too."""

    __slots__ = ("_source", "ring")

    def __init__(self, ring: Ring, *parts: Any) -> None:
        """Be a link of the transfer that `ring` keeps."""
        super().__init__(*parts)
        self.ring = ring
        self._source: SocketAddress = None
        self._strangers: Any = _HeardStrangers(self._strangers, self)
        ring.links.append(self)

    def send(self, datagrams: Sequence[Buffer]) -> None:
        last = datagrams[-2 * KEPT :] if len(datagrams) % 2 == 0 else datagrams
        for index in range(0, len(last), 2):
            octets = last[index + 1] if index + 1 < len(last) else b""
            self.ring.sent(self, last[index], octets)
        super().send(datagrams)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def received(datagram: Buffer, now: float) -> None:
            self.ring.received(self, self._source, datagram, now, "from")
            receive(datagram, now)

        def received_train(datagrams: memoryview, size: int, now: float) -> None:
            starts = range(0, len(datagrams), size)
            for start in starts[-KEPT:]:
                datagram = datagrams[start : start + size]
                self.ring.received(self, self._source, datagram, now, "from")
            assert receive_train is not None
            receive_train(datagrams, size, now)

        super().attach(received, None if receive_train is None else received_train)

    def _is_peer(self, address: SocketAddress) -> bool:
        self._source = address
        return super()._is_peer(address)


class RingClient(TFTPClient):
    """A client for one transfer after the other, the last of which can be described.

    A transfer that is over and waits for repeats keeps its own ring.
    """

    _ring: Ring

    def begin(self, kind: str, number: int, name: str) -> None:
        """Name the transfer that is asked for next."""
        self._ring = Ring(kind, number, name)

    def build_link(self, *parts: Any) -> ClientLink:
        """Return a link of the transfer that was named last."""
        return RingLink(self._ring, *parts)

    def describe_last(self) -> str:
        """Return the transfer that was named last, with its last datagrams, in lines."""
        return "\n".join(self._ring.lines())


def is_wrong(error: BaseException | None) -> bool:
    """Return whether somebody got what he has not asked for, or stored what is not there."""
    return isinstance(error, WrongOctets) or isinstance(error and error.__cause__, WrongOctets)


class WrongAnswers:
    """Wrong answers, how many of each kind, and the first ones at length.

    @ivar counts: kind to how many.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._described: list[str] = []

    def add(self, kind: str, error: BaseException, client: RingClient) -> None:
        """Count one of `kind`, which `client` has met in its last transfer."""
        self.counts[kind] += 1
        if len(self._described) < DESCRIBED:
            cause = error if isinstance(error, WrongOctets) else error.__cause__
            self._described.append(f"{kind}: {cause}\n{client.describe_last()}")

    def complaints(self) -> list[str]:
        """Return the long descriptions, and then how many there were of each kind."""
        if not self.counts:
            return []
        kinds = ", ".join(f"{count} x {kind}" for kind, count in self.counts.most_common())
        return [*self._described, f"{self.counts.total()} wrong answers: {kinds}"]
