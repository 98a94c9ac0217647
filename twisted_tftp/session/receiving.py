"""Receive a file from the peer: a write on the server, a download of the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from twisted_tftp.context import Outcome, StoredFile, TransferContext
from twisted_tftp.net.udp import Link
from twisted_tftp.protocol import wire
from twisted_tftp.session.base import Session
from twisted_tftp.session.netascii_files import NetasciiWriter
from twisted_tftp.session.services import SessionOwner, SessionServices
from twisted_tftp.session.state import CANCELLED_IN_COMMIT, COMMITTING
from twisted_tftp.transfer.machine import END, SEND, STORE, Step
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.states import ReceiverState

#: A function that raises a L{TFTPError} if the file has too many or too few octets. Its arguments
#: are the octets received so far, and whether the file is complete.
CheckSize = Callable[[int, bool], None]


class ReceivingSession(Session):
    """A session that receives a file with a `Receiver`, and stores it with an L{IFileWriter}."""

    __slots__ = ("_acks_before_write", "_check_size", "_has_more", "_writing")

    _machine: Receiver

    def __init__(
        self,
        context: TransferContext,
        link: Link,
        services: SessionServices,
        owner: SessionOwner,
        *,
        check_size: CheckSize | None = None,
        acks_before_write: bool = False,
    ) -> None:
        """Set up a transfer; the first four arguments are those of L{Session}.

        @param check_size: called before each write; None for no check.
        @param acks_before_write: whether blocks are acknowledged before they are written, except
            the last ones of the file. The peer then sends the next window during the write (1.2
            to 1.4 times as fast). It learns of a failed write one window later. Only one window
            is acknowledged in advance.
        """
        super().__init__(context, link, services, owner)
        self._check_size = check_size
        self._acks_before_write = acks_before_write
        self._writing: Deferred[Any] | None = None  # a write that is under way
        self._has_more = False  # the machine has received more meanwhile

    @property
    def is_writing(self) -> bool:
        """Whether octets are being written to the file."""
        return self._writing is not None

    def receive_train(self, train: memoryview, size: int, now: float) -> None:
        """Process datagrams of `size` octets in one buffer; the last one may be shorter."""
        at = 0
        while at < len(train) and not self.is_closed:
            at += size * self._machine.receive_train(train[at:], size, now)
            if at < len(train):
                self.receive(train[at : at + size], now)
                at += size

    def cancel(self, message: str = "", detail: str = "") -> None:
        """End the transfer; if the file is being committed, end it after the commit.

        The peer then learns that the file is complete.
        """
        if self.state is COMMITTING:
            self._move(CANCELLED_IN_COMMIT)
        elif self.state is not CANCELLED_IN_COMMIT:
            super().cancel(message, detail)

    def perform(self, step: Step, now: float) -> None:
        """Do what the receiver asks for."""
        machine = self._machine
        if step is STORE:
            self._store()
        elif step is SEND:
            self._link.send(machine.datagrams)
        elif step is END:
            if machine.state is ReceiverState.DONE:
                self._close()
            else:
                self._end_with_machine_failure()
            return
        if machine.deadline < self._alarm.at:
            self._alarm.arm(machine.deadline)

    def _convert_netascii(self, file: Any) -> Any:
        return NetasciiWriter(file) if self.statistics.context.mode == wire.NETASCII else file

    def _store(self) -> None:
        """Write the blocks that the machine has received, and acknowledge them."""
        if self._writing is not None:
            self._has_more = True
            return
        machine = self._machine
        is_complete = machine.is_complete
        try:
            if self._check_size is not None:
                self._check_size(machine.octets, is_complete)
            if self._acks_before_write and not is_complete:
                self._acknowledge()
            data = machine.take()
            written = self.file.write(data) if data else None
        except BaseException:  # see Session
            self.fail(Failure())
            return
        if isinstance(written, Deferred):
            self._writing = written
            written.addCallbacks(self._on_written, self.fail, (written, is_complete))
            written.addErrback(self.fail)
        else:
            self._finish_write(is_complete)

    def _on_written(self, _: object, writing: Deferred[Any], is_complete: bool) -> None:
        if self._writing is writing:  # otherwise the transfer was restarted meanwhile
            self._writing = None
            self._finish_write(is_complete)

    def _finish_write(self, is_complete: bool) -> None:
        if self.is_closed:
            return
        if is_complete:
            self._commit()
        elif not self._acks_before_write:
            self._acknowledge()
        elif self._has_more:
            self._has_more = False
            self._store()

    def _commit(self) -> None:
        self._move(COMMITTING)
        committing = maybeDeferred(self.file.commit)
        committing.addCallbacks(self._on_committed, self.fail)
        committing.addErrback(self.fail)

    def _on_committed(self, result: object) -> None:
        was_cancelled = self.state is CANCELLED_IN_COMMIT
        if isinstance(result, StoredFile):
            self.statistics.stored_path = result.path
        self.file = None
        try:
            self._acknowledge()
        finally:
            self._finish(Outcome.COMPLETED)
        if was_cancelled:
            self._close()

    def _acknowledge(self) -> None:
        now = self._services.clock()
        self.perform(self._machine.stored(now), now)

    def _forget_pending(self) -> None:
        self._writing = None
        self._has_more = False

    def _release(self) -> Any:
        writer, self.file = self.file, None
        return writer.abort() if writer is not None else None
