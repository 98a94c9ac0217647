"""The server as a Twisted service: it binds the ports, serves, drains and stops.

To drain means to let the running transfers finish while new requests are dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.errors import BackendUnavailable
from twisted_tftp.interfaces import lifecycle_of
from twisted_tftp.net import offload
from twisted_tftp.net.request_port import RequestPort
from twisted_tftp.policy import TFTP_PORT, Policy, UploadSettings
from twisted_tftp.protocol.printable import MAX_OWN_CHARACTERS, printable_unicode
from twisted_tftp.server.backend_check import NamedBackend
from twisted_tftp.server.client_rules import BackendFor, ClientRule
from twisted_tftp.server.configuration import DEFAULT_DRAIN, DEFAULT_GRACE, Configuration
from twisted_tftp.server.descriptor_limit import raise_limit_for
from twisted_tftp.server.generations import Generation, Generations
from twisted_tftp.server.hooks import HookObserver, HookRunner, HookSettings
from twisted_tftp.server.listeners import Listeners
from twisted_tftp.server.protocol import TFTPServer
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.server.shutdown import Shutdown
from twisted_tftp.server.start_error import StartError
from twisted_tftp.server.transfer_log import TransferLog


class TFTPService(Service):
    """A service that serves the files of a backend on one port of one or more addresses.

    @ivar configuration: what new requests get.
    @ivar transfers: the running transfers of all addresses.
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
        uploads: UploadSettings | None = None,
        client_rules: Iterable[ClientRule] = (),
        backend_for: BackendFor | None = None,
        max_rate: int | None = None,
        hooks: HookSettings | None = None,
        named_backends: Iterable[NamedBackend] = (),
        pacer: Any = None,
        reactor: Any = None,
    ) -> None:
        """Set up; the ports are bound when the service starts.

        The other parameters are described at L{Configuration}.

        @param port: the request port; 0 lets the system choose one, see L{ports}.
        @param policy: limits, timeouts and access rules; None for a L{Policy} with its defaults.
        @param observer: an L{ITransferObserver}; None for a L{TransferLog}.
        @param reactor: the reactor; None for the global one.
        @raise ValueError: two client rules are for the same clients, or one needs
            `backend_for`, which is None.
        """
        if reactor is None:
            from twisted.internet import reactor
        observer = TransferLog(reactor=reactor) if observer is None else observer
        self.configuration = Configuration(
            *(backend, policy or Policy(), observer, uploads, tuple(client_rules), backend_for),
            *(port, tuple(host), drain, grace, max_rate, hooks or HookSettings()),
            *(tuple(named_backends), pacer),
        )
        self._reactor = reactor
        self._make_parts()

    def _make_parts(self) -> None:
        """Make the objects that serve requests, and those that stop the service."""
        configuration, reactor = self.configuration, self._reactor
        self._shared = SharedParts.for_policy(
            configuration.policy, reactor, client_rules=configuration.client_rules
        )
        self.transfers = self._shared.transfers
        self._listeners = Listeners(
            configuration, self._shared, self._make_server, reactor, self._log
        )
        self._generations = Generations(reactor, configuration.grace)
        self._hook_runner = HookRunner(reactor, configuration.hooks)
        self._shutdown = Shutdown(reactor, self._listeners, self.transfers, self._log)

    @classmethod
    def from_configuration(cls, configuration: Configuration, reactor: Any = None) -> TFTPService:
        """Return a service with a configuration.

        @param reactor: the reactor; None for the global one.
        """
        fields = dataclasses.fields(configuration)
        values = {field.name: getattr(configuration, field.name) for field in fields}
        return cls(**values, reactor=reactor)

    @property
    def backend(self) -> Any:
        """The L{IFileBackend} of new transfers."""
        return self.configuration.backend

    @property
    def servers(self) -> list[TFTPServer]:
        """The L{TFTPServer} of each address, while the service runs."""
        return list(self._listeners.servers)

    @property
    def ports(self) -> list[RequestPort]:
        """The bound ports, while the service runs."""
        return list(self._listeners.ports)

    def check_backend(self) -> None:
        """Check that the backend can serve files; the start of the service does this too.

        @raise StartError: the backend cannot serve files.
        """
        _check(self.configuration.check_backends)

    def check_hooks(self) -> None:
        """Check that the hooks can be run; the start of the service does this too.

        @raise StartError: one can't be run.
        """
        for hook, problem in self.configuration.hooks.problems():
            raise StartError(f"tftp: {hook.value}: {problem}")

    def privilegedStartService(self) -> None:
        """Bind the ports. twistd calls this before it gives up the privileges of root.

        @raise StartError: the backend cannot serve files, a hook cannot be run, or a port cannot
            be bound.
        """
        self.check_backend()
        self.check_hooks()
        raise_limit_for(self.configuration.policy.max_transfers, self._log)
        try:
            self._listeners.bind_all()
        except StartError:
            self._shared.opener.close()
            raise
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve requests; bind the ports first if `twist` runs the service.

        `twist` does not call L{privilegedStartService}.

        @raise StartError: as for L{privilegedStartService}, or a file has a mistake.
        """
        if not self._listeners.are_bound:
            self.privilegedStartService()
        try:  # not before: the check of a file, such as a template, must not run as root
            _check(self.configuration.check_content)
        except StartError:
            self._listeners.stop_accepting()
            self._listeners.close()
            self._shared.opener.close()
            raise
        super().startService()
        self._shutdown.reset()
        self._log.info("{text}", text=offload.description())
        self._listeners.announce()
        self._generations.begin(self._generation)

    def reconfigure(self, configuration: Configuration, *, is_checked: bool = False) -> list[str]:
        """Use another configuration for new requests; the running transfers keep theirs.

        The backend that was used so far is stopped when its last transfer has ended. Requests are
        recognised as repeated ones across the change; counters continue, and so do the limits on
        rates, except one whose value has changed.

        A service that does not run, because it is stopping, ignores the call.

        @param configuration: the new one. An observer of None stands for the present one.
        @param is_checked: whether the caller has checked that the backends can serve files.
            Otherwise this is done now, and may block.
        @return: the names of the options whose values differ and can't change while the service
            runs; it continues with the old values.
        @raise BackendUnavailable: the new backend cannot serve files; nothing has changed.
        """
        if not self.running:
            return []
        running = self.configuration
        new = configuration.with_fixed_values_of(running)
        if new.observer is None:
            new = dataclasses.replace(new, observer=running.observer)
        if not is_checked and new.backend is not running.backend:
            new.check_backends()
        self.configuration = new
        self._shared = self._shared.reconfigure(new.policy, new.client_rules)
        self._hook_runner.settings = new.hooks
        observed = dataclasses.replace(new, observer=self._observer())
        for server in self._listeners.servers:
            server.reconfigure(observed, self._shared)
        self._generations.grace = new.grace
        self._generations.replace(self._generation, self.transfers.close_group())
        if new.policy.max_transfers > running.policy.max_transfers:
            raise_limit_for(new.policy.max_transfers, self._log)
        return running.fixed_differences(configuration)

    def stopService(self) -> Deferred[None]:
        """Drop new requests, let the running transfers finish, then stop hooks and the backend.

        @return: fires when the service has stopped. Transfers that still run after `drain` seconds
            are ended before that.
        """
        super().stopService()
        stopping = self._shutdown.run(self.configuration, self._stop_parts)
        stopping.addErrback(self._log_failure, "the service failed to stop")
        stopping.addBoth(lambda _: self._shared.opener.close())
        stopping.addBoth(lambda _: self._flush_log())
        stopping.addErrback(self._log_failure, "the service failed to release its sockets or log")
        return stopping

    def stop_now(self) -> None:
        """Stop without waiting for transfers, and wait less for the backend.

        Call this when the service is stopping, or is about to stop.
        """
        self._shutdown.hurry()

    def reload(self) -> None:
        """Let the backend clear its caches; the operator has changed the files."""
        lifecycle_of(self.backend).forget()

    @property
    def _generation(self) -> Generation:
        """What new transfers use."""
        return Generation(self.configuration.backend, self.configuration.observer)

    def _observer(self) -> Any:
        """Return the observer of new transfers, which runs the hooks if there are any."""
        configuration = self.configuration
        if not configuration.hooks.commands:
            return configuration.observer
        return HookObserver(configuration.observer, configuration.hooks, self._hook_runner)

    def _stop_parts(self) -> Deferred[Any]:
        """Stop the backends and the hooks; if the Deferred is cancelled, it waits no longer."""
        return DeferredList([self._hook_runner.stop(), self._generations.end_all()])

    def _make_server(self) -> TFTPServer:
        """Return the protocol of a new port."""
        configuration = self.configuration
        return TFTPServer(
            configuration.backend,
            configuration.policy,
            observer=self._observer(),
            uploads=configuration.uploads,
            backend_for=configuration.backend_for,
            max_rate=configuration.max_rate,
            reactor=self._reactor,
            shared=self._shared,
        )

    def _log_failure(self, failure: Failure, text: str) -> None:
        self._log.failure(text, failure=failure)

    def _flush_log(self) -> None:
        if isinstance(self.configuration.observer, TransferLog):
            self.configuration.observer.flush()


def _check(check: Callable[[], None]) -> None:
    """Call a check of the backends; convert its exception to L{StartError}.

    @raise StartError: it fails.
    """
    try:
        check()
    except BackendUnavailable as error:
        raise StartError(f"tftp: {printable_unicode(str(error), MAX_OWN_CHARACTERS)}") from None
