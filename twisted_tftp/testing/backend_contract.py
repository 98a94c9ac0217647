"""Check that a backend keeps the promises of the interfaces about reading.

Inherit from L{BackendContract} in a test class::

    class TestMyBackend(BackendContract):
        def make_backend(self, files):
            return MyBackend(files)
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from twisted_tftp.context import Direction
from twisted_tftp.errors import ErrorCode
from twisted_tftp.interfaces import IBackendLifecycle, IFileBackend, IFileReader, IWriteModes
from twisted_tftp.policy import UploadSettings, WriteMode
from twisted_tftp.testing.contract_base import MISSING, ContractBase

#: Names that clients may send, and that no file of a contract has.
ODD_NAMES = (
    "",
    "/",
    ".",
    "..",
    "../../../../etc/passwd",
    "/etc/passwd",
    "no\0name",
    "line\nbreak",
    "\udcff\udcfe",
    "\\\\server\\share\\file",
    "%2e%2e/x",
    "a/" * 60 + "b",
    "x" * 5000,
)

#: The lengths of reads: one octet, blocks of usual sizes, and a whole window.
LENGTHS = (1, 512, 1428, 65464)


def check_interface(interface: Any, candidate: Any) -> None:
    """Check that an object provides an interface and has its methods.

    @raise AssertionError: it does not.
    """
    try:
        verifyObject(interface, candidate)
    except Invalid as error:
        raise AssertionError(f"{candidate!r}: {error}") from None


class BackendContract(ContractBase):
    """A mix-in for test classes: each test checks a promise about reading.

    @ivar may_exist: names that the backend serves although `files` does not have them.
    """

    may_exist: tuple[str, ...] = ()

    def test_interfaces_are_provided(self) -> None:
        """The backend and its readers say so, and have all methods."""
        backend = self.start()
        check_interface(IFileBackend, backend)
        reader = self.open_reader(backend, self.largest()[0])
        check_interface(IFileReader, reader)
        reader.close()

    def test_size_is_that_of_the_file(self) -> None:
        """It is the number of octets, or None."""
        backend = self.start()
        for name, content in self.files.items():
            reader = self.open_reader(backend, name)
            size = reader.size
            reader.close()
            assert size is None or type(size) is int, f"{name}: the size is {size!r}"
            assert size in (None, len(content)), f"{name}: {size} octets, not {len(content)}"

    def test_reads_have_the_wanted_length(self) -> None:
        """Only the last one is shorter, and the pieces are the file."""
        backend = self.start()
        for name, content in self.files.items():
            for length in LENGTHS:
                part = content if length > 1 else content[:100]
                reader = self.open_reader(backend, name)
                for offset in range(0, len(part), length):
                    piece = self.octets(reader, offset, length)
                    expected = content[offset : offset + length]
                    place = f"{name}: {length} octets from {offset}"
                    assert len(piece) == len(expected), f"{place}: {len(piece)} octets"
                    assert piece == expected, f"{place}: other octets than those of the file"
                reader.close()

    def test_read_may_be_repeated_or_skip_octets(self) -> None:
        """Each read says where it starts; the offset may stay, or grow by any number."""
        backend = self.start()
        name, content = self.largest()
        reader = self.open_reader(backend, name)
        for offset in (0, 0, 1, len(content) // 3, len(content) // 3, len(content) - 2):
            piece = self.octets(reader, offset, 512)
            assert piece == content[offset : offset + 512], f"wrong octets from {offset}"
        reader.close()

    def test_reads_after_the_end_are_empty(self) -> None:
        """A read at the end of the file, or after it, returns no octets."""
        backend = self.start()
        for name, content in self.files.items():
            reader = self.open_reader(backend, name)
            for offset in (len(content), len(content), len(content) + 1000):
                piece = self.octets(reader, offset, 512)
                assert piece == b"", f"{name}: {len(piece)} octets at {offset}, after the end"
            reader.close()

    def test_octets_do_not_change_until_the_next_read(self) -> None:
        """Another reader that reads meanwhile does not change them."""
        backend = self.start()
        name, content = self.largest()
        first, second = (self.open_reader(backend, name) for _ in range(2))
        found = self.wait(first.read(0, 512))
        self.wait(second.read(max(0, len(content) - 512), 512))
        self.settle()
        assert bytes(found) == content[:512], "octets that were read have changed"
        first.close()
        second.close()

    def test_readers_do_not_affect_each_other(self) -> None:
        """One may be closed while another one of the same file reads."""
        backend = self.start()
        name, content = self.largest()
        first, second = (self.open_reader(backend, name) for _ in range(2))
        assert self.octets(first, 0, 512) == content[:512], "the first reader"
        assert self.octets(second, 0, 100) == content[:100], "the second reader"
        first.close()
        self.settle()
        assert self.octets(second, 100, 512) == content[100:612], "after the close of another"
        second.close()

    def test_missing_file_is_error_1(self) -> None:
        """A name that does not exist is L{FileNotFound}, or an OSError that means it."""
        backend = self.start()
        failure = self.failure_of(self.open_reader, backend, MISSING)
        assert failure.code is ErrorCode.FILE_NOT_FOUND, f"it is ERROR {failure.code.value}"

    def test_odd_names_are_refused(self) -> None:
        """Each one fails with an exception that has a code; the message names no path."""
        backend = self.start()
        for name in ODD_NAMES:
            if name not in (*self.files, *self.may_exist):
                failure = self.failure_of(self.open_reader, backend, name)
                assert "\n" not in failure.message, f"{name!r}: the message has several lines"

    def test_reader_may_be_closed_at_any_time(self) -> None:
        """Before a read, after it, and while it is under way; nothing stays open."""
        backend = self.start()
        name, _ = self.largest()

        def close_early() -> None:
            self.open_reader(backend, name).close()

        def close_after_a_read() -> None:
            reader = self.open_reader(backend, name)
            self.octets(reader, 0, 512)
            reader.close()

        def close_during_a_read() -> None:
            reader = self.open_reader(backend, name)
            reading = reader.read(0, 512)
            reader.close()
            if isinstance(reading, Deferred):
                reading.addErrback(lambda _: None)  # it may fail, or not

        for use in (close_early, close_after_a_read, close_during_a_read):
            self.check_nothing_stays_open(use)
        assert self.content(backend, name) == self.files[name], "after the closes"

    def test_cancelled_open_leaves_nothing_open(self) -> None:
        """A transfer may end while its file is being opened; the Deferred is cancelled then."""
        backend = self.start()
        name, content = self.largest()
        for rounds in range(4):
            self.check_nothing_stays_open(self.cancel_open, backend, name, rounds)
        assert self.content(backend, name) == content, "after cancelled opens"

    def cancel_open(self, backend: Any, name: str, rounds: int) -> None:
        """Open a file for reading, and cancel that after some rounds of waiting."""
        opening = backend.open_reader(name, self.context(Direction.READ, name))
        self.cancel(opening, rounds, "close")

    def cancel(self, opening: Any, rounds: int, release: str) -> None:
        """Cancel an open after some rounds of waiting; release what it delivers nevertheless.

        @param release: the name of the method that releases the file.
        """
        if not isinstance(opening, Deferred):
            self.wait(getattr(opening, release)())
            return
        results: list[Any] = []
        opening.addBoth(results.append)
        for _ in range(rounds):
            self.advance()
        opening.cancel()
        self.settle()
        if hasattr(results[0], release):
            self.wait(getattr(results[0], release)())

    def test_lifecycle_keeps_the_files(self) -> None:
        """`check`, `start`, `forget` and `stop` can be called; `forget` does not lose files."""
        backend = self.start()
        if not IBackendLifecycle.providedBy(backend):
            return  # the interface is optional
        check_interface(IBackendLifecycle, backend)
        name, content = self.largest()
        reader = self.open_reader(backend, name)
        backend.forget()
        assert self.octets(reader, 0, 512) == content[:512], "an open reader after forget()"
        reader.close()
        assert self.content(backend, name) == content, "a new reader after forget()"
        try:
            self.wait(backend.stop())
        except Exception as error:
            raise AssertionError(f"stop() fails: {error!r}") from error

    def test_modes_that_are_not_declared_are_refused(self) -> None:
        """A backend with write modes refuses `never`, and those that it does not declare."""
        backend = self.start()
        open_writer = backend.open_writer
        if not IWriteModes.providedBy(backend):
            return  # the server enforces the rules (`WriteGuard`)
        check_interface(IWriteModes, backend)
        for mode in set(WriteMode).difference(self.modes_of(backend)):
            rules = UploadSettings(mode)
            for name in ("new-file", self.largest()[0]):
                context = self.context(Direction.WRITE, name)._replace(uploads=rules)
                failure = self.failure_of(open_writer, name, context)
                assert failure.code is ErrorCode.ACCESS_VIOLATION, (
                    f"{name} in the mode {mode.value}: ERROR {failure.code.value}"
                )

    def modes_of(self, backend: Any) -> set[WriteMode]:
        """Return the modes in which a backend accepts uploads."""
        return set(backend.write_modes) - {WriteMode.NEVER}
