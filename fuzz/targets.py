"""List the targets: functions that take any octets, and raise only if the package has a bug."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz import flows, machines, parsers, server

#: The targets by name; each takes one input.
TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": parsers.request,
    "options": parsers.negotiation,
    "netascii": parsers.translation,
    "sender": machines.sender,
    "receiver": machines.receiver,
    "server": server.server,
    "flows": flows.flows,
}

#: The folder with a folder of inputs for each target.
CORPUS = Path(__file__).parent / "corpus"
