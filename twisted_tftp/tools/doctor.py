"""Examine a TFTP server from outside, check by check, each with advice in plain words.

Every check is a conversation of its own over plain sockets, because what is looked at is what a
well-behaved client never shows: silence, repeats, strangers, gaps.
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

#: Sizes of blocks that are tried, and the window.
BLKSIZES = (65464, 8192, 1468, 1428, 1024, 512)
WINDOWSIZE = 64

#: Octets of blocks in checks that look at conduct and not at speed.
BLKSIZE = 512

#: Seconds to wait for an answer.
DEFAULT_TIMEOUT = 1.0

#: Seconds for which a silent client watches what is sent again.
WATCH = 8.0

#: Seconds within which a gap must be filled to count as answered, and not as timed out.
PROMPT = 0.5


#: Seconds between answers to packets that were sent together, at most.
TOGETHER = 0.01


#: Seconds that fetching more than 65,535 blocks may take.
LONGEST_FETCH = 60.0


class Verdict(Enum):
    """How a check came out; the value is what people see."""

    GOOD = "ok"
    POOR = "warning"
    BAD = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    @ivar check: its name.
    @ivar text: what was seen.
    @ivar advice: what to do about it; empty where nothing needs to be done.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        """Make the text fit for a terminal: there may be the server's words in it."""
        object.__setattr__(self, "text", legible(self.text))


@dataclass
class _Talk:
    """A conversation with a server, from a socket of its own."""

    server: Any
    timeout: float
    sock: socket.socket
    #: The address that the server answers from, once it has.
    peer: Any = None
    sent_at: float = field(default=0.0)

    def ask(
        self, opcode: wire.Opcode, name: str, options: Mapping[str, str], mode: str = wire.OCTET
    ) -> bytes | None:
        """Send a request and return the answer; None after three tries in silence."""
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
        """Return the next datagram of the server, None if none comes in time."""
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
        """Send to the transfer's port."""
        self.sent_at = time.monotonic()
        self.sock.sendto(datagram, self.peer)

    def bye(self) -> None:
        """End the transfer."""
        if self.peer is not None:
            with contextlib.suppress(OSError):
                self.sock.sendto(b"\0\5\0\0enough\0", self.peer)


