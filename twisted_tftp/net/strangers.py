"""Answer packets to a transfer's port that do not come from its peer (RFC 1350 section 4).

The sender of such a packet, a stranger, gets ERROR 5, at most once per second. An ERROR is never
answered: two servers that answer errors with errors would never stop. In a flood from forged
addresses, strangers get no answer when the table of the last second is full.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted_tftp.errors import UnknownTransferID
from twisted_tftp.protocol import wire

#: The shortest time between two answers to one stranger, in seconds.
ANSWER_INTERVAL = 1.0

#: The most strangers that are remembered.
MAX_REMEMBERED = 1024

#: The ERROR that strangers get.
_ANSWER = wire.error(UnknownTransferID())

#: The opcodes that are answered.
_ANSWERED = frozenset(opcode for opcode in wire.Opcode if opcode != wire.Opcode.ERROR)


class Strangers:
    """The strangers of all transfers.

    @ivar counted: the number of packets that strangers have sent.
    """

    def __init__(self) -> None:
        self.counted = 0
        self._answered: dict[Any, float] = {}  # address to the time of its last answer

    def received(
        self, sock: socket.socket, address: Any, datagram: bytes | memoryview, now: float
    ) -> None:
        """Answer `datagram`, which came to `sock` from `address`, unless the limits forbid it."""
        self.counted += 1
        if wire.opcode_of(datagram) not in _ANSWERED:
            return
        answered = self._answered
        if now - answered.get(address, -ANSWER_INTERVAL) < ANSWER_INTERVAL:
            return
        if len(answered) >= MAX_REMEMBERED:
            answered = {other: at for other, at in answered.items() if now - at < ANSWER_INTERVAL}
            self._answered = answered
            if len(answered) >= MAX_REMEMBERED:
                return
        answered[address] = now
        try:
            sock.sendto(_ANSWER, address)
        except OSError:
            pass  # the answer is optional
