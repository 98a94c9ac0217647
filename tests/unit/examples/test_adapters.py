"""Test the adapters for backends that were written for python-tx-tftp and for fbtftp."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from tests.support.backends import ManualThreads
from tests.support.contexts import read_context, write_context
from tests.support.daemon import CHECKOUT
from twisted_tftp.errors import AccessViolation, FileAlreadyExists, FileNotFound, TFTPError
from twisted_tftp.protocol import wire
from twisted_tftp.testing import BackendContract, MemoryNetwork, UploadContract


def adapter(name: str) -> Any:
    """Return the module of an adapter."""
    path = CHECKOUT / "examples" / "adapters" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TX_TFTP = adapter("tx_tftp")
FBTFTP = adapter("fbtftp_handlers")


@pytest.mark.parametrize("module", [TX_TFTP, FBTFTP])
def test_adapter_has_less_than_60_lines(module: Any) -> None:
    """A newcomer reads it in a minute."""
    lines = Path(module.__file__).read_text().splitlines()
    assert len([line for line in lines if line]) < 60


# python-tx-tftp is not on PyPI. These classes follow its backend `FilesystemSynchronousBackend`.


class BackendError(Exception):
    """The base class of its exceptions, of which only the names count."""


ERRORS = {
    name: type(name, (BackendError,), {})
    for name in ("FileNotFound", "AccessViolation", "FileExists", "Unsupported")
}


class TxReader:
    """A reader of python-tx-tftp; `opened` has those that are not finished."""

    def __init__(self, backend: TxBackend, data: bytes) -> None:
        self.size = len(data)
        self._file = io.BytesIO(data)
        self._backend = backend
        backend.opened.append(self)

    def read(self, size: int) -> Any:
        data = self._file.read(size)
        return succeed(data) if self._backend.is_slow else data

    def finish(self) -> None:
        self._backend.opened.remove(self)


class TxWriter:
    """A writer of python-tx-tftp."""

    def __init__(self, backend: TxBackend, name: bytes) -> None:
        self._backend, self._name, self._data = backend, name, b""
        backend.opened.append(self)

    def write(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> None:
        if self._name in self._backend.files:
            raise ERRORS["FileExists"](self._name)
        self._backend.opened.remove(self)
        self._backend.files[self._name] = self._data

    def cancel(self) -> None:
        self._backend.opened.remove(self)


class TxBackend:
    """A backend of python-tx-tftp; its methods return values, or Deferreds if `is_slow`."""

    def __init__(self, files: Mapping[str, bytes], is_slow: bool = False) -> None:
        self.files = {name.encode(): data for name, data in files.items()}
        self.is_slow = is_slow
        self.opened: list[Any] = []

    def get_reader(self, file_name: bytes) -> Any:
        if b".." in file_name or file_name.endswith(b"/"):
            raise ERRORS["AccessViolation"]("insecure path")
        if file_name.lstrip(b"/") not in self.files:
            raise ERRORS["FileNotFound"](file_name)
        reader = TxReader(self, self.files[file_name.lstrip(b"/")])
        return succeed(reader) if self.is_slow else reader

    def get_writer(self, file_name: bytes) -> Any:
        if b".." in file_name or file_name.endswith(b"/") or not file_name.strip(b"/."):
            raise ERRORS["AccessViolation"]("insecure path")
        if file_name in self.files:
            raise ERRORS["FileExists"](file_name)
        return TxWriter(self, file_name)


class TestTxTFTP(UploadContract):
    """A backend that returns values keeps the promises of our interfaces."""

    may_replace = False
    is_slow = False

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        self.tx = TxBackend(files, self.is_slow)
        return TX_TFTP.TxTFTPBackend(self.tx)

    def open_resources(self) -> list[Any]:
        return self.tx.opened


class TestSlowTxTFTP(TestTxTFTP):
    """So does one that returns Deferreds."""

    is_slow = True


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FileNotFound", FileNotFound),
        ("AccessViolation", AccessViolation),
        ("Unsupported", AccessViolation),
        ("FileExists", FileAlreadyExists),
    ],
)
def test_exceptions_of_tx_tftp_become_ours(name: str, expected: type[TFTPError]) -> None:
    """Each one gets its code; the text is for the log."""

    def fail(file_name: bytes) -> None:
        raise ERRORS[name]("why")

    backend = TX_TFTP.TxTFTPBackend(SimpleNamespace(get_reader=fail, get_writer=fail))
    for opened in (
        backend.open_reader("f", read_context("f")),
        backend.open_writer("f", write_context("f")),
    ):
        failures: list[Any] = []
        opened.addErrback(failures.append)
        assert type(failures[0].value) is expected
        assert failures[0].value.detail == "why"


base_handler = pytest.importorskip("fbtftp.base_handler")


class Data(base_handler.ResponseData):  # type: ignore[misc, name-defined]
    """A file of an fbtftp handler; `opened` has those that are not closed."""

    opened: list[Any]

    def __init__(self, data: bytes, opened: list[Any]) -> None:
        self._size, self._file, self._opened = len(data), io.BytesIO(data), opened
        opened.append(self)

    def read(self, n: int) -> bytes:
        assert self in self._opened, "it is closed"
        return self._file.read(n)

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self._opened.remove(self)


class FbServer:
    """An fbtftp server: only its `get_handler` is used."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.opened: list[Any] = []

    def get_handler(self, server_addr: Any, peer: Any, path: str, options: Any) -> Any:
        files, opened = self.files, self.opened

        class Handler(base_handler.BaseHandler):  # type: ignore[misc, name-defined]
            def get_response_data(self) -> Data:
                if self._path.lstrip("/") not in files:
                    raise FileNotFoundError(f"no {self._path}")
                return Data(files[self._path.lstrip("/")], opened)

        return Handler(server_addr, peer, path, options, print)


