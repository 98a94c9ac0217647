"""Fetch files from a TFTP server and store them there, with the machines of our own server."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_tftp import wire
from twisted_tftp.alarms import Alarms
from twisted_tftp.backends.filesystem import FilesystemBackend
from twisted_tftp.context import Direction, Outcome, TransferContext, TransferStatistics
from twisted_tftp.errors import NoAnswer, OptionRefused, TFTPError, TransferTimedOut
from twisted_tftp.interfaces import IFileReader, IFileWriter
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.links import ClientLink
from twisted_tftp.net.strangers import Strangers
from twisted_tftp.net.udp import (
    MAX_DATAGRAM,
    Buffer,
    Receive,
    ReceiveTrain,
    SocketAddress,
    endpoint,
    open_socket,
)
from twisted_tftp.options import Grant, accept
from twisted_tftp.policy import MAX_BLKSIZE, MIN_BLKSIZE, Policy, Retransmit
from twisted_tftp.session import ReadSession, Session, Wiring, WriteSession
from twisted_tftp.streams import StreamReader, StreamWriter
from twisted_tftp.trace import describe
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.step import Step
from twisted_tftp.transfer.timing import Timing

#: The port that TFTP servers are asked on (RFC 1350 section 4).
PORT = 69

#: The MTU where none is known.
ETHERNET = 1500

#: Octets of a file that a transfer keeps at hand.
READ_AHEAD = 64 * 1024

#: Seconds for which the last block is acknowledged again, should the ACK have been lost.
DALLY = 2.0

#: Seconds for which idle sockets are asked again: a server makes a window of 64 blocks in them,
#: and a client has little else to do (1.4 to 2 times as fast as with the server's `LINGER`).
LINGER = 150e-6

#: Blocks of a window asked for where nothing else is said.
WINDOWSIZE = 16


@dataclass(frozen=True)
class TransferResult:
    """How a transfer went.

    @ivar filename: the name on the server.
    @ivar octets: octets of the file.
    @ivar seconds: from the first request to the end.
    @ivar asked: the options that were asked for, name to value.
    @ivar options: those that the server granted.
    @ivar retransmissions: datagrams that we sent again.
    """

    filename: str
    octets: int
    seconds: float
    asked: Mapping[str, str]
    options: Mapping[str, str]
    retransmissions: int

    @property
    def rate(self) -> float:
        """Octets a second."""
        return self.octets / self.seconds if self.seconds else 0.0


class _Backend:
    """The one local file of a transfer, as a backend for its session."""

    def __init__(
        self, file: Any, in_thread: Callable[..., Deferred[Any]], write_behind: bool
    ) -> None:
        self._file = file
        self._in_thread = in_thread
        self._write_behind = write_behind

    def open_reader(self, path: str, context: TransferContext) -> Any:
        if isinstance(self._file, str | os.PathLike):
            backend, name = self._place("never")
            return backend.open_reader(name, context)
        return self._file if IFileReader.providedBy(self._file) else StreamReader(self._file)

    def open_writer(self, path: str, context: TransferContext) -> Any:
        if isinstance(self._file, str | os.PathLike):
            backend, name = self._place("overwrite")
            return backend.open_writer(name, context)
        return self._file if IFileWriter.providedBy(self._file) else StreamWriter(self._file)

    def _place(self, write: str) -> tuple[FilesystemBackend, str]:
        # The user's own links are followed.
        folder, name = os.path.split(os.path.realpath(self._file))
        backend = FilesystemBackend(
            folder, write, cache=0, in_thread=self._in_thread, write_behind=self._write_behind
        )
        return backend, name


class ServerUnreachable(TransferTimedOut):
    """The system says that there is no way to the server (code 0)."""


class PortUnreachable(ServerUnreachable):
    """The system says that nobody is there on the server's port (ICMP; code 0)."""


class AnswersFromElsewhere(NoAnswer):
    """The host that was asked does not answer, but another one does (code 0).

    A host of several addresses may answer from another than was asked; anybody else may too.
    """


class BadURL(ValueError):
    """A URL is not `tftp://host[:port]/file[;mode=octet|netascii]` (RFC 3617)."""


@dataclass(frozen=True)
class Location:
    """What a TFTP URL names."""

    host: str
    port: int
    filename: str
    mode: str = wire.OCTET


