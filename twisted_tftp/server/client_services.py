"""Make the services of a request port, and choose those of each client by the client rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache

from twisted_tftp.net.host_cache import Entry, HostCache
from twisted_tftp.policy import WriteMode
from twisted_tftp.server.client_rules import BackendFor, ClientRules, ClientSettings
from twisted_tftp.server.configuration import Configuration
from twisted_tftp.server.negotiation import FindMtu, Negotiation
from twisted_tftp.server.session import ServerServices
from twisted_tftp.server.shared_parts import SharedParts
from twisted_tftp.server.upload_access import UploadAccess
from twisted_tftp.session.services import SessionServices

#: The most services that are kept, one for each distinct set of settings.
MAX_VARIANTS = 1024


def make_services(
    configuration: Configuration, shared: SharedParts, clock: Callable[[], float]
) -> ServerServices:
    """Return the services of the clients to which no client rule applies.

    @param configuration: its observer is not None.
    """
    policy, transfers = configuration.policy, shared.transfers
    return ServerServices(
        backend=configuration.backend,
        policy=policy,
        negotiation=Negotiation(policy, shared.find_mtu),
        session_services=SessionServices(
            observer=configuration.observer,
            clock=clock,
            alarms=shared.alarms,
            opening_time=policy.opening_time,
            on_no_descriptors=shared.opener.close_idle,
        ),
        upload_access=UploadAccess(shared.access.may_write, policy.max_upload),
        find_mac=shared.find_mac,
        window_budget=transfers.window_budget,
        on_finished=transfers.note_finished,
        on_released=transfers.remove,
        uploads=configuration.uploads,
        max_rate=configuration.max_rate,
    )


class ClientServices:
    """The services of the clients of a request port.

    @ivar of_host: returns the services of a host: (host, now). An IPv6 link-local host has its
        scope.
    """

    of_host: Callable[[str, float], ServerServices]

    def __init__(
        self,
        common: ServerServices,
        rules: ClientRules,
        *,
        find_mtu: FindMtu,
        backend_for: BackendFor | None,
    ) -> None:
        """Set up.

        @param common: the services of a client to which no rule applies.
        @param find_mtu: see L{Negotiation}.
        @param backend_for: see L{Configuration}.
        """
        self._common = common
        self._rules = rules
        self._find_mtu = find_mtu
        self._backend_for = backend_for
        self._variant = lru_cache(MAX_VARIANTS)(self._make_variant)
        self.of_host = HostCache(self._look_up).get

    def _look_up(self, host: str, now: float) -> Entry[ServerServices]:
        found = self._rules.look_up(host, now)
        return Entry(self._variant(found.value), found.valid_until)

    def _make_variant(self, settings: ClientSettings) -> ServerServices:
        """Return the services of the clients that have these settings."""
        common = self._common
        if settings == ClientSettings():
            return common
        policy = settings.policy(common.policy)
        backend = common.backend
        if settings.needs_backend:
            assert self._backend_for is not None, "Configuration has checked it"
            backend = self._backend_for(settings.root, settings.max_rate)
        return dataclasses.replace(
            common,
            backend=backend,
            policy=policy,
            negotiation=Negotiation(policy, self._find_mtu),
            session_services=dataclasses.replace(
                common.session_services, opening_time=policy.opening_time
            ),
            uploads=settings.uploads(common.uploads),
            max_rate=min(filter(None, (settings.max_rate, common.max_rate)), default=None),
            upload_access=dataclasses.replace(
                common.upload_access, is_read_only=settings.write is WriteMode.NEVER
            ),
        )
