"""Test the adapter for backends of python-tx-tftp, with a backend that is as strict as allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater
from twisted.python import context as call_context

from tests.support.adapters import (
    THEIR_ERRORS,
    adapter,
    fetch_with_losses,
    has_tx_tftp,
)
from tests.support.contexts import PEER, read_context
from twisted_tftp.context import Endpoint, Outcome
from twisted_tftp.errors import (
    AccessViolation,
    FileAlreadyExists,
    FileNotFound,
    IllegalOperation,
    TFTPError,
)
from twisted_tftp.protocol import wire
from twisted_tftp.testing import BackendContract, MemoryNetwork, UploadContract

CONTENT = b"line\nreturn\r" + bytes(range(256)) * 10


class TheirBackend:
    """A backend of python-tx-tftp, as its interface `IBackend` says."""

    def __init__(self, files: Mapping[bytes, bytes], defer: Any = maybeDeferred) -> None:
        self.files = dict(files)
        self.open: list[object] = []
        self._defer = defer

    def get_reader(self, file_name: bytes) -> Any:
        return self._defer(TheirReader, self, file_name)

    def get_writer(self, file_name: bytes) -> Any:
        return self._defer(TheirWriter, self, file_name)


class TheirReader:
    """A reader of python-tx-tftp (`IReader`); it has no octets after the end."""

    def __init__(self, backend: TheirBackend, name: bytes) -> None:
        if name not in backend.files:
            raise THEIR_ERRORS.FileNotFound(name)
        self._rest = backend.files[name]
        self.size = len(self._rest)
        self._has_ended = False
        self._open = backend.open
        self._open.append(self)

    def read(self, size: int) -> bytes:
        assert not self._has_ended, "a read after the last one"
        assert self in self._open, "a read after finish()"
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._has_ended = len(piece) < size
        return piece

    def finish(self) -> None:
        self._open.remove(self)


class TheirWriter:
    """A writer of python-tx-tftp (`IWriter`)."""

    def __init__(self, backend: TheirBackend, name: bytes) -> None:
        if name in backend.files:
            raise THEIR_ERRORS.FileExists(name)
        self._backend = backend
        self._name = name
        self._octets = b""
        backend.open.append(self)

    def write(self, data: bytes) -> None:
        self._octets += data

    def finish(self) -> None:
        if self._name in self._backend.files:
            raise THEIR_ERRORS.FileExists(self._name)
        self._backend.files[self._name] = self._octets
        self._backend.open.remove(self)

    def cancel(self) -> None:
        self._backend.open.remove(self)


def backend(theirs: Any) -> Any:
    """Return the adapter of a backend."""
    return adapter("tx_tftp_backend").TxTftpBackend(theirs)


class TestContract(UploadContract):
    """The adapter keeps the promises of the interfaces."""

    may_replace = False

    def make_backend(self, files: Mapping[str, bytes]) -> Any:
        names = {name.encode(): content for name, content in files.items()}
        self.theirs = TheirBackend(names, self.defer)
        return backend(self.theirs)

    def open_resources(self) -> list[object]:
        return [type(each) for each in self.theirs.open]

    def defer(self, function: Any, *arguments: object) -> Any:
        return maybeDeferred(function, *arguments)


class TestContractOfASlowBackend(TestContract):
    """The same, with a backend that opens its files later."""

    def defer(self, function: Any, *arguments: object) -> Any:
        return deferLater(self.clock, 0.15, function, *arguments)


if has_tx_tftp():

    class TestContractOfTheirFiles(BackendContract):
        """The backend for directories of python-tx-tftp, where that is installed."""

        @pytest.fixture(autouse=True)
        def _use_folder(self, tmp_path: Any) -> None:
            self.folder = tmp_path

        def make_backend(self, files: Mapping[str, bytes]) -> Any:
            from tftp.backend import FilesystemSynchronousBackend

            for name, content in files.items():
                (self.folder / name).write_bytes(content)
            return backend(FilesystemSynchronousBackend(bytes(self.folder), can_write=False))


def test_lost_datagram_is_sent_again() -> None:
    """Blocks of a window that were lost are sent again, although the source runs forward only."""
    theirs = TheirBackend({b"f": CONTENT})
    network = MemoryNetwork(backend(theirs))
    link = network.request(wire.Opcode.RRQ, "f", {"windowsize": "4", "tsize": "0"})
    options = wire.parse_oack(link.take()[0])
    assert options["tsize"] == str(len(CONTENT))
    link.deliver(wire.ack(0))
    first = link.take()
    assert b"".join(each[4:] for each in first) == CONTENT[:2048]
    link.deliver(wire.ack(1))  # the blocks 2 to 4 were lost
    network.clock.advance(5)
    again = link.take()
    assert again[:3] == first[1:]
    link.deliver(wire.ack(4))
    assert b"".join(each[4:] for each in link.take()) == CONTENT[2048:]
    link.deliver(wire.ack(6))
    assert network.recorder.outcomes == [Outcome.COMPLETED]
    assert theirs.open == []


def test_losses_change_no_octets_of_either_mode() -> None:
    """The converter for netascii reads the source too, and its blocks are sent again."""
    assert (
        fetch_with_losses(MemoryNetwork(backend(TheirBackend({b"f": CONTENT}))), "octet")
        == CONTENT
    )
    converted = CONTENT.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    assert (
        fetch_with_losses(MemoryNetwork(backend(TheirBackend({b"f": CONTENT}))), "netascii")
        == converted
    )


def test_netascii_is_converted_once() -> None:
    """The server converts, for reads and for uploads."""
    theirs = TheirBackend({b"f": CONTENT})
    network = MemoryNetwork(backend(theirs))
    converted = network.fetch("f", mode="netascii")
    assert converted == CONTENT.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
    network.store("g", converted, mode="netascii")
    assert theirs.files[b"g"] == CONTENT


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (THEIR_ERRORS.FileNotFound("/srv/secret"), FileNotFound),
        (THEIR_ERRORS.AccessViolation("/srv/secret"), AccessViolation),
        (THEIR_ERRORS.FileExists("/srv/secret"), FileAlreadyExists),
        (THEIR_ERRORS.Unsupported("/srv/secret"), IllegalOperation),
        (THEIR_ERRORS.BackendError("/srv/secret"), TFTPError),
        (PermissionError(13, "/srv/secret"), AccessViolation),
    ],
)
def test_errors_have_their_codes(error: Exception, kind: type[TFTPError]) -> None:
    """The client gets the code; only the log gets the text."""

    class Failing:
        def get_reader(self, file_name: bytes) -> None:
            raise error

        get_writer = get_reader

    network = MemoryNetwork(backend(Failing()))
    with pytest.raises(TFTPError) as caught:
        network.fetch("f")
    assert type(caught.value) is kind
    assert "secret" not in caught.value.message
    with pytest.raises(TFTPError) as caught:
        network.store("f", b"x")
    assert type(caught.value) is kind
    if not isinstance(error, OSError):
        assert "secret" in network.recorder.events[-1][1].detail


def test_failed_read_is_reported() -> None:
    """Also an exception in the middle of a file has its code."""

    class Failing:
        size = None

        def read(self, size: int) -> None:
            raise THEIR_ERRORS.BackendError("/srv/secret")

        def finish(self) -> None:
            pass

    theirs = TheirBackend({})
    theirs.get_reader = lambda name: maybeDeferred(Failing)  # type: ignore[method-assign]
    network = MemoryNetwork(backend(theirs))
    with pytest.raises(TFTPError, match="the transfer failed"):
        network.fetch("f")
    assert "secret" in network.recorder.events[-1][1].detail


def test_addresses_are_in_the_context_of_the_call() -> None:
    """As in python-tx-tftp: `twisted.python.context` has them, and the name is octets."""
    found: list[Any] = []

    class Asking(TheirBackend):
        def get_reader(self, file_name: bytes) -> Any:
            found.append((call_context.get("local"), call_context.get("remote"), file_name))
            return super().get_reader(file_name)

    asking = backend(Asking({b"\xff": b""}))
    local = Endpoint("192.0.2.2", 69)
    asking.open_reader("\udcff", read_context(local=local)).result.close()
    asking.open_reader("\udcff", read_context()).result.close()
    remote = tuple(PEER)
    assert found == [(tuple(local), remote, b"\xff"), ((None, None), remote, b"\xff")]
