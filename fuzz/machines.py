"""Drive a machine as its session does, with what the input says that peer, file and clock do."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.inputs import Input
from twisted_tftp.policy import Rollover
from twisted_tftp.protocol import wire
from twisted_tftp.transfer.machine import Step
from twisted_tftp.transfer.receiver import Receiver, ReceiverState
from twisted_tftp.transfer.sender import Buffer, Sender, SenderState
from twisted_tftp.transfer.timing import MAX_DALLY, Timing

#: Blocks that a late transfer has behind it: their numbers are about to roll over. To send them
#: would take as long as a thousand inputs do (and tests/simulated/test_machines.py does it).
LATE = 65_520

#: A file whose neighbouring blocks differ, long enough for all shapes.
FILE = bytes(at * 7 % 251 for at in range(251)) * (100 * (LATE + 80) // 251)

#: Octets of a file at most, but for what a late transfer has behind it.
LONGEST_REST = 700

#: Octets of a block and blocks of a window.
SHAPES = [(8, 1), (8, 2), (9, 3), (16, 4), (8, 7), (30, 5), (100, 1), (8, 16), (100, 64)]

#: Datagrams, or windows, for a peer that has never answered.
UNANSWERED = 4

#: Deadlines in a row after which a machine that nobody answers must have ended, but for those of
#: its retries: while the waits double from their floor to the longest.
DOUBLINGS = 20

_NEVER = float("inf")


class Play:
    """What both machines' plays have in common: the shape of the transfer and the clock."""

    def __init__(self, program: Input) -> None:
        self.program = program
        first = program.byte()
        self.behind = LATE if first & 128 else 0
        self.blksize, self.windowsize = SHAPES[(first & 127) % len(SHAPES)]
        #: Octets of the file: a few windows.
        self.size = self.behind * self.blksize + program.number() % LONGEST_REST
        self.last = self.size // self.blksize + 1
        self.rollover = program.choice(list(Rollover))
        flags = program.byte()
        #: What the file is asked for takes its time, until the program says that it is done.
        self.slow = bool(flags & 1)
        #: The machine is a client's; the server has answered before it was made.
        self.of_client = bool(flags & 2 or self.behind)
        #: An OACK comes first. Without one there are no windows (RFC 7440).
        self.negotiated = bool(flags & 4) or self.windowsize > 1
        self.retries = program.choice((1, 3, 10))
        self.timing = Timing(
            first=1.0,
            max_rto=program.choice((1.0, 0.01, 5.0, 255.0)),
            retries=self.retries,
            adaptive=bool(flags & 8),
        )
        if self.of_client and flags & 16:
            self.timing.add_round_trip(program.byte() / 1000)
        self.flags = flags
        self.now = 1000.0
        self.ended = False
        self.unanswered = 0  # datagrams, or windows, sent before the peer has answered

    machine: Sender | Receiver

    def perform(self, step: Step) -> None:
        """Do what the machine wants."""
        raise NotImplementedError

    def event(self, kind: int, amount: int) -> None:
        """Let happen what the program says."""
        raise NotImplementedError

    def finish(self) -> None:
        """Let a read or a store that takes its time be done."""
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Whether only the file can bring an end."""
        return False

    def run(self) -> None:
        """Run the program, and then let the peer fall silent for ever."""
        self.begin()
        while self.program.left and not self.ended:
            operation = self.program.byte()
            self.event(operation & 7, operation >> 3)
        self.fall_silent()

    def begin(self) -> None:
        """Let the machine send what comes first."""
        self.perform(self.machine.start(self.now))

    def deliver(self, datagram: bytes) -> None:
        """Give the machine a datagram, maybe in a buffer that is used for another one then."""
        if not self.flags & 128:
            self.perform(self.machine.receive(datagram, self.now))
            return
        buffer = bytearray(datagram)
        step = self.machine.receive(memoryview(buffer), self.now)
        buffer[:] = b"\xee" * len(buffer)
        self.perform(step)

    def pass_time(self, amount: int) -> None:
        """Let up to a second pass."""
        self.now += amount * amount / 1000

    def reach_deadline(self, amount: int) -> None:
        """Wake the machine a little before its deadline, or at it, or later."""
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
        """Wake the machine at its deadline, or `late`."""
        self.now = max(self.now, self.machine.deadline) + late
        self.perform(self.machine.expire(self.now))
        assert self.ended or self.machine.deadline > self.now, "it would be woken again for ever"

    def fall_silent(self) -> None:
        """Never answer any more: the machine must end in good time, read or store what may."""
        machine = self.machine
        hangs = bool(self.flags & 32)  # a file that never answers is no reason to stay either
        limit = self.now + self.timing.idle_limit + MAX_DALLY + 0.001
        for _ in range(self.retries + DOUBLINGS):
            if not hangs or self.held:
                self.finish()
            if self.ended:
                return
            assert machine.deadline < _NEVER or self.held, "nothing wakes it any more"
            if machine.deadline < _NEVER:
                self.expire(0)
            assert self.now <= limit, "it is more patient than it should be"
        assert self.ended, "it does not end"

    def count_sent(self) -> None:
        """Note that something goes to the peer."""
        if not self.machine.has_answered:
            self.unanswered += 1
            assert self.unanswered <= UNANSWERED, "a forged address gets too much"

    def end(self, complete: bool) -> None:
        """Check that the machine says how it has ended, once."""
        machine = self.machine
        self.ended = True
        assert machine.deadline == _NEVER
        reasons = [machine.failure is not None, machine.peer_error is not None]
        assert sum(reasons) == (0 if complete else 1), (complete, reasons)

    def on_the_wire(self, block: int) -> int:
        """Return the number of the absolute `block`, as simply as can be."""
        if self.rollover is Rollover.ONE and block:
            return (block - 1) % 65535 + 1
        return block & 0xFFFF


class SenderPlay(Play):
    """A sender, its file, and a peer that acknowledges or does not."""

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
        # What a late one has behind it. (There is no other way to get there in good time.)
        flight = self.sender._flight
        self.sender._acked = flight.highest_sent = flight.end = self.behind
        self.reading: tuple[int, int] | None = None
        self.buffer = bytearray()
        self.newest = self.behind  # the newest block sent
        self.acknowledged: set[int] = set()  # numbers that an ACK has named

    def event(self, kind: int, amount: int) -> None:
        acked = self.sender.octets // self.blksize
        if kind == 0:
            self.acknowledge(self.on_the_wire(self.newest))
        elif kind == 1:
            self.acknowledge(self.on_the_wire(max(0, acked + amount - 8)))
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
            self.finish()
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
            self.count_sent()
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
            assert self.on_the_wire(self.last) in self.acknowledged

    def read(self) -> None:
        if self.reading is not None:
            return  # the read under way looks at what is wanted then
        # As a reader does that uses one buffer for all: the last octets are gone.
        self.buffer[:] = b"\xee" * len(self.buffer)
        self.reading = self.sender.offset, self.sender.length
        if not self.slow:
            self.finish()

    def finish(self) -> None:
        """Give the octets that were read, or read again where others are wanted by now."""
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
        """Check a window: it begins after the last block that was acknowledged, and is right."""
        self.count_sent()
        headers, blocks = datagrams[::2], datagrams[1::2]
        assert len(headers) == len(blocks)
        assert 1 <= len(headers) <= self.windowsize, "more than a window"
        first = self.sender.octets // self.blksize + 1
        last = first + len(headers) - 1
        if first > self.behind + 1:
            assert self.on_the_wire(first - 1) in self.acknowledged
        numbers = [wire.DATA_HEADERS[self.on_the_wire(each)] for each in range(first, last + 1)]
        assert list(headers) == numbers
        assert all(len(block) == self.blksize for block in blocks[:-1])
        assert len(blocks[-1]) <= self.blksize
        sent = FILE[(first - 1) * self.blksize : min(last * self.blksize, self.size)]
        assert b"".join(blocks) == sent
        self.newest = max(self.newest, last)


class ReceiverPlay(Play):
    """A receiver, its store, and a peer that sends a file or anything."""

    def __init__(self, program: Input) -> None:
        super().__init__(program)
        #: All DATA is that of the file.
        self.honest = not self.flags & 64
        #: The first block is what answers the request, or what comes next of a late one.
        self.data_first = self.of_client and (bool(self.behind) or not self.negotiated)
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
        self.receiver._received = self.receiver._acked = self.behind
        self.receiver._ack_at += self.behind
        self.stored = self.behind * self.blksize  # octets of the file
        self.storing = False
        self.more = False  # there is more to store when the store is ready

    def begin(self) -> None:
        super().begin()
        if self.data_first:
            self.deliver(self.data(self.behind + 1))

    @property
    def have(self) -> int:
        """The last block received in order."""
        return -(-self.receiver.octets // self.blksize) + (
            self.receiver.is_complete and not self.receiver.octets % self.blksize
        )

    @property
    def held(self) -> bool:
        return self.storing and self.receiver.is_complete  # a whole file is put in its place

    def data(self, block: int) -> bytes:
        """Return the true DATA of `block`."""
        end = min(block * self.blksize, self.size)
        return wire.DATA_HEADERS[self.on_the_wire(block)] + FILE[(block - 1) * self.blksize : end]

    def true_block(self, block: int) -> bytes:
        """Return the DATA of `block`, or of the first or last one where there is none."""
        return self.data(min(max(block, 1), self.last))

    def event(self, kind: int, amount: int) -> None:
        if kind == 0:
            self.deliver(self.true_block(self.have + 1))
        elif kind == 1:
            self.deliver(self.true_block(self.have + amount - 8))
        elif kind == 2:
            number = self.program.number()
            if self.honest:
                # No further away than block numbers can tell.
                self.deliver(self.true_block(self.have + number % 60_000 - 30_000))
            else:
                block = self.have + number % 16 - 3 if number & 0xFF00 else number
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
            self.finish()
        elif amount < 20:
            self.deliver(b"\0\5" + self.program.octets(amount - 16))
        else:
            self.deliver_train(amount - 19)

    def deliver_train(self, amount: int) -> None:
        """Deliver blocks in one piece as a write does; of many one may be missing."""
        first = self.have + 1
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
        """Take what the machine has: a client acknowledges first, a server when it is stored."""
        if self.storing:
            assert self.of_client, "a server has one store at a time"
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
            self.finish()

    def finish(self) -> None:
        """Let the store be done, and what follows it: the ACK, or more to store."""
        if not self.storing or self.ended:
            return
        self.storing = False
        if self.more:
            self.more = False
            self.store()
        elif self.receiver.state is ReceiverState.STORING:
            self.perform(self.receiver.stored(self.now))

    def send(self, reply: bytes) -> None:
        """Check an ACK: it names the last block whose octets are stored."""
        self.count_sent()
        if wire.opcode_of(reply) == wire.Opcode.OACK:
            assert not self.receiver.has_answered
            return
        if not self.of_client:
            assert self.stored == self.receiver.octets
        assert reply == wire.ack(self.on_the_wire(self.have))


def sender(data: bytes) -> None:
    """Play a sender."""
    SenderPlay(Input(data)).run()


def receiver(data: bytes) -> None:
    """Play a receiver."""
    ReceiverPlay(Input(data)).run()
