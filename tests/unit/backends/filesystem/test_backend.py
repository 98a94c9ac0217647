"""Tests of the filesystem backend: reads with any state of the page cache, and atomic uploads."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python import log
from zope.interface.verify import verifyObject

from tests.support.backends import (
    ManualThreads,
    content,
    error_of,
    open_paths,
    request_context,
    slow_lookup,
    upload,
)
from tests.support.backends import unprivileged as unprivileged
from tests.support.deferreds import results_of, value
from tests.support.served_root import temporary_files
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.filesystem.path_walk import resolve
from twisted_tftp.backends.filesystem.placement import SingleFile
from twisted_tftp.backends.filesystem.reader import (
    CHUNK_SIZE,
    ChunkBudget,
    FilesystemReader,
    OpenFile,
    nowait_flags,
)
from twisted_tftp.backends.filesystem.upload import Upload, UploadRules
from twisted_tftp.backends.filesystem.writer import (
    HELD_SIZE,
    INLINE_WRITE_SIZE,
    WRITE_SIZE,
    FilesystemWriter,
)
from twisted_tftp.context import StoredFile
from twisted_tftp.errors import (
    AccessViolation,
    DiskFull,
    ErrorCode,
    FileAlreadyExists,
    FileNotFound,
    TFTPError,
)
from twisted_tftp.interfaces import IFileBackend, IFileReader, IFileWriter

#: The content of files outside the root.
SECRET = b"SECRET"

#: The content of a file: each octet differs from the ones beside it.
OCTETS = bytes(number * 7 % 251 for number in range(5000))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make the root of a backend, and files beside it that must never be read or written."""
    made = tmp_path / "root"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_bytes(OCTETS)
    (made / "sub" / "inner").write_bytes(b"inner")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "x").write_bytes(SECRET)
    (tmp_path / "secret").write_bytes(SECRET)
    return made


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path: Path) -> Iterator[None]:
    """Check that no descriptor, temporary file or logged error is left, and no secret changed."""
    logged: list[Any] = []
    log.addObserver(logged.append)
    yield
    log.removeObserver(logged.append)
    assert [event for event in logged if event["isError"]] == []
    assert open_paths(tmp_path) == []
    assert temporary_files(tmp_path) == []
    for secret in [tmp_path / "secret", tmp_path / "root2" / "x"]:
        assert not secret.parent.exists() or not secret.exists() or secret.read_bytes() == SECRET


def serving(root: Path, write: str = "overwrite", in_thread: Any = None) -> FilesystemBackend:
    """Return a backend; without `in_thread`, what a thread would run is run at once."""
    return FilesystemBackend(
        str(root), write, in_thread=in_thread or maybeDeferred, lookup=slow_lookup(root)
    )


def opened_now(opening: Any, in_thread: Any) -> Any:
    """Return the reader or writer of `opening`; run the calls that wait in manual threads."""
    if isinstance(in_thread, ManualThreads):
        in_thread.run_all()
    return value(opening)


def open_reader(root: Path, path: str = "file", in_thread: Any = None) -> FilesystemReader:
    """Return a reader, opened at once, that reads through `in_thread`."""
    opening = serving(root, in_thread=in_thread).open_reader(path, request_context())
    reader = opened_now(opening, in_thread)
    assert isinstance(reader, FilesystemReader)
    return reader


def open_writer(
    root: Path, path: str = "new", in_thread: Any = None, write: str = "overwrite"
) -> FilesystemWriter:
    """Return a writer, opened at once, that writes through `in_thread`."""
    opening = serving(root, write, in_thread).open_writer(path, request_context())
    writer = opened_now(opening, in_thread)
    assert isinstance(writer, FilesystemWriter)
    return writer


def descriptor_of(path: Path) -> int:
    """Return the only descriptor of this process that has `path` open."""
    [descriptor] = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{name}")
        and os.readlink(f"/proc/self/fd/{name}") == str(path)
    ]
    return descriptor


# -- opening for reading ------------------------------------------------------------------


def test_interfaces_are_implemented(root: Path) -> None:
    """Backend, reader and writer implement the interfaces that a session uses."""
    verifyObject(IFileBackend, serving(root))
    reader, writer = open_reader(root), open_writer(root)
    verifyObject(IFileReader, reader)
    verifyObject(IFileWriter, writer)
    reader.close()
    value(writer.abort())


@pytest.mark.parametrize(
    ("path", "octets"),
    [("file", OCTETS), ("/file", OCTETS), ("sub/inner", b"inner"), ("sub/../file", OCTETS)],
)
def test_a_file_is_read_and_its_size_is_known(root: Path, path: str, octets: bytes) -> None:
    """A reader knows the size of its file, and reads all of it."""
    reader = open_reader(root, path)
    assert reader.size == len(octets)
    assert content(reader) == octets


