"""Import the adapters of `examples/adapters`, and what a backend of python-tx-tftp imports.

python-tx-tftp is not on PyPI, so most machines do not have it. Then its module `tftp.errors` is
replaced by one with the same classes, written from its documented interfaces. The distribution
`tftp` of PyPI is another one.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any
from unittest.mock import patch

from tests.support.daemon import CHECKOUT
from twisted_tftp.context import Outcome
from twisted_tftp.protocol import wire
from twisted_tftp.testing import MemoryNetwork

#: The folder of the adapters.
ADAPTERS = CHECKOUT / "examples" / "adapters"


class BackendError(Exception):
    """As in python-tx-tftp: the base class of what backends raise."""


class Unsupported(BackendError):
    """As in python-tx-tftp: the backend does not read, or does not write."""


class AccessViolation(BackendError):
    """As in python-tx-tftp: the name is not allowed."""


class FileNotFound(BackendError):
    """As in python-tx-tftp: there is no such file; it takes the path."""

    def __init__(self, file_path: Any) -> None:
        self.file_path = file_path

    def __str__(self) -> str:
        return f"File not found: {self.file_path}"


class FileExists(BackendError):
    """As in python-tx-tftp: there is such a file already; it takes the path."""

    def __init__(self, file_path: Any) -> None:
        self.file_path = file_path

    def __str__(self) -> str:
        return f"File already exists: {self.file_path}"


def has_tx_tftp() -> bool:
    """Return whether python-tx-tftp is installed, and not another distribution of this name."""
    return bool(importlib.util.find_spec("tftp") and importlib.util.find_spec("tftp.backend"))


def tx_tftp_errors() -> Any:
    """Return the module `tftp.errors` of python-tx-tftp, or its replacement."""
    if has_tx_tftp():
        return importlib.import_module("tftp.errors")
    module = ModuleType("tftp.errors")
    for kind in (BackendError, Unsupported, AccessViolation, FileNotFound, FileExists):
        setattr(module, kind.__name__, kind)
    return module


#: What backends of python-tx-tftp raise.
THEIR_ERRORS = tx_tftp_errors()


def adapter(name: str) -> Any:
    """Import a module of the adapters."""
    package = ModuleType("tftp")
    package.errors = THEIR_ERRORS  # type: ignore[attr-defined]
    modules = {} if has_tx_tftp() else {"tftp": package, "tftp.errors": THEIR_ERRORS}
    with patch.object(sys, "path", [*sys.path, str(ADAPTERS)]), patch.dict(sys.modules, modules):
        return importlib.import_module(name)


def fetch_with_losses(network: MemoryNetwork, mode: str) -> bytes:
    """Return the octets of `f`, in windows of four blocks; each fifth datagram is lost.

    A window has fewer than five blocks, so that it is not the same block that is always lost.
    """
    link = network.request(wire.Opcode.RRQ, "f", {"windowsize": "4"}, mode=mode)
    link.take()
    link.deliver(wire.ack(0))
    received: list[bytes] = []
    sent = 0
    for _ in range(100):
        if received and len(received[-1]) < 512:
            break
        arrived = len(received)
        for datagram in link.take():
            sent += 1
            if sent % 5 and datagram[2:4] == (len(received) + 1).to_bytes(2, "big"):
                received.append(datagram[4:])
        if len(received) > arrived:
            link.deliver(wire.ack(len(received)))
        else:
            network.clock.advance(5)
    assert sent > len(received), "nothing was sent again"
    assert network.recorder.outcomes == [Outcome.COMPLETED]
    return b"".join(received)
