"""Tests of the read-only wrapper: it passes reads to its backend and refuses all writes."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from twisted_tftp.backends import MemoryBackend, ReadOnlyBackend
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import AccessViolation, FileNotFound
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend

#: The context of a read.
CONTEXT = TransferContext(Endpoint("::1", 2000), None, Direction.READ, b"f", "octet", {})


def test_reads_are_passed_to_the_backend() -> None:
    """The reader, or the error, of the wrapped backend is returned."""
    backend = ReadOnlyBackend(MemoryBackend({"f": b"octets"}))
    assert bytes(backend.open_reader("f", CONTEXT).read(0, 100)) == b"octets"
    with pytest.raises(FileNotFound):
        backend.open_reader("g", CONTEXT)


def test_request_is_passed_on_unchanged() -> None:
    """The wrapped backend gets the path and the context, and its Deferred is returned."""
    asked = []
    answer: Deferred[object] = Deferred()

    class Slow:
        def open_reader(self, path: str, context: TransferContext) -> Deferred[object]:
            asked.append((path, context))
            return answer

    assert ReadOnlyBackend(Slow()).open_reader("../f", CONTEXT) is answer
    assert asked == [("../f", CONTEXT)]


@pytest.mark.parametrize("name", ["f", "new", "../x", ""])
def test_every_write_is_refused(name: str) -> None:
    """A write is refused even if the wrapped backend would accept it."""
    backend = MemoryBackend({"f": b"octets"}, "overwrite")
    with pytest.raises(AccessViolation, match="does not accept"):
        ReadOnlyBackend(backend).open_writer(name, CONTEXT)
    assert backend.files == {"f": b"octets"}


def test_interface_is_implemented() -> None:
    """The wrapper is itself an `IFileBackend`."""
    verifyObject(IFileBackend, ReadOnlyBackend(MemoryBackend()))
    verifyObject(IBackendLifecycle, ReadOnlyBackend(MemoryBackend()))
