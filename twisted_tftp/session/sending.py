"""Send a file to the peer: a read on the server, an upload of the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_tftp.context import Outcome, TransferContext
from twisted_tftp.errors import ErrorCode, TFTPError
from twisted_tftp.net.udp import Link
from twisted_tftp.protocol import wire
from twisted_tftp.session.base import Session
from twisted_tftp.session.netascii_files import NetasciiReader
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.transfer.flow import Offer, Offerer, Progress
from twisted_tftp.transfer.machine import END, READ, SEND, WAIT, Buffer, Step, TransferMachine
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.states import SenderState

#: The ERROR codes with which a client that only wants the size of a file answers the OACK.
SIZE_PROBE_CODES = frozenset((ErrorCode.NOT_DEFINED, ErrorCode.OPTION_REFUSED))

# In Python 3.11 a global is ten times as fast to look up as a member of an Enum.
_DONE = SenderState.DONE


def _is_deferred(data: Any) -> TypeGuard[Deferred[Any]]:
    """Return whether a reader has returned a Deferred."""
    # isinstance is slow for a Deferred: its class is abstract.
    return type(data) not in (memoryview, bytes) and isinstance(data, Deferred)


class SendingSession(Session):
    """A session that reads a file with an L{IFileReader}, and sends it with a `Sender`."""

    __slots__ = ("_reading",)

    _machine: Sender

    def __init__(
        self, context: TransferContext, link: Link, services: SessionServices, owner: SessionOwner
    ) -> None:
        """Set up a transfer; the arguments are those of L{Session}."""
        super().__init__(context, link, services, owner)
        self._reading: Deferred[Any] | None = None  # a read that is under way

    @property
    def offerer(self) -> Offerer:
        """Return this session, whose machine can have a flow."""
        return self

    def begin(self, machine: TransferMachine) -> None:
        """Transfer the file with `machine`; read a small file before the first packet is sent."""
        assert isinstance(machine, Sender)
        self._machine = machine
        length = machine.early_read
        if length:
            data = self.file.read(0, length)
            if _is_deferred(data):
                self._wait_for(data, 0, length)
            else:
                machine.preload(data)
            if self.is_closed:
                return  # the read has failed
        super().begin(machine)

    def offer(self, least: int) -> Offer | None:
        """Return the offer of the machine; set the alarm for the next check of the flow."""
        offer = self._machine.offer(least)
        if offer is not None:
            self._alarm.arm(self._machine.look_at(offer.sent_at))
        return offer

    def take_back(self, progress: Progress) -> Sequence[Buffer]:
        """Let the machine continue where the flow is, and set the alarm."""
        machine = self._machine
        unsent = machine.take_back(progress)
        now = self._services.clock()
        if now < machine.deadline:
            self._alarm.arm(machine.look_at(now))
        return unsent

    def resume(self, progress: Progress, datagram: bytes, now: float) -> None:
        """Let the machine continue from where the flow is, and process a datagram."""
        machine = self._machine
        step = machine.resume(progress, datagram, now)
        if step is not WAIT:
            self.perform(step, now)
        elif machine.deadline < self._alarm.at:
            self._alarm.arm(machine.deadline)

    @property
    def is_reading(self) -> bool:
        """Whether octets are being read from the file."""
        return self._reading is not None

    def perform(self, step: Step, now: float) -> None:
        """Do what the sender asks for."""
        machine = self._machine
        if step is READ:
            self._read(now)
        elif step is SEND:
            self._link.send(machine.datagrams)
        elif step is END:
            if machine.state is _DONE:
                self.complete()
            else:
                self._end_with_machine_failure()
            return
        if machine.deadline < self._alarm.at:
            self._alarm.arm(machine.deadline)

    def _convert_netascii(self, file: Any) -> Any:
        return NetasciiReader(file) if self.statistics.context.mode == wire.NETASCII else file

    def _read(self, now: float) -> None:
        """Get the octets that the machine wants and send them."""
        if self._reading is not None:
            return  # at its end, the machine is asked again what it wants
        machine = self._machine
        offset, length = machine.offset, machine.length
        try:
            data = self.file.read(offset, length) if length else b""
        except BaseException:  # see Session
            self.fail(Failure())
            return
        if _is_deferred(data):
            self._wait_for(data, offset, length)
        else:
            self._supply(data, length, now)

    def _wait_for(self, data: Deferred[Any], offset: int, length: int) -> None:
        self._reading = data
        data.addCallbacks(
            self._on_read, self._on_read_failed, (data, offset, length), errbackArgs=(data,)
        )
        data.addErrback(self.fail)

    def _on_read(self, data: Any, reading: Deferred[Any], offset: int, length: int) -> None:
        if self._reading is not reading:
            return  # the transfer was restarted meanwhile
        self._reading = None
        if self.is_closed:
            return
        now = self._services.clock()
        if not self._machine.is_reading:
            self._machine.preload(data)  # the OACK is not acknowledged yet
            return
        if (offset, length) == (self._machine.offset, self._machine.length):
            self._supply(data, length, now)
        else:
            self._read(now)
        self._alarm.arm(self._machine.deadline)

    def _on_read_failed(self, failure: Failure, reading: Deferred[Any]) -> None:
        if self._reading is reading:
            self._reading = None
            self.fail(failure)

    def _supply(self, data: Buffer, length: int, now: float) -> None:
        """Give the machine the octets that it wants, and send its window."""
        if len(data) != length and (len(data) > length or self.file.size is not None):
            self.fail(Failure(TFTPError("the file changed while it was read")))
            return
        machine = self._machine
        if machine.supply(data, now) is SEND:
            self._link.send(machine.datagrams)
        else:
            self._end_with_machine_failure()

    def _outcome_of_peer_error(self, code: int) -> Outcome:
        """Return SIZE_PROBE if the ERROR refuses our OACK, and ABORTED otherwise."""
        offered = bool(self.statistics.granted) and not self._machine.has_answered
        is_probe = offered and code in SIZE_PROBE_CODES
        return Outcome.SIZE_PROBE if is_probe else Outcome.ABORTED

    def _may_deadline_shrink(self) -> bool:
        return self._machine.may_deadline_shrink

    def _forget_pending(self) -> None:
        self._reading = None

    def _release(self) -> None:
        reader, self.file = self.file, None
        if reader is not None:
            reader.close()
