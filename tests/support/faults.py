"""Lose, repeat, delay and damage datagrams as a bad network does; a seed makes it repeatable."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from twisted_tftp.protocol import wire

#: A function that delivers a datagram to its destination.
Deliver = Callable[[bytes], None]

#: Seconds by which a reordered datagram is late: the next ones overtake it.
REORDER_DELAY = 0.002

#: Seconds by which a delayed datagram is late: it is sent again before it arrives.
LONG_DELAY = 0.06

#: The number of old datagrams of one direction that may be replayed.
REPLAYABLE = 500

#: The lowest block number that is more than a window beyond the end of every file of the tests.
BEYOND_ANY_FILE = 40_000

_ERROR = wire.Opcode.ERROR.to_bytes(2, "big")


@dataclass(frozen=True)
class Faults:
    """The chance of each fault, from 0 to 1, for one datagram.

    @ivar loss: the datagram is lost.
    @ivar repeat: it arrives twice.
    @ivar reorder: the next datagrams overtake it.
    @ivar delay: it arrives after it was sent again.
    @ivar corrupt: its header is damaged.
    @ivar replay: an old datagram arrives before it, with the same source and destination as then.
    @ivar abort: it becomes an ERROR, which ends the transfer that it reaches.
    """

    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0
    abort: float = 0.0


class OneWayPath:
    """One direction of a path, with faults.

    @ivar done: how many datagrams had each fault, and how many were sent ("passed").
    """

    def __init__(self, faults: Faults, seed: str) -> None:
        self.done: Counter[str] = Counter()
        self._faults = faults
        self._random = random.Random(seed)
        self._old: list[tuple[Deliver, bytes]] = []

    def carry(self, datagram: bytes, deliver: Deliver) -> list[tuple[float, Deliver, bytes]]:
        """Return what arrives for `datagram`: (delay in seconds, destination, octets) each."""
        faults = self._faults
        self.done["passed"] += 1
        out: list[tuple[float, Deliver, bytes]] = []
        if self._happens("replay", faults.replay) and self._old:
            out.append((0.0, *self._random.choice(self._old)))
        self._remember(deliver, datagram)
        if self._happens("loss", faults.loss):
            return out
        late = REORDER_DELAY if self._happens("reorder", faults.reorder) else 0.0
        if self._happens("delay", faults.delay):
            late = LONG_DELAY
        copies = 2 if self._happens("repeat", faults.repeat) else 1
        for _ in range(copies):
            damaged = datagram
            if self._happens("corrupt", faults.corrupt):
                damaged = corrupt(datagram, self._random)
            if self._happens("abort", faults.abort):
                damaged = _ERROR + datagram[2:]
            out.append((late, deliver, damaged))
        return out

    def _happens(self, fault: str, chance: float) -> bool:
        happens = self._random.random() < chance
        self.done[fault] += happens
        return happens

    def _remember(self, deliver: Deliver, datagram: bytes) -> None:
        if len(self._old) < REPLAYABLE:
            self._old.append((deliver, datagram))
        else:
            self._old[self._random.randrange(REPLAYABLE)] = (deliver, datagram)


def corrupt(datagram: bytes, chance: random.Random) -> bytes:
    """Return `datagram` with damage in its header that an endpoint can recognise.

    Only the checksum of UDP protects from other damage. This function does not cause it:

    - another block number that is in flight, a shorter DATA, or other octets in it;
    - an OACK without some options or with other digits: it would grant something else;
    - a request with another name or other options: it would be another request;
    - an ERROR that becomes DATA or ACK: its code would be a block number.

    The result is never an ERROR, or no long transfer would complete; the fault `abort` does that.
    """
    opcode = wire.opcode_of(datagram)
    blocks = opcode in (wire.Opcode.DATA, wire.Opcode.ACK)
    damages = [_other_opcode, _cut_short]
    if blocks:
        damages += [_other_block] * 2
    if opcode == wire.Opcode.OACK:
        damages.append(_other_text)
    return chance.choice(damages)(datagram, chance)


def _other_opcode(datagram: bytes, chance: random.Random) -> bytes:
    opcode = wire.opcode_of(datagram)
    known = [] if opcode == wire.Opcode.ERROR else [each for each in wire.Opcode if each != opcode]
    others = [0, 7, 255, opcode << 8, opcode | 0x100, opcode | 0x8000, *known]
    others = [each for each in others if each != wire.Opcode.ERROR]
    return chance.choice(others).to_bytes(2, "big") + datagram[2:]


def _cut_short(datagram: bytes, chance: random.Random) -> bytes:
    """Return a part of the header; the header of a request or an OACK is its opcode."""
    blocks = wire.opcode_of(datagram) in (wire.Opcode.DATA, wire.Opcode.ACK, wire.Opcode.ERROR)
    return datagram[: chance.randrange(wire.HEADER_SIZE if blocks else 2)]


def _other_block(datagram: bytes, chance: random.Random) -> bytes:
    """Change the block number to an unexpected one: 0 is behind, the others are far ahead."""
    number = chance.choice([0, BEYOND_ANY_FILE, 65535, chance.randrange(BEYOND_ANY_FILE, 65536)])
    return datagram[:2] + number.to_bytes(2, "big") + datagram[wire.HEADER_SIZE :]


def _other_text(datagram: bytes, chance: random.Random) -> bytes:
    """Change an option into an unknown one, or its value into something that is not a number."""
    starts = [at + 1 for at, octet in enumerate(datagram[:-1]) if at and not octet]
    at = chance.choice(starts)
    return datagram[:at] + b"?" + datagram[at + 1 :]