def test_empty_file_is_read(root: Path) -> None:
    """An empty file has size 0 and no octets."""
    (root / "empty").touch()
    reader = open_reader(root, "empty")
    assert reader.size == 0
    assert content(reader) == b""


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nothing", ErrorCode.FILE_NOT_FOUND),
        ("nothing/file", ErrorCode.FILE_NOT_FOUND),
        ("file/file", ErrorCode.FILE_NOT_FOUND),
        ("", ErrorCode.FILE_NOT_FOUND),
        ("file\x00", ErrorCode.FILE_NOT_FOUND),
        ("x" * 600, ErrorCode.FILE_NOT_FOUND),
        ("x" * 5000, ErrorCode.FILE_NOT_FOUND),
        ("..\\secret", ErrorCode.ACCESS_VIOLATION),
        ("%2e%2e/secret", ErrorCode.FILE_NOT_FOUND),
        ("....//secret", ErrorCode.FILE_NOT_FOUND),
        ("/etc/passwd", ErrorCode.FILE_NOT_FOUND),
        ("sub", ErrorCode.ACCESS_VIOLATION),
        ("sub/", ErrorCode.ACCESS_VIOLATION),
        ("/", ErrorCode.ACCESS_VIOLATION),
        ("..", ErrorCode.ACCESS_VIOLATION),
        ("../secret", ErrorCode.ACCESS_VIOLATION),
        ("../root2/x", ErrorCode.ACCESS_VIOLATION),
        ("sub/../../secret", ErrorCode.ACCESS_VIOLATION),
        ("away", ErrorCode.ACCESS_VIOLATION),
        ("fifo", ErrorCode.ACCESS_VIOLATION),
        ("socket", ErrorCode.ACCESS_VIOLATION),
    ],
)
def test_unreadable_paths_are_refused_with_the_right_error_code(
    root: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: ErrorCode
) -> None:
    """The error has the right code, does not contain the path of the root, and comes at once."""
    monkeypatch.chdir(root)
    os.symlink("../secret", "away")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    errors: list[TFTPError] = []
    watched = threading.Thread(
        target=lambda: errors.append(
            error_of(lambda: serving(root).open_reader(path, request_context()))
        ),
        daemon=True,
    )
    watched.start()
    watched.join(10)
    assert [error.code for error in errors] == [code]
    assert str(root.parent) not in errors[0].message


def test_file_without_read_permission_is_an_access_violation(unprivileged: Path) -> None:
    """A file that exists but may not be read is refused with ERROR 2."""
    error = error_of(lambda: serving(unprivileged).open_reader("secret", request_context()))
    assert error.code is ErrorCode.ACCESS_VIOLATION


def test_the_root_is_looked_up_at_each_request(root: Path) -> None:
    """A directory that replaces the root is used by the next request."""
    backend = serving(root)
    assert content(value(backend.open_reader("file", request_context()))) == OCTETS
    root.rename(root.parent / "old")
    root.mkdir()
    (root / "file").write_bytes(b"new")
    assert content(value(backend.open_reader("file", request_context()))) == b"new"


# -- reading ------------------------------------------------------------------------------


def cold(*args: Any) -> int:
    """Replace `preadv`: no page is in the page cache."""
    raise BlockingIOError(errno.EAGAIN, "not in memory")


def unsupported(*args: Any) -> int:
    """Replace `preadv`: the file system does not support RWF_NOWAIT."""
    raise OSError(errno.EOPNOTSUPP, "what is that")


