"""Name what a machine wants its session to do next."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """What to do after a datagram or a deadline was given to a machine."""

    #: Nothing: the machine waits for a datagram or its deadline.
    WAIT = "wait"
    #: Sender: give `burst` the octets from `offset`, `length` of them, and send what it returns.
    READ = "read"
    #: Sender: send the window in `datagrams`; its octets were at hand.
    BURST = "burst"
    #: Receiver: store what `take` returns, then call `stored`.
    STORE = "store"
    #: Send the datagram `reply`.
    SEND = "send"
    #: The machine has ended: see its `state` and `failure`.
    END = "end"
