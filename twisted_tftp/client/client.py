"""Fetch files from a TFTP server and store them there, with the machines of our own server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import random
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twisted_tftp.client.debug_links import (
    DatagramFilter,
    FilteredLink,
    LossFilter,
    Trace,
    TraceFilter,
)
from twisted_tftp.client.download import Download
from twisted_tftp.client.job import Job
from twisted_tftp.client.local_file import LocalFile
from twisted_tftp.client.resolve import largest_blksize, numeric_address, resolve
from twisted_tftp.client.services import ClientServices
from twisted_tftp.client.size_probe import SizeProbe
from twisted_tftp.client.transfer import ClientTransfer
from twisted_tftp.client.upload import Upload
from twisted_tftp.client.urls import Location, parse_url
from twisted_tftp.context import Direction, Outcome, TransferContext, TransferStatistics
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.client_ports import ClientPorts
from twisted_tftp.net.hub import Hub, make_hub
from twisted_tftp.net.strangers import Strangers
from twisted_tftp.net.udp import MAX_DATAGRAM, SocketAddress, endpoint
from twisted_tftp.policy import TFTP_PORT, Policy, Retransmit
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID
from twisted_tftp.protocol.printable import printable
from twisted_tftp.session.deadlines import Alarms
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.first_answer import KnownServer

#: Seconds for which idle sockets are asked again: a server makes a window of 64 blocks in them,
#: and a client has little else to do (1.4 to 2 times as fast as with the server's `BUSY_POLL`).
LINGER = 150e-6

#: Octets of chance by which the answer to a request is known.
XID_OCTETS = 4

#: Blocks of a window to ask for.
DEFAULT_WINDOWSIZE = 16

#: Timeouts without an answer after which a server is given up.
DEFAULT_RETRIES = 5


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


def _new_xid() -> dict[str, str]:
    return {XID: secrets.token_hex(XID_OCTETS)}


def _ports(bind: str | None, port: int) -> ClientPorts:
    if bind is None:
        if port:
            raise ValueError("bind_port needs bind, the local address")
        return ClientPorts()
    try:
        return ClientPorts(numeric_address(bind, port))
    except (OSError, UnicodeError):
        raise ValueError(f"{bind!r} is no address to bind to") from None


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

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int = TFTP_PORT,
        *,
        blksize: int | None = None,
        windowsize: int = DEFAULT_WINDOWSIZE,
        timeout: float | None = None,
        retries: int = DEFAULT_RETRIES,
        mode: str = wire.OCTET,
        options: bool = True,
        retransmit: Retransmit = Retransmit.ADAPTIVE,
        observer: Any = None,
        trace: Trace | None = None,
        loss: float = 0.0,
        in_thread: Callable[..., Deferred[Any]] | None = None,
        write_behind: bool = True,
        bind: str | None = None,
        bind_port: int = 0,
        ports: ClientPorts | None = None,
        tell: Callable[[str], None] | None = None,
        known: KnownServer | None = None,
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
        @param bind: the local address to send from; None for that of the route to the server.
        @param bind_port: the local port to send from, for one transfer at a time; 0 for any. It
            needs `bind`.
        @param ports: what opens the sockets; None for a L{ClientPorts} of `bind` and `bind_port`.
        @param tell: called with a line for people when a request is sent again from another
            port, since different answers came to it, or one that does not fit; None for the log.
            The line has no end, and names a file: escape it before it reaches a terminal.
        @param known: what is known of the server; clients of one server may share it. None for
            nothing yet.
        @raise ValueError: `bind` is no address.
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
            timeout=Policy.timeout if timeout is None else timeout,
            retries=retries,
            retransmit=retransmit,
        )
        self._observer = Silent() if observer is None else observer
        self._trace = trace
        self._loss = loss
        self._in_thread = self._in_reactor_thread if in_thread is None else in_thread
        self._write_behind = write_behind
        self._alarms = Alarms(reactor, time.monotonic)
        self._ports = _ports(bind, bind_port) if ports is None else ports
        self._hub: Hub | None = None
        self._services = SessionServices(
            observer=self._observer,
            clock=time.monotonic,
            alarms=self._alarms,
            opening_time=self._policy.retries * self._policy.timeout,
        )
        self._links = 0
        self._known = KnownServer() if known is None else known
        self._tell = self._log_line if tell is None else tell
        self._lingering: set[ClientTransfer] = set()  # those whose last ACK may have been lost
        self._sessions: dict[ClientTransfer, Deferred[TransferResult]] = {}
        self._results: set[Deferred[TransferResult]] = set()  # those that have not fired
        self._idle: list[Deferred[None]] = []  # to be fired when nothing is held any more
        self._strangers = Strangers()
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    @property
    def lingers(self) -> float:
        """Seconds for which a server that is quick may ask for the ACK of its last block again.

        0 where none may.
        """
        return max((2 * session.wait for session in self._lingering), default=0.0)

    @property
    def running(self) -> list[TransferStatistics]:
        """How the transfers go that are under way, brought up to date."""
        for session in self._sessions:
            session.update_statistics()
        return [session.statistics for session in self._sessions]

    def get(
        self, filename: str, sink: Any, options: Mapping[str, str] | None = None
    ) -> Deferred[TransferResult]:
        """Fetch a file.

        @param options: what to ask for, in this order, and nothing else; None for what the
            client asks for by itself.
        @param sink: where to put it: a path, whose file appears whole or not at all; a binary
            stream, which must not keep us waiting (for pipes see L{twisted_tftp.client.streams});
            or an L{IFileWriter}, which is acknowledged for before it has written, but for the end.
            (Where the server's answer is in doubt, the end too: it is acknowledged, checked, and
            then written.)
        @return: fires when the file is complete; fails with the L{TFTPError} of the server's
            code, a L{TransferTimedOut}, what the look-up of the host raises, or a L{TFTPError}
            whose `__cause__` is what the sink raised. Cancelled, it tells the server, and leaves
            nothing in the path; but for the moment in which a file that is whole is put in its
            place.
        """
        return self._transfer(Download(self._local_file(sink)), filename, options)

    def size(
        self, filename: str, options: Mapping[str, str] | None = None
    ) -> Deferred[int | None]:
        """Ask for the size of a file, as firmware does: take the OACK, and answer ERROR 8.

        @param options: what to ask for beside `tsize`; None for an `xid`.
        @return: fires with the octets, or with None where the server does not tell.
        """
        asked = {"tsize": "0", **(_new_xid() if options is None else options)}
        transfer = self._transfer(SizeProbe(), filename, asked)
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
        return self._transfer(Upload(self._local_file(source)), filename, options)

    def close(self) -> Deferred[None]:
        """Cancel what runs, and answer no server any more that misses our last ACK.

        @return: fires when no socket is held any more, and no file but those that a thread is
            just opening or reading. The client can be used again.
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
        job: Job,
        filename: str,
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
        begun: list[ClientTransfer] = []

        def stop() -> None:
            if begun:
                begun[0].cancel("the transfer was cancelled")
            else:
                looking.cancel()

        def found(address: SocketAddress) -> None:
            self.address = address
            session = self._session(job, filename, address, options)
            begun.append(session)
            self._sessions[session] = result
            session.start()

        looking.addCallback(found)
        looking.addErrback(lambda failure: None if result.called else result.errback(failure))
        return result

    def _local_file(self, file: Any) -> LocalFile:
        return LocalFile(file, self._in_thread, self._write_behind)

    def _in_reactor_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, function, *args)

    def _session(
        self,
        job: Job,
        filename: str,
        address: SocketAddress,
        options: Mapping[str, str] | None,
    ) -> ClientTransfer:
        context = TransferContext(
            peer=endpoint(address),
            local=None,
            direction=Direction.READ if job.is_read else Direction.WRITE,
            filename=filename.encode("utf-8", "surrogateescape"),
            mode=self._mode,
            options={},
        )
        link = self._open_link(address)
        services = ClientServices(
            policy=self._policy,
            sessions=self._services,
            choose=self._choose if options is None else lambda *_: options,
            known=self._known,
            open_link=None if self._ports.is_fixed else partial(self._open_link, address),
            tell=self._tell,
        )
        session = ClientTransfer(
            job, context, link, services, on_finished=self._finished, on_ended=self._ended
        )
        self._links += 1
        return session

    def _open_link(self, address: SocketAddress) -> ClientLink:
        sock = self._ports.open(address)
        if self._hub is None:
            self._hub = make_hub(self._reactor, LINGER)
        link = self.build_link(
            sock, address, self._hub, self._strangers, self._buffer, time.monotonic
        )
        link.on_closed = self._ports.release
        return link

    def build_link(self, *parts: Any) -> ClientLink:
        """Return the link of a transfer; override this to watch its datagrams.

        @param parts: what every `ClientLink` takes; pass them on.
        """
        # The trace is on our side of the loss: it has what we send, and what reaches us.
        filters: list[DatagramFilter] = []
        if self._trace is not None:
            filters.append(TraceFilter(self._trace))
        if self._loss:
            filters.append(LossFilter(self._loss, random))
        return FilteredLink(filters, *parts) if filters else ClientLink(*parts)

    def _choose(
        self, context: TransferContext, size: int | None, link: ClientLink
    ) -> dict[str, str]:
        """Return the options of a request that suit the path: a `ChooseOptions`."""
        options: dict[str, str] = {}
        if not self._options:
            return options
        blksize = self._blksize or largest_blksize(link.server)
        options["blksize"] = str(blksize)
        windowsize = self._windowsize
        if context.direction is Direction.READ and windowsize > 1:
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
        return options | _new_xid()

    def _log_line(self, line: str) -> None:
        self._log.warn("{line}", line=printable(line))

    def _ended(self, session: Any) -> None:
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
        if session.dallies:
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
            result.errback(session.reason)