def short(descriptor: int, buffers: Any, *args: Any) -> int:
    """Replace `preadv`: the first half is in the page cache; garbage is read for the rest."""
    [view] = buffers
    view[:] = b"!" * len(view)
    return real_preadv(descriptor, [view[: max(1, len(view) // 2)]], *args)


def flaky(descriptor: int, buffers: Any, offset: int, *args: Any) -> int:
    """Replace `preadv`: every other range of 700 octets is in the page cache."""
    if offset // 700 % 2:
        return cold()
    return real_preadv(descriptor, buffers, offset, *args)


real_preadv = os.preadv

#: Replacements of `preadv`, by the state of the page cache.
CACHES = {
    "warm": real_preadv,
    "cold": cold,
    "unsupported": unsupported,
    "short": short,
    "flaky": flaky,
}


@pytest.mark.parametrize("preadv", CACHES.values(), ids=CACHES.keys())
@pytest.mark.parametrize("length", [1, 512, 1428, 4999, 5000, 5001, 65464])
def test_the_octets_are_right_whatever_the_page_cache_has(
    root: Path, monkeypatch: pytest.MonkeyPatch, preadv: Any, length: int
) -> None:
    """The whole file is read, whatever part of it is cached, with reads of any length."""
    (root / "file").write_bytes(OCTETS[:500] if length == 1 else OCTETS)
    monkeypatch.setattr(os, "preadv", preadv)
    assert content(open_reader(root), length) == (root / "file").read_bytes()


@given(
    st.sampled_from(sorted(CACHES)),
    st.binary(max_size=60).map(lambda octets: octets * 20),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 700)), max_size=15),
    st.sampled_from([1, 100, CHUNK_SIZE]),
)
def test_reads_at_growing_offsets_are_exact(
    cache: str, octets: bytes, steps: list[tuple[int, int]], chunk: int
) -> None:
    """Each read returns the octets at its offset, also at and after the end of the file."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "file").write_bytes(octets)
        with mock.patch.object(os, "preadv", CACHES[cache]):
            file = OpenFile(os.open(Path(name) / "file", os.O_RDONLY))
            reader = FilesystemReader(file, maybeDeferred, ChunkBudget(chunk), nowait_flags())
            offset = 0
            for step, length in steps:
                offset += step
                assert bytes(value(reader.read(offset, length))) == octets[offset:][:length]
            reader.close()


def test_cached_pages_are_read_without_a_thread(root: Path) -> None:
    """A read of pages in the page cache returns at once."""
    try:
        with open(root / "file", "rb") as file:
            os.preadv(file.fileno(), [bytearray(10)], 0, os.RWF_NOWAIT)
    except OSError:
        pytest.skip("this file system knows no RWF_NOWAIT")
    threads = ManualThreads()
    reader = open_reader(root, in_thread=threads)
    assert bytes(value(reader.read(10, 20))) == OCTETS[10:30]
    assert threads.calls == []
    reader.close()


def test_smaller_read_after_a_larger_one_is_not_padded(root: Path) -> None:
    """A reused buffer does not make a read longer than what was asked for."""
    reader = open_reader(root)
    first = value(reader.read(0, 1000))
    assert bytes(first) == OCTETS[:1000]
    assert bytes(value(reader.read(1000, 10))) == OCTETS[1000:1010]
    reader.close()


def test_nowait_is_not_tried_again_where_it_is_unsupported(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that, each thread reads a large piece, which serves many reads."""
    asked = []
    monkeypatch.setattr(os, "preadv", lambda *args: asked.append(args) or unsupported())
    octets = OCTETS * 120
    (root / "file").write_bytes(octets)
    threads = ManualThreads()
    reader = open_reader(root, in_thread=threads)
    runs = 0
    got = b""
    while len(got) < len(octets):
        answer = reader.read(len(got), min(1428, len(octets) - len(got)))
        if threads.calls:
            threads.run()
            runs += 1
        got += bytes(value(answer))
    assert got == octets
    assert len(asked) == 1
    assert runs <= len(octets) // (CHUNK_SIZE - 1428) + 1
    reader.close()


def test_a_system_without_nowait_reads_in_threads(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without RWF_NOWAIT and `preadv`, all reads are done in threads."""
    monkeypatch.delattr(os, "RWF_NOWAIT")
    monkeypatch.delattr(os, "preadv")
    assert content(open_reader(root)) == OCTETS


def test_a_failing_disk_fails_the_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error is raised by `read`, or fails its Deferred if a thread reads."""

    def broken(*args: Any) -> Any:
        raise OSError(errno.EIO, "the disk is broken")

    reader = open_reader(root)
    monkeypatch.setattr(os, "preadv", broken)
    assert error_of(lambda: reader.read(0, 10)).code is ErrorCode.NOT_DEFINED
    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "pread", broken)
    answer = reader.read(0, 10)
    assert isinstance(answer, Deferred)
    assert error_of(lambda: answer).code is ErrorCode.NOT_DEFINED
    reader.close()


def test_short_reads_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread reads on until it has all octets, or the end of the file."""
    real = os.pread
    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "pread", lambda fd, length, at: real(fd, min(length, 7), at))
    assert content(open_reader(root)) == OCTETS


@pytest.mark.parametrize("preadv", [real_preadv, cold, unsupported])
@pytest.mark.parametrize("change", ["replaced", "deleted", "moved"])
def test_open_file_is_read_after_its_name_was_replaced_or_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch, preadv: Any, change: str
) -> None:
    """The reader reads the file that it opened, to its end."""
    monkeypatch.setattr(os, "preadv", preadv)
    reader = open_reader(root)
    got = bytes(value(reader.read(0, 100)))
    if change == "replaced":
        (root / "other").write_bytes(b"new" * 3000)
        os.rename(root / "other", root / "file")
    elif change == "deleted":
        os.unlink(root / "file")
    else:
        os.rename(root / "file", root / "sub" / "file")
    got += bytes(value(reader.read(100, 4900)))
    assert got == OCTETS
    reader.close()


@pytest.mark.parametrize("preadv", [real_preadv, cold, unsupported])
def test_reads_of_a_truncated_file_are_short(
    root: Path, monkeypatch: pytest.MonkeyPatch, preadv: Any
) -> None:
    """Missing octets are not replaced by others, so the transfer can fail."""
    monkeypatch.setattr(os, "preadv", preadv)
    reader = open_reader(root)
    os.truncate(root / "file", 300)
    assert bytes(value(reader.read(0, 512))) == OCTETS[:300]
    assert bytes(value(reader.read(512, 512))) == b""
    reader.close()


# -- closing and cancelling during a call -------------------------------------------------


def test_closing_a_reader_closes_its_file(root: Path) -> None:
    """A reader has its file open and nothing else, and closes it."""
    reader = open_reader(root)
    assert open_paths(root) == [str(root / "file")]
    reader.close()
    assert open_paths(root) == []


@pytest.mark.parametrize("broken", [False, True])
def test_file_is_closed_after_the_thread_that_reads_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """A descriptor that a thread uses is not closed: its number could be given to another file."""
    threads = ManualThreads()
    reader = open_reader(root, in_thread=threads)
    descriptor = descriptor_of(root / "file")
    monkeypatch.setattr(os, "preadv", cold)
    read = os.pread
    closed: list[int] = []
    close = os.close

    def watched(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    def reading(number: int, length: int, offset: int) -> bytes:
        assert stat.S_ISREG(os.fstat(number).st_mode)
        if broken:
            raise OSError(errno.EIO, "the disk is broken")
        return read(number, length, offset)

    monkeypatch.setattr(os, "close", watched)
    monkeypatch.setattr(os, "pread", reading)
    answer = reader.read(0, 10)
    assert isinstance(answer, Deferred)
    results = results_of(answer)
    reader.close()
    assert os.fstat(descriptor).st_size == len(OCTETS)
    assert closed == []
    threads.run()
    assert closed == [descriptor]
    if broken:
        assert results[0].check(OSError)
    else:
        assert bytes(results[0]) == OCTETS[:10]


def test_file_is_closed_at_once_after_a_thread_has_read_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that is finished does not delay the close."""
    threads = ManualThreads()
    reader = open_reader(root, in_thread=threads)
    monkeypatch.setattr(os, "preadv", cold)
    answer = reader.read(0, 10)
    threads.run()
    assert bytes(value(answer)) == OCTETS[:10]
    assert open_paths(root) == [str(root / "file")]
    reader.close()
    assert open_paths(root) == []


@pytest.mark.parametrize("path", ["file", "nothing"])
def test_cancelled_open_leaves_no_file_open(root: Path, path: str) -> None:
    """A thread can't be stopped, so the thread itself closes the file."""
    threads = ManualThreads()
    results = results_of(
        opening := serving(root, in_thread=threads).open_reader(path, request_context())
    )
    opening.cancel()
    assert results[0].check(CancelledError)
    tell = threads.work()
    assert open_paths(root) == [], "the thread itself closes the file"
    tell()
    assert threads.calls == []
    assert len(results) == 1


def test_cancelled_open_that_has_not_started_opens_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled opens that wait behind a slow disk cost nothing when it is their turn."""
    threads = ManualThreads()
    backend = serving(root, in_thread=threads)
    for opening in (
        backend.open_reader("file", request_context()),
        backend.open_writer("new", request_context()),
    ):
        assert isinstance(opening, Deferred)
        opening.addErrback(lambda failure: failure.trap(CancelledError))
        opening.cancel()
    open_now = mock.Mock(side_effect=AssertionError)
    monkeypatch.setattr(os, "open", open_now)
    threads.run_all()
    assert not open_now.called


@pytest.mark.parametrize("path", ["new", "file", "sub"])
def test_cancelled_open_of_an_upload_leaves_no_temporary_file(root: Path, path: str) -> None:
    """The temporary file is removed, and the target is not changed."""
    threads = ManualThreads()
    results = results_of(
        opening := serving(root, in_thread=threads).open_writer(path, request_context())
    )
    opening.cancel()
    assert results[0].check(CancelledError)
    tell = threads.work()
    assert open_paths(root) == []
    assert sorted(os.listdir(root)) == ["file", "sub"]
    tell()
    assert threads.calls == []
    assert (root / "file").read_bytes() == OCTETS


@pytest.mark.parametrize("path", ["file", "new", "nothing/new"])
@pytest.mark.parametrize("direction", ["read", "write"])
def test_open_cancelled_before_its_result_arrives_leaves_nothing(
    root: Path, direction: str, path: str
) -> None:
    """The thread has opened the file, but the reactor has not received the result yet."""
    threads = ManualThreads()
    backend = serving(root, in_thread=threads)
    opening = (backend.open_reader if direction == "read" else backend.open_writer)(
        path, request_context()
    )
    results = results_of(opening)
    tell = threads.work()
    assert results == []
    opening.cancel()
    tell()
    threads.run_all()
    assert [failure.type for failure in results] == [CancelledError]
    assert open_paths(root) == []
    assert sorted(os.listdir(root)) == ["file", "sub"]


def test_no_system_call_that_may_block_is_made_in_the_reactor(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reactor's thread opens, writes, syncs and renames nothing."""
    threads = ManualThreads()
    backend = serving(root, in_thread=threads)

    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("this may block")

    with monkeypatch.context() as patch:
        for name in ["open", "stat", "readlink", "fsync", "rename", "link", "writev", "fstatvfs"]:
            patch.setattr(os, name, forbidden)
        reading = backend.open_reader("file", request_context())
        writing = backend.open_writer("new", request_context())
    threads.run_all()
    reader, writer = value(reading), value(writing)
    with monkeypatch.context() as patch:
        for name in ["open", "stat", "readlink", "fsync", "rename", "link", "writev", "unlink"]:
            patch.setattr(os, name, forbidden)
        writer.write(b"x" * WRITE_SIZE)
        committing = writer.commit()
    threads.run_all()
    value(committing)
    reader.close()
    assert (root / "new").read_bytes() == b"x" * WRITE_SIZE


# -- uploads ------------------------------------------------------------------------------


def test_write_mode_never_refuses_all_uploads(root: Path) -> None:
    """`never` is the default: all uploads are refused with ERROR 2."""
    for backend in (serving(root, "never"), FilesystemBackend(str(root), in_thread=maybeDeferred)):
        for path in ("new", "file", "../secret"):
            error = error_of(
                lambda backend=backend, path=path: backend.open_writer(path, request_context())
            )
            assert error.code is ErrorCode.ACCESS_VIOLATION
            assert "does not accept" in error.message
    assert sorted(os.listdir(root)) == ["file", "sub"]


def test_an_unknown_write_mode_is_an_error(root: Path) -> None:
    """The constructor raises ValueError."""
    with pytest.raises(ValueError, match="always"):
        FilesystemBackend(str(root), "always")


@pytest.mark.parametrize("write", ["create", "overwrite"])
@pytest.mark.parametrize("path", ["new", "/new", "sub/new", "sub/../new", "caf\udce9"])
def test_a_new_file_appears_at_the_commit(root: Path, write: str, path: str) -> None:
    """Before the commit no file has the name; after it the file is complete."""
    target = os.path.join(os.fsencode(root), os.fsencode(path.lstrip("/")))
    writer = value(serving(root, write).open_writer(path, request_context()))
    value(writer.write(OCTETS))
    assert not os.path.lexists(target)
    value(writer.write(b"the end"))
    value(writer.commit())
    with open(target, "rb") as file:
        assert file.read() == OCTETS + b"the end"


def test_upload_without_data_makes_an_empty_file(root: Path) -> None:
    """A commit without any write makes a file of size 0."""
    upload(serving(root), "new")
    assert (root / "new").read_bytes() == b""


@pytest.mark.parametrize(
    "octets", [WRITE_SIZE - 1, WRITE_SIZE, WRITE_SIZE + 1, HELD_SIZE, HELD_SIZE + 1, 3 * HELD_SIZE]
)
def test_uploads_of_all_sizes_are_complete(root: Path, octets: int) -> None:
    """Sizes just below and above the thresholds of the writer are stored without a change."""
    expected = (OCTETS * (octets // len(OCTETS) + 1))[:octets]
    pieces = [expected[at : at + 65464] for at in range(0, octets, 65464)]
    upload(serving(root), "new", *pieces)
    assert (root / "new").read_bytes() == expected


def test_overwrite_replaces_the_file_at_the_commit(root: Path) -> None:
    """Until then the old file is served; open readers of it read it to the end."""
    backend = serving(root)
    before = open_reader(root)
    writer = value(backend.open_writer("file", request_context()))
    value(writer.write(b"new"))
    assert content(open_reader(root)) == OCTETS
    value(writer.commit())
    assert content(open_reader(root)) == b"new"
    assert content(before) == OCTETS


def test_create_refuses_an_existing_file(root: Path) -> None:
    """The open fails with ERROR 6, and the file is not changed."""
    error = error_of(lambda: serving(root, "create").open_writer("file", request_context()))
    assert isinstance(error, FileAlreadyExists)
    assert (root / "file").read_bytes() == OCTETS


@pytest.mark.parametrize("write", ["create", "overwrite"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret", ErrorCode.ACCESS_VIOLATION),
        ("../new", ErrorCode.ACCESS_VIOLATION),
        ("../root2/x", ErrorCode.ACCESS_VIOLATION),
        ("sub/../../new", ErrorCode.ACCESS_VIOLATION),
        ("away", ErrorCode.ACCESS_VIOLATION),
        ("outside/new", ErrorCode.ACCESS_VIOLATION),
        ("nowhere", ErrorCode.ACCESS_VIOLATION),
        ("sub", ErrorCode.ACCESS_VIOLATION),
        ("sub/", ErrorCode.ACCESS_VIOLATION),
        ("fifo", ErrorCode.ACCESS_VIOLATION),
        ("/", ErrorCode.ACCESS_VIOLATION),
        ("nothing/new", ErrorCode.FILE_NOT_FOUND),
        ("file/new", ErrorCode.FILE_NOT_FOUND),
        ("", ErrorCode.FILE_NOT_FOUND),
        ("new\x00", ErrorCode.FILE_NOT_FOUND),
        ("x" * 600, ErrorCode.FILE_NOT_FOUND),
        ("x" * 5000, ErrorCode.FILE_NOT_FOUND),
    ],
)
def test_upload_to_a_bad_path_is_refused(
    root: Path, write: str, path: str, code: ErrorCode
) -> None:
    """Paths outside the root, links that leave it, and names of other things make no file."""
    os.symlink("../secret", root / "away")
    os.symlink("..", root / "outside")
    os.symlink("../new", root / "nowhere")
    os.mkfifo(root / "fifo")
    before = sorted(root.parent.rglob("*"))
    error = error_of(lambda: serving(root, write).open_writer(path, request_context()))
    assert error.code is code
    assert str(root.parent) not in error.message
    assert sorted(root.parent.rglob("*")) == before


@pytest.mark.parametrize("target", ["file", "sub/inner", "{root}/sub/inner", "sub/new"])
def test_upload_follows_a_link_inside_the_root(root: Path, target: str) -> None:
    """The link stays a link, and its target is written; the target need not exist before."""
    os.symlink(target.format(root=root), root / "link")
    upload(serving(root), "link", b"written")
    assert (root / "link").is_symlink()
    assert os.readlink(root / "link") == target.format(root=root)
    assert not (root / target.format(root=root)).is_symlink()
    assert (root / target.format(root=root)).read_bytes() == b"written"


def test_create_refuses_a_link_to_an_existing_file(root: Path) -> None:
    """The target of the link exists, so the open fails with ERROR 6."""
    os.symlink("sub/inner", root / "link")
    error = error_of(lambda: serving(root, "create").open_writer("link", request_context()))
    assert isinstance(error, FileAlreadyExists)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o755, 0o666])
def test_mode_of_a_replaced_file_is_kept(root: Path, mode: int) -> None:
    """An upload changes the content of a file, not its permissions."""
    (root / "file").chmod(mode)
    upload(serving(root), "file", b"new")
    assert stat.S_IMODE((root / "file").stat().st_mode) == mode


def test_the_set_user_bit_of_a_replaced_file_is_not_kept(root: Path) -> None:
    """A client must not be able to install a program that runs with another user's rights."""
    (root / "file").chmod(0o6755)
    upload(serving(root), "file", b"new")
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o755


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0, 0o666)])
def test_mode_of_a_new_file_can_follow_the_umask(root: Path, umask: int, mode: int) -> None:
    """Without a mode for uploads the umask of the process decides who may read them."""
    backend = FilesystemBackend(str(root), "create", upload_mode=None, in_thread=maybeDeferred)
    was = os.umask(umask)
    try:
        upload(backend, "new", b"new")
    finally:
        os.umask(was)
    assert stat.S_IMODE((root / "new").stat().st_mode) == mode