def parse_url(url: str, port: int = PORT) -> Location:
    """Read a `tftp://` URL (RFC 3617 section 3).

    @param port: of the server, where the URL has none.
    @raise BadURL: it is none.
    """
    try:
        parts = urlsplit(url.replace("?", "%3F").replace("#", "%23"))  # of no meaning in TFTP
        host, port = unquote(parts.hostname or ""), parts.port or port
    except ValueError as error:
        raise BadURL(f"{url}: {error}") from None
    path, _, mode = parts.path.partition(";mode=")
    filename = unquote(path[1:], errors="surrogateescape")
    if (
        parts.scheme != "tftp"
        or not host
        or not filename
        or "\0" in filename
        or mode not in ("", "octet", "netascii")
    ):
        raise BadURL(f"{url}: a TFTP URL is tftp://host[:port]/file[;mode=octet|netascii]")
    return Location(host, port, filename, mode or wire.OCTET)


def download(
    url: str, path: str, reactor: Any = None, **settings: Any
) -> Deferred[TransferResult]:
    """Fetch `url` into the file `path`.

    @param settings: of the L{TFTPClient}.
    @raise BadURL: the URL is none.
    """
    location = parse_url(url)
    return _client(location, reactor, settings).get(location.filename, path)


def upload(path: str, url: str, reactor: Any = None, **settings: Any) -> Deferred[TransferResult]:
    """Store the file `path` as `url`.

    @param settings: of the L{TFTPClient}.
    @raise BadURL: the URL is none.
    """
    location = parse_url(url)
    return _client(location, reactor, settings).put(path, location.filename)


def _client(location: Location, reactor: Any, settings: dict[str, Any]) -> TFTPClient:
    if reactor is None:
        from twisted.internet import reactor
    settings.setdefault("mode", location.mode)
    return TFTPClient(reactor, location.host, location.port, **settings)


def largest_blksize(server: SocketAddress) -> int:
    """Return the octets of the largest block whose datagram the way to `server` takes whole.

    This host's word on the MTU is taken; where it has none, that of Ethernet.
    """
    six = len(server) == 4
    headers = (40 if six else 20) + 8 + wire.HEADER_SIZE
    mtu = ETHERNET
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(server)
            level, option = (socket.IPPROTO_IPV6, 24) if six else (socket.IPPROTO_IP, 14)
            mtu = sock.getsockopt(level, option)  # IPV6_MTU, IP_MTU
    except OSError:
        pass  # no way, as will be seen; or another system than Linux
    return max(MIN_BLKSIZE, min(MAX_BLKSIZE, mtu - headers))


def resolve(reactor: Any, host: str, port: int) -> SocketAddress | Deferred[SocketAddress]:
    """Return the socket address of `host`, its first one, or a Deferred of it.

    @raise DNSLookupError: there is no such host.
    """
    try:
        return numeric_address(host, port)
    except socket.gaierror:
        pass
    found: Deferred[SocketAddress] = Deferred()

    @implementer(IResolutionReceiver)
    class Receiver:
        def resolutionBegan(self, resolution: Any) -> None:
            pass

        def addressResolved(self, address: Any) -> None:
            if not found.called:
                found.callback(numeric_address(address.host, port))

        def resolutionComplete(self) -> None:
            if not found.called:
                found.errback(DNSLookupError(f"there is no host {host}"))

    reactor.nameResolver.resolveHostName(Receiver(), host, port, transportSemantics="UDP")
    return found


