"""Files in memory are read as they were, and written whole or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from twisted_tftp.backends import MemoryBackend
from twisted_tftp.context import Direction, Endpoint, TransferContext
from twisted_tftp.errors import AccessViolation, DiskFull, FileAlreadyExists, FileNotFound
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter


def asking(size: int | None = None) -> TransferContext:
    """Return the context of a request that announces `size` octets."""
    peer = Endpoint("192.0.2.7", 2000)
    return TransferContext(peer, None, Direction.WRITE, b"f", "octet", {}, size)


def upload(backend: MemoryBackend, name: str, *pieces: bytes, size: int | None = None) -> None:
    """Write a file as a session does."""
    writer = backend.open_writer(name, asking(size))
    try:
        for piece in pieces:
            writer.write(piece)
        writer.commit()
    except Exception:
        writer.abort()
        raise


def test_the_contracts_are_kept() -> None:
    """Backend, reader and writer are what a session takes."""
    backend = MemoryBackend({"f": b"x"}, "overwrite")
    verifyObject(IFileBackend, backend)
    verifyObject(IFileReader, backend.open_reader("f", asking()))
    verifyObject(IFileWriter, backend.open_writer("f", asking()))


@given(st.binary(max_size=300), st.integers(0, 310), st.integers(1, 310))
def test_a_file_is_read_at_any_offset(octets: bytes, offset: int, length: int) -> None:
    """All that was wanted, less at the end, nothing past it."""
    reader = MemoryBackend({"f": octets}).open_reader("f", asking())
    assert reader.size == len(octets)
    assert bytes(reader.read(offset, length)) == octets[offset : offset + length]


@pytest.mark.parametrize("path", ["a/f", "/a/f", "//a//f", "./a/./f"])
def test_a_file_is_found_with_slashes_and_without(path: str) -> None:
    """A name starts at the root however it is spelled."""
    assert bytes(MemoryBackend({"a/f": b"x"}).open_reader(path, asking()).read(0, 9)) == b"x"


@pytest.mark.parametrize("path", ["g", "A/F", "a", "a/f/g", "a\\f", "", "a/f\x00", "x" * 5000])
def test_what_is_not_there_is_not_found(path: str) -> None:
    """Code 1 tells so."""
    with pytest.raises(FileNotFound):
        MemoryBackend({"a/f": b"x"}).open_reader(path, asking())


@pytest.mark.parametrize("path", ["../f", "a/../f", "a/", "..", "/", "."])
def test_steps_upwards_and_directories_are_refused(path: str) -> None:
    """There are no directories in memory to step through."""
    backend = MemoryBackend({"f": b"x", "a/f": b"y"}, "overwrite")
    with pytest.raises(AccessViolation):
        backend.open_reader(path, asking())
    with pytest.raises(AccessViolation):
        backend.open_writer(path, asking())


def test_a_reader_keeps_what_it_has_opened() -> None:
    """A file that is replaced or removed meanwhile does not change what is read."""
    backend = MemoryBackend({"f": b"old", "g": b"gone"}, "overwrite")
    first, second = (backend.open_reader(name, asking()) for name in "fg")
    upload(backend, "f", b"new")
    del backend.files["g"]
    assert bytes(first.read(0, 9)) == b"old"
    assert bytes(second.read(0, 9)) == b"gone"
    assert bytes(backend.open_reader("f", asking()).read(0, 9)) == b"new"


def test_a_closed_reader_holds_no_octets() -> None:
    """What it read before stays good."""
    reader = MemoryBackend({"f": b"old"}).open_reader("f", asking())
    view = reader.read(0, 3)
    reader.close()
    assert bytes(view) == b"old"
    assert bytes(reader.read(0, 3)) == b""


def test_the_files_are_the_backends_own() -> None:
    """Uploads do not appear in the mapping that it was made of."""
    files = {"f": b"x"}
    backend = MemoryBackend(files, "overwrite")
    upload(backend, "g", b"y")
    assert files == {"f": b"x"}
    assert backend.files == {"f": b"x", "g": b"y"}


def test_nothing_is_written_unless_it_is_allowed() -> None:
    """By default every write is refused."""
    with pytest.raises(AccessViolation):
        MemoryBackend().open_writer("f", asking())
    with pytest.raises(ValueError, match="always"):
        MemoryBackend(write="always")


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_a_file_appears_at_the_commit_and_is_whole(pieces: list[bytes]) -> None:
    """Before the commit nothing of it can be seen."""
    backend = MemoryBackend(write="create")
    writer = backend.open_writer("/a/f", asking())
    for piece in pieces:
        writer.write(piece)
        assert backend.files == {}
    writer.commit()
    assert backend.files == {"a/f": b"".join(pieces)}


def test_an_abort_leaves_what_was_there() -> None:
    """The old file is neither truncated nor removed, and a new one never appears."""
    backend = MemoryBackend({"f": b"old"}, "overwrite")
    for name in ("f", "g"):
        writer = backend.open_writer(name, asking())
        writer.write(b"new")
        writer.abort()
    assert backend.files == {"f": b"old"}


def test_create_replaces_nothing() -> None:
    """A file that is there is told at the open."""
    backend = MemoryBackend({"f": b"old"}, "create")
    with pytest.raises(FileAlreadyExists):
        backend.open_writer("f", asking())
    upload(backend, "g", b"new")
    assert backend.files == {"f": b"old", "g": b"new"}


@pytest.mark.parametrize("step", ["write", "commit"])
def test_create_leaves_a_file_that_has_appeared_meanwhile(step: str) -> None:
    """Of two uploads of one name the first one to commit wins."""
    backend = MemoryBackend(write="create")
    writer = backend.open_writer("f", asking())
    upload(backend, "f", b"first")
    with pytest.raises(FileAlreadyExists):
        writer.write(b"second") if step == "write" else writer.commit()
    writer.abort()
    assert backend.files == {"f": b"first"}


def test_an_announced_size_above_the_capacity_is_refused_at_once() -> None:
    """The client need not send what does not fit; what just fits is taken."""
    backend = MemoryBackend({"f": b"12345"}, "overwrite", capacity=10)
    with pytest.raises(DiskFull):
        backend.open_writer("g", asking(6))
    backend.open_writer("g", asking(5))
    backend.open_writer("f", asking(10))


def test_octets_above_the_capacity_are_refused_as_they_come() -> None:
    """A size that was not announced is bounded as well."""
    backend = MemoryBackend({"f": b"12345"}, "overwrite", capacity=10)
    with pytest.raises(DiskFull):
        upload(backend, "g", b"123", b"456")
    assert backend.files == {"f": b"12345"}
    upload(backend, "g", b"123", b"45")
    assert backend.files == {"f": b"12345", "g": b"12345"}


def test_a_file_that_is_replaced_makes_room_for_the_new_one() -> None:
    """Capacity counts what will be there after the commit."""
    backend = MemoryBackend({"f": b"1234567890"}, "overwrite", capacity=10)
    upload(backend, "f", b"abcdefghij")
    assert backend.files == {"f": b"abcdefghij"}


def test_two_uploads_do_not_share_the_same_room() -> None:
    """What fitted when it came may not fit any more at the commit."""
    backend = MemoryBackend(write="create", capacity=10)
    first, second = (backend.open_writer(name, asking()) for name in "fg")
    first.write(b"123456")
    second.write(b"123456")
    first.commit()
    with pytest.raises(DiskFull):
        second.commit()
    second.abort()
    assert backend.files == {"f": b"123456"}
