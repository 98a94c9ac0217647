"""Check that a backend keeps the promises of the interfaces about uploads.

Inherit from L{UploadContract} instead of
L{BackendContract<twisted_tftp.testing.backend_contract.BackendContract>} if the backend accepts
uploads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_tftp.context import Direction
from twisted_tftp.errors import ErrorCode, TFTPError
from twisted_tftp.interfaces import IFileWriter, lifecycle_of
from twisted_tftp.testing.backend_contract import BackendContract, check_interface
from twisted_tftp.testing.contract_base import MISSING, as_tftp_error

#: The name of a file that does not exist before it is uploaded.
NEW = "new-file"

#: The pieces of an upload.
PIECES = (b"a" * 512, b"b" * 65464, b"c", b"d" * 1428)


class UploadContract(BackendContract):
    """A mix-in for test classes: each test checks a promise about reading or about uploads.

    @ivar may_replace: whether an upload replaces an existing file. If not, it must be refused.
    """

    may_replace = True

    def make_full_backend(self, files: Mapping[str, bytes]) -> Any:
        """Return a backend that has no space for 60,000 more octets; None if there is no such.

        Override this method if the size of the store can be limited.
        """
        return None

    def open_writer(self, backend: Any, name: str) -> Any:
        """Open a file for writing; wait until it is open."""
        return self.wait(backend.open_writer(name, self.context(Direction.WRITE, name)))

    def write_pieces(self, writer: Any, pieces: Iterable[bytes]) -> None:
        """Write pieces, one after the other."""
        for piece in pieces:
            self.wait(writer.write(piece))

    def store(self, backend: Any, name: str, *pieces: bytes) -> None:
        """Upload a file as a transfer does."""
        writer = self.open_writer(backend, name)
        try:
            self.write_pieces(writer, pieces)
            self.wait(writer.commit())
        except Exception:
            self.wait(writer.abort())
            raise

    def test_writer_provides_its_interface(self) -> None:
        """It says so, and has all methods."""
        writer = self.open_writer(self.start(), NEW)
        check_interface(IFileWriter, writer)
        self.wait(writer.abort())

    def test_upload_is_stored(self) -> None:
        """The file has the octets of all pieces; it may be empty."""
        backend = self.start()
        for number, pieces in enumerate([(), (b"",), (b"x",), PIECES]):
            name = f"{NEW}-{number}"
            self.store(backend, name, *pieces)
            assert self.content(backend, name) == b"".join(pieces), f"{len(pieces)} pieces"

    def test_upload_is_not_visible_before_the_commit(self) -> None:
        """A new file is missing, an existing one has its old content."""
        backend = self.start()
        names = [NEW, self.largest()[0]] if self.may_replace else [NEW]
        for name in names:
            writer = self.open_writer(backend, name)
            self.write_pieces(writer, PIECES)
            self.settle()
            assert self.content(backend, name) == self.files.get(name), f"{name} is visible"
            self.wait(writer.commit())
            assert self.content(backend, name) == b"".join(PIECES), f"{name} after the commit"

    def test_aborted_upload_changes_nothing(self) -> None:
        """At any time: at once, after a write, and while a write is under way."""
        backend = self.start()
        names = [NEW, self.largest()[0]] if self.may_replace else [NEW]

        def abort_at_once(name: str) -> None:
            self.wait(self.open_writer(backend, name).abort())

        def abort_after_a_write(name: str) -> None:
            writer = self.open_writer(backend, name)
            self.write_pieces(writer, PIECES)
            self.wait(writer.abort())

        def abort_during_a_write(name: str) -> None:
            writer = self.open_writer(backend, name)
            for piece in PIECES:
                writing = writer.write(piece)
                if isinstance(writing, Deferred):
                    writing.addErrback(lambda _: None)
                    if not writing.called:
                        break
            self.wait(writer.abort())

        for name in names:
            for use in (abort_at_once, abort_after_a_write, abort_during_a_write):
                self.check_nothing_stays_open(use, name)
                place = f"{name}, {use.__name__}"
                assert self.content(backend, name) == self.files.get(name), place
        self.store(backend, NEW, b"x")
        assert self.content(backend, NEW) == b"x", "an upload after aborted ones"

    def test_committed_upload_leaves_nothing_open(self) -> None:
        """The next uploads are other files."""
        backend = self.start()
        numbers = iter(range(10))
        self.check_nothing_stays_open(
            lambda: self.store(backend, f"{NEW}-{next(numbers)}", *PIECES)
        )

    def test_existing_file_is_replaced_or_kept(self) -> None:
        """If it may not be replaced, the client gets ERROR 6, at the open or at the commit."""
        backend = self.start()
        name, content = self.largest()
        try:
            self.store(backend, name, *PIECES)
        except (TFTPError, OSError) as error:
            failure = as_tftp_error(error)
            assert not self.may_replace, f"the file was not replaced: {failure!r}"
            assert failure.code is ErrorCode.FILE_EXISTS, f"it is ERROR {failure.code.value}"
            assert self.content(backend, name) == content, "the file has changed"
        else:
            assert self.may_replace, "the file was replaced"
            assert self.content(backend, name) == b"".join(PIECES), "the file is the old one"

    def test_last_of_two_uploads_wins_or_fails(self) -> None:
        """Two clients may write a new file at once; both files are complete, or ERROR 6."""
        backend = self.start()
        first, second = (self.open_writer(backend, NEW) for _ in range(2))
        self.write_pieces(first, [b"1" * 700, b"1" * 700])
        self.write_pieces(second, [b"2" * 900])
        self.wait(first.commit())
        assert self.content(backend, NEW) == b"1" * 1400, "the first commit"
        if self.may_replace:
            self.wait(second.commit())
            assert self.content(backend, NEW) == b"2" * 900, "the second commit"
            return
        failure = self.failure_of(second.commit)
        assert failure.code is ErrorCode.FILE_EXISTS, f"it is ERROR {failure.code.value}"
        self.wait(second.abort())
        assert self.content(backend, NEW) == b"1" * 1400, "the first file was replaced"

    def test_open_reader_keeps_its_file(self) -> None:
        """It goes on with the old content if its file is replaced."""
        if not self.may_replace:
            return
        backend = self.start()
        name, content = self.largest()
        reader = self.open_reader(backend, name)
        half = len(content) // 2
        assert self.octets(reader, 0, 512) == content[:512], "before the upload"
        self.store(backend, name, b"new content")
        assert self.octets(reader, half, 512) == content[half : half + 512], "after the upload"
        reader.close()
        assert self.content(backend, name) == b"new content", "a new reader"

    def test_cancelled_upload_leaves_nothing(self) -> None:
        """A transfer may end while its file is being opened; the Deferred is cancelled then."""
        backend = self.start()
        for rounds in range(4):
            self.check_nothing_stays_open(self.cancel_upload, backend, rounds)
            assert self.content(backend, NEW) is None, "a cancelled upload is visible"
        self.store(backend, NEW, b"x")
        assert self.content(backend, NEW) == b"x", "an upload after cancelled ones"

    def cancel_upload(self, backend: Any, rounds: int) -> None:
        """Open a new file for writing, and cancel that after some rounds of waiting."""
        opening = backend.open_writer(NEW, self.context(Direction.WRITE, NEW))
        self.cancel(opening, rounds, "abort")

    def test_full_store_is_error_3(self) -> None:
        """The upload fails when it is opened, written or committed; nothing remains of it."""
        self.clock = Clock()
        backend = self.make_full_backend(self.files)
        if backend is None:
            return
        self.wait(lifecycle_of(backend).start())
        failure = self.failure_of(self.store, backend, NEW, *PIECES)
        assert failure.code is ErrorCode.DISK_FULL, f"it is ERROR {failure.code.value}"
        assert self.content(backend, NEW) is None, "a part of the upload is visible"

    def test_odd_names_of_uploads_are_refused_or_stored(self) -> None:
        """An upload to any name is stored under this name, or fails with a code."""
        backend = self.start()
        for name in ("", "/", "..", "../../outside", "no\0name", "x" * 5000, "\udcff"):
            try:
                self.store(backend, name, b"odd")
            except (TFTPError, OSError):
                continue
            except Exception as error:
                raise AssertionError(f"{name!r}: {error!r} has no code") from error
            assert self.content(backend, name) == b"odd", f"{name!r} is stored elsewhere"
        assert self.content(backend, MISSING) is None, "an odd name has made another file"
