"""Tests of the memory backend: files are read unchanged, and uploads are atomic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.support.backends import request_context, upload
from twisted_tftp.backends import MemoryBackend
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter


def test_interfaces_are_implemented() -> None:
    """Backend, reader and writer implement the interfaces that a session uses."""
    backend = MemoryBackend({"f": b"x"}, "overwrite")
    verifyObject(IFileBackend, backend)
    verifyObject(IFileReader, backend.open_reader("f", request_context()))
    verifyObject(IFileWriter, backend.open_writer("f", request_context()))


@given(st.binary(max_size=300), st.integers(0, 310), st.integers(1, 310))
def test_file_is_read_at_any_offset(octets: bytes, offset: int, length: int) -> None:
    """A read at the end is short, and a read after the end is empty."""
    reader = MemoryBackend({"f": octets}).open_reader("f", request_context())
    assert reader.size == len(octets)
    assert bytes(reader.read(offset, length)) == octets[offset : offset + length]


@pytest.mark.parametrize("path", ["a/f", "/a/f", "//a//f", "./a/./f"])
def test_file_is_found_with_and_without_slashes(path: str) -> None:
    """All spellings of a path start at the root."""
    assert (
        bytes(MemoryBackend({"a/f": b"x"}).open_reader(path, request_context()).read(0, 9)) == b"x"
    )


@pytest.mark.parametrize("path", ["g", "A/F", "a", "a/f/g", "a\\g", "", "a/f\x00", "x" * 5000])
def test_missing_file_is_not_found(path: str) -> None:
    """The open fails with ERROR 1."""
    with pytest.raises(FileNotFound):
        MemoryBackend({"a/f": b"x"}).open_reader(path, request_context())


@pytest.mark.parametrize("path", ["../f", "a/../f", "a/", "..", "/", "."])
def test_dot_dot_and_directories_are_refused(path: str) -> None:
    """There are no directories in memory."""
    backend = MemoryBackend({"f": b"x", "a/f": b"y"}, "overwrite")
    with pytest.raises(AccessViolation):
        backend.open_reader(path, request_context())
    with pytest.raises(AccessViolation):
        backend.open_writer(path, request_context())


def test_reader_keeps_the_content_that_it_opened() -> None:
    """A file that is replaced or removed does not change what is read."""
    backend = MemoryBackend({"f": b"old", "g": b"gone"}, "overwrite")
    first, second = (backend.open_reader(name, request_context()) for name in "fg")
    upload(backend, "f", b"new")
    del backend.files["g"]
    assert bytes(first.read(0, 9)) == b"old"
    assert bytes(second.read(0, 9)) == b"gone"
    assert bytes(backend.open_reader("f", request_context()).read(0, 9)) == b"new"


def test_closed_reader_frees_its_content() -> None:
    """Octets that were read before the close stay valid."""
    reader = MemoryBackend({"f": b"old"}).open_reader("f", request_context())
    view = reader.read(0, 3)
    reader.close()
    assert bytes(view) == b"old"
    assert bytes(reader.read(0, 3)) == b""


def test_backend_copies_the_mapping_of_files() -> None:
    """Uploads do not appear in the mapping that was passed to the backend."""
    files = {"f": b"x"}
    backend = MemoryBackend(files, "overwrite")
    upload(backend, "g", b"y")
    assert files == {"f": b"x"}
    assert backend.files == {"f": b"x", "g": b"y"}


def test_uploads_are_refused_by_default() -> None:
    """The open fails with ERROR 2; an unknown write mode is a ValueError."""
    with pytest.raises(AccessViolation):
        MemoryBackend().open_writer("f", request_context())
    with pytest.raises(ValueError, match="always"):
        MemoryBackend(write="always")


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_file_appears_at_the_commit(pieces: list[bytes]) -> None:
    """Before the commit no part of an upload can be read."""
    backend = MemoryBackend(write="create")
    writer = backend.open_writer("/a/f", request_context())
    for piece in pieces:
        writer.write(piece)
        assert backend.files == {}
    writer.commit()
    assert backend.files == {"a/f": b"".join(pieces)}


def test_abort_changes_nothing() -> None:
    """The old file is unchanged, and no new file appears."""
    backend = MemoryBackend({"f": b"old"}, "overwrite")
    for name in ("f", "g"):
        writer = backend.open_writer(name, request_context())
        writer.write(b"new")
        writer.abort()
    assert backend.files == {"f": b"old"}


def test_create_refuses_an_existing_file() -> None:
    """The open fails with ERROR 6."""
    backend = MemoryBackend({"f": b"old"}, "create")
    with pytest.raises(FileAlreadyExists):
        backend.open_writer("f", request_context())
    upload(backend, "g", b"new")
    assert backend.files == {"f": b"old", "g": b"new"}


@pytest.mark.parametrize("step", ["write", "commit"])
def test_create_lets_the_first_commit_of_a_name_win(step: str) -> None:
    """The second commit of the same name fails with ERROR 6."""
    backend = MemoryBackend(write="create")
    writer = backend.open_writer("f", request_context())
    upload(backend, "f", b"first")
    with pytest.raises(FileAlreadyExists):
        writer.write(b"second") if step == "write" else writer.commit()
    writer.abort()
    assert backend.files == {"f": b"first"}


def test_announced_size_above_the_capacity_is_refused_at_the_open() -> None:
    """A size equal to the free capacity is accepted."""
    backend = MemoryBackend({"f": b"12345"}, "overwrite", capacity=10)
    with pytest.raises(DiskFull):
        backend.open_writer("g", request_context(6))
    backend.open_writer("g", request_context(5))
    backend.open_writer("f", request_context(10))


def test_write_above_the_capacity_is_refused() -> None:
    """An upload of unknown size fails when it exceeds the capacity."""
    backend = MemoryBackend({"f": b"12345"}, "overwrite", capacity=10)
    with pytest.raises(DiskFull):
        upload(backend, "g", b"123", b"456")
    assert backend.files == {"f": b"12345"}
    upload(backend, "g", b"123", b"45")
    assert backend.files == {"f": b"12345", "g": b"12345"}


def test_replaced_file_does_not_count_against_the_capacity() -> None:
    """The capacity holds for the files as they are after the commit."""
    backend = MemoryBackend({"f": b"1234567890"}, "overwrite", capacity=10)
    upload(backend, "f", b"abcdefghij")
    assert backend.files == {"f": b"abcdefghij"}


def test_capacity_is_checked_again_at_the_commit() -> None:
    """Two uploads may fit one by one, but not both."""
    backend = MemoryBackend(write="create", capacity=10)
    first, second = (backend.open_writer(name, request_context()) for name in "fg")
    first.write(b"123456")
    second.write(b"123456")
    first.commit()
    with pytest.raises(DiskFull):
        second.commit()
    second.abort()
    assert backend.files == {"f": b"123456"}


def test_backslash_is_a_slash_unless_a_file_has_the_literal_name() -> None:
    """This holds for reads and for uploads."""
    backend = MemoryBackend({"Boot/BCD": b"BCD", "a\\b": b"literal"}, "overwrite")
    for path, octets in {"\\Boot\\BCD": b"BCD", "/Boot\\BCD": b"BCD", "a\\b": b"literal"}.items():
        assert bytes(backend.open_reader(path, request_context()).read(0, 9)) == octets
    upload(backend, "\\Boot\\new", b"1")
    upload(backend, "a\\b", b"2")
    assert backend.files == {"Boot/BCD": b"BCD", "Boot/new": b"1", "a\\b": b"2"}
    for path in ("..\\Boot\\BCD", "Boot\\..\\BCD"):
        with pytest.raises(AccessViolation):
            backend.open_reader(path, request_context())
