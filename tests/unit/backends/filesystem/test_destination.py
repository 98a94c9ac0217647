"""Tests of uploads that make missing directories: only inside the root, and only at the commit."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import maybeDeferred

from tests.support.backends import error_of, open_paths, request_context, upload
from tests.support.deferreds import value
from twisted_tftp.backends.filesystem.backend import FilesystemBackend
from twisted_tftp.backends.filesystem.destination import directory_mode
from twisted_tftp.backends.filesystem.path_walk import (
    MAX_MADE_DEPTH,
    MAX_MADE_PATH,
    MAX_MISSING,
)
from twisted_tftp.backends.filesystem.quota import octets_below
from twisted_tftp.context import StoredFile
from twisted_tftp.errors import (
    AccessViolation,
    DiskFull,
    ErrorCode,
    FileAlreadyExists,
    FileNotFound,
)

each_write = pytest.mark.parametrize("write", ["create", "overwrite"])


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Make a root with one directory, and a directory outside."""
    made = tmp_path / "root"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_bytes(b"file")
    (tmp_path / "outside").mkdir()
    yield made
    assert open_paths(tmp_path) == []
    assert os.listdir(tmp_path / "outside") == []
    assert not list(tmp_path.rglob(".tftp-upload-*"))


def serving(root: Path, write: str = "create", **options: Any) -> FilesystemBackend:
    return FilesystemBackend(str(root), write, make_dirs=True, in_thread=maybeDeferred, **options)


def test_commit_tells_the_path_of_the_file(root: Path) -> None:
    """It is absolute, also if directories were made for the file."""
    for name in ("new", "a/b/new"):
        writer = value(serving(root).open_writer(name, request_context()))
        assert value(writer.commit()) == StoredFile(os.fsencode(root / name))


