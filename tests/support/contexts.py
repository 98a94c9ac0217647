"""Contexts of requests, for tests that call a backend without a server."""

from __future__ import annotations

from typing import Any

from twisted_tftp.context import Direction, Endpoint, TransferContext

#: The address and port of the client.
PEER = Endpoint("192.0.2.1", 2000)


def read_context(path: str = "file", **values: Any) -> TransferContext:
    """Return the context of a read request; `values` replace fields of it."""
    return _context(Direction.READ, path)._replace(**values)


def write_context(path: str = "file", **values: Any) -> TransferContext:
    """Return the context of a write request; `values` replace fields of it."""
    return _context(Direction.WRITE, path)._replace(**values)


def _context(direction: Direction, path: str) -> TransferContext:
    name = path.encode("utf-8", "surrogateescape")
    return TransferContext(PEER, None, direction, name, "octet", {})
