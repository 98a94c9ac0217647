"""Call a machine as a session does; the input decides what peer, file and clock do."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.inputs import Input
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver
from twisted_tftp.transfer.sender import Buffer, Sender
from twisted_tftp.transfer.states import ReceiverState, SenderState
from twisted_tftp.transfer.timing import MAX_DALLY, Timing

#: The last acknowledged block at the start of a late run: soon after it, block numbers roll over.
#: The blocks before it are skipped, because they would take as long as a thousand inputs: 0.1 s
#: (tests/simulated/test_machines.py sends so many).
LATE_START = 65_520

#: A file whose neighbouring blocks differ, long enough for all shapes.
FILE = bytes(at * 7 % 251 for at in range(251)) * (100 * (LATE_START + 80) // 251)

#: The most octets of a file, without the blocks that a late run skips.
MAX_REST = 700

#: The shapes of transfers: octets of a block, and blocks of a window.
SHAPES = [(8, 1), (8, 2), (9, 3), (16, 4), (8, 7), (30, 5), (100, 1), (8, 16), (100, 64)]

#: The most datagrams, or windows, for a peer that has never answered.
MAX_UNANSWERED = 4

#: A machine without answers must end after so many deadlines, and one more for each of its
#: longest timeouts: meanwhile the timeout doubles from the shortest to the longest.
DOUBLINGS = 20

#: The patience of a machine without retries: so many of its longest timeouts, or a minute if that
#: is shorter.
PATIENCE_TIMEOUTS = 40

_NEVER = float("inf")


class MachineRun:
    """One run of a machine: what senders and receivers share, such as the shape and the clock."""

    def __init__(self, program: Input) -> None:
        self.program = program
        first = program.byte()
        self.skipped_blocks = LATE_START if first & 128 else 0
        self.blksize, self.windowsize = SHAPES[(first & 127) % len(SHAPES)]
        #: Octets of the file: a few windows.
        self.size = self.skipped_blocks * self.blksize + program.number() % MAX_REST
        self.last = self.size // self.blksize + 1
        self.rollover = program.choice(list(Rollover))
        flags = program.byte()
        #: Reads and writes of the file take time: they end when the program says so.
        self.slow = bool(flags & 1)
        #: The machine belongs to a client: the server answered before it was made.
        self.of_client = bool(flags & 2 or self.skipped_blocks)
        #: The transfer starts with an OACK. Without one, the windowsize is 1 (RFC 7440).
        self.negotiated = bool(flags & 4) or self.windowsize > 1
        limits = program.byte()
        retries = None if limits >= 192 else (1, 3, 10)[limits % 3]
        max_rto = program.choice((1.0, 0.01, 5.0, 255.0))
        self.timing = Timing(
            first=1.0,
            max_rto=max_rto,
            retries=retries,
            patience=min(60.0, PATIENCE_TIMEOUTS * max_rto),
            adaptive=bool(flags & 8),
            is_negotiated=bool(limits & 1),
        )
        #: The most timeouts in the idle limit.
        self.timeouts = retries or PATIENCE_TIMEOUTS
        if self.of_client and flags & 16:
            self.timing.add_round_trip(program.byte() / 1000)
        self.flags = flags
        self.now = 1000.0
        self.ended = False
        self.unanswered = 0  # datagrams, or windows, sent before the peer has answered

    machine: Sender | Receiver

    def perform(self, step: Step) -> None:
        """Do what the machine asks for."""
        raise NotImplementedError

    def event(self, kind: int, amount: int) -> None:
        """Do what an operation of the program says."""
        raise NotImplementedError

    def finish_file_call(self) -> None:
        """End the read or the write of the file that is under way."""
        raise NotImplementedError

    @property
    def waits_for_file(self) -> bool:
        """Whether the machine has no deadline, because it waits for the file."""
        return False

    def run(self) -> None:
        """Run the program; then let the peer answer nothing more, until the machine has ended."""
        self.begin()
        while self.program.left and not self.ended:
            operation = self.program.byte()
            self.event(operation & 7, operation >> 3)
        self.stop_answering()

    def begin(self) -> None:
        """Start the machine."""
        self.perform(self.machine.start(self.now))

    def deliver(self, datagram: bytes) -> None:
        """Give the machine a datagram, maybe in a buffer that is overwritten afterwards."""
        if not self.flags & 128:
            self.perform(self.machine.receive(datagram, self.now))
            return
        buffer = bytearray(datagram)
        step = self.machine.receive(memoryview(buffer), self.now)
        buffer[:] = b"\xee" * len(buffer)
        self.perform(step)

    def pass_time(self, amount: int) -> None:
        """Advance the clock by up to a second."""
        self.now += amount * amount / 1000

    def reach_deadline(self, amount: int) -> None:
        """Call the machine a little before its deadline, at its deadline, or later."""
        machine = self.machine
        if machine.deadline == _NEVER:
            return
        if not amount and machine.deadline - 0.001 > self.now:
            self.now = machine.deadline - 0.001
            before = machine.deadline
            assert machine.expire(self.now) is Step.WAIT
            assert machine.deadline == before
            return
        self.expire(amount / 10)

    def expire(self, late: float) -> None:
        """Call the machine `late` seconds after its deadline."""
        self.now = max(self.now, self.machine.deadline) + late
        self.perform(self.machine.expire(self.now))
        assert self.ended or self.machine.deadline > self.now, "the next deadline has passed"

    def stop_answering(self) -> None:
        """Answer nothing more: the machine must end in limited time, whatever the file does."""
        machine = self.machine
        hangs = bool(self.flags & 32)  # the machine must also end if the file never responds
        limit = self.now + self.timing.idle_limit + MAX_DALLY + 0.001
        for _ in range(self.timeouts + DOUBLINGS):
            if not hangs or self.waits_for_file:
                self.finish_file_call()
            if self.ended:
                return
            assert machine.deadline < _NEVER or self.waits_for_file, "it has no deadline"
            if machine.deadline < _NEVER:
                self.expire(0)
            assert self.now <= limit, "it gives up the peer too late"
        assert self.ended, "it does not end"

    def check_sent(self) -> None:
        """Count what is sent to a peer that has never answered, and check the limit."""
        if not self.machine.has_answered:
            self.unanswered += 1
            assert self.unanswered <= MAX_UNANSWERED, "a forged address gets too much"

    def end(self, complete: bool) -> None:
        """Check that the machine has at most one reason for its end: none if it is complete."""
        machine = self.machine
        self.ended = True
        assert machine.deadline == _NEVER
        reasons = [machine.failure is not None, machine.peer_error is not None]
        assert sum(reasons) == (0 if complete else 1), (complete, reasons)

    def wire_number(self, block: int) -> int:
        """Return the number on the wire of the absolute `block`, computed in the simplest way."""
        if self.rollover is Rollover.ONE and block:
            return (block - 1) % 65535 + 1
        return block & 0xFFFF


class SenderRun(MachineRun):
    """A run of a sender, with its file and a peer that sends ACKs or other packets."""

    def __init__(self, program: Input) -> None:
        super().__init__(program)
        known = not self.flags & 64
        self.machine = self.sender = Sender(
            blksize=self.blksize,
            windowsize=self.windowsize,
            size=self.size if known else None,
            oack=wire.oack([("a", "1")]) if self.negotiated and not self.of_client else None,
            timing=self.timing,
            rollover=self.rollover,
            read_ahead=program.choice((0, 64, 300, 4096)),
            has_answered=self.of_client,
        )
        # Private attributes: by the public methods it would need an ACK for each skipped window.
        flight = self.sender._flight
        self.sender._acked = flight.highest_sent = flight.end = self.skipped_blocks
        self.reading: tuple[int, int] | None = None
        self.buffer = bytearray()
        self.newest = self.skipped_blocks  # the newest block sent
        self.acknowledged: set[int] = set()  # numbers that an ACK has named

    def event(self, kind: int, amount: int) -> None:
        acked = self.sender.octets // self.blksize
        if kind == 0:
            self.acknowledge(self.wire_number(self.newest))
        elif kind == 1:
            self.acknowledge(self.wire_number(max(0, acked + amount - 8)))
        elif kind == 2:
            self.acknowledge(self.program.number())
        elif kind == 3:
            self.deliver_any(self.program.octets(amount))
        elif kind == 4:
            self.pass_time(amount)
        elif kind == 5:
            self.reach_deadline(amount)
        elif kind == 6:
            self.perform(self.sender.repeat(self.now))
        elif amount < 24:
            self.finish_file_call()
        else:
            self.deliver_any(b"\0\5" + self.program.octets(amount - 24))

    def acknowledge(self, number: int) -> None:
        self.deliver_any(wire.ack(number))

    def deliver_any(self, datagram: bytes) -> None:
        if datagram[:2] == b"\0\4" and len(datagram) >= wire.HEADER_SIZE:
            self.acknowledged.add(int.from_bytes(datagram[2:4], "big"))
        self.deliver(datagram)

    def perform(self, step: Step) -> None:
        sender = self.sender
        if step is Step.READ:
            self.read()
        elif step is Step.SEND and len(sender.datagrams) == 1:
            assert wire.opcode_of(sender.datagrams[0]) == wire.Opcode.OACK
            self.check_sent()
        elif step is Step.SEND:
            self.send(sender.datagrams)
        elif step is Step.END:
            self.end(sender.state is SenderState.DONE)
        else:
            assert step is Step.WAIT
            assert sender.state in (SenderState.OFFERING, SenderState.SENDING)

    def end(self, complete: bool) -> None:
        super().end(complete)
        assert complete == (self.sender.state is SenderState.DONE)
        if complete:
            assert self.newest == self.last
            assert self.sender.octets == self.size
            assert self.wire_number(self.last) in self.acknowledged

    def read(self) -> None:
        if self.reading is not None:
            return  # at its end, `finish_file_call` reads what is wanted then
        # Like a reader with one buffer for all reads: overwrite the last octets.
        self.buffer[:] = b"\xee" * len(self.buffer)
        self.reading = self.sender.offset, self.sender.length
        if not self.slow:
            self.finish_file_call()

    def finish_file_call(self) -> None:
        """Supply the octets that were read; if the sender now wants others, read those instead."""
        if self.reading is None or self.ended:
            return
        sender = self.sender
        wanted = sender.offset, sender.length
        if self.reading != wanted:
            self.reading = wanted
            return
        self.reading = None
        offset, length = wanted
        assert 0 <= offset <= self.size, "the file has no such octets"
        self.buffer = bytearray(FILE[offset : min(offset + length, self.size)])
        self.perform(sender.supply(memoryview(self.buffer), self.now))

    def send(self, datagrams: Sequence[Buffer]) -> None:
        """Check a window: it starts after the last acknowledged block; its octets are right."""
        self.check_sent()
        headers, blocks = datagrams[::2], datagrams[1::2]
        assert len(headers) == len(blocks)
        assert 1 <= len(headers) <= self.windowsize, "more than a window"
        first = self.sender.octets // self.blksize + 1
        last = first + len(headers) - 1
        if first > self.skipped_blocks + 1:
            assert self.wire_number(first - 1) in self.acknowledged
        numbers = [wire.DATA_HEADERS[self.wire_number(each)] for each in range(first, last + 1)]
        assert list(headers) == numbers
        assert all(len(block) == self.blksize for block in blocks[:-1])
        assert len(blocks[-1]) <= self.blksize
        sent = FILE[(first - 1) * self.blksize : min(last * self.blksize, self.size)]
        assert b"".join(blocks) == sent
        self.newest = max(self.newest, last)


class ReceiverRun(MachineRun):
    """A run of a receiver, with its file and a peer that sends the file or other packets."""

    def __init__(self, program: Input) -> None:
        super().__init__(program)
        #: All DATA is that of the file.
        self.honest = not self.flags & 64
        #: The first block arrives before the machine has sent anything.
        self.data_first = self.of_client and (bool(self.skipped_blocks) or not self.negotiated)
        if self.of_client:
            first_answer = None if self.data_first else wire.ack(0)
        else:
            first_answer = wire.oack([("a", "1")]) if self.negotiated else wire.ack(0)
        self.machine = self.receiver = Receiver(
            blksize=self.blksize,
            windowsize=self.windowsize,
            first_answer=first_answer,
            timing=self.timing,
            rollover=self.rollover,
            dally=program.choice((10.0, 2.0)),
            has_answered=self.of_client,
        )
        self.receiver._received = self.receiver._acked = self.skipped_blocks
        self.receiver._ack_at += self.skipped_blocks
        self.stored = self.skipped_blocks * self.blksize  # octets of the file
        self.storing = False
        self.more = False  # more octets wait for the end of the write under way

    def begin(self) -> None:
        super().begin()
        if self.data_first:
            self.deliver(self.data(self.skipped_blocks + 1))

    @property
    def last_in_order(self) -> int:
        """The last block received in order."""
        return -(-self.receiver.octets // self.blksize) + (
            self.receiver.is_complete and not self.receiver.octets % self.blksize
        )

    @property
    def waits_for_file(self) -> bool:
        return self.storing and self.receiver.is_complete  # a complete file is being committed

    def data(self, block: int) -> bytes:
        """Return the DATA of `block`, with the octets of the file."""
        end = min(block * self.blksize, self.size)
        return wire.DATA_HEADERS[self.wire_number(block)] + FILE[(block - 1) * self.blksize : end]

    def nearest_block(self, block: int) -> bytes:
        """Return the DATA of `block`; of the first or the last one if there is no such block."""
        return self.data(min(max(block, 1), self.last))

    def event(self, kind: int, amount: int) -> None:
        if kind == 0:
            self.deliver(self.nearest_block(self.last_in_order + 1))
        elif kind == 1:
            self.deliver(self.nearest_block(self.last_in_order + amount - 8))
        elif kind == 2:
            number = self.program.number()
            if self.honest:
                # Not so far away that its block number means another block.
                self.deliver(self.nearest_block(self.last_in_order + number % 60_000 - 30_000))
            else:
                block = self.last_in_order + number % 16 - 3 if number & 0xFF00 else number
                length = amount * self.blksize // 8
                self.deliver(wire.DATA_HEADERS[block & 0xFFFF] + FILE[number : number + length])
        elif kind == 3:
            octets = self.program.octets(amount)
            if self.honest and octets[:2] == b"\0\3":
                octets = b"\0\4" + octets[2:]
            self.deliver(octets)
        elif kind == 4:
            self.pass_time(amount)
        elif kind == 5:
            self.reach_deadline(amount)
        elif kind == 6:
            if not self.of_client and not self.receiver.is_complete:
                self.perform(self.receiver.repeat(self.now))
        elif amount < 16:
            self.finish_file_call()
        elif amount < 20:
            self.deliver(b"\0\5" + self.program.octets(amount - 16))
        else:
            self.deliver_train(amount - 19)

    def deliver_train(self, amount: int) -> None:
        """Deliver several blocks in one buffer, as an upload does; one of them may be missing."""
        first = self.last_in_order + 1
        blocks = [self.data(each) for each in range(first, min(first + amount, self.last + 1))]
        if amount & 1 and len(blocks) > 2:
            del blocks[1]
        train = memoryview(b"".join(blocks))
        size = self.blksize + wire.HEADER_SIZE
        at = 0
        while at < len(train) and not self.ended:
            taken = self.receiver.receive_train(train[at:], size, self.now)
            assert 0 <= taken * size <= len(train) - at
            at += size * taken
            if at < len(train):
                self.deliver(bytes(train[at : at + size]))
                at += size

    def perform(self, step: Step) -> None:
        receiver = self.receiver
        if step is Step.STORE:
            self.store()
        elif step is Step.SEND:
            self.send(bytes(receiver.datagrams[0]))
        elif step is Step.END:
            self.end(receiver.state is ReceiverState.DONE)
        else:
            assert step is Step.WAIT

    def end(self, complete: bool) -> None:
        super().end(complete)
        assert complete == (self.receiver.state is ReceiverState.DONE)
        assert complete <= self.receiver.is_complete
        if complete and self.honest:
            assert self.stored == self.size, "some of the file is missing"

    def store(self) -> None:
        """Write what the machine has: a client acknowledges it before, a server afterwards."""
        if self.storing:
            assert self.of_client, "a server writes once at a time"
            self.more = True
            return
        receiver = self.receiver
        if self.of_client and not receiver.is_complete:
            self.perform(receiver.stored(self.now))
        data = receiver.take()
        at = self.stored
        self.stored += len(data)
        assert self.stored == receiver.octets
        if self.honest:
            assert data == FILE[at : at + len(data)], "an octet is wrong"
            assert self.stored <= self.size
            assert receiver.is_complete <= (self.stored == self.size)
        self.storing = True
        if not self.slow:
            self.finish_file_call()

    def finish_file_call(self) -> None:
        """End the write; then comes the ACK, or the next write."""
        if not self.storing or self.ended:
            return
        self.storing = False
        if self.more:
            self.more = False
            self.store()
        elif self.receiver.state is ReceiverState.STORING:
            self.perform(self.receiver.stored(self.now))

    def send(self, reply: bytes) -> None:
        """Check an ACK: it acknowledges the last block whose octets are stored."""
        self.check_sent()
        if wire.opcode_of(reply) == wire.Opcode.OACK:
            assert not self.receiver.has_answered
            return
        if not self.of_client:
            assert self.stored == self.receiver.octets
        assert reply == wire.ack(self.wire_number(self.last_in_order))


def sender(data: bytes) -> None:
    """Run a sender."""
    SenderRun(Input(data)).run()


def receiver(data: bytes) -> None:
    """Run a receiver."""
    ReceiverRun(Input(data)).run()