@pytest.mark.parametrize("write", ["create", "overwrite"])
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_umask_makes_no_difference_to_uploads(root: Path, umask: int, write: str) -> None:
    """A new file has the mode of the backend, 0644 by default; a replaced file keeps its own."""
    private = FilesystemBackend(str(root), write, upload_mode=0o600, in_thread=maybeDeferred)
    (root / "file").chmod(0o664)
    was = os.umask(umask)
    try:
        upload(serving(root, write), "new", b"new")
        upload(private, "private", b"new")
        if write == "overwrite":
            upload(private, "file", b"new")
    finally:
        os.umask(was)
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in os.listdir(root)}
    assert modes == {"new": 0o644, "private": 0o600, "file": 0o664, "sub": modes["sub"]}


@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_a_file_is_durable_before_it_is_visible(
    root: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """The order of a commit: write, sync the file, give it its name, sync the directory."""
    done: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            what = name
            if name == "fsync":
                what += " directory" if stat.S_ISDIR(os.fstat(args[0]).st_mode) else " file"
            done.append(what)
            return real(*args, **kwargs)

        return call

    writer = open_writer(root, write=write)
    value(writer.write(b"new"))
    for name in ["writev", "fsync", "rename", "link"]:
        monkeypatch.setattr(os, name, noting(name))
    value(writer.commit())
    visible = "link" if write == "create" else "rename"
    assert done == ["writev", "fsync file", visible, "fsync directory"]


def test_short_writes_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes fewer octets than given gets the rest in further calls."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:1001]))
    monkeypatch.setattr(os, "writev", lambda fd, pieces: real(fd, pieces[0][:999]))
    upload(serving(root), "new", OCTETS, OCTETS)
    assert (root / "new").read_bytes() == OCTETS * 2


def test_a_read_only_file_is_not_replaced(unprivileged: Path) -> None:
    """The file's own permission is checked, although a rename needs only the directory's."""
    error = error_of(lambda: serving(unprivileged).open_writer("readonly", request_context()))
    assert error.code is ErrorCode.ACCESS_VIOLATION
    assert (unprivileged / "readonly").read_bytes() == b"old"


def test_upload_to_a_directory_without_write_permission_is_refused(unprivileged: Path) -> None:
    """The upload fails with ERROR 2."""
    error = error_of(lambda: serving(unprivileged).open_writer("locked/new", request_context()))
    assert error.code is ErrorCode.ACCESS_VIOLATION


def test_upload_to_a_directory_without_read_permission_succeeds(unprivileged: Path) -> None:
    """A directory that can't be opened, and so not synced, does not fail an upload."""
    (unprivileged / "box").mkdir()
    (unprivileged / "box").chmod(0o333)
    upload(serving(unprivileged), "box/new", b"new")
    (unprivileged / "box").chmod(0o777)
    assert (unprivileged / "box" / "new").read_bytes() == b"new"


# -- full disks ---------------------------------------------------------------------------


def test_an_announced_size_above_the_free_space_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The open fails with ERROR 3, so the client does not send a file that can't be stored."""
    monkeypatch.setattr(
        os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=10, f_bfree=99, f_frsize=512)
    )
    backend = serving(root)
    error = error_of(lambda: backend.open_writer("new", request_context(5121)))
    assert isinstance(error, DiskFull)
    assert temporary_files(root) == []
    assert open_paths(root) == []
    upload(backend, "new", b"x" * 5120, size=5120)
    assert (root / "new").stat().st_size == 5120


