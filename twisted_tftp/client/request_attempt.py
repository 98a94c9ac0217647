"""Send one request of a client from one port, and assess the answers to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from twisted_tftp.client.doubt import Doubt, DoubtOwner
from twisted_tftp.client.request_links import RequestLinks
from twisted_tftp.client.requester import Requester
from twisted_tftp.client.services import ClientServices
from twisted_tftp.context import Direction, TransferContext
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.protocol import wire
from twisted_tftp.protocol.options import XID, Grant, accept
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.first_answer import FirstAnswer
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.timing import Timing


class RequestAttempt:
    """One request from one port: the machine that sends it, and the doubt about its answer.

    @ivar context: the contents of the request.
    @ivar asker: the machine, which has the answer in the end.
    @ivar doubt: the doubt about the answer.
    @param context: the file name, the mode and the direction of the request.
    @param size: the size of the file in octets; 0 for a download, None if unknown.
    @param links: the links of the transfer; the request is sent through the current one.
    @param owner: the transfer.
    @param on_end: called when the request is answered or has failed.
    @param before_resend: called before the request is sent again.
    """

    def __init__(
        self,
        context: TransferContext,
        size: int | None,
        links: RequestLinks,
        services: ClientServices,
        owner: DoubtOwner,
        *,
        on_end: Callable[[], None],
        before_resend: Callable[[], None],
    ) -> None:
        """Set up, without sending the request."""
        self._link = links.current
        self._earlier_error: tuple[int, str] | None = None
        self._earlier_errors = 0  # how many copies of it may still come
        may_ask = links.plan.current.has_options
        options = services.choose_options(context, size, self._link) if may_ask else {}
        asked = {name: value for name, value in options.items() if name != XID}
        self.context = context._replace(options=asked)
        is_read = context.direction is Direction.READ
        request = _encode(context, options)
        make_timing = partial(Timing.of, services.policy, None)
        self.doubt = Doubt(
            FirstAnswer(
                is_read=is_read,
                has_options=bool(options),
                xid=options.get(XID),
                may_get_oack=may_ask,
            ),
            request,
            services.known,
            services.session_services,
            owner,
            open_link=links.open_other_port if is_read else None,
            make_timing=make_timing,
        )
        self.asker = Asker(request, is_read, make_timing(), links.plan.current.seconds)
        self._requester = Requester(
            self.asker,
            self._link,
            services.session_services,
            on_end=on_end,
            on_exception=owner.on_exception,
            before_resend=before_resend,
        )

    @property
    def repetitions(self) -> int:
        """How many requests were sent again, the second request of the doubt included."""
        return self.asker.retransmissions + self.doubt.repetitions

    def ignore_errors_of(self, earlier: RequestAttempt) -> None:
        """Ignore the ERROR of the attempt before, as often as its request was sent again.

        Both requests are sent from the same port, and each copy may be answered.
        """
        self._earlier_error = earlier.asker.peer_error
        self._earlier_errors = earlier.asker.retransmissions

    def start(self, receive: Callable[[Buffer, float], None]) -> None:
        """Send the request; from now on, `receive` gets the datagrams of the link."""
        self._link.discard_waiting()
        self._link.attach(receive)
        self._requester.start()

    def receive(self, datagram: Buffer, now: float) -> None:
        """Process a datagram that may be the answer."""
        if self._earlier_errors and self._is_earlier_error(datagram):
            self._earlier_errors -= 1
        elif self.doubt.is_foreign(datagram, self.asker.retransmissions):
            self._link.answer_stranger(datagram, now)
        else:
            self._requester.receive(datagram, now)

    def _is_earlier_error(self, datagram: Buffer) -> bool:
        is_error = wire.opcode_of(datagram) == wire.Opcode.ERROR
        return is_error and wire.parse_error(datagram) == self._earlier_error

    def check_answer(self, answer: bytes) -> Grant:
        """Return the parameters of the transfer that follow from the answer.

        @raise TFTPError: it is an OACK that does not fit the request.
        """
        oack = wire.parse_oack(answer) if wire.opcode_of(answer) == wire.Opcode.OACK else {}
        granted = {name: value for name, value in oack.items() if name != XID}
        return accept(self.context.options, granted)

    def replace_link(self, link: ClientLink) -> None:
        """Send the request through another link from now on."""
        self._link = link
        self._requester.replace_link(link)

    def note_unreachable(self, more_tries: int) -> None:
        """Note that the server can't be reached now; give up after `more_tries` more requests."""
        self._requester.note_unreachable(more_tries)

    def stop(self) -> None:
        """Stop sending the request, and stop doubting its answer."""
        self._requester.stop()
        self.doubt.stop()


def _encode(context: TransferContext, options: Mapping[str, str]) -> bytes:
    """Return the datagram of a request with these options."""
    opcode = wire.Opcode.RRQ if context.direction is Direction.READ else wire.Opcode.WRQ
    return wire.encode_request(wire.Request(opcode, context.filename, context.mode, dict(options)))
