"""A read-only backend passes reads on and no write."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from twisted_tftp.backends import MemoryBackend, ReadOnlyBackend
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import AccessViolation, FileNotFound
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend

CONTEXT = TransferContext(Endpoint("::1", 2000), None, Direction.READ, b"f", "octet", {})


def test_reads_are_passed_on() -> None:
    """The reader is the one of the backend beneath, and so are its failures."""
    backend = ReadOnlyBackend(MemoryBackend({"f": b"octets"}))
    assert bytes(backend.open_reader("f", CONTEXT).read(0, 100)) == b"octets"
    with pytest.raises(FileNotFound):
        backend.open_reader("g", CONTEXT)


def test_the_request_is_passed_on_as_it_is() -> None:
    """Path and context reach the backend beneath, and its Deferred comes back."""
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
    """Even where the backend beneath would take it."""
    beneath = MemoryBackend({"f": b"octets"}, "overwrite")
    with pytest.raises(AccessViolation, match="does not accept"):
        ReadOnlyBackend(beneath).open_writer(name, CONTEXT)
    assert beneath.files == {"f": b"octets"}


def test_the_contract_is_kept() -> None:
    """It is a backend itself."""
    verifyObject(IFileBackend, ReadOnlyBackend(MemoryBackend()))
    verifyObject(IBackendLifecycle, ReadOnlyBackend(MemoryBackend()))