def full(*args: Any) -> Any:
    """Replace a system call: the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device", "/srv/tftp/secret")


@pytest.mark.parametrize("call", ["writev", "fsync"])
@pytest.mark.parametrize("path", ["file", "new"])
@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_full_disk_fails_the_commit(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, path: str, write: str
) -> None:
    """After the abort the old file is unchanged, and no temporary file is left."""
    if write == "create" and path == "file":
        path = "sub/new"
    writer = open_writer(root, path, write=write)
    assert writer.write(b"new") is None
    monkeypatch.setattr(os, call, full)
    assert isinstance(error_of(writer.commit), DiskFull)
    value(writer.abort())
    assert sorted(os.listdir(root)) == ["file", "sub"]
    assert os.listdir(root / "sub") == ["inner"]
    assert (root / "file").read_bytes() == OCTETS


def test_without_write_behind_data_is_written_in_the_calling_thread(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are used to open and to commit only, and an error is raised by `write`."""
    asked: list[Any] = []

    def in_thread(function: Any, *args: Any) -> Deferred[Any]:
        asked.append(function)
        return maybeDeferred(function, *args)

    backend = FilesystemBackend(
        str(root),
        "overwrite",
        in_thread=in_thread,
        write_behind=False,
        lookup=slow_lookup(root),
    )
    writer = value(backend.open_writer("file", request_context()))
    (temporary,) = temporary_files(root)
    asked.clear()
    assert writer.write(b"x" * (INLINE_WRITE_SIZE - 1)) is None
    assert writer.write(b"yz") is None
    assert (asked, (root / temporary).stat().st_size) == ([], INLINE_WRITE_SIZE + 1)
    value(writer.write(b"end"))
    value(writer.commit())
    assert (root / "file").read_bytes() == b"x" * (INLINE_WRITE_SIZE - 1) + b"yzend"
    writer = value(backend.open_writer("file", request_context()))
    monkeypatch.setattr(os, "writev", full)
    assert isinstance(error_of(lambda: writer.write(bytes(INLINE_WRITE_SIZE))), DiskFull)
    value(writer.abort())
    assert temporary_files(root) == []