def numeric_address(host: str, port: int) -> SocketAddress:
    """Return the socket address of a host that is given by its address.

    @raise socket.gaierror: it is none.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    (*_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    return address


class _Exchange(Session):
    """What fetching and storing share: the request and its answer, before the file goes."""

    _link: ClientLink
    _machine: Any
    _client: TFTPClient
    #: The options to ask for; None for what suits the path.
    _asked: Mapping[str, str] | None
    #: What the system has said of the way to the server, or None.
    _error_of_path: OSError | None

    #: Whether the file comes to us.
    _fetching: bool

    def _ask(self, size: int | None) -> Step:
        """Build the request and the machine that sends it, and return its first step."""
        options = self._asked
        if options is None:
            options = self._client._options_for(self.context, size, self._fetching, self._link)
        opcode = wire.Opcode.RRQ if self._fetching else wire.Opcode.WRQ
        request = wire.Request(opcode, self.context.filename, self.context.mode, options)
        self.context = self.context._replace(options=request.options)
        self._machine = Asker(wire.encode_request(request), self._fetching, self._timing(None))
        self._link.on_unreachable = self._unreachable
        return Step.WAIT if self.ended else self._machine.start(self._clock())

    def _unreachable(self, error: OSError) -> None:
        """Note what the system says; the server may be starting, so asking goes on."""
        self._error_of_path = error

    def _answered(self, answer: bytes, now: float) -> Step:
        """Build the machine that goes on from the server's answer, and return its first step."""
        raise NotImplementedError

    def _granted(self, answer: bytes) -> Grant:
        """Return what holds after `answer`."""
        oack = wire.parse_oack(answer) if wire.opcode_of(answer) == wire.Opcode.OACK else {}
        grant = accept(self.context.options, oack)
        self.statistics.granted = grant.accepted
        return grant

    def _timing_after(self, asker: Asker, grant: Grant) -> Timing:
        """Return the waits after the request, whose round trip counts where it was measured."""
        timing = self._timing(grant.timeout)
        if asker.round_trip is not None:
            timing.measured(asker.round_trip)
        return timing

    def _perform(self, step: Step, now: float) -> None:
        machine = self._machine
        if step is not Step.END or not isinstance(machine, Asker) or machine.answer is None:
            super()._perform(step, now)
            return
        answer = machine.answer
        self._link.lock()
        self._error_of_path = None
        try:
            step = self._answered(answer, now)
        except Exception:
            self._fail(Failure())
            return
        super()._perform(step, now)
        if wire.opcode_of(answer) == wire.Opcode.DATA:
            self.receive(answer, now)

    def _end(self, outcome: Outcome, error: TFTPError, tell: bool = True) -> None:
        # Before its answer there is nobody to tell: an ERROR to the request port is ignored.
        super()._end(outcome, error, tell and self._link.locked)


class _Fetch(_Exchange, WriteSession):
    """Receive a file from a server: an RRQ, and then what a server does for a WRQ."""

    _fetching = True

    #: For a sink that takes its time, or None.
    _storing: Deferred[Any] | None
    #: Whether there is more to store when the sink is ready.
    _more: bool

    #: Octets of the file by the server's word; 0 where it has not told.
    _announced: int

    def _opened(self) -> Step:
        self._storing, self._more = None, False
        return self._ask(0)

    def _answered(self, answer: bytes, now: float) -> Step:
        asker: Asker = self._machine
        grant = self._granted(answer)
        # 0 is what some servers answer that do not know; netascii has another length.
        octet = self.context.mode == wire.OCTET
        self._announced = int(dict(grant.accepted).get("tsize", "0")) if octet else 0
        data = wire.opcode_of(answer) == wire.Opcode.DATA
        machine = self._machine = Receiver(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            first_reply=None if data else wire.ack(0),
            timing=self._timing_after(asker, grant),
            rollover=grant.rollover,
            dally=DALLY,
        )
        machine.answered = True
        return machine.start(now)

    def _store(self) -> None:
        """Acknowledge what the machine has in hand, and write it.

        In this order, but for the end of the file: while we write, the server makes the next
        window (1.2 to 1.4 times as fast). A sink that takes its time is a window behind, and no
        more. A failure to write is told the server a window later.
        """
        if self._storing is not None:
            self._more = True
            return
        machine = self._machine
        complete = machine.complete
        announced = self._announced
        if announced and (machine.octets > announced or (complete and machine.octets < announced)):
            text = f"the server announced {announced} octets and sent {machine.octets}"
            self._fail(Failure(TFTPError(text)))
            return
        if not complete:
            self._acknowledge()
        data = machine.take()
        try:
            written = self._file.write(data) if data else None
        except Exception:
            self._fail(Failure())
            return
        if isinstance(written, Deferred):
            self._storing = written
            written.addCallbacks(self._stored, self._fail, (complete,))
            written.addErrback(self._fail)
        else:
            self._stored(None, complete)

    def _stored(self, _: object, complete: bool) -> None:
        self._storing = None
        if complete:
            self._written()
        elif self._more and not self.ended:
            self._more = False
            self._store()


class _Probe(_Fetch):
    """Ask for a file and take the OACK for an answer."""

    def _answered(self, answer: bytes, now: float) -> Step:
        self._granted(answer)
        self._link.send((wire.error(OptionRefused("only the size was wanted")),))
        self._finish(Outcome.COMPLETED)
        self._close()
        return Step.WAIT


