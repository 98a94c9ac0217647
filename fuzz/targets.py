"""Name the targets: functions that take any octets and raise only where the package is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz import machines, parsers, server

#: Each of them takes one input.
TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": parsers.request,
    "options": parsers.negotiation,
    "netascii": parsers.translation,
    "sender": machines.sender,
    "receiver": machines.receiver,
    "server": server.server,
}

#: A folder of inputs for each of them.
CORPUS = Path(__file__).parent / "corpus"
