"""Send a read request again from a second port, and compare the server's two answers.

The first answer may be for a program that used the client's port before. That program did not use
the second port, so an answer that arrives there is for this request. The first answer is trusted
if both have the same octets: answers for two different files differ in the options of the OACK or
in the first block.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_tftp.client.requester import Requester
from twisted_tftp.errors import TFTPError
from twisted_tftp.net.client_link import ClientLink
from twisted_tftp.policy import DEFAULT_BLKSIZE
from twisted_tftp.protocol import wire
from twisted_tftp.session.services import SessionServices
from twisted_tftp.transfer.asker import Asker
from twisted_tftp.transfer.first_answer import FirstAnswer
from twisted_tftp.transfer.machine import Buffer
from twisted_tftp.transfer.states import AskerState
from twisted_tftp.transfer.timing import Timing


class Comparison(Enum):
    """The result of comparing the second answer with the first one."""

    #: Both have the same octets.
    SAME = "same"
    #: They differ, or the second answer is an ERROR.
    DIFFERENT = "different"
    #: The server did not answer the second request.
    NONE = "none"


class SecondRequest:
    """A copy of a read request that is sent from a second port, to compare the answers.

    The transfer that the server starts for it is ended at once, with an ERROR or with the ACK of
    a whole file. The port stays open until `cancel` is called, to send that packet again if it was
    lost. Otherwise a server that serves one client at a time would wait.

    @ivar answer: the second answer; None if there is none, or if it is an ERROR.
    """

    _log = Logger()

    def __init__(
        self,
        link: ClientLink,
        request: bytes,
        first: FirstAnswer,
        timing: Timing,
        *,
        services: SessionServices,
        on_compared: Callable[[Comparison], None],
    ) -> None:
        """Set up, without sending the request.

        @param link: the link of the second port; this object closes it.
        @param request: the datagram of the first request.
        @param first: the assessment of the first answer.
        @param timing: the timeouts of the second request.
        @param on_compared: called once with the result, unless `cancel` is called before.
        """
        self._link = link
        self._first = first
        self._asker = Asker(request, is_read=True, timing=timing)
        self._requester = Requester(
            self._asker, link, services, on_end=self._on_end, on_exception=self._on_exception
        )
        self._on_compared = on_compared

    @property
    def answer(self) -> bytes | None:
        """The second answer; None if there is none yet, or if it is an ERROR."""
        return self._asker.answer

    @property
    def repetitions(self) -> int:
        """How many times the request was sent again."""
        return self._asker.retransmissions

    def start(self) -> None:
        """Send the request."""
        self._link.discard_waiting()
        self._link.attach(self._receive)
        self._requester.start()

    def cancel(self) -> None:
        """Close the port; `on_compared` is not called any more."""
        self._requester.stop()
        self._link.close()

    def _receive(self, datagram: Buffer, now: float) -> None:
        if self._asker.state is not AskerState.ASKING:
            if self.answer is not None and wire.opcode_of(datagram) != wire.Opcode.ERROR:
                self._end_transfer()
        elif self._first.is_foreign(datagram, knows_xid=False):
            self._link.answer_stranger(datagram, now)
        else:
            self._requester.receive(datagram, now)

    def _on_exception(self, failure: Failure) -> None:
        self._log.failure("unexpected exception while a second request was sent", failure=failure)
        self.cancel()
        self._on_compared(Comparison.NONE)

    def _on_end(self) -> None:
        if self.answer is None:
            self._link.close()
        else:
            self._link.learn_server_port()
            self._end_transfer()
        self._on_compared(self._compare())

    def _end_transfer(self) -> None:
        """End the transfer that the server has started for this port."""
        assert self.answer is not None
        is_data = wire.opcode_of(self.answer) == wire.Opcode.DATA
        if is_data and len(self.answer) < wire.HEADER_SIZE + DEFAULT_BLKSIZE:
            # This is the whole file. Some small servers do not understand an ERROR, but all
            # understand the last ACK.
            self._link.send((wire.ack(1),))
        else:
            self._link.send((wire.error(TFTPError("only an earlier answer was checked")),))

    def _compare(self) -> Comparison:
        if self.answer is None:
            return Comparison.DIFFERENT if self._asker.peer_error is not None else Comparison.NONE
        return Comparison.SAME if self.answer == self._first.accepted else Comparison.DIFFERENT
