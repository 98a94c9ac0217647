"""Check a TFTP server over the network, and give advice for each problem found.

Each check runs its own transfers over plain sockets, because a normal client can't do what the
checks need: stop answering, repeat packets, send from a wrong port, or report a gap.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from twisted_tftp.errors import IllegalOperation, TFTPError
from twisted_tftp.net.udp import MAX_DATAGRAM
from twisted_tftp.protocol import netascii, wire
from twisted_tftp.protocol.options import accept
from twisted_tftp.protocol.printable import legible

#: The block sizes that are tried, in octets.
BLKSIZES = (65464, 8192, 1468, 1428, 1024, 512)

#: The window that is tried, in blocks.
WINDOWSIZE = 64

#: The block size of the other checks, in octets.
BLKSIZE = 512

#: How long an answer is waited for, in seconds.
DEFAULT_TIMEOUT = 1.0

#: How long retransmissions to a silent client are watched, in seconds.
WATCH = 8.0

#: The longest time of an answer that did not wait for a timeout of the server, in seconds.
PROMPT_TIME = 0.5

#: The longest time between answers to packets that were sent together, in seconds.
MAX_ANSWER_INTERVAL = 0.01

#: The longest time for fetching more than 65,535 blocks, in seconds.
MAX_FETCH_TIME = 60.0


class Verdict(Enum):
    """The result of a check, as it is shown."""

    GOOD = "ok"
    POOR = "warning"
    BAD = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The finding of one check.

    @ivar check: the name of the check.
    @ivar text: what the check has found.
    @ivar advice: what to do about it; empty if there is nothing to do.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        """Escape the text for a terminal, as it may contain texts from the server."""
        object.__setattr__(self, "text", legible(self.text))


@dataclass
class _Conversation:
    """An exchange of packets with the server, from its own socket."""

    server: Any
    timeout: float
    sock: socket.socket
    #: The address from which the server has answered, or None.
    peer: Any = None
    sent_at: float = field(default=0.0)

    def ask(
        self, opcode: wire.Opcode, name: str, options: Mapping[str, str], mode: str = wire.OCTET
    ) -> bytes | None:
        """Send a request and return the answer; None after three requests without an answer."""
        octets = name.encode("utf-8", "surrogateescape")
        request = wire.encode_request(wire.Request(opcode, octets, mode, options))
        for _ in range(3):
            self.sent_at = time.monotonic()
            self.sock.sendto(request, self.server)
            answer = self.hear(self.timeout)
            if answer is not None:
                return answer
        return None

    def hear(self, seconds: float) -> bytes | None:
        """Return the next datagram of the server, or None if none comes in time."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.sock], [], [], left)[0]:
                return None
            try:
                datagram, source = self.sock.recvfrom(MAX_DATAGRAM)
            except ConnectionError:
                continue
            if self.peer is None and source[0] == self.server[0]:
                self.peer = source
            if source == self.peer:
                return datagram

    def say(self, datagram: bytes) -> None:
        """Send a datagram to the server's port of the transfer."""
        self.sent_at = time.monotonic()
        self.sock.sendto(datagram, self.peer)

    def bye(self) -> None:
        """End the transfer with an ERROR."""
        if self.peer is not None:
            with contextlib.suppress(OSError):
                self.sock.sendto(b"\0\5\0\0enough\0", self.peer)


