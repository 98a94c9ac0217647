"""One transfer of a command of `txtftp`, before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from twisted_tftp.client.client import TFTPClient
from twisted_tftp.client.result import TransferResult


@dataclass(frozen=True)
class QueuedTransfer:
    """One transfer of a command, which has not started yet.

    @ivar filename: the name of the file on the server.
    @ivar local: the local path, or `-` for standard input or output.
    @ivar start: starts the transfer.
    @ivar stored: where the file is stored after the transfer, as a text; empty if nowhere.
    """

    client: TFTPClient
    filename: str
    local: str
    start: Callable[[], Deferred[TransferResult]]
    stored: str = ""