class _Store(_Exchange, ReadSession):
    """Send a file to a server: a WRQ, and then what a server does for an RRQ."""

    _fetching = False

    @property
    def starved(self) -> bool:
        """Whether the server's patience, or ours with it, has ended before more came."""
        ended = self.statistics.outcome in (Outcome.TIMED_OUT, Outcome.ABORTED)
        return ended and self._waiting is not None

    def _opened(self) -> Step:
        return self._ask(self._file.size)

    def _answered(self, answer: bytes, now: float) -> Step:
        asker: Asker = self._machine
        grant = self._granted(answer)
        machine = self._machine = Sender(
            blksize=grant.blksize,
            windowsize=grant.windowsize,
            size=self._file.size,
            oack=None,
            timing=self._timing_after(asker, grant),
            rollover=grant.rollover,
            read_ahead=self._read_ahead,
        )
        machine.answered = True
        return machine.start(now)


#: What is called for each packet: (the words for it, whether it was received).
Trace = Callable[[str, bool], None]


class _TracedLink(ClientLink):
    """A link that says what goes through it."""

    __slots__ = ("trace",)

    trace: Trace

    def send(self, datagrams: Sequence[Buffer]) -> None:
        for index in range(0, len(datagrams), 2):
            self.trace(describe(b"".join(datagrams[index : index + 2])), False)
        super().send(datagrams)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def traced(datagram: Buffer, now: float) -> None:
            self.trace(describe(datagram), True)
            receive(datagram, now)

        super().attach(traced)


class _LossyLink(ClientLink):
    """A link that loses datagrams by chance, both ways, as a bad network does."""

    __slots__ = ("chance", "loss")

    loss: float
    chance: Callable[[], float]

    def send(self, datagrams: Sequence[Buffer]) -> None:
        kept: list[Buffer] = []
        for index in range(0, len(datagrams), 2):
            if self.chance() >= self.loss:
                kept += datagrams[index : index + 2]
        if kept:
            super().send(kept)

    def attach(self, receive: Receive, receive_train: ReceiveTrain | None = None) -> None:
        def by_chance(datagram: Buffer, now: float) -> None:
            if self.chance() >= self.loss:
                receive(datagram, now)

        super().attach(by_chance)


class Silent:
    """An observer of transfers that does nothing: override what is of interest."""

    def started(self, statistics: Any) -> None:
        """A transfer begins."""

    def progressed(self, statistics: Any) -> None:
        """Some time has passed."""

    def finished(self, statistics: Any) -> None:
        """A transfer is over."""


