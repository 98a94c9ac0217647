"""Answer packets that reach a transfer's port from elsewhere (RFC 1350 section 4).

A stranger is told ERROR 5, once a second at most, and nothing is told to an ERROR: two servers
that answer errors with errors never stop. A flood from forged addresses is not answered at all
once the memory of the last second is full.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted_tftp.errors import UnknownTransferID
from twisted_tftp.protocol import wire

#: Seconds between two answers to one stranger, and strangers remembered.
INTERVAL = 1.0
REMEMBERED = 1024

_ANSWER = wire.error(UnknownTransferID())
_ANSWERED = frozenset(opcode for opcode in wire.Opcode if opcode != wire.Opcode.ERROR)


class Strangers:
    """Strangers of all transfers; `counted` is how many packets came from them."""

    def __init__(self) -> None:
        self.counted = 0
        self._told: dict[Any, float] = {}

    def received(
        self, sock: socket.socket, address: Any, datagram: bytes | memoryview, now: float
    ) -> None:
        """Answer `datagram`, which came to `sock` from `address`, if an answer is due."""
        self.counted += 1
        if wire.opcode_of(datagram) not in _ANSWERED:
            return
        told = self._told
        if now - told.get(address, -INTERVAL) < INTERVAL:
            return
        if len(told) >= REMEMBERED:
            self._told = told = {other: at for other, at in told.items() if now - at < INTERVAL}
            if len(told) >= REMEMBERED:
                return
        told[address] = now
        try:
            sock.sendto(_ANSWER, address)
        except OSError:
            pass  # nothing is owed to a stranger
