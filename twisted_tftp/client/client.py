"""The client: download files from one server, upload files to it, and ask for their sizes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twisted_tftp.backends.filesystem.threads import InThread
from twisted_tftp.client.attempt_plan import AttemptPlan
from twisted_tftp.client.debug_links import FilteredLink, Trace, make_filters
from twisted_tftp.client.download import Download
from twisted_tftp.client.job import Job
from twisted_tftp.client.links import ClientLinks
from twisted_tftp.client.local_file import LocalFile, Sink, Source
from twisted_tftp.client.open_transfers import OpenTransfers
from twisted_tftp.client.request_options import OptionUse, RequestOptions, choose_none, make_xid
from twisted_tftp.client.resolve import Addresses, numeric_address
from twisted_tftp.client.result import TransferResult
from twisted_tftp.client.server_addresses import ServerAddresses
from twisted_tftp.client.services import ClientServices, make_services
from twisted_tftp.client.size_probe import SizeProbe
from twisted_tftp.client.transfer import ClientTransfer
from twisted_tftp.client.upload import Upload
from twisted_tftp.context import Direction, TransferContext, TransferStatistics
from twisted_tftp.net.addresses import SocketAddress, endpoint
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.net.client_ports import ClientPorts
from twisted_tftp.policy import TFTP_PORT, Policy, Retransmit
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.printable import printable
from twisted_tftp.transfer.first_answer import KnownServer
from twisted_tftp.transfer.timing import Timing

#: The window size that a client asks for by default, in blocks.
DEFAULT_WINDOWSIZE = 16

#: How long a server may be silent by default, in seconds.
DEFAULT_PATIENCE = 25.0


class TFTPClient:
    """A client of one server, which can run any number of transfers at the same time.

    @ivar host: the host name or IP address of the server.
    @ivar port: the request port of the server.
    @ivar option_use: whether its requests ask for options.

    @param reactor: a reactor, which provides `IReactorFDSet`, `IReactorTime`, `IReactorThreads`
        and `IReactorPluggableNameResolver`.
    @param blksize: the block size to ask for, in octets; None for the largest that fits the MTU
        of the route to the server.
    @param windowsize: the window size to ask for, in blocks (RFC 7440); 1 asks for no windows.
        None for 16.
    @param timeout: the longest retransmission timeout, in seconds. The server is asked to use it
        too, by the option `timeout` for whole seconds, otherwise `utimeout`. None for one second
        without an option.
    @param patience: the client gives up if the server sends nothing for so many seconds.
    @param retries: if it is not None, it replaces `patience`: the client gives up if the server
        sends nothing for `retries` times `timeout`.
    @param mode: "octet" or "netascii".
    @param options: whether to ask for options (RFC 2347). If `blksize`, `windowsize` and `timeout`
        are None, a server that answers requests with options by ERROR 0, 4 or 8, or not at all for
        ten seconds, is asked without options too.
    @param retransmit: whether the retransmission timeout adapts to the round-trip time.
    @param observer: an L{ITransferObserver}, or None.
    @param trace: called with the text of each packet, and whether it was received.
    @param loss: the share of datagrams to drop at random in both directions, from 0 to 1, to test
        the server.
    @param in_thread: calls a function that may block on a disk, and returns a Deferred of its
        result; None for threads of the reactor.
    @param write_behind: whether threads write the downloaded files. If not, the reactor waits for
        each write; a single transfer is then up to 1.5 times as fast.
    @param family: the only address family to use, AF_INET or AF_INET6; AF_UNSPEC for all addresses
        of `host`. They are asked in turn, until one answers.
    @param bind: the local IP address to send from; None for that of the route to the server. Only
        addresses of its family are asked.
    @param bind_port: the local port to send from, for one transfer at a time; 0 for any port.
        It requires `bind`.
    @param ports: opens the sockets; None for a L{ClientPorts} of `bind` and `bind_port`.
    @param on_notice: called with a line of text for the user: while no answer comes, and when a
        request is sent again from another port, because an answer may belong to another request.
        None for the log. The line has no line end, and contains a file name: escape it before you
        print it.
    @param known: what is known about the server; clients of one server may share it. None if
        nothing is known.
    @param clock: returns the time in seconds of a monotonic clock.
    @raise ValueError: `bind` is not an IP address, or one of another family; or `bind_port` is
        given without it.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,  # Python has no type for an object with several interfaces
        host: str,
        port: int = TFTP_PORT,
        *,
        blksize: int | None = None,
        windowsize: int | None = None,
        timeout: float | None = None,
        patience: float = DEFAULT_PATIENCE,
        retries: int | None = None,
        mode: str = wire.OCTET,
        options: bool = True,
        retransmit: Retransmit = Retransmit.ADAPTIVE,
        observer: Any = None,  # observers need not declare the interface
        trace: Trace | None = None,
        loss: float = 0.0,
        in_thread: InThread | None = None,
        write_behind: bool = True,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        bind: str | None = None,
        bind_port: int = 0,
        ports: ClientPorts | None = None,
        on_notice: Callable[[str], None] | None = None,
        known: KnownServer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up a client, without sending anything."""
        self.host, self.port = host, port
        self._reactor, self._mode = reactor, mode
        self._make_filters = partial(make_filters, trace, loss)
        in_thread = in_thread or partial(_run_in_thread, reactor)
        self._local_file = partial(LocalFile, in_thread=in_thread, write_behind=write_behind)
        self._ports = ports or _make_ports(bind, bind_port)
        family = _common_family(family, self._ports.family)
        self._server = ServerAddresses(reactor, host, port, family)
        self._links = ClientLinks(reactor, self._ports, clock, self.build_link)
        self._transfers = OpenTransfers(on_idle=self._links.close_hub)
        is_chosen = any(each is not None for each in (blksize, windowsize, timeout))
        self.option_use = _option_use(options, is_chosen)
        wanted = RequestOptions(blksize, windowsize or DEFAULT_WINDOWSIZE, timeout)
        choose = wanted.choose if options else choose_none
        policy = _make_policy(timeout, patience, retries, retransmit)
        make = partial(make_services, reactor, clock, policy, observer, choose, known)
        self._services = self._complete_services(make, on_notice or self._log_line)

    def _complete_services(
        self, make: Callable[..., ClientServices], on_notice: Callable[[str], None]
    ) -> ClientServices:
        """Return the services of all transfers: call `make` with the functions of this client."""
        return make(
            open_link=lambda address: self.open_link(address),
            can_change_port=not self._ports.is_fixed,
            on_address=self._server.note_answer,
            on_notice=partial(self._tell, on_notice),
        )

    @property
    def address(self) -> SocketAddress | None:
        """The socket address of `host` that has answered last, or else the first one.

        None before the first look-up.
        """
        addresses = self._server.addresses
        return addresses[0] if addresses else None

    @property
    def dally_time(self) -> float:
        """How long to keep the reactor running after the transfers, in seconds.

        A server sends its last block again if the ACK was lost. 0 if no transfer dallies.
        """
        return self._transfers.dally_time

    @property
    def running(self) -> list[TransferStatistics]:
        """The statistics of the running transfers, up to date."""
        return self._transfers.statistics

    def get(
        self, filename: str, sink: Sink, options: Mapping[str, str] | None = None
    ) -> Deferred[TransferResult]:
        """Download a file.

        If an L{IFileWriter} is slow, each window is acknowledged before it is written, except for
        the last one. While the server's answer is in doubt, the last one is no exception.

        @param filename: the name of the file on the server.
        @param sink: where to write the file: a path, which appears complete or not at all; a
            binary stream that does not block (for pipes see L{twisted_tftp.client.streams}); or
            an L{IFileWriter}.
        @param options: the options to ask for, in this order, and no others; None for those of
            the client.
        @return: fires when the file is complete. It fails with the L{TFTPError} of the server's
            error code, with L{TransferTimedOut}, with the error of the look-up, or with a
            L{TFTPError} whose `__cause__` is an exception of the sink. If you cancel it, the
            server gets an ERROR and the path stays as it was, unless the file is being committed.
        """
        return self._start(Download(self._local_file(sink)), filename, options)

    def size(
        self, filename: str, options: Mapping[str, str] | None = None
    ) -> Deferred[int | None]:
        """Ask for the size of a file, as firmware does: answer the OACK with ERROR 8.

        @param options: the options to ask for besides `tsize`; None for an `xid`.
        @return: fires with the size in octets, or with None if the server does not send it. It
            fails like that of L{get}.
        """
        asked = {"tsize": "0", **(make_xid() if options is None else options)}
        transfer = self._start(SizeProbe(), filename, asked)
        return transfer.addCallback(
            lambda result: int(result.options["tsize"]) if "tsize" in result.options else None
        )

    def put(
        self, source: Source, filename: str, options: Mapping[str, str] | None = None
    ) -> Deferred[TransferResult]:
        """Upload a file.

        @param source: what to read: a path, a binary stream that does not block (for pipes see
            L{twisted_tftp.client.streams}), or an L{IFileReader}.
        @param filename: the name of the file on the server.
        @param options: as for L{get}.
        @return: fires when the server has acknowledged the last block. It fails like that of
            L{get}.
        """
        return self._start(Upload(self._local_file(source)), filename, options)

    def close(self) -> Deferred[None]:
        """Cancel all transfers, and stop dallying. The client can be used again.

        @return: fires when all sockets and files are closed, except for files that a thread is
            opening or reading.
        """
        return self._transfers.close()

    def open_link(self, server: SocketAddress) -> ClientLink:
        """Return a link with a new socket; override this to use another network.

        @raise OSError: the socket can't be opened.
        """
        return self._links.open(server)

    def build_link(self, *parts: Any) -> ClientLink:  # `BuildLink` has the types
        """Return the link of a transfer; override this to watch its datagrams.

        @param parts: the arguments of `ClientLink`; pass them on.
        """
        filters = self._make_filters()
        return FilteredLink(filters, *parts) if filters else ClientLink(*parts)

    def _start(
        self, job: Job, filename: str, options: Mapping[str, str] | None
    ) -> Deferred[TransferResult]:
        if not filename or "\0" in filename:
            return fail(ValueError("the file name must not be empty, or contain a NUL"))
        return self._transfers.start(
            self._server.look_up(), partial(self._make_transfer, job, filename, options)
        )

    def _make_transfer(
        self,
        job: Job,
        filename: str,
        options: Mapping[str, str] | None,
        addresses: Addresses,
    ) -> ClientTransfer:
        link, addresses = self._open_first_link(addresses)
        services = self._services
        is_droppable = self.option_use is OptionUse.DROPPABLE and options is None
        if options is not None:
            services = replace(services, choose_options=lambda *_: options)
        elif is_droppable and services.is_without_options:
            services = replace(services, choose_options=choose_none)
        patience = Timing.of(services.policy, None).patience
        context = TransferContext(
            peer=endpoint(addresses[0]),
            local=None,
            direction=Direction.READ if job.is_read else Direction.WRITE,
            filename=filename.encode("utf-8", "surrogateescape"),
            mode=self._mode,
            options={},
        )
        transfers = self._transfers
        return ClientTransfer(
            job,
            context,
            link,
            AttemptPlan(
                addresses, patience, can_drop_options=is_droppable and services.can_drop_options
            ),
            services,
            on_finished=transfers.on_finished,
            on_released=transfers.on_released,
        )

    def _open_first_link(self, addresses: Addresses) -> tuple[ClientLink, Addresses]:
        """Return a link to the first address for which a socket can be opened.

        @return: the link, and the addresses from this one on.
        @raise OSError: no socket can be opened.
        """
        address, *others = addresses
        try:
            return self.open_link(address), addresses
        except OSError:
            if not others:
                raise
            return self._open_first_link(tuple(others))

    def _tell(self, on_notice: Callable[[str], None], line: str) -> None:
        """Tell the user; an exception of `on_notice` must not change the transfer."""
        try:
            on_notice(line)
        except Exception:
            self._log.failure(
                "unexpected exception while the user was told: {line}", line=printable(line)
            )

    def _log_line(self, line: str) -> None:
        self._log.warn("{line}", line=printable(line))


def _run_in_thread(reactor: Any, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run `function` in a thread of the reactor: an `InThread`."""
    return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)


def _option_use(options: bool, is_chosen: bool) -> OptionUse:
    if not options:
        return OptionUse.NEVER
    return OptionUse.ALWAYS if is_chosen else OptionUse.DROPPABLE


def _common_family(
    wanted: socket.AddressFamily, bound: socket.AddressFamily
) -> socket.AddressFamily:
    """Return the address family that the user and the local address allow."""
    if socket.AF_UNSPEC not in (wanted, bound) and wanted != bound:
        raise ValueError("bind must be an address of the family that is given")
    return bound if wanted == socket.AF_UNSPEC else wanted


def _make_policy(
    timeout: float | None, patience: float, retries: int | None, retransmit: Retransmit
) -> Policy:
    return Policy(
        timeout=Policy.timeout if timeout is None else timeout,
        patience=patience,
        retries=retries,
        retransmit=retransmit,
    )


def _make_ports(bind: str | None, port: int) -> ClientPorts:
    if bind is None:
        if port:
            raise ValueError("bind_port requires bind")
        return ClientPorts()
    try:
        return ClientPorts(numeric_address(bind, port))
    except (OSError, UnicodeError):
        raise ValueError(f"bind must be an IP address, not {bind!r}") from None