class TFTPClient:
    """Transfers with one server; any number of them at once.

    @ivar address: the server's socket address, once it is known: its name is looked up once.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int = PORT,
        *,
        blksize: int | None = None,
        windowsize: int = WINDOWSIZE,
        timeout: float | None = None,
        retries: int = 5,
        mode: str = wire.OCTET,
        options: bool = True,
        retransmit: Retransmit = Retransmit.ADAPTIVE,
        observer: Any = None,
        trace: Trace | None = None,
        loss: float = 0.0,
        in_thread: Callable[..., Deferred[Any]] | None = None,
        write_behind: bool = True,
    ) -> None:
        """Name the server; nothing is sent before a transfer.

        @param host: a host name or an address.
        @param blksize: octets of a block to ask for; None for as many as the MTU of the path
            takes, as far as this host knows it.
        @param windowsize: blocks of a window to ask for (RFC 7440); 1 asks for none.
        @param timeout: seconds between two retransmissions at most, told to the server too (as
            `timeout` where they are whole ones, else as `utimeout`); None for one second, untold.
        @param retries: the server is given up after so many timeouts of silence.
        @param mode: "octet" or "netascii".
        @param options: whether to ask for options at all (RFC 2347).
        @param observer: an L{ITransferObserver}, or None.
        @param trace: called with each packet in words, and whether it was received.
        @param loss: the share of datagrams that are lost by chance, both ways: to see what a
            server makes of it.
        @param in_thread: how to run what may block on a disk: (function, arguments) to a
            Deferred; None for the reactor's threads.
        @param write_behind: whether files that are fetched are written in threads. If not, the
            reactor waits for each write, which is up to 1.5 times as fast.
        """
        self.host = host
        self.port = port
        self.address: SocketAddress = None
        self._reactor = reactor
        self._blksize = blksize
        self._windowsize = windowsize
        self._timeout = timeout
        self._mode = mode
        self._options = options
        self._policy = Policy(
            timeout=1.0 if timeout is None else timeout, retries=retries, retransmit=retransmit
        )
        self._observer = Silent() if observer is None else observer
        self._trace = trace
        self._loss = loss
        self._in_thread = self._in_reactor_thread if in_thread is None else in_thread
        self._write_behind = write_behind
        self._alarms = Alarms(reactor, time.monotonic)
        self._hub: Hub | None = None
        self._links = 0
        self._lingering: set[Session] = set()  # those whose last ACK may have been lost
        self._sessions: dict[Session, Deferred[TransferResult]] = {}
        self._results: set[Deferred[TransferResult]] = set()  # those that have not fired
        self._idle: list[Deferred[None]] = []  # to be fired when nothing is held any more
        self._strangers = Strangers()
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    @property
    def lingers(self) -> float:
        """Seconds for which a server that is quick may ask for the ACK of its last block again.

        0 where none may.
        """
        return max((2 * session._machine.wait for session in self._lingering), default=0.0)

    @property
    def running(self) -> list[TransferStatistics]:
        """How the transfers go that are under way, brought up to date."""
        for session in self._sessions:
            session._update_statistics()
        return [session.statistics for session in self._sessions]

    def get(
        self, filename: str, sink: Any, options: Mapping[str, str] | None = None
    ) -> Deferred[TransferResult]:
        """Fetch a file.

        @param options: what to ask for, in this order, and nothing else; None for what the
            client asks for by itself.
        @param sink: where to put it: a path, whose file appears whole or not at all; a binary
            stream, which must not keep us waiting (for pipes see L{twisted_tftp.streams}); or an
            L{IFileWriter}, which is acknowledged for before it has written, but for the end.
        @return: fires when the file is complete; fails with the L{TFTPError} of the server's
            code, a L{TransferTimedOut}, or what the sink or the look-up of the host raises.
            Cancelled, it tells the server, and leaves nothing in the path; but for the moment in
            which a file that is whole is put in its place.
        """
        return self._transfer(_Fetch, filename, sink, options)

    def size(
        self, filename: str, options: Mapping[str, str] | None = None
    ) -> Deferred[int | None]:
        """Ask for the size of a file, as firmware does: take the OACK, and answer ERROR 8.

        @param options: what to ask for beside `tsize`.
        @return: fires with the octets, or with None where the server does not tell.
        """
        asked = {"tsize": "0", **(options or {})}
        transfer = self._transfer(_Probe, filename, StreamWriter(io.BytesIO()), asked)
        return transfer.addCallback(
            lambda result: int(result.options["tsize"]) if "tsize" in result.options else None
        )

    def put(
        self, source: Any, filename: str, options: Mapping[str, str] | None = None
    ) -> Deferred[TransferResult]:
        """Store a file on the server.

        @param options: as for L{get}.
        @param source: a path, a binary stream that does not keep us waiting, or an
            L{IFileReader}.
        @return: as for L{get}; fires when the server has acknowledged the last block.
        """
        return self._transfer(_Store, filename, source, options)

    def close(self) -> Deferred[None]:
        """Cancel what runs, and answer no server any more that misses our last ACK.

        @return: fires when no socket and no file is held any more. The client can be used again.
        """
        for result in list(self._results):
            result.cancel()
        for session in list(self._lingering):
            session.cancel()
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._tell_idle()
        return idle

    def _tell_idle(self) -> None:
        if not self._links:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)

    def _transfer(
        self,
        kind: type[_Exchange],
        filename: str,
        file: Any,
        options: Mapping[str, str] | None,
    ) -> Deferred[TransferResult]:
        if not filename or "\0" in filename:
            return fail(ValueError("a name of a file is needed, and no NUL in it"))
        result: Deferred[TransferResult] = Deferred(lambda _: stop())
        self._results.add(result)

        def over(value: Any) -> Any:
            self._results.discard(result)
            return value

        result.addBoth(over)
        looking: Deferred[SocketAddress] = (
            maybeDeferred(resolve, self._reactor, self.host, self.port)
            if self.address is None
            else succeed(self.address)
        )
        begun: list[Session] = []

        def stop() -> None:
            if begun:
                begun[0].cancel("the transfer was cancelled")
            else:
                looking.cancel()

        def found(address: SocketAddress) -> None:
            self.address = address
            session = self._session(kind, filename, file, address)
            session._asked = options
            begun.append(session)
            self._sessions[session] = result
            session.start()

        looking.addCallback(found)
        looking.addErrback(lambda failure: None if result.called else result.errback(failure))
        return result

    def _in_reactor_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, function, *args)

    def _session(
        self, kind: type[_Exchange], filename: str, file: Any, address: SocketAddress
    ) -> _Exchange:
        context = TransferContext(
            peer=endpoint(address),
            local=None,
            direction=Direction.READ if kind._fetching else Direction.WRITE,
            filename=filename.encode("utf-8", "surrogateescape"),
            mode=self._mode,
            options={},
        )
        link = self._open_link(address)
        session = kind(
            context,
            key=None,
            request=b"",
            link=link,
            read_ahead=READ_AHEAD,
            wiring=Wiring(
                backend=_Backend(file, self._in_thread, self._write_behind),
                policy=self._policy,
                observer=self._observer,
                clock=time.monotonic,
                alarms=self._alarms,
                on_scarcity=lambda: None,
                on_finished=self._finished,
                on_ended=self._ended,
            ),
        )
        session._client = self
        session._error_of_path = None
        self._links += 1
        return session

    def _open_link(self, address: SocketAddress) -> ClientLink:
        sock = open_socket(address, None)
        if self._hub is None:
            self._hub = make_hub(self._reactor, LINGER)
        rest = (address, self._hub, self._strangers, self._buffer, time.monotonic)
        if self._loss:
            lossy = _LossyLink(sock, *rest)
            lossy.loss, lossy.chance = self._loss, random
            return lossy
        if self._trace is not None:
            traced = _TracedLink(sock, *rest)
            traced.trace = self._trace
            return traced
        return ClientLink(sock, *rest)

    def _options_for(
        self, context: TransferContext, size: int | None, fetching: bool, link: ClientLink
    ) -> dict[str, str]:
        """Return the options of a request that suit the path, in the order to ask for them."""
        options: dict[str, str] = {}
        if not self._options:
            return options
        blksize = self._blksize or largest_blksize(link.server)
        options["blksize"] = str(blksize)
        windowsize = self._windowsize
        if fetching and windowsize > 1:
            datagram = blksize + wire.HEADER_SIZE
            windowsize = min(windowsize, max(1, link.expect(windowsize * datagram) // datagram))
        if windowsize > 1:
            options["windowsize"] = str(windowsize)
        if self._timeout is not None:
            if self._timeout in range(1, 256):
                options["timeout"] = str(int(self._timeout))
            else:
                options["utimeout"] = str(round(self._timeout * 1e6))
        if size is not None and context.mode == wire.OCTET:
            options["tsize"] = str(size)
        return options

    def _ended(self, session: Session) -> None:
        self._lingering.discard(session)
        self._links -= 1
        if not self._links and self._hub is not None:
            self._hub.close()
            self._hub = None
        self._tell_idle()

    def _finished(self, session: Any) -> None:
        result = self._sessions.pop(session)
        if result.called:
            return  # cancelled when all was in place already
        if isinstance(session._machine, Receiver):
            self._lingering.add(session)
        statistics = session.statistics
        if statistics.outcome is Outcome.COMPLETED:
            assert statistics.ended is not None
            result.callback(
                TransferResult(
                    session.context.path,
                    statistics.octets,
                    statistics.seconds,
                    session.context.options,
                    dict(statistics.granted),
                    statistics.retransmissions,
                )
            )
        elif statistics.outcome is not Outcome.CANCELLED:
            result.errback(self._failure(session))

    @staticmethod
    def _failure(session: _Exchange) -> TFTPError:
        """Return why a transfer failed, as exactly as is known."""
        failure = session.failure
        elsewhere, error = session._link.elsewhere, session._error_of_path
        if isinstance(failure, NoAnswer) and elsewhere is not None:
            return AnswersFromElsewhere(f"the answers come from {elsewhere}, which was not asked")
        if isinstance(failure, TransferTimedOut) and error is not None:
            refused = isinstance(error, ConnectionRefusedError)
            kind = PortUnreachable if refused else ServerUnreachable
            return kind(error.strerror or "")
        if failure is not None and isinstance(session, _Store) and session.starved:
            starved = type(failure)(f"{failure.message}, while nothing came from the source")
            starved.from_peer = failure.from_peer
            return starved
        return failure or TFTPError()