def test_full_disk_fails_the_next_write_and_the_commit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in a thread is raised by the next call."""
    threads = ManualThreads()
    writer = open_writer(root, "file", threads)
    monkeypatch.setattr(os, "writev", full)
    assert writer.write(b"x" * WRITE_SIZE) is None
    threads.run()
    assert isinstance(error_of(lambda: writer.write(b"x")), DiskFull)
    assert isinstance(error_of(writer.commit), DiskFull)
    aborting = writer.abort()
    threads.run_all()
    value(aborting)
    assert (root / "file").read_bytes() == OCTETS


def test_full_disk_fails_a_write_that_waits_for_room(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Deferred of a write that waits fails, and nothing more is written."""
    threads = ManualThreads()
    writer = open_writer(root, in_thread=threads)
    monkeypatch.setattr(os, "writev", full)
    assert writer.write(b"x" * WRITE_SIZE) is None
    waiting = writer.write(b"x" * HELD_SIZE)
    assert waiting is not None
    results = results_of(waiting)
    assert results == []
    threads.run()
    assert results[0].check(OSError)
    assert threads.calls == [], "nothing more is written after a failure"
    aborting = writer.abort()
    threads.run_all()
    value(aborting)


def test_full_disk_fails_a_commit_that_waits_for_a_thread(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last octets are not committed without those before them."""
    threads = ManualThreads()
    writer = open_writer(root, in_thread=threads)
    writer.write(b"x" * WRITE_SIZE)
    writer.write(b"the end")
    results = results_of(writer.commit())
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        threads.run()
    threads.run_all()
    assert results[0].check(OSError)
    aborting = writer.abort()
    threads.run_all()
    value(aborting)
    assert not (root / "new").exists()


# -- commits that fail --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link"])
def test_create_does_not_replace_a_file_made_during_the_upload(root: Path, kind: str) -> None:
    """The commit fails with ERROR 6, and what has the name now is not changed."""
    writer = open_writer(root, write="create")
    value(writer.write(b"second"))
    new = root / "new"
    if kind == "file":
        new.write_bytes(b"first")
    elif kind == "directory":
        new.mkdir()
    else:
        os.symlink("file" if kind == "link" else "nothing", new)
    status = new.lstat()
    assert error_of(writer.commit).code is ErrorCode.FILE_EXISTS
    value(writer.abort())
    assert os.path.samestat(new.lstat(), status)
    assert sorted(os.listdir(root)) == ["file", "new", "sub"]
    assert (root / "file").read_bytes() == OCTETS
    assert kind != "file" or new.read_bytes() == b"first"


def test_create_lets_the_first_commit_of_a_name_win(root: Path) -> None:
    """The second commit of the same name fails with ERROR 6."""
    first, second = (open_writer(root, write="create") for _ in range(2))
    value(first.write(b"first"))
    value(second.write(b"second"))
    value(second.commit())
    assert error_of(first.commit).code is ErrorCode.FILE_EXISTS
    value(first.abort())
    assert (root / "new").read_bytes() == b"second"


def test_overwrite_does_not_replace_a_directory_made_during_the_upload(root: Path) -> None:
    """The commit fails with ERROR 2, and the directory keeps its files."""
    writer = open_writer(root)
    value(writer.write(b"octets"))
    (root / "new").mkdir()
    (root / "new" / "precious").touch()
    assert error_of(writer.commit).code is ErrorCode.ACCESS_VIOLATION
    value(writer.abort())
    assert (root / "new" / "precious").exists()


def test_overwrite_replaces_a_link_made_during_the_upload(root: Path) -> None:
    """The commit replaces the link itself and does not follow it."""
    writer = open_writer(root)
    value(writer.write(b"octets"))
    os.symlink("../secret", root / "new")
    value(writer.commit())
    assert not (root / "new").is_symlink()
    assert (root / "new").read_bytes() == b"octets"


@pytest.mark.parametrize("write", ["create", "overwrite"])
def test_upload_is_committed_in_the_directory_that_was_opened(root: Path, write: str) -> None:
    """A link that replaces the directory during the upload does not lead the commit elsewhere."""
    writer = open_writer(root, "sub/new", write=write)
    value(writer.write(b"octets"))
    (root / "sub").rename(root / "moved")
    os.symlink("../root2", root / "sub")
    value(writer.commit())
    assert (root / "moved" / "new").read_bytes() == b"octets"
    assert os.listdir(root.parent / "root2") == ["x"]


@pytest.mark.parametrize(
    ("write", "path", "call"),
    [
        ("overwrite", "file", "rename"),
        ("overwrite", "new", "rename"),
        ("create", "new", "link"),
        ("overwrite", "file", "fsync"),
    ],
)
def test_failed_commit_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, write: str, path: str, call: str
) -> None:
    """After the abort the old file is unchanged, and nothing of the upload is left."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.EIO, "the disk is broken")

    writer = open_writer(root, path, write=write)
    value(writer.write(b"new"))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, broken)
        assert error_of(writer.commit).code is ErrorCode.NOT_DEFINED
    value(writer.abort())
    assert sorted(os.listdir(root)) == ["file", "sub"]
    assert (root / "file").read_bytes() == OCTETS