class TestFbtftp(BackendContract):
    """A handler whose calls are made in threads keeps the promises of our interfaces."""

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        self.server = FbServer(files)
        self.threads = ManualThreads()
        return FBTFTP.FbtftpBackend(self.server.get_handler, self.threads)

    def advance(self) -> None:
        self.threads.run_all()

    def open_resources(self) -> list[Any]:
        return self.server.opened


FILE = bytes(range(256)) * 11


def served(kind: str) -> MemoryNetwork:
    """Return a server with a file, by one of the adapters."""
    if kind == "tx":
        return MemoryNetwork(TX_TFTP.TxTFTPBackend(TxBackend({"f": FILE})))
    handlers = FbServer({"f": FILE}).get_handler
    return MemoryNetwork(FBTFTP.FbtftpBackend(handlers, maybeDeferred))


@pytest.mark.parametrize("kind", ["tx", "fb"])
def test_file_is_served(kind: str) -> None:
    """Also as netascii; a missing file is ERROR 1."""
    assert served(kind).fetch("f") == FILE
    assert served(kind).fetch("f", mode=wire.NETASCII) == FILE.replace(b"\r", b"\r\0").replace(
        b"\n", b"\r\n"
    )
    with pytest.raises(FileNotFound):
        served(kind).fetch("missing")


@pytest.mark.parametrize("kind", ["tx", "fb"])
def test_lost_window_is_sent_again(kind: str) -> None:
    """The source only goes forward, but the octets of the window are kept."""
    net = served(kind)
    link = net.request(wire.Opcode.RRQ, "f", {"blksize": "512", "windowsize": "2"})
    link.take()
    link.deliver(wire.ack(0))
    first = link.take()
    assert b"".join(each[4:] for each in first) == FILE[:1024]
    net.clock.advance(1.1)
    assert link.take() == first
    link.deliver(wire.ack(1))  # the second block was lost
    assert b"".join(each[4:] for each in link.take()) == FILE[512:1536]


def test_reader_of_fbtftp_that_is_closed_during_a_read() -> None:
    """The file is closed after the thread has ended, not before."""
    server, threads = FbServer({"f": FILE}), ManualThreads()
    opening: Deferred[Any] = FBTFTP.FbtftpBackend(server.get_handler, threads).open_reader(
        "f", read_context("f")
    )
    threads.run()
    readers: list[Any] = []
    opening.addCallback(readers.append)
    readers[0].read(0, 10)
    readers[0].close()
    assert server.opened
    threads.run()
    assert not server.opened
