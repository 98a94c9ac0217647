"""Open the links through which one transfer of a client sends its request."""

from __future__ import annotations

from collections.abc import Callable

from twisted_tftp.client.attempt_plan import AttemptPlan
from twisted_tftp.client.failure_reasons import network_reason
from twisted_tftp.client.request_ports import RequestPorts
from twisted_tftp.client.services import ClientServices
from twisted_tftp.errors import ServerUnreachable, TFTPError, TransferTimedOut
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol import wire

#: How many more datagrams are sent after ICMP has reported that the server's port is closed.
TRIES_AFTER_REFUSAL = 2


class RequestLinks:
    """The links of one transfer: to each address of the server in turn, from one or more ports.

    @ivar current: the link that is in use.
    @ivar plan: the addresses of the server.
    @ivar ports: the ports from which the current address was asked.
    """

    def __init__(
        self,
        link: ClientLink,
        plan: AttemptPlan,
        services: ClientServices,
        on_unreachable: Callable[[int], None],
        on_server_gone: Callable[[], None],
        notice: Callable[[str], None],
    ) -> None:
        """Set up with an open link to the first address of `plan`.

        @param on_unreachable: called when the system reports that the request did not reach the
            server, with the number of requests after which to give up.
        @param on_server_gone: called when the server's port was closed during the transfer.
        @param notice: called with a text for the user.
        """
        self.current = link
        self.plan = plan
        self._services = services
        self._on_unreachable = on_unreachable
        self._on_server_gone = on_server_gone
        self._refusals = 0
        self._notice = notice
        self._has_told_of_turns = False
        self._unreachable_error: OSError | None = None
        self.ports = RequestPorts(self.open_other_port)

    @property
    def open_other_port(self) -> Callable[[], ClientLink] | None:
        """Opens a link from another port; None if the user has chosen the port."""
        return self._open if self._services.can_change_port else None

    @property
    def unreachable_text(self) -> str:
        """Why the system can't reach the server, for messages; empty if it reports nothing."""
        error = self._unreachable_error
        return "" if error is None else f" ({error.strerror})"

    def use(self, link: ClientLink) -> None:
        """Use `link` from now on; the caller closes the old one."""
        link.other_host = self.current.other_host
        link.on_unreachable = self._note_unreachable
        self.current = link

    def listen_for_errors(self) -> None:
        """Notice from now on if the current address can't be reached."""
        self.current.on_unreachable = self._note_unreachable

    def note_silence(self, is_silent: bool) -> None:
        """Notice a closed port of the server while it is silent in a transfer."""
        if self.current.knows_server_port and not self.current.closed:
            self._refusals = 0
            self.current.on_unreachable = self._note_unreachable if is_silent else None
            self.current.report_errors(is_silent)

    def note_answer(self, answer: bytes) -> None:
        """Note that the server has answered: it is at the source of the current datagram."""
        known = self._services.known
        self.current.learn_server_port()
        self._unreachable_error = None
        self._services.on_address(self.plan.current.address)
        if wire.opcode_of(answer) == wire.Opcode.OACK:
            known.grants_options = True
        elif not self.plan.current.has_options:
            known.note_without_options(self._services.session_services.clock())

    def open_after_route_change(self) -> ClientLink | None:
        """Return a new link if there was no route to the server, and there is one now."""
        if not self.current.is_unbound or not self._services.can_change_port:
            return None
        link = self._open()
        if not link.is_unbound:
            return link
        link.close()
        return None

    def open_next_attempt(self, failure: TFTPError) -> ClientLink | None:
        """Return a link for the next attempt of the plan; None if there is none.

        @param failure: why the current attempt has failed.
        """
        now, had_options = self._services.session_services.clock, self.plan.current.has_options
        failure = self.network_reason(failure) or failure
        for _ in range(self.plan.address_count):  # an error would come again at once
            if not self.plan.advance(now(), failure):
                return None
            try:
                link = self._open_again()
            except OSError as error:
                self._unreachable_error = error
                failure = ServerUnreachable(error.strerror or "")
                continue
            if had_options and not self.plan.current.has_options and not self._has_told_of_turns:
                self._has_told_of_turns = True  # before the notice, which may end the transfer
                self._notice(
                    "no answer to requests with options; asking without options and with them in"
                    " turn"
                )
            return link
        return None

    def open_without_options(self, error: TFTPError) -> ClientLink | None:
        """Return a link for a request without options; None if that makes no sense.

        @param error: the ERROR of the server.
        """
        now = self._services.session_services.clock()
        error.was_asked_without_options = not self.plan.current.has_options
        if not self.plan.drop_options(now, error.code):
            return None
        try:
            link = self._open_again()
        except OSError:
            return None
        self._notice(f"ERROR {error.code:d}: {error.message}; asking without options")
        return link

    def _open_again(self) -> ClientLink:
        """Return a link to the current address of the plan, for a new attempt."""
        if not self._services.can_change_port:
            self.current.close()  # the new link needs its port
        link = self._open()
        self.ports = RequestPorts(self.open_other_port)
        self._unreachable_error = None
        self.current.other_host = None
        return link

    def network_reason(self, failure: TFTPError | None) -> TFTPError | None:
        """Return what is known about the network that explains `failure`; None if nothing is."""
        return network_reason(failure, self.current.other_host, self._unreachable_error)

    def reason(self, failure: TFTPError | None, has_answer: bool) -> TFTPError | None:
        """Return the cause of a failure in the network; None if none is known.

        @param failure: why the transfer has failed.
        @param has_answer: whether the server has answered the request.
        """
        reason = self.network_reason(failure)
        if not has_answer and isinstance(failure, TransferTimedOut):
            return self.plan.failure(reason or failure)
        return reason

    def _open(self) -> ClientLink:
        return self._services.open_link(self.plan.current.address)

    def _note_unreachable(self, error: OSError) -> None:
        self._unreachable_error = error
        is_refused = isinstance(error, ConnectionRefusedError)
        if self.current.knows_server_port:
            self._refusals += is_refused
            if self._refusals > TRIES_AFTER_REFUSAL:
                # Not in this call: the session may be sending.
                services = self._services.session_services
                services.alarms.set(services.clock(), self._on_server_gone)
        elif self.plan.has_other_address:
            self._on_unreachable(0)
        elif is_refused:
            self._on_unreachable(TRIES_AFTER_REFUSAL)
