"""What a service does with requests, in one immutable object that a reload replaces."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from twisted_tftp.policy import TFTP_PORT, Policy, UploadSettings
from twisted_tftp.server.backend_check import NamedBackend, check_backends, check_content
from twisted_tftp.server.client_rules import BackendFor, ClientRule, ClientRules
from twisted_tftp.server.hooks import HookSettings

#: How long running transfers may take to finish when the service stops, in seconds.
DEFAULT_DRAIN = 5.0

#: How long the backend may take to release its files after the last transfer, in seconds.
DEFAULT_GRACE = 10.0

#: The attributes of the policy that the sockets have: they can't change while the service runs.
FIXED_POLICY = ("interface", "freebind", "broadcast", "single_port", "port_range")

#: The attributes of the configuration that can't change while the service runs.
FIXED = ("host", "port")


@dataclass(frozen=True)
class Configuration:
    """The backend, the rules and the limits of a service.

    @ivar backend: an L{IFileBackend} that may also provide L{IBackendLifecycle}.
    @ivar policy: limits, timeouts and access rules.
    @ivar observer: an L{ITransferObserver}; None for a L{TransferLog}, or after a reload for the
        one that the service has.
    @ivar uploads: the rules for uploads; None for those of the backend.
    @ivar client_rules: the rules for some clients.
    @ivar backend_for: makes the backend of the clients whose rules have a `root` or a `max_rate`.
        It uses the same files as `backend`: only that one is started and stopped.
    @ivar port: the request port; 0 lets the system choose one.
    @ivar host: addresses and interfaces to listen on; empty for all IPv4 and IPv6 addresses. An
        IPv6 address may have a scope, such as `%eth0`.
    @ivar drain: how long running transfers may take to finish when the service stops, in seconds.
    @ivar grace: how long the backend may then take to release its files, and hooks to end, in
        seconds.
    @ivar max_rate: octets per second of all transfers together, which `backend` does not exceed;
        None for no limit.
    @ivar hooks: the commands to run after transfers.
    @ivar named_backends: the backends in `backend` that are checked one by one, so that a message
        can name them; empty if only `backend` itself is checked.
    @ivar pacer: enforces `max_rate`; None if there is no limit. A configuration with the same rate
        uses it too, so that the transfers of both together keep to the limit.
    """

    backend: Any
    policy: Policy = field(default_factory=Policy)
    observer: Any = None
    uploads: UploadSettings | None = None
    client_rules: tuple[ClientRule, ...] = ()
    backend_for: BackendFor | None = None
    port: int = TFTP_PORT
    host: tuple[str, ...] = ()
    drain: float = DEFAULT_DRAIN
    grace: float = DEFAULT_GRACE
    max_rate: int | None = None
    hooks: HookSettings = field(default_factory=HookSettings)
    named_backends: tuple[NamedBackend, ...] = ()
    pacer: Any = None

    def __post_init__(self) -> None:
        """Check the client rules.

        @raise ValueError: two are for the same clients, or one needs a missing `backend_for`.
        """
        for rule in ClientRules(self.client_rules).rules:
            if rule.settings.needs_backend and self.backend_for is None:
                raise ValueError(f"the client rule for {rule} needs backend_for, which is None")

    def check_backends(self) -> None:
        """Check that the backends can serve files; this may block.

        @raise BackendUnavailable: one can't.
        """
        check_backends(self._checked_backends())

    def check_content(self) -> None:
        """Check the content of the files of the backends; this may block.

        @raise BackendUnavailable: one has a mistake.
        """
        check_backends(self._checked_backends(), check_content)

    def _checked_backends(self) -> tuple[NamedBackend, ...]:
        whole = NamedBackend(type(self.backend).__name__, self.backend)
        return self.named_backends or (whole,)

    def fixed_values(self) -> dict[str, Any]:
        """Return the name and the value of each option that can't change."""
        return {key: getattr(self, key) for key in FIXED} | {
            key: getattr(self.policy, key) for key in FIXED_POLICY
        }

    def fixed_differences(self, other: Configuration) -> list[str]:
        """Return the names of the options that can't change and have other values in `other`."""
        others = other.fixed_values()
        return [key for key, value in self.fixed_values().items() if others[key] != value]

    def with_fixed_values_of(self, running: Configuration) -> Configuration:
        """Return this configuration, but what can't change has the values of `running`."""
        fixed = running.fixed_values()
        policy = dataclasses.replace(self.policy, **{key: fixed[key] for key in FIXED_POLICY})
        return dataclasses.replace(self, policy=policy, **{key: fixed[key] for key in FIXED})
