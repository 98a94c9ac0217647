"""Answer packets to a transfer's port that do not come from its peer (RFC 1350 section 4).

The sender of such a packet, a stranger, gets ERROR 5, at most once per second. An ERROR is never
answered: two servers that answer errors with errors would never stop. A table of the last answers
has a limited size. While it is full, as in a flood from forged addresses, a new stranger gets no
answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted_tftp.errors import UnknownTransferID
from twisted_tftp.protocol import wire

#: The shortest time between two answers to one stranger, in seconds.
ANSWER_INTERVAL = 1.0

#: The most strangers whose last answers are remembered.
MAX_REMEMBERED = 1024

#: The ERROR that strangers get.
_ANSWER = wire.error(UnknownTransferID())

#: The opcodes that are answered.
_ANSWERED_OPCODES = frozenset(opcode for opcode in wire.Opcode if opcode != wire.Opcode.ERROR)

#: Returns whether a host may be sent an ERROR: (host, size of the ERROR in octets).
MayAnswer = Callable[[str, int], bool]


class StrangerResponder:
    """Answers the packets of strangers, for all transfers of a server or a client.

    @ivar packet_count: how many packets have come from strangers.
    """

    def __init__(self, may_answer: MayAnswer | None = None) -> None:
        """Set up.

        @param may_answer: a further limit on the answers; None for no further limit.
        """
        self._may_answer = may_answer
        self.packet_count = 0
        self._last_answers: dict[Any, float] = {}  # address to the time of the last one

    def answer(
        self, sock: socket.socket, address: Any, datagram: bytes | memoryview, now: float
    ) -> None:
        """Answer `datagram`, which came to `sock` from `address`, if the limits allow it."""
        self.packet_count += 1
        if wire.opcode_of(datagram) not in _ANSWERED_OPCODES:
            return
        answers = self._last_answers
        if now - answers.get(address, -ANSWER_INTERVAL) < ANSWER_INTERVAL:
            return
        if len(answers) >= MAX_REMEMBERED:
            answers = {other: at for other, at in answers.items() if now - at < ANSWER_INTERVAL}
            self._last_answers = answers
            if len(answers) >= MAX_REMEMBERED:
                return
        if self._may_answer is not None and not self._may_answer(address[0], len(_ANSWER)):
            return
        answers[address] = now
        try:
            sock.sendto(_ANSWER, address)
        except OSError:
            pass  # the answer is optional
