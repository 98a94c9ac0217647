"""Do to datagrams what the worst of networks does; seeded, so that it does the same each time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from twisted_tftp.protocol import wire

#: Takes a datagram to where it goes.
Deliver = Callable[[bytes], None]

#: Seconds by which a datagram is late that others overtake, and that is sent again meanwhile.
LATE, VERY_LATE = 0.002, 0.06

#: Datagrams of one way that may be replayed.
REMEMBERED = 500

#: Lowest block number that no file of these tests reaches, not even a window after its end.
BEYOND = 40_000

_ERROR = wire.Opcode.ERROR.to_bytes(2, "big")


@dataclass(frozen=True)
class Faults:
    """Chances from 0 to 1, of each datagram.

    @ivar loss: it is dropped.
    @ivar repeat: it comes twice.
    @ivar reorder: it is overtaken by those right behind it.
    @ivar delay: it comes after it was sent again.
    @ivar corrupt: its header is damaged.
    @ivar replay: an old datagram comes along, from where and to where it went.
    @ivar abort: it becomes an ERROR, which ends whatever transfer it reaches.
    """

    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0
    abort: float = 0.0


class Way:
    """One direction of a path.

    @ivar done: how often each fault was done to a datagram, and how many came ("passed").
    """

    def __init__(self, faults: Faults, seed: str) -> None:
        self.done: Counter[str] = Counter()
        self._faults = faults
        self._random = random.Random(seed)
        self._old: list[tuple[Deliver, bytes]] = []

    def carry(self, datagram: bytes, deliver: Deliver) -> list[tuple[float, Deliver, bytes]]:
        """Return what comes out for `datagram`: seconds to hold each back, and where it goes."""
        faults = self._faults
        self.done["passed"] += 1
        out: list[tuple[float, Deliver, bytes]] = []
        if self._befalls("replay", faults.replay) and self._old:
            out.append((0.0, *self._random.choice(self._old)))
        self._remember(deliver, datagram)
        if self._befalls("loss", faults.loss):
            return out
        late = LATE if self._befalls("reorder", faults.reorder) else 0.0
        if self._befalls("delay", faults.delay):
            late = VERY_LATE
        copies = 2 if self._befalls("repeat", faults.repeat) else 1
        for _ in range(copies):
            damaged = datagram
            if self._befalls("corrupt", faults.corrupt):
                damaged = corrupt(datagram, self._random)
            if self._befalls("abort", faults.abort):
                damaged = _ERROR + datagram[2:]
            out.append((late, deliver, damaged))
        return out

    def _befalls(self, fault: str, chance: float) -> bool:
        befalls = self._random.random() < chance
        self.done[fault] += befalls
        return befalls

    def _remember(self, deliver: Deliver, datagram: bytes) -> None:
        if len(self._old) < REMEMBERED:
            self._old.append((deliver, datagram))
        else:
            self._old[self._random.randrange(REMEMBERED)] = (deliver, datagram)


def corrupt(datagram: bytes, chance: random.Random) -> bytes:
    """Return `datagram` with a damage to its header that an endpoint can tell from the truth.

    What it can't, only the checksum of UDP protects from, and is not done here:

    - a block number that is another one in flight, a DATA that is shorter, other octets in it;
    - an OACK that lost whole options or has other digits: it grants something else;
    - a request with another name or other options: it asks for something else;
    - an ERROR that becomes a DATA or an ACK: its code is a block number then.

    Nor does it become an ERROR, which has a chance of its own: no long transfer would complete.
    """
    opcode = wire.opcode_of(datagram)
    blocks = opcode in (wire.Opcode.DATA, wire.Opcode.ACK)
    ways = [_other_opcode, _cut_short]
    if blocks:
        ways += [_other_block] * 2
    if opcode == wire.Opcode.OACK:
        ways.append(_other_text)
    return chance.choice(ways)(datagram, chance)


def _other_opcode(datagram: bytes, chance: random.Random) -> bytes:
    opcode = wire.opcode_of(datagram)
    known = [] if opcode == wire.Opcode.ERROR else [each for each in wire.Opcode if each != opcode]
    others = [0, 7, 255, opcode << 8, opcode | 0x100, opcode | 0x8000, *known]
    others = [each for each in others if each != wire.Opcode.ERROR]
    return chance.choice(others).to_bytes(2, "big") + datagram[2:]


def _cut_short(datagram: bytes, chance: random.Random) -> bytes:
    """Return a part of the header: that of a request and of an OACK is its opcode."""
    blocks = wire.opcode_of(datagram) in (wire.Opcode.DATA, wire.Opcode.ACK, wire.Opcode.ERROR)
    return datagram[: chance.randrange(wire.HEADER_SIZE if blocks else 2)]


def _other_block(datagram: bytes, chance: random.Random) -> bytes:
    """Change the block to one that nobody expects: 0 is behind, the others are far ahead."""
    number = chance.choice([0, BEYOND, 65535, chance.randrange(BEYOND, 65536)])
    return datagram[:2] + number.to_bytes(2, "big") + datagram[wire.HEADER_SIZE :]


def _other_text(datagram: bytes, chance: random.Random) -> bytes:
    """Make an option's name one that is not known, or its value no number."""
    starts = [at + 1 for at, octet in enumerate(datagram[:-1]) if at and not octet]
    at = chance.choice(starts)
    return datagram[:at] + b"?" + datagram[at + 1 :]