def names(root: Path) -> list[str]:
    """Return the paths of everything in the root."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@each_write
@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("new/file", "new/file"),
        ("/new//./file", "new/file"),
        ("sub/2026/11/switch", "sub/2026/11/switch"),
        ("sub/../new/file", "new/file"),
        ("\\new\\sub\\file", "new/sub/file"),
        ("link/new/file", "sub/new/file"),
        ("a/" * MAX_MISSING + "file", "a/" * MAX_MISSING + "file"),
    ],
)
def test_missing_directories_are_made_at_the_commit(
    root: Path, write: str, path: str, stored: str
) -> None:
    """Before the commit there is only a temporary file, in a directory that exists."""
    (root / "link").symlink_to("sub")
    before = set(names(root))
    writer = value(serving(root, write).open_writer(path, request_context()))
    value(writer.write(b"octets"))
    [temporary] = set(names(root)) - before
    assert ".tftp-upload-" in temporary
    value(writer.commit())
    assert (root / stored).read_bytes() == b"octets"
    upload(serving(root, "overwrite"), path, b"more")
    assert (root / stored).read_bytes() == b"more"


@pytest.mark.parametrize("octets", [0, 100, 2 << 20])
def test_abort_makes_no_directory(root: Path, octets: int) -> None:
    """Nothing is left of an upload that has ended before the commit."""
    before = names(root)
    writer = value(serving(root).open_writer("new/deeper/file", request_context()))
    value(writer.write(bytes(octets)))
    value(writer.abort())
    assert names(root) == before


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("a/" * (MAX_MISSING + 1) + "file", AccessViolation),
        ("a/" * 1000 + "file", AccessViolation),
        ("../new/file", AccessViolation),
        ("new/../../outside/file", FileNotFound),
        ("new/../file", FileNotFound),
        ("new/../other", FileNotFound),
        ("sub/../../outside/new/file", AccessViolation),
        ("..\\outside\\new\\file", AccessViolation),
        ("out/new/file", AccessViolation),
        ("dangling/file", FileNotFound),
        ("dangling/new/file", FileNotFound),
        ("into-missing", FileNotFound),
        ("file/new/file", FileNotFound),
        ("new/", AccessViolation),
        ("new/sub/", AccessViolation),
        ("new/" + "x" * 256, FileNotFound),
        ("new/" + "x" * 256 + "/file", FileNotFound),
        (".tftp-upload-0123456789abcdef/file", AccessViolation),
        ("new/.tftp-upload-0123456789abcdef", AccessViolation),
    ],
)
@each_write
def test_path_that_may_not_be_made_is_refused(
    root: Path, write: str, path: str, error: type[Exception]
) -> None:
    """The request is refused, and nothing is made."""
    (root / "out").symlink_to("../outside")
    (root / "dangling").symlink_to("nothing")
    (root / "into-missing").symlink_to("nothing/file")
    before = names(root)
    refused = error_of(lambda: serving(root, write).open_writer(path, request_context()))
    assert isinstance(refused, error)
    assert names(root) == before


def store_deeper_and_deeper(root: Path, directory: str) -> int:
    """Make as many levels of directories as possible; return how many there are."""
    backend = serving(root)
    levels = 1
    while levels <= MAX_MADE_DEPTH + 1:
        path = f"{directory}/" * levels + "file"
        try:
            upload(backend, path, b"1")
        except AccessViolation:
            break
        levels += 1
    return levels - 1


def test_clients_can_not_make_a_tree_of_any_depth(root: Path) -> None:
    """Each upload makes few levels; all of them together make not more than a limit."""
    assert store_deeper_and_deeper(root, "a") == MAX_MADE_DEPTH
    upload(serving(root), "a/" * MAX_MADE_DEPTH + "second", b"1")
    (root / "deep").symlink_to("a/" * MAX_MADE_DEPTH)
    refused = error_of(lambda: serving(root).open_writer("deep/a/file", request_context()))
    assert isinstance(refused, AccessViolation)


def test_clients_can_not_make_a_tree_with_paths_too_long_to_measure(root: Path) -> None:
    """A quota could not count files whose path has 4096 octets: the system refuses it."""
    name = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 125
    assert store_deeper_and_deeper(root, name) == MAX_MADE_PATH // 251
    assert octets_below(str(root)) == len(b"file") + MAX_MADE_PATH // 251


def test_without_the_option_no_directory_is_made(root: Path) -> None:
    """The option is off by default."""
    backend = FilesystemBackend(str(root), "create", in_thread=maybeDeferred)
    error = error_of(lambda: backend.open_writer("new/file", request_context()))
    assert isinstance(error, FileNotFound)


def test_reads_make_no_directory(root: Path) -> None:
    """A read of a path with missing directories finds no file."""
    before = names(root)
    for path in ("new/file", "new\\file", "a/" * 20 + "file"):
        error = error_of(lambda path=path: serving(root).open_reader(path, request_context()))
        assert isinstance(error, FileNotFound)
    assert names(root) == before


def test_no_directory_is_made_through_a_followed_link(root: Path) -> None:
    """--follow-links is for reads only."""
    (root / "out").symlink_to("../outside")
    backend = serving(root, follow_links=[str(root.parent / "outside")])
    error = error_of(lambda: backend.open_writer("out/new/file", request_context()))
    assert isinstance(error, AccessViolation)


@pytest.mark.parametrize(
    ("file_mode", "mode"),
    [(0o644, 0o755), (0o600, 0o700), (0o640, 0o750), (0o664, 0o775), (0o444, 0o755), (0, 0o700)],
)
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_mode_of_directories_follows_that_of_files(
    root: Path, file_mode: int, mode: int, umask: int
) -> None:
    """Who may read the files may enter the directories; the umask makes no difference."""
    assert directory_mode(file_mode) == mode
    was = os.umask(umask)
    try:
        upload(serving(root, upload_mode=file_mode), "new/deeper/file", b"octets")
    finally:
        os.umask(was)
    for path, expected in {"new": mode, "new/deeper": mode, "new/deeper/file": file_mode}.items():
        assert stat.S_IMODE((root / path).stat().st_mode) == expected


def test_umask_can_give_the_mode_of_directories(root: Path) -> None:
    """Without a mode of uploads, it gives those of both."""
    was = os.umask(0o027)
    try:
        upload(serving(root, upload_mode=None), "new/file", b"octets")
    finally:
        os.umask(was)
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o750


def test_group_of_a_directory_is_inherited(root: Path) -> None:
    """The set-group-ID bit of a directory stays, as with mkdir."""
    (root / "sub").chmod(0o2775)
    upload(serving(root), "sub/new/file", b"octets")
    inherited = (root / "sub" / "new").stat().st_mode & stat.S_ISGID
    assert inherited == (root / "sub").stat().st_mode & stat.S_ISGID


@each_write
def test_two_uploads_make_the_same_directories(root: Path, write: str) -> None:
    """Each of them takes the directories that the other one has made."""
    writers = [
        value(serving(root, write).open_writer(f"new/deeper/{name}", request_context()))
        for name in ("one", "two")
    ]
    for writer in writers:
        value(writer.write(b"octets"))
        value(writer.commit())
    assert sorted(os.listdir(root / "new" / "deeper")) == ["one", "two"]


def test_create_replaces_no_file_that_was_made_meanwhile(root: Path) -> None:
    """The second upload of a name fails, and the directories of the first one stay."""
    writers = [
        value(serving(root).open_writer("new/deeper/file", request_context())) for _ in range(2)
    ]
    for number, writer in enumerate(writers):
        value(writer.write(b"%d" % number))
    value(writers[0].commit())
    assert isinstance(error_of(writers[1].commit), FileAlreadyExists)
    value(writers[1].abort())
    assert (root / "new" / "deeper" / "file").read_bytes() == b"0"


def replace_by_link(path: Path, target: str) -> None:
    """Replace the directory `path`, which may not exist, by a link."""
    if path.is_dir():
        path.rmdir()
    path.symlink_to(target)


@each_write
@pytest.mark.parametrize("kind", ["link outside", "link inside", "file"])
@pytest.mark.parametrize("moment", ["before the commit", "after mkdir"])
def test_link_in_place_of_a_new_directory_is_not_followed(
    root: Path, write: str, kind: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit fails; nothing is written through the link."""

    def change() -> None:
        if kind == "file":
            if (root / "new").is_dir():
                (root / "new").rmdir()
            (root / "new").write_bytes(b"")
        else:
            replace_by_link(root / "new", "../outside" if kind == "link outside" else "sub")

    writer = value(serving(root, write).open_writer("new/file", request_context()))
    value(writer.write(b"octets"))
    if moment == "before the commit":
        change()
    else:
        real = os.mkdir

        def make(*args: Any, **kwargs: Any) -> None:
            real(*args, **kwargs)
            change()

        monkeypatch.setattr(os, "mkdir", make)
    error = error_of(writer.commit)
    value(writer.abort())
    assert error.code in (ErrorCode.FILE_NOT_FOUND, ErrorCode.ACCESS_VIOLATION)
    assert os.listdir(root / "sub") == []


