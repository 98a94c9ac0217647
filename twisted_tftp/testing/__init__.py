"""Test servers and backends in memory, without sockets and without real time.

`MemoryNetwork` is a server with its clients; `BackendContract` and `UploadContract` check that a
backend keeps the promises of the interfaces::

    network = MemoryNetwork(MyBackend())
    assert network.fetch("pxelinux.0") == b"..."

    class TestMyBackend(BackendContract):
        def make_backend(self, files):
            return MyBackend(files)

Modules here import everything but `tools`, `cli` and `tap`.
"""

from __future__ import annotations

from twisted_tftp.testing.backend_contract import BackendContract
from twisted_tftp.testing.memory_network import MemoryLink, MemoryNetwork, Recorder
from twisted_tftp.testing.upload_contract import UploadContract

__all__ = ["BackendContract", "MemoryLink", "MemoryNetwork", "Recorder", "UploadContract"]
