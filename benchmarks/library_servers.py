"""Run a server that has no command for this: `python -m benchmarks.library_servers`."""

from __future__ import annotations

import os
import sys
from typing import Any


def run_quiet(root: str, host: str, port: int) -> None:
    """Serve `root` with this server, without a log of transfers, until killed."""
    from twisted.internet import reactor

    from twisted_tftp.backends import FilesystemBackend
    from twisted_tftp.server import TFTPService

    class Silence:
        def started(self, statistics: object) -> None:
            pass

        progressed = finished = started

    backend = FilesystemBackend(root, "overwrite")
    TFTPService(backend, port=port, host=[host], observer=Silence()).startService()
    reactor.run()  # type: ignore[attr-defined]


def run_tftpy(root: str, host: str, port: int) -> None:
    """Serve `root` with tftpy, until killed."""
    import tftpy

    tftpy.TftpServer(root).listen(host, port)


def run_fbtftp(root: str, host: str, port: int) -> None:
    """Serve `root` with fbtftp, until killed."""
    from fbtftp.base_handler import BaseHandler, ResponseData
    from fbtftp.base_server import BaseServer

    class File(ResponseData):
        def __init__(self, path: str) -> None:
            self._file = open(path, "rb")  # noqa: SIM115 - fbtftp calls close()
            self._size = os.fstat(self._file.fileno()).st_size

        def read(self, n: int) -> bytes:
            return self._file.read(n)

        def size(self) -> int:
            return self._size

        def close(self) -> None:
            self._file.close()

    class Handler(BaseHandler):
        def get_response_data(self) -> ResponseData:
            return File(os.path.join(root, self._path))

    class Server(BaseServer):
        def get_handler(
            self, server_addr: Any, peer: Any, path: str, options: dict[str, str]
        ) -> BaseHandler:
            return Handler(server_addr, peer, path, options, lambda statistics: None)

    Server(host, port, retries=5, timeout=1).run()


if __name__ == "__main__":
    _, name, folder, address, number = sys.argv
    run = {"quiet": run_quiet, "tftpy": run_tftpy, "fbtftp": run_fbtftp}[name]
    run(folder, address, int(number))