def test_mode_of_another_directory_is_not_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory with files that takes the place of the new one keeps its mode."""
    private = root / "private"
    private.mkdir()
    (private / "key").write_bytes(b"key")
    private.chmod(0o700)
    real = os.mkdir

    def make(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        (root / "new").rmdir()
        private.rename(root / "new")

    monkeypatch.setattr(os, "mkdir", make)
    upload(serving(root), "new/file", b"octets")
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("write", "call"),
    [
        ("create", "link"),
        ("overwrite", "rename"),
        *((write, call) for write in ("create", "overwrite") for call in ("fsync", "open")),
    ],
)
def test_failed_commit_removes_the_directories(
    root: Path, write: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left, wherever the commit fails."""
    before = names(root)
    real = getattr(os, call)

    def failing(path: Any, *args: Any, **kwargs: Any) -> Any:
        if call == "open" and path != b"deeper":
            return real(path, *args, **kwargs)
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = value(serving(root, write).open_writer("new/deeper/file", request_context()))
    monkeypatch.setattr(os, call, failing)
    assert isinstance(error_of(writer.commit), DiskFull)
    monkeypatch.undo()
    value(writer.abort())
    assert names(root) == before


def test_all_new_names_are_durable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory in which a name was made is synced after that."""
    synced: list[str] = []
    real = os.fsync

    def noting(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            assert (root / "new" / "deeper" / "file").exists()
            synced.append(os.path.relpath(path, root))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    upload(serving(root), "new/deeper/file", b"octets")
    assert synced == ["new/deeper", "new", "."]


def test_directory_made_during_the_upload_is_taken(root: Path) -> None:
    """The operator may have made it; its mode stays."""
    writer = value(serving(root).open_writer("new/file", request_context()))
    (root / "new").mkdir(mode=0o700)
    value(writer.commit())
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o700
    assert (root / "new" / "file").exists()


def test_quota_holds_for_new_directories(root: Path) -> None:
    """An upload that does not fit makes no directory."""
    backend = serving(root, quota=100)
    assert isinstance(error_of(lambda: upload(backend, "new/file", bytes(101))), DiskFull)
    upload(backend, "new/file", bytes(90))
    assert isinstance(error_of(lambda: upload(backend, "new/other", bytes(20))), DiskFull)
    assert names(root / "new") == ["file"]


@each_write
@pytest.mark.parametrize("call", ["mkdir", "link or rename"])
def test_directory_that_another_upload_removes_is_made_again(
    root: Path, write: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two uploads use one new directory; the one that has made it fails, and removes it."""
    writer = value(serving(root, write).open_writer("new/deeper/file", request_context()))
    value(writer.write(b"octets"))
    (root / "new").mkdir()
    removed: list[str] = []
    name = ("link" if write == "create" else "rename") if call != "mkdir" else call
    real = getattr(os, name)

    def remove_first(path: Any, *args: Any, **kwargs: Any) -> Any:
        if not removed and path != b"new":
            for directory in ("new/deeper", "new"):
                if (root / directory).exists():
                    (root / directory).rmdir()
                    removed.append(directory)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, name, remove_first)
    value(writer.commit())
    assert removed
    assert (root / "new" / "deeper" / "file").read_bytes() == b"octets"


def test_directory_that_is_removed_again_and_again_fails_the_upload(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit ends, and nothing is left."""
    writer = value(serving(root).open_writer("new/file", request_context()))
    real = os.link

    def remove(path: Any, *args: Any, **kwargs: Any) -> Any:
        (root / "new").rmdir()
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "link", remove)
    assert isinstance(error_of(writer.commit), FileNotFound)
    value(writer.abort())
    assert names(root) == ["file", "sub"]
