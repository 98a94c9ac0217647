"""Test how long the machines wait for a peer after ICMP has reported that its port is closed."""

from __future__ import annotations

import pytest

from twisted_tftp.policy import Policy
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Sender
from twisted_tftp.transfer.timing import Timing

#: The size of a block, in octets.
BLKSIZE = 512

#: The time between two packets of the peer, in seconds.
PAUSE = 0.001


class Transfer:
    """A machine that transfers a file with a peer that answers each window at once."""

    def __init__(self, is_read: bool, windowsize: int) -> None:
        timing = Timing.of(Policy(), None)
        self.machine: Sender | Receiver
        if is_read:
            self.machine = Sender(
                blksize=BLKSIZE,
                windowsize=windowsize,
                size=None,
                oack=None,
                timing=timing,
                read_ahead=64 * BLKSIZE,
            )
        else:
            self.machine = Receiver(
                blksize=BLKSIZE, windowsize=windowsize, first_answer=wire.ack(0), timing=timing
            )
        self.now = 0.0
        self._windowsize = windowsize
        self._block = 0
        self._perform(self.machine.start(self.now))

    def answer(self, windows: int) -> None:
        """Let the peer answer some windows."""
        for _ in range(windows):
            if isinstance(self.machine, Sender):
                self._block += self._windowsize
                self._receive(wire.ack(self._block))
                continue
            for _ in range(self._windowsize):
                self._block += 1
                self._receive(wire.DATA_HEADERS[self._block] + bytes(BLKSIZE))

    def silence(self) -> float:
        """Return how long the machine waits for a peer that is silent from now on, in seconds."""
        began = self.now
        while self.machine.failure is None:
            self.now = self.machine.deadline
            self._perform(self.machine.expire(self.now))
        return self.now - began

    def _receive(self, datagram: bytes) -> None:
        self.now += PAUSE
        self._perform(self.machine.receive(datagram, self.now))

    def _perform(self, step: Step) -> None:
        machine = self.machine
        if isinstance(machine, Sender):
            if step is Step.READ:
                machine.supply(bytes(machine.length), self.now)
        elif step is Step.STORE:
            machine.take()
            machine.stored(self.now)


@pytest.mark.parametrize("windowsize", [1, 4])
@pytest.mark.parametrize("is_read", [True, False])
def test_closed_port_shortens_the_wait_until_the_next_packet(
    is_read: bool, windowsize: int
) -> None:
    """After the ICMP error a silent peer has ten seconds; once it has answered, a minute again."""
    closed = Transfer(is_read, windowsize)
    closed.answer(9)
    closed.machine.note_port_unreachable()
    assert closed.silence() == pytest.approx(10, abs=0.1)
    again = Transfer(is_read, windowsize)
    again.answer(9)
    again.machine.note_port_unreachable()
    again.answer(1)
    assert again.silence() == pytest.approx(60, abs=0.1)