class Doctor:
    """Examine one server.

    @ivar findings: what was found so far.
    """

    def __init__(
        self, server: Any, name: str | None, timeout: float = DEFAULT_TIMEOUT, watch: float = WATCH
    ) -> None:
        """Prepare.

        @param server: the socket address of the request port.
        @param name: a file to fetch; None looks only at whether the server answers.
        @param timeout: seconds to wait for an answer.
        @param watch: seconds for which repeats are watched.
        """
        self.findings: list[Finding] = []
        self._server = server
        self._name = name
        self._timeout = timeout
        self._watch = watch

    def examine(self, tell: Callable[[Finding], None] = lambda finding: None) -> list[Finding]:
        """Run all checks; `tell` is called with each finding at once."""
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
    def _talk(self) -> Iterator[_Talk]:
        family = socket.AF_INET6 if len(self._server) == 4 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            talk = _Talk(self._server, self._timeout, sock)
            try:
                yield talk
            finally:
                talk.bye()

    def _read(
        self, talk: _Talk, options: Mapping[str, str] | None = None, mode: str = wire.OCTET
    ) -> bytes | None:
        assert self._name is not None
        return talk.ask(wire.Opcode.RRQ, self._name, options or {}, mode)

    # -- the checks -----------------------------------------------------------------------

    def _answers(self) -> Finding:
        """Ask for the file, or for one that is surely not there."""
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
                "is the server running, and do firewalls let its answers through? They come"
                " from another port than the one that was asked",
            )
        where = f"from {peer[0]} port {peer[1]} after {took * 1e3:.1f} ms"
        if wire.opcode_of(answer) == wire.Opcode.ERROR:
            code, message = wire.parse_error(answer)
            if self._name is None:
                return Finding("answers", Verdict.GOOD, f"an ERROR {code} {where}, as it should")
            return Finding(
                "answers",
                Verdict.BAD,
                f"ERROR {code} {message!r} {where}",
                "give the name of a file that is there; names are relative to the server's root",
            )
        if peer[1] == self._server[1]:
            return Finding(
                "answers",
                Verdict.GOOD,
                f"{where}: the request port itself (single port), which passes through NAT",
            )
        return Finding("answers", Verdict.GOOD, where)

    def _options(self) -> Finding:
        """Ask for every option at once."""
        asked = {"blksize": "1428", "timeout": "3", "tsize": "0", "windowsize": "4"}
        with self._talk() as talk:
            answer = self._read(talk, asked) or b""
        if wire.opcode_of(answer) != wire.Opcode.OACK:
            return Finding(
                "options",
                Verdict.POOR,
                "it grants no option",
                "blocks of 512 octets, one at a time: a server with RFC 2347, 2348 and 7440 is"
                " many times faster",
            )
        try:
            granted = wire.parse_oack(answer)
        except IllegalOperation as error:
            return Finding("options", Verdict.BAD, error.message, "the server is broken")
        text = " ".join(f"{name}={value}" for name, value in granted.items())
        missing = [name for name in asked if name not in granted]
        surplus = [name for name in granted if name not in asked]
        if surplus:
            return Finding(
                "options",
                Verdict.BAD,
                f"{text}: {', '.join(surplus)} was not asked for",
                "clients give up at that (RFC 2347)",
            )
        if missing:
            return Finding("options", Verdict.POOR, f"{text}; not granted: {', '.join(missing)}")
        return Finding("options", Verdict.GOOD, text)

    def _blocks(self) -> Finding:
        """Look which is the largest block that really arrives."""
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
                        text = f"the file has {came} octets: name a larger one"
                        return Finding("blksize", Verdict.SKIPPED, text)
                    text = f"blocks of up to {size} octets arrive"
                    if granted_but_lost:
                        lost = ", ".join(map(str, granted_but_lost))
                        return Finding(
                            "blksize",
                            Verdict.POOR,
                            f"{text}; {lost} granted, but nothing comes",
                            f"fragments are lost on the way: limit the server to {size}",
                        )
                    return Finding("blksize", Verdict.GOOD, text)
                if granted:
                    granted_but_lost.append(size)
        return Finding("blksize", Verdict.BAD, "no block of any size arrives")

    def _windows(self) -> Finding:
        """Ask for a large window and count what comes for one ACK."""
        with self._talk() as talk:
            options = {"blksize": str(BLKSIZE), "windowsize": str(WINDOWSIZE)}
            granted = self._granted(self._read(talk, options), options).get("windowsize")
            if granted is None:
                return Finding(
                    "windowsize",
                    Verdict.POOR,
                    "no windows (RFC 7440)",
                    "each block waits for its ACK: over a way of 5 ms that is 0.3 MB/s",
                )
            talk.say(wire.ack(0))
            came = 0
            while came < int(granted) and talk.hear(min(PROMPT, self._timeout)) is not None:
                came += 1
        return Finding("windowsize", Verdict.GOOD, f"{granted} granted, {came} blocks for one ACK")

    def _gap(self) -> Finding:
        """Claim that the second block of a window was lost."""
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
                    return Finding("gap", Verdict.BAD, "the missing block does not come again")
                if answer[:4] == wire.DATA_HEADERS[2]:
                    break
            took = time.monotonic() - began
        text = f"the missing block comes again after {took * 1e3:.1f} ms"
        if took > PROMPT:
            return Finding(
                "gap", Verdict.POOR, text, "each lost packet stops a transfer for so long"
            )
        return Finding("gap", Verdict.GOOD, text)

    def _duplicate(self) -> Finding:
        """Send an ACK three times and count the blocks that it draws."""
        with self._talk() as talk:
            if wire.opcode_of(self._read(talk) or b"") != wire.Opcode.DATA:
                return Finding("duplicate ACK", Verdict.SKIPPED, "no first block")
            for _ in range(3):
                talk.say(wire.ack(1))
            if talk.hear(self._timeout) is None:
                return Finding("duplicate ACK", Verdict.SKIPPED, "the file is too short")
            # What comes later is sent again because it was not acknowledged.
            came = 1
            while talk.hear(TOGETHER) is not None:
                came += 1
        if came > 1:
            return Finding(
                "duplicate ACK",
                Verdict.BAD,
                f"three ACKs of one block draw {came} blocks",
                "the Sorcerer's Apprentice bug (RFC 1123 section 4.2.3.1): one repeated packet"
                " doubles the rest of the transfer",
            )
        return Finding("duplicate ACK", Verdict.GOOD, "it draws no second block")

    def _stranger(self) -> Finding:
        """Talk to a transfer from another port."""
        with self._talk() as talk, self._talk() as other:
            if wire.opcode_of(self._read(talk) or b"") != wire.Opcode.DATA:
                return Finding("stranger", Verdict.SKIPPED, "no first block")
            if talk.peer[1] == self._server[1]:
                return Finding("stranger", Verdict.SKIPPED, "all transfers have one port")
            other.peer = talk.peer
            other.say(wire.ack(1))
            answer = other.hear(min(PROMPT, self._timeout)) or b""
            other.peer = None  # nothing is to be told to the transfer of another
            disturbed = (talk.hear(0.1) or b"")[:4] == wire.DATA_HEADERS[2]
        if disturbed or wire.opcode_of(answer) == wire.Opcode.DATA:
            return Finding(
                "stranger",
                Verdict.BAD,
                "its ACK moves the transfer on",
                "anybody who guesses a port can spoil transfers (RFC 1350 section 4)",
            )
        if wire.opcode_of(answer) == wire.Opcode.ERROR:
            return Finding("stranger", Verdict.GOOD, f"gets ERROR {wire.parse_error(answer)[0]}")
        return Finding("stranger", Verdict.GOOD, "is not answered")

    def _repeated(self) -> Finding:
        """Send a request twice, as a network may, and count who answers."""
        with self._talk() as talk:
            assert self._name is not None
            octets = self._name.encode("utf-8", "surrogateescape")
            request = wire.encode_request(wire.Request(wire.Opcode.RRQ, octets, wire.OCTET, {}))
            sources = set()
            for _ in range(2):
                talk.sock.sendto(request, self._server)
            deadline = time.monotonic() + min(PROMPT, self._timeout)
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
                "machines that ask twice get every file twice",
            )
        return Finding("repeated request", Verdict.GOOD, "starts no second transfer")

    def _schedule(self) -> Finding:
        """Stay silent after the first block, and note when it comes again."""
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
                "a lost packet stops a transfer until the client asks again",
            )
        if len(times) > 8:
            return Finding(
                "retransmission",
                Verdict.POOR,
                f"{len(times)} times to a client that never answered (after {text} s ...)",
                "with a forged address that floods somebody else: it should give up soon",
            )
        return Finding("retransmission", Verdict.GOOD, f"after {text} s")

    def _netascii(self) -> Finding:
        """Compare the first block in both modes."""
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
            return Finding("netascii", Verdict.GOOD, "lines end in CR LF, a CR is escaped")
        return Finding(
            "netascii", Verdict.POOR, "is not encoded", "text arrives with wrong line ends"
        )

    def _rollover(self) -> Finding:
        """Fetch more than 65,535 small blocks, if the file has them."""
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
            until = time.monotonic() + LONGEST_FETCH
            while block < 65_540:
                if time.monotonic() > until:
                    return Finding("rollover", Verdict.SKIPPED, "the server is too slow for it")
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
                    talk.say(wire.ack(block & 0xFFFF))  # something was lost: ask for the rest
                    continue
                return Finding(
                    "rollover",
                    Verdict.BAD,
                    f"after block {block} nothing follows",
                    "larger files need larger blocks: 65,535 blocks of 512 octets are 32 MiB",
                )
        return Finding("rollover", Verdict.GOOD, "65535 is followed by 0")

    @staticmethod
    def _granted(answer: bytes | None, asked: Mapping[str, str]) -> dict[str, str]:
        """Return what an OACK grants of what was `asked`; nothing where it grants more."""
        if answer is None or wire.opcode_of(answer) != wire.Opcode.OACK:
            return {}
        try:
            return dict(accept(asked, wire.parse_oack(answer)).accepted)
        except TFTPError:
            return {}


def worst(findings: list[Finding]) -> Verdict:
    """Return the worst verdict of them."""
    order = (Verdict.BAD, Verdict.POOR)
    return next((each for each in order if any(f.verdict is each for f in findings)), Verdict.GOOD)
