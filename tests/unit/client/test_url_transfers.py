"""Test the functions that download or upload a file by its URL."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import maybeDeferred

from tests.support.memory_server import FILE, MemoryServer, served
from tests.support.reactors import outcome, reactor, spin
from twisted_tftp.client.url_transfers import download, upload

__all__ = ["reactor", "served"]


def test_download_and_upload_functions_take_urls(served: MemoryServer, tmp_path: Path) -> None:
    """`download` and `upload` take a URL (RFC 3617) and a local path."""
    url = f"tftp://127.0.0.1:{served.port}"
    idle = len(served.reactor.getReaders())
    path, settings = str(tmp_path / "a"), {"in_thread": maybeDeferred, "windowsize": 1}
    outcome(served.reactor, download(f"{url}/file", path, served.reactor, **settings))
    outcome(served.reactor, upload(path, f"{url}/a%20b", served.reactor, **settings))
    assert served.backend.files["a b"] == FILE
    spin(served.reactor, lambda: len(served.reactor.getReaders()) == idle)
