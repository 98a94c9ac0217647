"""The server as a Twisted service: it binds the ports, serves, drains and stops.

To drain means to let the running transfers finish while new requests are dropped.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from twisted.application.service import Service
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.interfaces import lifecycle_of
from twisted_tftp.net.descriptors import raise_descriptor_limit
from twisted_tftp.net.interface_addresses import AddressMonitor
from twisted_tftp.net.request_port import RequestPort, listen
from twisted_tftp.policy import TFTP_PORT, Policy
from twisted_tftp.server import reasons
from twisted_tftp.server.followed_interface import FollowedInterface
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.server.start_error import StartError
from twisted_tftp.server.transfer_log import TransferLog

#: The addresses to listen on if none is given: all of both families. An IPv6 socket receives IPv6
#: only, so that the local address of a request has the family of its peer.
ALL_ADDRESSES = ("0.0.0.0", "::")

#: How long running transfers may take to finish when the service stops, in seconds.
DEFAULT_DRAIN = 5.0

#: How long the backend may take to release its files after the last transfer, in seconds.
DEFAULT_GRACE = 10.0

#: How long the backend may take to release its files after L{TFTPService.stop_now}, in seconds.
SHORT_GRACE = 1.0

#: The descriptors of one transfer: a socket, a file, and the directory of an upload. (It gets a
#: second socket only if the process has many unused descriptors.)
DESCRIPTORS_PER_TRANSFER = 3

#: The descriptors of everything else, such as idle ports and the log.
OTHER_DESCRIPTORS = 200

#: A limit of descriptors that is too low for `max_transfers`, but enough for this many transfers,
#: is logged as information and not as a warning.
ENOUGH_TRANSFERS = 1000


class TFTPService(Service):
    """A service that serves the files of a backend on one port of one or more addresses.

    @ivar backend: the L{IFileBackend} of all transfers.
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
        grace: float = DEFAULT_GRACE,
        policy: Policy | None = None,
        observer: Any = None,
        reactor: Any = None,
    ) -> None:
        """Set up; the ports are bound when the service starts.

        @param backend: an L{IFileBackend} that may also provide L{IBackendLifecycle}.
        @param port: the request port; 0 lets the system choose one, see L{ports}.
        @param host: addresses and interfaces to listen on; empty for all IPv4 and IPv6 addresses.
            An IPv6 address may have a scope, such as `%eth0`.
        @param drain: how long running transfers may take to finish when the service stops, in
            seconds.
        @param grace: how long the backend may then take to release its files, in seconds.
        @param policy: limits, timeouts and access rules; None for a L{Policy} with its defaults.
        @param observer: an L{ITransferObserver}; None for a L{TransferLog}.
        @param reactor: the reactor; None for the global one.
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
        self._shared = SharedParts.for_policy(self._policy, reactor)
        self._ports: list[RequestPort] = []
        self._interfaces: list[FollowedInterface] = []
        self._monitor: AddressMonitor | None = None
        self._closing: list[Deferred[Any]] = []  # the ports that are being closed
        # The closed ports of addresses that are gone, while transfers still use them.
        self._gone: WeakValueDictionary[str, RequestPort] = WeakValueDictionary()
        self._stop_waits_for: Deferred[Any] | None = None  # what the stop waits for now
        self._grace = grace
        self._cancel_reason = reasons.drain_ended(drain)  # of the transfers that a stop ends
        self.transfers = self._shared.transfers
        self.servers: list[TFTPServer] = []

    @property
    def ports(self) -> list[RequestPort]:
        """The bound ports, while the service runs."""
        return list(self._ports)

    def check_backend(self) -> None:
        """Check that the backend can serve files; the start of the service does this too.

        @raise StartError: the backend cannot serve files.
        """
        try:
            self._lifecycle.check()
        except BackendUnavailable as error:
            raise StartError(f"tftp: {error}") from None

    def privilegedStartService(self) -> None:
        """Bind the ports. twistd calls this before it gives up the privileges of root.

        @raise StartError: the backend cannot serve files, or a port cannot be bound.
        """
        self.check_backend()
        self._raise_descriptor_limit()
        # Addresses come first, so that an interface may have one that is also given by itself.
        for host in sorted(self._host or ALL_ADDRESSES, key=_is_interface):
            try:
                self._listen(host)
            except CannotListenError as error:
                if not self._host and host == "::" and _family_is_missing(error.socketError):
                    continue
                self._stop_following()
                self._close_ports()
                self._shared.opener.close()
                raise StartError(f"tftp: {_explain(host, self._port, error)}") from None
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve requests; bind the ports first if `twist` runs the service.

        `twist` does not call L{privilegedStartService}.
        """
        if not self._ports and not self._interfaces:
            self.privilegedStartService()
        super().startService()
        for port in self._ports:
            self._log_port(port)
        started = maybeDeferred(self._lifecycle.start)
        started.addErrback(self._log_failure, "the backend failed to start")

    def stopService(self) -> Deferred[None]:
        """Drop new requests, let the running transfers finish, and then stop the backend.

        @return: fires when the service has stopped. Transfers that still run after `drain` seconds
            are ended before that.
        """
        super().stopService()
        self._stop_following()
        for server in self.servers:
            server.is_accepting = False
        self.servers.clear()
        closed: list[Any] = [*self._closing]
        if not self._policy.single_port:
            closed.append(self._close_ports())
        running = self._stop_waits_for = self.transfers.when_none_runs()
        if self.transfers.running:
            self._log.info("waiting for {count} transfers", count=self.transfers.running)
            deadline = self._reactor.callLater(self._drain, running.cancel)
            running.addBoth(lambda _: deadline.active() and deadline.cancel())
        running.addBoth(lambda _: self._cancel_all())
        running.addBoth(lambda _: closed.append(self._close_ports()))
        running.addBoth(lambda _: DeferredList(closed))
        running.addBoth(lambda _: self._wait_for(maybeDeferred(self._lifecycle.stop)))
        running.addErrback(self._log_failure, "the backend failed to stop, or took too long")
        running.addBoth(lambda _: self._shared.opener.close())
        running.addBoth(lambda _: self._flush_log())
        return running

    def stop_now(self) -> None:
        """If the service is stopping, end all transfers now, and wait less for the backend."""
        self._grace = SHORT_GRACE
        self._cancel_reason = reasons.SECOND_SIGNAL
        if self._stop_waits_for is not None:
            self._stop_waits_for.cancel()

    def reload(self) -> None:
        """Let the backend clear its caches; the operator has changed the files."""
        self._lifecycle.forget()

    def _cancel_all(self) -> Deferred[None]:
        """End all transfers; fires when their files are released, or after `grace` seconds."""
        ended = self.transfers.cancel_all("the server is being stopped", self._cancel_reason)
        return self._wait_for(ended)

    def _wait_for(self, end: Deferred[Any]) -> Deferred[Any]:
        """Return `end`, which is cancelled after `grace` seconds, and by L{stop_now}."""
        self._stop_waits_for = end
        if not end.called:
            timer = self._reactor.callLater(self._grace, end.cancel)
            end.addBoth(_cancel_timer, timer)
        return end

    def _log_failure(self, failure: Failure, text: str) -> None:
        self._log.failure(text, failure=failure)

    def _flush_log(self) -> None:
        if isinstance(self._observer, TransferLog):
            self._observer.flush()

    def _listen(self, host: str) -> None:
        """Bind an address, or all addresses of an interface, and follow these from now on.

        @raise CannotListenError: an address can't be bound, or there is no such interface.
        """
        if not _is_interface(host):
            self._bind(host)
            return
        interface = FollowedInterface(host, self._bind_unless_bound, self._close_port)
        try:
            if self._monitor is None:
                self._monitor = AddressMonitor(self._reactor, self._follow_interfaces)
            interface.bind_all(may_be_missing=self._policy.freebind)
        except OSError as error:
            raise CannotListenError(host, self._port, error) from None
        self._interfaces.append(interface)

    def _follow_interfaces(self) -> None:
        """Bind new addresses of the interfaces, and release those that are gone."""
        found = [(interface, interface.release_gone()) for interface in self._interfaces]
        # An address may have moved from one interface to another: its old port must be closed.
        DeferredList(self._closing).addCallback(lambda _: self._bind_new(found))

    def _bind_new(self, found: list[tuple[FollowedInterface, list[str]]]) -> None:
        """Bind the new addresses of each interface, unless the service is being stopped."""
        for interface, addresses in found:
            if interface in self._interfaces:
                interface.bind_new(addresses)

    def _stop_following(self) -> None:
        """Stop following the addresses of interfaces."""
        self._interfaces.clear()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _bind_unless_bound(self, host: str) -> RequestPort | None:
        """Bind an address of an interface; return None if it is bound already."""
        if any(port.address == host for port in self._ports):
            return None
        port = self._bind(host)
        if self.running:
            self._log_port(port)
        return port

    def _log_port(self, port: RequestPort) -> None:
        self._log.info(
            "serving on {host} port {port}", host=port.address, port=port.getHost().port
        )

    def _bind(self, host: str) -> RequestPort:
        server = TFTPServer(
            self.backend,
            self._policy,
            observer=self._observer,
            reactor=self._reactor,
            shared=self._shared,
        )
        hub = self._shared.opener.hub
        port = listen(
            *(self._reactor, self._port, server, host, hub),
            options=self._shared.socket_options,
            answers_broadcast=self._policy.broadcast,
        )
        self._ports.append(port)
        self.servers.append(server)
        gone = self._gone.pop(port.address, None)
        if gone is not None:
            gone.successor = port
        return port

    def _raise_descriptor_limit(self) -> None:
        """Raise the limit of descriptors for `max_transfers`; log a limit that is too low."""
        wanted = DESCRIPTORS_PER_TRANSFER * self._policy.max_transfers + OTHER_DESCRIPTORS
        limit = raise_descriptor_limit(wanted)
        if limit < wanted:
            possible = max(0, limit - OTHER_DESCRIPTORS) // DESCRIPTORS_PER_TRANSFER
            write_line = self._log.info if possible >= ENOUGH_TRANSFERS else self._log.warn
            write_line(
                "serves about {shown} transfers at once; "
                "raise `ulimit -n` or lower `--max-transfers`",
                shown=f"{possible:,}",
                possible=possible,
                limit=limit,
                wanted=wanted,
            )

    def _close_port(self, port: RequestPort) -> None:
        """Close one port, because its address is gone; its running transfers go on."""
        self._ports.remove(port)
        self.servers.remove(port.protocol)
        self._gone[port.address] = port
        closing = maybeDeferred(port.stopListening)
        self._closing.append(closing)
        closing.addCallback(lambda _: self._closing.remove(closing))

    def _close_ports(self) -> Deferred[Any]:
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])


def _cancel_timer(result: Any, timer: IDelayedCall) -> Any:
    """Cancel a timer, and return `result`."""
    if timer.active():
        timer.cancel()
    return result


def _is_interface(host: str) -> bool:
    """Return whether an address to listen on is the name of an interface."""
    return not isIPAddress(host) and not isIPv6Address(host)


def _family_is_missing(error: Any) -> bool:
    """Return whether `error` means that this host has no IPv6."""
    return getattr(error, "errno", None) in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _explain(host: str, port: int, error: CannotListenError) -> str:
    """Return one line about a port that could not be bound."""
    reason = error.socketError
    text = getattr(reason, "strerror", None) or str(reason)
    if isinstance(reason, PermissionError):
        text = f"{text}; ports below 1024 need root or CAP_NET_BIND_SERVICE, or use --port"
    return f"can't listen on {host} port {port}: {text}"
