"""The actions that a machine asks its session to do next."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """What the session must do after a machine has processed a datagram or a deadline."""

    #: Nothing: the machine waits for a datagram or its deadline.
    WAIT = "wait"
    #: Sender: read `length` octets from `offset`, pass them to `burst`, and send what it returns.
    READ = "read"
    #: Sender: send the window in `datagrams`; its octets were already buffered.
    BURST = "burst"
    #: Receiver: store what `take` returns, then call `stored`.
    STORE = "store"
    #: Send the datagram in `reply`.
    SEND = "send"
    #: Nothing: the machine has ended; see its `state` and `failure`.
    END = "end"
