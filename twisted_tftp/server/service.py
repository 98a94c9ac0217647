"""Run a server as a Twisted service: bind, serve, refuse what is new, drain, stop."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.interfaces import lifecycle_of
from twisted_tftp.net.descriptors import raise_descriptor_limit
from twisted_tftp.net.link_opener import LinkOpener
from twisted_tftp.net.request_port import RequestPort, listen
from twisted_tftp.policy import TFTP_PORT, Policy
from twisted_tftp.server.access import Access
from twisted_tftp.server.drop_log import Drops
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.transfer_log import TransferLog
from twisted_tftp.server.transfers import Transfers
from twisted_tftp.session.deadlines import Alarms

#: Where no host is given: all addresses of both families. An IPv6 socket takes IPv6 only, so
#: that each request's local address has the family of its peer.
EVERYWHERE = ("0.0.0.0", "::")

#: Seconds that running transfers have to finish when the service stops.
DEFAULT_DRAIN = 5.0

#: Seconds that backends have to release their files after the last transfer was ended, and where a
#: stop is to wait for nothing.
GRACE, LEAST_GRACE = 10.0, 1.0

#: Descriptors that one transfer needs (a socket, a file, an upload's directory; a second socket
#: only where there are plenty), and those of everything else, idle ports among them.
DESCRIPTORS, OTHER_DESCRIPTORS = 3, 200


#: Transfers at once that are enough for most farms.
PLENTY_OF_TRANSFERS = 1000


class StartError(SystemExit, Exception):
    """The service can't start, and says why in one line.

    It ends the process with exit status 1 and no traceback, since it is a SystemExit; twistd
    tidies up after an Exception, since it is that too. By then twistd has turned standard error
    into its log; the line is for who started it, and goes to the real one.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if sys.__stderr__ is not None and sys.stderr is not sys.__stderr__:
            print(text, file=sys.__stderr__, flush=True)


