"""End a command after Ctrl-C: cancel its transfers, and wait a moment for their end."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from twisted_tftp.client.client import TFTPClient

#: The exit status after Ctrl-C, as shells define it: 128 plus the number of SIGINT.
INTERRUPTED = 130

#: The longest time to wait for the end of cancelled transfers, in seconds.
MAX_STOP_TIME = 2.0


def close_clients(clients: Iterable[TFTPClient], reactor: Any) -> Deferred[Any]:
    """Cancel all transfers; ignore Ctrl-C from now on.

    @return: fires when servers were told and local files are closed, or after `MAX_STOP_TIME`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program is stopping already
    closed: Deferred[Any] = DeferredList(
        [client.close() for client in clients], consumeErrors=True
    )
    return closed.addTimeout(MAX_STOP_TIME, reactor).addErrback(lambda _: None)
