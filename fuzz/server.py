"""Run a whole server in memory with any requests, packets and passing of time."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from fuzz.inputs import Input
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.policy import Policy, Retransmit, Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.testing import MemoryLink, MemoryNetwork
from twisted_tftp.transfer.machine import Buffer

#: The files of the server.
FILES = {
    "small": b"0123456789",
    "even": bytes(range(256)) * 4,
    "text": b"one\ntwo\r\r\nthree" * 60,
    "empty": b"",
}

#: The file names that requests choose from.
NAMES = [b"small", b"even", b"text", b"new"]

#: The policies of the server, to choose from.
POLICIES = [
    Policy(retries=2, max_windowsize=4),
    Policy(retries=2, max_windowsize=4, max_upload=1500, rollover=Rollover.ONE, unproven_rate=1),
    Policy(retries=1, max_windowsize=1, timeout=0.01, max_per_client=1, rollover=Rollover.NONE),
    Policy(
        retries=3,
        max_windowsize=4,
        max_blksize=600,
        retransmit=Retransmit.FIXED,
        rate=2.0,
        max_transfers=3,
        deny=(ipaddress.IPv4Network("192.0.2.2/32"),),
        allow_write=(ipaddress.IPv4Network("192.0.2.1/32"),),
    ),
]

#: The text that peers write: line ends of netascii, which blocks cut anywhere.
TEXT = b"\r\n\0ab\r\0c\r7\n"

#: The options that requests choose from, with their NULs.
OPTIONS = [
    b"",
    b"blksize\0008\0",
    b"blksize\000600\0windowsize\0003\0",
    b"windowsize\0004\0tsize\0000\0",
    b"tsize\0009\0timeout\0001\0blksize\00030\0",
    b"utimeout\00010000\0rollover\0001\0",
    b"blksize2\000500\0multicast\0\0",
    b"blksize\00070000\0timeout\0000\0windowsize\000x\0",
]

#: The sources of requests: two ports of one host, a host that some policies deny, and IPv6.
PEERS: list[tuple[Any, ...]] = [
    ("192.0.2.1", 20001),
    ("192.0.2.1", 20002),
    ("192.0.2.2", 20001),
    ("2001:db8::1", 20001, 0, 0),
]

#: Seconds that each call of a slow file takes.
SLOW_SECONDS = 0.3

#: The most datagrams of one answer: those of a window.
LARGEST_WINDOW = 4


class SlowFile:
    """A wrapper of a backend, a reader or a writer whose calls take some time."""

    def __init__(self, wrapped: Any, clock: Clock) -> None:
        self._wrapped = wrapped
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return self._later(found) if name in ("read", "write", "commit", "abort") else found

    def open_reader(self, *arguments: Any) -> Any:
        return self._later(self._wrapped.open_reader)(*arguments).addCallback(self._slow)

    def open_writer(self, *arguments: Any) -> Any:
        return self._later(self._wrapped.open_writer)(*arguments).addCallback(self._slow)

    def _slow(self, file: Any) -> SlowFile:
        return SlowFile(file, self._clock)

    def _later(self, call: Any) -> Any:
        def called(*arguments: Any) -> Deferred[Any]:
            deferred: Deferred[Any] = Deferred(lambda _: timer.cancel())
            timer = self._clock.callLater(SLOW_SECONDS, deferred.callback, None)
            return deferred.addCallback(lambda _: call(*arguments))

        return called


class WatchedLink(MemoryLink):
    """A link that records whether something was sent after its end.

    An exception would not be enough, because the caller may catch it.
    """

    misused = False

    def send(self, datagrams: Sequence[Buffer]) -> None:
        self.misused |= self.closed
        super().send(datagrams)


class Network(MemoryNetwork):
    """A network whose links are `WatchedLink`s."""

    def open(self, peer: Any, local: Any, is_read: bool) -> MemoryLink:
        """Open the link of a transfer."""
        link = WatchedLink(self.clock.seconds)
        self.links.append(link)
        return link


class Peer:
    """One transfer as its client sees it."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.heard = b""  # the last datagram received
        self.count = 0
        self.has_answered = False  # whether it has sent something to the port of the transfer
        self.blksize = 512

    def listen(self) -> int:
        """Receive what the server has sent; return the number of datagrams."""
        sent = self.link.take()
        for datagram in sent:
            if wire.opcode_of(datagram) == wire.Opcode.OACK:
                granted = wire.parse_oack(datagram)
                self.blksize = int(granted.get("blksize", granted.get("blksize2", "512")))
            assert len(datagram) <= wire.HEADER_SIZE + max(self.blksize, wire.MAX_MESSAGE + 1)
        self.heard = sent[-1] if sent else self.heard
        self.count += len(sent)
        if not self.has_answered:
            assert self.count <= 4, "a forged address gets more than four datagrams"
        return len(sent)

    @property
    def number(self) -> int:
        """The block number of the last datagram; 0 for an OACK."""
        if wire.opcode_of(self.heard) in (wire.Opcode.DATA, wire.Opcode.ACK):
            return int.from_bytes(self.heard[2:4], "big")
        return 0