@pytest.mark.parametrize("write", ["create", "overwrite"])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_commit_that_can_not_sync_the_directory_succeeds_or_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, write: str, number: int
) -> None:
    """A commit never fails after the file has appeared under its name."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "not a directory")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        upload(serving(root, write), "new", b"new")
    except OSError:
        assert not (root / "new").exists()
    else:
        assert (root / "new").read_bytes() == b"new"


def test_uploads_work_without_file_modes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that can't set modes (vfat) does not fail an upload."""

    def fchmod(descriptor: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "fchmod", fchmod)
    upload(serving(root, "overwrite"), "new", b"1")
    upload(serving(root, "overwrite"), "new", b"22")
    assert (root / "new").read_bytes() == b"22"
    assert temporary_files(root) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_create_works_without_hard_links(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without hard links (vfat), the second upload of a name still fails."""

    def link(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", link)
    backend = serving(root, "create")
    first, second = (
        value(maybeDeferred(backend.open_writer, "new", request_context())) for _ in range(2)
    )
    first.write(b"first")
    value(first.commit())
    second.write(b"second")
    with pytest.raises(OSError, match="exists"):
        value(second.commit())
    value(second.abort())
    assert (root / "new").read_bytes() == b"first"
    assert temporary_files(root) == []


def test_failed_rename_frees_the_reserved_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links the name is reserved before the rename; a failure frees it."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    writer = value(maybeDeferred(serving(root, "create").open_writer, "new", request_context()))
    with pytest.raises(OSError, match="no"):
        value(writer.commit())
    value(writer.abort())
    assert not (root / "new").exists()
    assert temporary_files(root) == []


# -- aborts -------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [0, 1, WRITE_SIZE, 3 * HELD_SIZE])
@pytest.mark.parametrize("path", ["file", "new", "sub/new"])
def test_abort_changes_nothing(root: Path, path: str, octets: int) -> None:
    """The old file is neither truncated nor removed, and no new file appears."""
    writer = open_writer(root, path)
    if octets:
        value(writer.write(b"x" * octets))
    value(writer.abort())
    assert sorted(os.listdir(root)) == ["file", "sub"]
    assert os.listdir(root / "sub") == ["inner"]
    assert (root / "file").read_bytes() == OCTETS


def test_abort_waits_for_the_thread_that_writes(root: Path) -> None:
    """The thread uses the descriptor until it ends; data that is still in memory is discarded."""
    threads = ManualThreads()
    writer = open_writer(root, "file", threads)
    writer.write(b"x" * WRITE_SIZE)
    writer.write(b"y" * WRITE_SIZE)
    results = results_of(writer.abort())
    assert len(threads.calls) == 1
    assert len(open_paths(root)) == 2, "the upload and its directory"
    threads.run()
    assert results == []
    assert len(threads.calls) == 1, "only the removal: the data in memory is not written"
    threads.run()
    assert results == [None]
    assert open_paths(root) == []
    assert temporary_files(root) == []
    assert (root / "file").read_bytes() == OCTETS


def test_abort_after_a_failed_write_succeeds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The abort cleans up and reports no error."""
    threads = ManualThreads()
    writer = open_writer(root, in_thread=threads)
    writer.write(b"x" * WRITE_SIZE)
    results = results_of(writer.abort())
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        threads.run()
    threads.run_all()
    assert results == [None]
    assert sorted(os.listdir(root)) == ["file", "sub"]


def test_abort_ignores_a_missing_temporary_file(root: Path) -> None:
    """Somebody may have removed the temporary file before."""
    writer = open_writer(root)
    [temporary] = temporary_files(root)
    os.unlink(root / temporary)
    value(writer.abort())


# -- writes through threads ---------------------------------------------------------------


def test_small_writes_are_collected_for_one_thread(root: Path) -> None:
    """Data stays in memory until there are `WRITE_SIZE` octets of it."""
    threads = ManualThreads()
    writer = open_writer(root, in_thread=threads)
    for _ in range(WRITE_SIZE // 1024 - 1):
        assert writer.write(b"x" * 1024) is None
    assert threads.calls == []
    assert writer.write(b"x" * 1024) is None
    assert len(threads.calls) == 1
    aborting = writer.abort()
    threads.run_all()
    value(aborting)


def test_write_waits_while_too_much_data_is_in_memory(root: Path) -> None:
    """With a slow disk, `write` returns a Deferred that fires when there is room again."""
    threads = ManualThreads()
    writer = open_writer(root, in_thread=threads)
    block = b"x" * 65536
    for _ in range(WRITE_SIZE // len(block)):
        assert writer.write(block) is None
    assert len(threads.calls) == 1
    for _ in range(HELD_SIZE // len(block) - 1):
        assert writer.write(block) is None
    waiting = writer.write(block)
    assert waiting is not None
    results = results_of(waiting)
    assert len(threads.calls) == 1, "one thread at a time"
    assert results == []
    threads.run()
    assert results == [None]
    assert len(threads.calls) == 1, "the data in memory is being written"
    assert writer.write(b"the end") is None
    committing = writer.commit()
    threads.run_all()
    value(committing)
    assert (root / "new").read_bytes() == b"x" * (WRITE_SIZE + HELD_SIZE) + b"the end"


def test_commit_waits_for_the_thread_that_writes(root: Path) -> None:
    """Data is written in order, and the file appears after its last octets."""
    threads = ManualThreads()
    writer = open_writer(root, in_thread=threads)
    writer.write(b"a" * WRITE_SIZE)
    writer.write(b"b" * WRITE_SIZE)
    writer.write(b"c")
    results = results_of(writer.commit())
    while threads.calls:
        assert len(threads.calls) == 1, "one thread at a time"
        assert not (root / "new").exists()
        assert results == []
        threads.run()
    assert results == [StoredFile(os.fsencode(root / "new"))]
    assert (root / "new").read_bytes() == b"a" * WRITE_SIZE + b"b" * WRITE_SIZE + b"c"


@settings(max_examples=150)
@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.none()), max_size=30),
    st.booleans(),
)
def test_data_is_written_in_order_whenever_threads_run(
    steps: list[bytes | None], commit: bool
) -> None:
    """After a commit the file has all octets in order; after an abort there is no file."""
    threads = ManualThreads()
    with tempfile.TemporaryDirectory() as name:
        file = Upload(resolve(name, "new"), UploadRules(name, SingleFile(may_replace=True)))
        writer = FilesystemWriter(file, threads, write_size=16, held_size=40)
        sent = b""
        waiting: list[Any] = [None]
        for step in steps:
            assert len(threads.calls) <= 1, "one thread at a time"
            if step is None:
                if threads.calls:
                    threads.run()
                continue
            while not waiting:  # a session waits too: it sends no ACK before
                threads.run()
            sent += step
            written = writer.write(step)
            waiting = [None] if written is None else results_of(written)
        ending = writer.commit() if commit else writer.abort()
        while threads.calls:
            assert len(threads.calls) == 1, "one thread at a time"
            threads.run()
        value(ending)
        assert os.listdir(name) == (["new"] if commit else [])
        assert not commit or (Path(name) / "new").read_bytes() == sent
        assert open_paths(Path(name)) == []


def test_uploads_of_one_name_have_separate_temporary_files(root: Path) -> None:
    """Two uploads of one name at once do not mix their data."""
    first, second = (open_writer(root, "new") for _ in range(2))
    assert len(set(temporary_files(root))) == 2
    value(first.write(b"first"))
    value(second.write(b"second"))
    value(first.commit())
    assert (root / "new").read_bytes() == b"first"
    value(second.commit())
    assert (root / "new").read_bytes() == b"second"


def test_requests_fail_while_the_root_is_missing(tmp_path: Path) -> None:
    """Reads and uploads fail with ERROR 1."""
    backend = serving(tmp_path / "nothing")
    assert isinstance(error_of(lambda: backend.open_reader("f", request_context())), FileNotFound)
    error = error_of(lambda: backend.open_writer("f", request_context()))
    assert not isinstance(error, AccessViolation)
    assert error.code is ErrorCode.FILE_NOT_FOUND


def test_no_descriptor_is_closed_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that fails is not repeated: the number may belong to another file already."""
    real, closed = os.close, []
    upload = open_writer(root, "file")
    upload.write(b"new")
    [temporary] = temporary_files(root)
    uploading = descriptor_of(root / temporary)

    def close(descriptor: int) -> None:
        real(descriptor)
        closed.append(descriptor)
        if descriptor == uploading:
            raise OSError(errno.EIO, "a write has failed after all")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(OSError, match="after all"):
            value(upload.commit())
        value(upload.abort())
    assert closed.count(uploading) == 1
    assert (root / "file").read_bytes() == OCTETS