class TFTPService(Service):
    """Serve a backend on one port of some addresses.

    @ivar backend: the backend.
    @ivar transfers: the running transfers of all addresses.
    @ivar servers: the L{TFTPServer} of each address, while the service runs.
    """

    name = "tftp"
    _log = Logger()

    def __init__(
        self,
        backend: Any,
        *,
        port: int = TFTP_PORT,
        host: Sequence[str] = (),
        drain: float = DEFAULT_DRAIN,
        grace: float = GRACE,
        policy: Policy | None = None,
        observer: Any = None,
        reactor: Any = None,
    ) -> None:
        """Make a service; nothing is bound before it starts.

        @param backend: an L{IFileBackend}, and an L{IBackendLifecycle} where it wants to be one.
        @param port: the request port; 0 lets the system choose, see `ports`.
        @param host: addresses to listen on; none for all of IPv4 and IPv6.
        @param drain: seconds that running transfers have to finish when the service stops.
        @param grace: seconds that the backend then has to release its files.
        @param policy: what is granted; the defaults of `Policy` if None.
        @param observer: an L{ITransferObserver}; None for the log.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.backend = backend
        self._lifecycle = lifecycle_of(backend)
        self._port = port
        self._host = tuple(host)
        self._drain = drain
        self._policy = policy or Policy()
        self._observer = TransferLog(reactor=reactor) if observer is None else observer
        self._reactor = reactor
        self._opener = LinkOpener(reactor, self._policy.port_range)
        self._alarms = Alarms(reactor, time.monotonic)
        self._access = Access(self._policy)
        self._drops = Drops(reactor)
        self._ports: list[RequestPort] = []
        self._awaited: Deferred[Any] | None = None  # what a stop waits for
        self._grace = grace
        self.transfers = Transfers()
        self.servers: list[TFTPServer] = []

    @property
    def ports(self) -> list[RequestPort]:
        """The bound ports, while the service runs."""
        return list(self._ports)

    def check_backend(self) -> None:
        """Check that the backend can serve files; the start of the service does this too.

        @raise StartError: it cannot.
        """
        try:
            self._lifecycle.check()
        except BackendUnavailable as error:
            raise StartError(f"tftp: {error}") from None

    def privilegedStartService(self) -> None:
        """Bind, while there may still be the privilege to.

        @raise StartError: the backend can't serve, or a port can't be bound.
        """
        self.check_backend()
        self._raise_descriptor_limit()
        for host in self._host or EVERYWHERE:
            try:
                self._bind(host)
            except CannotListenError as error:
                if not self._host and host == "::" and _family_is_missing(error.socketError):
                    continue
                self._close_ports()
                self._opener.close()
                raise StartError(f"tftp: {_explain(host, self._port, error)}") from None
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve; bind first where nobody has called `privilegedStartService` (as in `twist`)."""
        if not self._ports:
            self.privilegedStartService()
        super().startService()
        for port in self._ports:
            address = port.getHost()
            self._log.info("serving on {host} port {port}", host=address.host, port=address.port)
        started = maybeDeferred(self._lifecycle.start)
        started.addErrback(self._log_failure, "the backend's start failed")

    def stopService(self) -> Deferred[None]:
        """Refuse new requests; fire when running transfers are done or `drain` has passed."""
        super().stopService()
        for server in self.servers:
            server.accepting = False
        self.servers.clear()
        closed: list[Any] = []
        if not self._policy.single_port:
            closed.append(self._close_ports())
        running = self._awaited = self.transfers.when_none_runs()
        if self.transfers.running:
            self._log.info("waiting for {count} transfers", count=self.transfers.running)
            deadline = self._reactor.callLater(self._drain, running.cancel)
            running.addBoth(lambda _: deadline.active() and deadline.cancel())
        running.addBoth(lambda _: self._cancel_all())
        running.addBoth(lambda _: closed.append(self._close_ports()))
        running.addBoth(lambda _: DeferredList(closed))
        running.addBoth(lambda _: self._wait_for(maybeDeferred(self._lifecycle.stop)))
        running.addErrback(self._log_failure, "the backend's stop failed, or took too long")
        running.addBoth(lambda _: self._opener.close())
        running.addBoth(lambda _: self._flush_log())
        return running

    def stop_now(self) -> None:
        """Do not wait any longer for transfers and the backend, if a stop is under way."""
        self._grace = LEAST_GRACE
        if self._awaited is not None:
            self._awaited.cancel()

    def reload(self) -> None:
        """Tell the backend that the operator has changed the files (SIGHUP)."""
        self._lifecycle.forget()

    def _cancel_all(self) -> Deferred[None]:
        """End what still runs; fire when its files are released, or soon all the same."""
        return self._wait_for(self.transfers.cancel_all("the server is being stopped"))

    def _wait_for(self, end: Deferred[Any]) -> Deferred[Any]:
        """Return `end`; it is cancelled after some seconds, and by `stop_now`."""
        self._awaited = end
        if not end.called:
            limit = self._reactor.callLater(self._grace, end.cancel)
            end.addBoth(_pass_on, limit)
        return end

    def _log_failure(self, failure: Failure, text: str) -> None:
        self._log.failure(text, failure=failure)

    def _flush_log(self) -> None:
        self._drops.flush()
        if isinstance(self._observer, TransferLog):
            self._observer.flush()

    def _bind(self, host: str) -> None:
        server = TFTPServer(
            self.backend,
            self._policy,
            observer=self._observer,
            reactor=self._reactor,
            transfers=self.transfers,
            opener=self._opener,
            alarms=self._alarms,
            access=self._access,
            drops=self._drops,
        )
        self._ports.append(listen(self._reactor, self._port, server, host, self._opener.hub))
        self.servers.append(server)

    def _raise_descriptor_limit(self) -> None:
        """Let the process open as many descriptors as it was promised transfers."""
        wanted = DESCRIPTORS * self._policy.max_transfers + OTHER_DESCRIPTORS
        limit = raise_descriptor_limit(wanted)
        if limit < wanted:
            possible = max(0, limit - OTHER_DESCRIPTORS) // DESCRIPTORS
            tell = self._log.info if possible >= PLENTY_OF_TRANSFERS else self._log.warn
            tell(
                "the limit of {limit} descriptors is enough for {possible} transfers; "
                "max-transfers {wanted_transfers} needs {wanted}: raise the limit with ulimit -n, "
                "or with LimitNOFILE= in a systemd unit",
                limit=limit,
                possible=possible,
                wanted_transfers=self._policy.max_transfers,
                wanted=wanted,
            )

    def _close_ports(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])


def _pass_on(result: Any, limit: IDelayedCall) -> Any:
    """Stop a timer, and return `result`."""
    if limit.active():
        limit.cancel()
    return result


def _family_is_missing(error: Any) -> bool:
    return getattr(error, "errno", None) in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _explain(host: str, port: int, error: CannotListenError) -> str:
    reason = error.socketError
    text = getattr(reason, "strerror", None) or str(reason)
    if isinstance(reason, PermissionError):
        text = f"{text}; ports below 1024 need root or CAP_NET_BIND_SERVICE, or use --port"
    return f"can't listen on {host} port {port}: {text}"