class Doctor:
    """The checks of one server.

    @ivar findings: the findings so far.
    """

    def __init__(
        self, server: Any, name: str | None, timeout: float = DEFAULT_TIMEOUT, watch: float = WATCH
    ) -> None:
        """Set up.

        @param server: the socket address of the request port.
        @param name: a file to fetch; None to check only whether the server answers.
        @param timeout: how long an answer is waited for, in seconds.
        @param watch: how long retransmissions are watched, in seconds.
        """
        self.findings: list[Finding] = []
        self._server = server
        self._name = name
        self._timeout = timeout
        self._watch = watch

    def examine(self, tell: Callable[[Finding], None] = lambda finding: None) -> list[Finding]:
        """Run all checks, and call `tell` with each finding as soon as it is known."""
        checks: list[Callable[[], Finding]] = [self._answers]
        if self._name is not None:
            checks += [
                self._options,
                self._blocks,
                self._windows,
                self._gap,
                self._duplicate,
                self._stranger,
                self._repeated,
                self._schedule,
                self._netascii,
                self._rollover,
            ]
        for check in checks:
            finding = check()
            self.findings.append(finding)
            tell(finding)
            if check == self._answers and finding.verdict is Verdict.BAD:
                break
        return self.findings

    @contextlib.contextmanager
    def _talk(self) -> Iterator[_Conversation]:
        family = socket.AF_INET6 if len(self._server) == 4 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            talk = _Conversation(self._server, self._timeout, sock)
            try:
                yield talk
            finally:
                talk.bye()

    def _read(
        self, talk: _Conversation, options: Mapping[str, str] | None = None, mode: str = wire.OCTET
    ) -> bytes | None:
        assert self._name is not None
        return talk.ask(wire.Opcode.RRQ, self._name, options or {}, mode)

    # -- the checks -----------------------------------------------------------------------

    def _answers(self) -> Finding:
        """Request the file, or a file that certainly does not exist."""
        name = self._name or f"txtftp-doctor-{secrets.token_hex(8)}"
        with self._talk() as talk:
            answer = talk.ask(wire.Opcode.RRQ, name, {})
            took = time.monotonic() - talk.sent_at
            peer = talk.peer
        if answer is None:
            return Finding(
                "answers",
                Verdict.BAD,
                "no answer",
                "is the server running, and do firewalls let its answers through? The answers"
                " come from another port than the request port",
            )
        where = f"from {peer[0]} port {peer[1]} after {took * 1e3:.1f} ms"
        if wire.opcode_of(answer) == wire.Opcode.ERROR:
            code, message = wire.parse_error(answer)
            if self._name is None:
                return Finding("answers", Verdict.GOOD, f"ERROR {code} {where}, as expected")
            return Finding(
                "answers",
                Verdict.BAD,
                f"ERROR {code} {message!r} {where}",
                "give the name of an existing file, relative to the server's root",
            )
        if peer[1] == self._server[1]:
            return Finding(
                "answers",
                Verdict.GOOD,
                f"{where}: the request port itself answers (single port), which works through NAT",
            )
        return Finding("answers", Verdict.GOOD, where)

    def _options(self) -> Finding:
        """Request all options at once."""
        asked = {"blksize": "1428", "timeout": "3", "tsize": "0", "windowsize": "4"}
        with self._talk() as talk:
            answer = self._read(talk, asked) or b""
        if wire.opcode_of(answer) != wire.Opcode.OACK:
            return Finding(
                "options",
                Verdict.POOR,
                "no option is granted",
                "it sends one block of 512 octets at a time: a server with RFC 2347, 2348 and 7440"
                " is many times faster",
            )
        try:
            granted = wire.parse_oack(answer)
        except IllegalOperation as error:
            return Finding("options", Verdict.BAD, error.message, "the server has a bug")
        text = " ".join(f"{name}={value}" for name, value in granted.items())
        missing = [name for name in asked if name not in granted]
        surplus = [name for name in granted if name not in asked]
        if surplus:
            return Finding(
                "options",
                Verdict.BAD,
                f"{text}: {', '.join(surplus)} was not asked for",
                "clients then give up (RFC 2347)",
            )
        if missing:
            return Finding("options", Verdict.POOR, f"{text}; not granted: {', '.join(missing)}")
        return Finding("options", Verdict.GOOD, text)

    def _blocks(self) -> Finding:
        """Find the largest block that arrives."""
        granted_but_lost: list[int] = []
        for size in BLKSIZES:
            with self._talk() as talk:
                asked = {"blksize": str(size)}
                answer = self._read(talk, asked) or b""
                granted = wire.opcode_of(answer) == wire.Opcode.OACK
                if granted:
                    size = int(self._granted(answer, asked).get("blksize", "512"))
                    talk.say(wire.ack(0))
                    answer = talk.hear(self._timeout) or b""
                elif wire.opcode_of(answer) == wire.Opcode.DATA:
                    size = 512
                if wire.opcode_of(answer) == wire.Opcode.DATA:
                    came = len(answer) - wire.HEADER_SIZE
                    if came < size:
                        text = f"the file has only {came} octets: name a larger file"
                        return Finding("blksize", Verdict.SKIPPED, text)
                    text = f"blocks of up to {size} octets arrive"
                    if granted_but_lost:
                        lost = ", ".join(map(str, granted_but_lost))
                        return Finding(
                            "blksize",
                            Verdict.POOR,
                            f"{text}; blocks of {lost} were granted, but do not arrive",
                            f"fragments are lost on the path: limit the server to {size}",
                        )
                    return Finding("blksize", Verdict.GOOD, text)
                if granted:
                    granted_but_lost.append(size)
        return Finding("blksize", Verdict.BAD, "no block of any size arrives")

    def _windows(self) -> Finding:
        """Request a large window, and count the blocks that come for one ACK."""
        with self._talk() as talk:
            options = {"blksize": str(BLKSIZE), "windowsize": str(WINDOWSIZE)}
            granted = self._granted(self._read(talk, options), options).get("windowsize")
            if granted is None:
                return Finding(
                    "windowsize",
                    Verdict.POOR,
                    "no windows (RFC 7440)",
                    "each block waits for its ACK: with a round trip of 5 ms that is 0.3 MB/s",
                )
            talk.say(wire.ack(0))
            came = 0
            while came < int(granted) and talk.hear(min(PROMPT_TIME, self._timeout)) is not None:
                came += 1
        return Finding("windowsize", Verdict.GOOD, f"{granted} granted, {came} blocks for one ACK")

    def _gap(self) -> Finding:
        """Report that the second block of a window was lost."""
        with self._talk() as talk:
            options = {"blksize": str(BLKSIZE), "windowsize": "4"}
            if "windowsize" not in self._granted(self._read(talk, options), options):
                return Finding("gap", Verdict.SKIPPED, "no windows")
            talk.say(wire.ack(0))
            for number in range(1, 5):
                if (talk.hear(self._timeout) or b"")[:4] != wire.DATA_HEADERS[number]:
                    return Finding("gap", Verdict.SKIPPED, "the file is too short")
            talk.say(wire.ack(1))
            began = time.monotonic()
            while True:
                answer = talk.hear(self._timeout * 5)
                if answer is None or time.monotonic() - began > self._timeout * 5:
                    return Finding("gap", Verdict.BAD, "the missing block is not sent again")
                if answer[:4] == wire.DATA_HEADERS[2]:
                    break
            took = time.monotonic() - began
        text = f"the missing block is sent again after {took * 1e3:.1f} ms"
        if took > PROMPT_TIME:
            return Finding(
                "gap", Verdict.POOR, text, "each lost packet delays a transfer by this time"
            )
        return Finding("gap", Verdict.GOOD, text)

    def _duplicate(self) -> Finding:
        """Send an ACK three times, and count the blocks that the server sends for it."""
        with self._talk() as talk:
            if wire.opcode_of(self._read(talk) or b"") != wire.Opcode.DATA:
                return Finding("duplicate ACK", Verdict.SKIPPED, "no first block")
            for _ in range(3):
                talk.say(wire.ack(1))
            if talk.hear(self._timeout) is None:
                return Finding("duplicate ACK", Verdict.SKIPPED, "the file is too short")
            # Later blocks are retransmissions, because this block is not acknowledged.
            came = 1
            while talk.hear(MAX_ANSWER_INTERVAL) is not None:
                came += 1
        if came > 1:
            return Finding(
                "duplicate ACK",
                Verdict.BAD,
                f"the server answers three ACKs of one block with {came} blocks",
                "the Sorcerer's Apprentice bug (RFC 1123 section 4.2.3.1): one repeated packet"
                " doubles the rest of the transfer",
            )
        return Finding("duplicate ACK", Verdict.GOOD, "is ignored")

    def _stranger(self) -> Finding:
        """Send an ACK to a transfer from another port."""
        with self._talk() as talk, self._talk() as other:
            if wire.opcode_of(self._read(talk) or b"") != wire.Opcode.DATA:
                return Finding("stranger", Verdict.SKIPPED, "no first block")
            if talk.peer[1] == self._server[1]:
                return Finding("stranger", Verdict.SKIPPED, "all transfers use the request port")
            other.peer = talk.peer
            other.say(wire.ack(1))
            answer = other.hear(min(PROMPT_TIME, self._timeout)) or b""
            other.peer = None  # so that `bye` does not end the transfer of `talk`
            disturbed = (talk.hear(0.1) or b"")[:4] == wire.DATA_HEADERS[2]
        if disturbed or wire.opcode_of(answer) == wire.Opcode.DATA:
            return Finding(
                "stranger",
                Verdict.BAD,
                "an ACK from another port is accepted",
                "anybody who guesses a port can disturb transfers (RFC 1350 section 4)",
            )
        if wire.opcode_of(answer) == wire.Opcode.ERROR:
            return Finding("stranger", Verdict.GOOD, f"gets ERROR {wire.parse_error(answer)[0]}")
        return Finding("stranger", Verdict.GOOD, "is not answered")

    def _repeated(self) -> Finding:
        """Send a request twice, as a network may do, and count the ports that answer."""
        with self._talk() as talk:
            assert self._name is not None
            octets = self._name.encode("utf-8", "surrogateescape")
            request = wire.encode_request(wire.Request(wire.Opcode.RRQ, octets, wire.OCTET, {}))
            sources = set()
            for _ in range(2):
                talk.sock.sendto(request, self._server)
            deadline = time.monotonic() + min(PROMPT_TIME, self._timeout)
            while select.select([talk.sock], [], [], max(0, deadline - time.monotonic()))[0]:
                _, source = talk.sock.recvfrom(MAX_DATAGRAM)
                sources.add(source)
                talk.peer = source
            for source in sources:
                talk.sock.sendto(b"\0\5\0\0enough\0", source)
        if len(sources) > 1:
            return Finding(
                "repeated request",
                Verdict.POOR,
                "starts a second transfer",
                "clients that repeat a request get the file twice",
            )
        return Finding("repeated request", Verdict.GOOD, "starts no second transfer")

    def _schedule(self) -> Finding:
        """Send no ACK after the first block, and note when the block is sent again."""
        with self._talk() as talk:
            answer = self._read(talk)
            if wire.opcode_of(answer or b"") != wire.Opcode.DATA:
                return Finding("retransmission", Verdict.SKIPPED, "no first block")
            began = time.monotonic()
            times = []
            while time.monotonic() - began < self._watch:
                again = talk.hear(self._watch - (time.monotonic() - began))
                if again is not None and wire.opcode_of(again) == wire.Opcode.DATA:
                    times.append(time.monotonic() - began)
        text = ", ".join(f"{at:.1f}" for at in times[:8])
        if not times:
            return Finding(
                "retransmission",
                Verdict.POOR,
                f"nothing is sent again within {self._watch:g} s",
                "a lost packet stops a transfer until the client retransmits",
            )
        if len(times) > 8:
            return Finding(
                "retransmission",
                Verdict.POOR,
                f"{len(times)} times to a client that never answered (after {text} s ...)",
                "requests from forged addresses then flood other hosts: it should give up sooner",
            )
        return Finding("retransmission", Verdict.GOOD, f"after {text} s")

    def _netascii(self) -> Finding:
        """Compare the first block of both transfer modes."""
        blocks = []
        for mode in (wire.OCTET, wire.NETASCII):
            with self._talk() as talk:
                answer = self._read(talk, mode=mode) or b""
                if wire.opcode_of(answer) == wire.Opcode.ERROR:
                    return Finding("netascii", Verdict.POOR, "is refused")
                if wire.opcode_of(answer) != wire.Opcode.DATA:
                    return Finding("netascii", Verdict.SKIPPED, "no first block")
                blocks.append(answer[wire.HEADER_SIZE :])
        octets, text = blocks
        if netascii.encode(octets)[: len(text)] == text:
            return Finding("netascii", Verdict.GOOD, "lines end with CR LF, a CR is escaped")
        return Finding(
            "netascii", Verdict.POOR, "is not encoded", "text arrives with wrong line ends"
        )

    def _rollover(self) -> Finding:
        """Fetch more than 65,535 small blocks, if the file is large enough."""
        with self._talk() as talk:
            options = {"blksize": "8", "windowsize": "64", "tsize": "0"}
            granted = self._granted(self._read(talk, options), options)
            size = granted.get("tsize", "")
            if granted.get("blksize") != "8" or not size.isdigit() or int(size) < 8 * 65_536:
                return Finding(
                    "rollover",
                    Verdict.SKIPPED,
                    "name a file of 600 kB or more, from a server that grants blocks of 8 octets",
                )
            windowsize = int(granted.get("windowsize", "1"))
            block = 0
            talk.say(wire.ack(0))
            until = time.monotonic() + MAX_FETCH_TIME
            while block < 65_540:
                if time.monotonic() > until:
                    return Finding("rollover", Verdict.SKIPPED, "the server is too slow for this")
                for _ in range(windowsize):
                    answer = talk.hear(self._timeout) or b""
                    expected = (block + 1) & 0xFFFF
                    if answer[:4] == wire.DATA_HEADERS[1] and block == 65_535:
                        return Finding("rollover", Verdict.GOOD, "65535 is followed by 1")
                    if answer[:4] != wire.DATA_HEADERS[expected]:
                        break
                    block += 1
                else:
                    talk.say(wire.ack(block & 0xFFFF))
                    continue
                if block < 65_535 and answer[:2] == b"\0\3":
                    talk.say(wire.ack(block & 0xFFFF))  # a block was lost: ask for it again
                    continue
                return Finding(
                    "rollover",
                    Verdict.BAD,
                    f"no block follows block {block}",
                    "larger files need larger blocks: 65,535 blocks of 512 octets are 32 MiB",
                )
        return Finding("rollover", Verdict.GOOD, "65535 is followed by 0")

    @staticmethod
    def _granted(answer: bytes | None, asked: Mapping[str, str]) -> dict[str, str]:
        """Return the options of a valid OACK to the request for `asked`, otherwise nothing."""
        if answer is None or wire.opcode_of(answer) != wire.Opcode.OACK:
            return {}
        try:
            return dict(accept(asked, wire.parse_oack(answer)).accepted)
        except TFTPError:
            return {}


def worst(findings: list[Finding]) -> Verdict:
    """Return the worst verdict of the findings."""
    order = (Verdict.BAD, Verdict.POOR)
    return next((each for each in order if any(f.verdict is each for f in findings)), Verdict.GOOD)
