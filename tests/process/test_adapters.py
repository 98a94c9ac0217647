"""Test the adapters in a daemon: the examples of `docs/migrating.md` are run with `twistd`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tests.support import adapters
from tests.support.daemon import Daemon
from tests.support.migrating import examples
from tests.support.packets import ack, data, rrq, wrq
from tests.support.peer import LOCALHOST, Address, Peer, peer

__all__ = ["peer"]  # fixtures

CONTENT = b"line\nreturn\r" + bytes(range(256)) * 10

#: A module with a handler of fbtftp.
STATIC = """
import os
from fbtftp.base_handler import BaseHandler, ResponseData

class FileData(ResponseData):
    def __init__(self, path):
        self._size = os.stat(path).st_size
        self._file = open(path, "rb")

    def read(self, n):
        return self._file.read(n)

    def size(self):
        return self._size

    def close(self):
        self._file.close()

class StaticHandler(BaseHandler):
    def __init__(self, server_addr, peer, path, options, root, stats_callback):
        self._root = root
        super().__init__(server_addr, peer, path, options, stats_callback)

    def get_response_data(self):
        return FileData(os.path.join(self._root, self._path))
"""

#: What takes the place of the backend of python-tx-tftp, with its interfaces.
TX_TFTP = """
import os
from tftp.errors import FileNotFound, Unsupported
from twisted.internet.defer import maybeDeferred

class Reader:
    def __init__(self, path):
        try:
            self._file = open(path, "rb")
        except OSError:
            raise FileNotFound(path)
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, size):
        return self._file.read(size)

    def finish(self):
        self._file.close()

class FilesystemSynchronousBackend:
    def __init__(self, base_path, can_write):
        self._base_path = base_path

    def get_reader(self, file_name):
        return maybeDeferred(Reader, os.path.join(self._base_path, file_name))

    def get_writer(self, file_name):
        raise Unsupported("Writing not supported")
"""


class AdapterDaemon(Daemon):
    """A daemon that runs an example of the document."""

    example = ""

    def command(self) -> list[str]:
        where = f'port={self.port}, host=["{LOCALHOST}"]'
        text = self.example.replace("port=69", where).replace("/srv/tftp", str(self.root))
        (self.root / "tftp.tac").write_text(text)
        return [self.executable, "-noy", str(self.root / "tftp.tac"), "--pidfile="]

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        folders = [str(self.root / "modules"), str(adapters.ADAPTERS), str(adapters.CHECKOUT)]
        folders += filter(None, [variables.get("PYTHONPATH")])
        return {**variables, "PYTHONPATH": ":".join(folders)}


def install_modules(folder: Path) -> None:
    """Write the modules that the examples import."""
    (folder / "tftp").mkdir(parents=True)
    (folder / "static.py").write_text(STATIC)
    if not adapters.has_tx_tftp():
        kinds = ("BackendError", "Unsupported", "AccessViolation", "FileNotFound", "FileExists")
        sources = [inspect.getsource(getattr(adapters, name)) for name in kinds]
        (folder / "tftp" / "__init__.py").touch()
        text = "from typing import Any\n" + "\n".join(sources)
        (folder / "tftp" / "errors.py").write_text(text)
        (folder / "tftp" / "backend.py").write_text(TX_TFTP)


@pytest.mark.parametrize("number", [0, 1], ids=["python-tx-tftp", "fbtftp"])
def test_backend_is_served(number: int, tmp_path: Path, peer: Peer) -> None:
    """Windows with a retransmission, netascii, a missing file and an upload."""
    install_modules(tmp_path / "modules")
    (tmp_path / "kernel").write_bytes(CONTENT)
    daemon = AdapterDaemon(tmp_path, hosts=[LOCALHOST])
    daemon.example = examples()[number]
    with daemon:
        address = (LOCALHOST, daemon.port)
        assert fetch_with_a_loss(peer, address) == CONTENT
        daemon.wait_for_line(r"kernel.* retransmission")
        converted = CONTENT.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
        with Peer() as other:
            block, transfer = other.ask(rrq(b"kernel", b"netascii"), address)
            assert other.rest(block, transfer) == converted
        with Peer() as other:
            answer, _ = other.ask(rrq(b"missing"), address)
            assert answer == b"\0\5\0\1no such file\0"
        with Peer() as other:
            answer, _ = other.ask(wrq(b"new"), address)
            assert answer[:4] == [b"\0\5\0\4", b"\0\5\0\2"][number]
    assert "Traceback" not in daemon.log
    assert not [line for line in daemon.errors if not re.match("WARNING:root:.*missing", line)]


def fetch_with_a_loss(peer: Peer, address: Address) -> bytes:
    """Fetch `kernel` in windows of four blocks; the last three of the first one are lost."""
    options, transfer = peer.ask(rrq(b"kernel", windowsize="4", tsize="0"), address)
    assert b"tsize\0%d\0" % len(CONTENT) in options
    blocks = [peer.ask(ack(0), transfer)[0]] + [peer.receive()[0] for _ in range(3)]
    peer.send(ack(1), transfer)
    again = [peer.receive()[0] for _ in range(4)]
    assert again[:3] == blocks[1:]
    peer.send(ack(5), transfer)
    last = peer.receive()[0]
    peer.send(ack(6), transfer)
    found = [blocks[0], *again, last]
    assert [each[:4] for each in found] == [data(number, b"")[:4] for number in range(1, 7)]
    return b"".join(each[4:] for each in found)