class ServerRun:
    """A server and its peers, whose actions the input decides."""

    def __init__(self, program: Input) -> None:
        self.program = program
        policy = program.choice(POLICIES)
        flags = program.byte()
        backend: Any = MemoryBackend(FILES, write="overwrite", capacity=6000)
        self.network = Network(backend, policy)
        if flags & 1:
            self.network.server.backend = SlowFile(backend, self.network.clock)
        self.peers: list[Peer] = []
        self.last: tuple[bytes, tuple[Any, ...]] = b"", PEERS[0]

    def run(self) -> None:
        """Run all events; then let the peers send nothing more."""
        while self.program.left:
            operation = self.program.byte()
            self.event(operation & 7, operation >> 3)
            self.listen()
        self.stop_answering()

    def event(self, kind: int, amount: int) -> None:
        program = self.program
        if kind == 0:
            self.request(program.octets(program.byte()), PEERS[amount & 3])
        elif kind == 1:
            request = b"\0\1" if amount & 1 else b"\0\2"
            request += NAMES[amount >> 1 & 3] + (b"\0netascii\0" if amount & 8 else b"\0octet\0")
            where = program.byte()
            self.request(request + OPTIONS[where >> 2 & 7], PEERS[where & 3])
        elif kind == 4:
            self.network.clock.advance(amount * amount * 0.005)
        elif kind == 6:
            self.request(*self.last)
        elif self.peers:
            peer = self.peers[amount % len(self.peers)]
            peer.has_answered = True
            self.answer(kind, amount, peer)

    def answer(self, kind: int, amount: int, peer: Peer) -> None:
        """Let a peer send a datagram to the port of its transfer."""
        program, link = self.program, peer.link
        if kind == 2:
            datagram = program.octets(program.byte())
        elif kind == 3:
            datagram = wire.ack((peer.number + program.byte() % 3 // 2) & 0xFFFF)
        elif kind == 5:
            size = program.byte() % (peer.blksize + 2)
            datagram = self.data(peer, 1, size or peer.blksize)
        elif amount & 1:
            # Blocks that receive offload has joined; the last one may be shorter.
            train = b"".join(self.data(peer, each, peer.blksize) for each in (1, 2, 3))
            link.deliver_train(train[: -1 - program.byte()], wire.HEADER_SIZE + peer.blksize)
            return
        else:
            datagram = b"\0\5" + program.octets(program.byte() & 31)
        if amount & 16 and kind == 3:
            link.waiting.append(datagram)  # it is read at the deadline, or at a request
            return
        self.listen()
        link.deliver(datagram)
        sent = peer.listen()
        assert sent <= LARGEST_WINDOW, "the answer to one datagram is more than a window"
        if wire.opcode_of(datagram) == wire.Opcode.ERROR:
            assert not sent, "an ERROR was answered"

    @staticmethod
    def data(peer: Peer, ahead: int, size: int) -> bytes:
        """Return the DATA whose number is `ahead` of the last block number."""
        text = TEXT * (size // len(TEXT) + 1)
        return wire.DATA_HEADERS[(peer.number + ahead) & 0xFFFF] + text[:size]

    def request(self, datagram: bytes, peer: tuple[Any, ...]) -> None:
        """Send a datagram to the request port."""
        self.last = datagram, peer
        network = self.network
        before = len(network.links)
        network.server.received(datagram, peer, ("192.0.2.69", 69))
        assert len(network.links) <= before + 1
        if len(network.links) > before:
            assert wire.opcode_of(datagram) in (wire.Opcode.RRQ, wire.Opcode.WRQ)
            self.peers.append(Peer(network.links[-1]))

    def listen(self) -> None:
        for peer in self.peers:
            peer.listen()

    def stop_answering(self) -> None:
        """Let time pass until no transfer is left, and check that nothing remains."""
        network = self.network
        clock = network.clock
        for _ in range(50 * (len(self.peers) + 1)):
            calls = clock.getDelayedCalls()
            if not calls:
                break
            clock.advance(max(0.0, min(each.getTime() for each in calls) - clock.seconds()) + 1e-6)
            self.listen()
        assert not clock.getDelayedCalls(), "a transfer does not end"
        transfers = network.server.transfers
        assert len(transfers) == transfers.running == 0, "a transfer was forgotten"
        assert all(link.closed for link in network.links), "a socket was left open"
        misused = [
            link for link in network.links if isinstance(link, WatchedLink) and link.misused
        ]
        assert not misused, "something was sent after the end"
        events = [event for event, _ in network.recorder.events]
        assert events.count("started") == events.count("finished")


def server(data: bytes) -> None:
    """Run a server; it must not log an error."""
    failures: list[str] = []

    def keep(event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            failure = event.get("log_failure")
            failures.append(failure.getTraceback() if failure else str(event.get("log_format")))

    globalLogPublisher.addObserver(keep)  # type: ignore[arg-type]
    try:
        ServerRun(Input(data)).run()
    finally:
        globalLogPublisher.removeObserver(keep)  # type: ignore[arg-type]
    assert not failures, "\n".join(failures)
